// A target for fuzzers: lengths in any order, as the bytes spell them, are planned and their plans followed. Compiled
// with clang's -fsanitize=fuzzer this is all there is; elsewhere plan_driver.cpp calls it.
#include "cpu/fft/plan.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "cpu/fft/line.h"

namespace blurfft {
namespace {

void require(bool held, int64_t n, const char* what) {
  if (held) return;
  std::fprintf(stderr, "length %lld: %s\n", static_cast<long long>(n), what);
  std::abort();
}

bool is_permutation_of(const int32_t* values, int count, int32_t first) {
  std::vector<int32_t> sorted(values, values + count), counted(count);
  std::ranges::sort(sorted);
  std::iota(counted.begin(), counted.end(), first);
  return sorted == counted;
}

template <class T>
void check_convolution(const Stage<T>& stage, int64_t n) {
  const int p = stage.radix;
  const Convolution<T>& c = *stage.convolution;
  require(c.line->n == convolution_length<T>(p), n, "a convolution by a line of another length");
  std::vector<int32_t> powers, ordinals;
  for (int i = 0; i < c.line->n; ++i) {
    require((c.powers[i] == 0) == (c.ordinals[i] == 0), n, "a power without its ordinal");
    if (c.powers[i] != 0) powers.push_back(c.powers[i]), ordinals.push_back(c.ordinals[i]);
  }
  require(static_cast<int>(powers.size()) == p - 1, n, "a convolution of too few or too many elements");
  require(is_permutation_of(powers.data(), p - 1, 1), n, "a convolution that takes an element twice");
  require(is_permutation_of(ordinals.data(), p - 1, 1), n, "a convolution that makes an output twice");
}

// An impulse in every lane, elsewhere in each, there and back, in memory that ends where it should.
template <class T>
void check_transform(const Line<T>& line, uint32_t seed) {
  constexpr int L = kLanes<T>, step = 2 * L;
  const double tolerance = sizeof(T) == 8 ? 1e-14 : 2e-6;  // those of tests/tolerances.py
  const int n = line.n;
  std::vector<T> values(static_cast<size_t>(n) * step), scratch(static_cast<size_t>(line.scratch) * step);
  int64_t at[L];
  for (int l = 0; l < L; ++l) {
    at[l] = (seed + static_cast<uint64_t>(l) * 7919) % n;
    values[at[l] * step + l] = 1;
  }
  const auto nothing = [] {};
  run_stages<false>(line, values.data(), step, values.data(), step, scratch.data(), nothing);
  for (int f = 0; f < n; ++f) {
    const T* spectrum = values.data() + static_cast<size_t>(line.position[f]) * step;
    for (int l = 0; l < L; ++l) {
      const double angle = -2 * std::acos(-1.0) * static_cast<double>(at[l] * f % n) / n;
      const std::complex<double> found(spectrum[l], spectrum[L + l]);
      require(std::abs(found - std::polar(1.0, angle)) <= tolerance, n, "a transform that is wrong");
    }
  }
  run_stages<true>(line, values.data(), step, values.data(), step, scratch.data(), nothing);
  for (int i = 0; i < n; ++i) {
    for (int l = 0; l < L; ++l) {
      const std::complex<double> found(values[i * step + l], values[i * step + L + l]);
      require(std::abs(found - static_cast<double>(at[l] == i ? n : 0)) <= tolerance * n, n,
              "a way back that is wrong");
    }
  }
}

template <class T>
void check(int64_t n, uint32_t seed) {
  const std::vector<int> all = radices(n);
  int64_t product = 1;
  for (int radix : all) product *= radix;
  require(product == n, n, "radices of another length");
  const Line<T>& line = blurfft::line<T>(n);
  require(line.n == n && line.stage_count == static_cast<int>(all.size()), n, "a line that is another");
  require(is_permutation_of(line.position, line.n, 0), n, "two frequencies in one position");
  int64_t blocks = 1;
  for (int s = 0; s < line.stage_count; ++s) {
    const Stage<T>& stage = line.stages[s];
    require(stage.radix == all[s] && stage.blocks == blocks && stage.m == n / blocks / stage.radix, n,
            "a stage of another shape");
    require(!stage.convolution == (convolution_length<T>(stage.radix) == 0), n, "a prime without a convolution");
    require((stage.roots != nullptr) == (stage.radix > 13 && !stage.convolution), n, "a prime without roots");
    require(stage.batch >= 1 && stage.batch <= n / stage.radix, n, "more blocks at a time than there are");
    if (stage.convolution) check_convolution(stage, n);
    blocks *= stage.radix;
  }
  check_transform(line, seed);
}

}  // namespace
}  // namespace blurfft

// Four bytes a length: its number, whether it is in double precision, and where the impulses are.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace blurfft;
  for (; size >= 4; data += 4, size -= 4) {
    const int64_t n = data[0] | data[1] << 8;
    if (!supports_length(n)) continue;
    data[2] & 1 ? check<double>(n, data[3] * 17 + data[2] / 2) : check<float>(n, data[3] * 17 + data[2] / 2);
  }
  return 0;
}
