#include "plan.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>

namespace blurfft {

namespace {

// Primes with a butterfly of their own, in the order in which a line takes them.
constexpr int kOddRadices[] = {13, 11, 7, 5, 3};

bool has_butterfly(int radix) {
  return radix == 2 || radix == 4 || radix == 8 || std::ranges::find(kOddRadices, radix) != std::end(kOddRadices);
}

}  // namespace

std::vector<int> radices(int64_t n) {
  std::vector<int> tail;
  int64_t rest = n;
  for (int p : kOddRadices) {
    for (; rest % p == 0; rest /= p) tail.push_back(p);
  }
  int twos = 0;
  for (; rest % 2 == 0; rest /= 2) ++twos;
  // Convolutions last: there they need no twiddle factors.
  for (int p = 17; rest > 1; p += 2) {
    if (static_cast<int64_t>(p) * p > rest) p = static_cast<int>(rest);
    for (; rest % p == 0; rest /= p) tail.push_back(p);
  }
  std::vector<int> result;
  // Radix 4 fits sixteen vector registers and radix 8 does not; one 8 saves an odd power the 2.
  if (twos % 2 == 1 && twos >= 3) {
    result.push_back(8);
    twos -= 3;
  }
  for (; twos >= 2; twos -= 2) result.push_back(4);
  if (twos == 1) result.push_back(2);
  result.insert(result.end(), tail.begin(), tail.end());
  return result;
}

namespace {

double convolution_cost(int64_t prime, int64_t length);

// What a stage takes for an element, in cycles of a core with AVX2.
double stage_cost(int radix) {
  switch (radix) {
    case 2:
      return 2;
    case 3:
      return 2.5;
    case 4:
      return 3;
    case 5:
      return 4;
    case 7:
      return 6;
    case 8:
      return 4;
    case 11:
      return 9;
    case 13:
      return 11;
    default:
      return convolution_cost(radix, convolution_length(radix)) / radix;
  }
}
double line_cost(int64_t n) {
  double cost = 0;
  for (int radix : radices(n)) cost += static_cast<double>(n) * stage_cost(radix);
  return cost;
}
double convolution_cost(int64_t prime, int64_t length) {
  constexpr double subtraction = 2, product = 1;
  return 2 * line_cost(length) + static_cast<double>(prime) * subtraction + static_cast<double>(length) * product;
}

}  // namespace

int64_t convolution_length(int64_t prime) {
  if (has_butterfly(static_cast<int>(prime))) return 0;
  int64_t best = prime - 1;
  double least = convolution_cost(prime, best);
  // Even ones only, as prime - 1 is: their first radix is then 2, 4 or 8.
  for (int64_t length = 2 * prime - 2; length < 5 * prime / 2; length += 2) {
    if (!std::ranges::all_of(radices(length), has_butterfly)) continue;
    const double cost = convolution_cost(prime, length);
    if (cost < least) {
      least = cost;
      best = length;
    }
  }
  return best;
}

namespace {

// The tables behind a Convolution's and a Line's pointers.
template <class T>
struct OwnedConvolution : Convolution<T> {
  std::vector<T> spectra;
  std::vector<int32_t> all_powers, all_ordinals;
};
template <class T>
struct OwnedLine : Line<T> {
  std::vector<int32_t> positions;
  std::vector<T> cosines, sines, twiddles;
  std::map<int, OwnedConvolution<T>> convolutions;  // by radix
};

// cos(2 pi k / n) and sin(2 pi k / n) from the first eighth of a turn: right angles are exact, so that a kernel's zeros
// are, and angles that mirror each other have the same values.
double cos_turn(int64_t k, int64_t n) {
  const double turn = 2 * std::acos(-1.0);
  k = (k % n + n) % n;
  if (2 * k > n) k = n - k;
  if (4 * k > n) return -cos_turn(n - 2 * k, 2 * n);
  return 8 * k <= n ? std::cos(turn * static_cast<double>(k) / static_cast<double>(n))
                    : std::sin(turn * static_cast<double>(n - 4 * k) / static_cast<double>(4 * n));
}
double sin_turn(int64_t k, int64_t n) { return cos_turn(4 * k - n, 4 * n); }

// The powers of the least generator of the numbers modulo p.
std::vector<int32_t> generated(int p) {
  for (int g = 2;; ++g) {
    std::vector<int32_t> powers = {1};
    while (static_cast<int>(powers.size()) < p) {
      const auto next = static_cast<int32_t>(static_cast<int64_t>(powers.back()) * g % p);
      if (next == 1) break;
      powers.push_back(next);
    }
    if (static_cast<int>(powers.size()) == p - 1) return powers;
  }
}

using Wide = std::complex<long double>;

// Once a length, so it need not be fast, but more accurate than what it serves.
std::vector<Wide> transform(const std::vector<Wide>& x) {
  const auto n = static_cast<int64_t>(x.size());
  if (n == 1) return x;
  int64_t radix = 2;
  while (n % radix != 0) ++radix;
  const int64_t m = n / radix;
  std::vector<Wide> roots(n), result(n);
  for (int64_t k = 0; k < n; ++k) roots[k] = {cos_turn(k, n), -sin_turn(k, n)};
  for (int64_t k = 0; k < radix; ++k) {
    std::vector<Wide> part(m);
    for (int64_t j = 0; j < m; ++j) part[j] = x[j * radix + k];
    part = transform(part);
    for (int64_t f = 0; f < n; ++f) result[f] += roots[k * f % n] * part[f % m];
  }
  return result;
}

template <class T>
const OwnedLine<T>& cached(int64_t n);

// Of `blocks` in a line: as many at a time as make good use of the first-level cache.
template <class T>
void build_convolution(int p, int blocks, OwnedConvolution<T>& convolution) {
  constexpr int kBatchElements = 128;
  const int64_t length = convolution_length(p);
  const OwnedLine<T>& line = cached<T>(length);
  convolution.line = &line;
  convolution.batch = std::clamp(kBatchElements / static_cast<int>(length), 1, blocks);

  convolution.all_powers = generated(p);
  std::vector<Wide> kernel(length);
  for (int s = 0; s < p - 1; ++s) {
    const int power = convolution.all_powers[s];
    const Wide root(cos_turn(power, p), -sin_turn(power, p));
    kernel[s == 0 ? 0 : length - s] = root;  // r - q = -s
    if (s > 0) kernel[p - 1 - s] = root;     // the same, a period later
  }
  const std::vector<Wide> spectrum = transform(kernel);
  convolution.spectra.resize(2 * length);
  for (int64_t f = 0; f < length; ++f) {
    const Wide value = spectrum[f] / static_cast<long double>(length);
    convolution.spectra[2 * line.position[f]] = static_cast<T>(value.real());
    convolution.spectra[2 * line.position[f] + 1] = static_cast<T>(value.imag());
  }
  convolution.all_ordinals.resize(p - 1);
  std::iota(convolution.all_ordinals.begin(), convolution.all_ordinals.end(), 1);
  convolution.all_powers.resize(length);
  convolution.all_ordinals.resize(length);
  convolution.spectrum = convolution.spectra.data();
  convolution.powers = convolution.all_powers.data();
  convolution.ordinals = convolution.all_ordinals.data();
}

// Which frequency a stage of this radix leaves where.
template <class T>
std::vector<int> output_frequencies(int radix, const Convolution<T>* convolution) {
  std::vector<int> frequencies(radix);
  std::iota(frequencies.begin(), frequencies.end(), 0);
  for (int r = 1; convolution && r < radix - 1; ++r) frequencies[1 + r] = convolution->powers[radix - 1 - r];
  return frequencies;
}

template <class T>
std::unique_ptr<OwnedLine<T>> build(int64_t n) {
  auto result = std::make_unique<OwnedLine<T>>();
  OwnedLine<T>& line = *result;
  const std::vector<int> factors = radices(n);
  line.n = static_cast<int>(n);
  line.stage_count = static_cast<int>(factors.size());
  line.cosines.resize(n);
  line.sines.resize(n);
  for (int64_t k = 0; k < n; ++k) {
    line.cosines[k] = static_cast<T>(cos_turn(k, n));
    line.sines[k] = static_cast<T>(sin_turn(k, n));
  }

  // After decimation in frequency the first radix's output index is the most significant digit of the position and
  // the least significant digit of the frequency.
  line.positions.resize(n);
  std::vector<size_t> offset;
  int64_t size = n;
  for (int s = 0; s < line.stage_count; ++s) {
    const int radix = factors[s];
    const int64_t m = size / radix, blocks = n / size;
    OwnedConvolution<T>* convolution = nullptr;
    if (!has_butterfly(radix)) {
      const auto [at, is_new] = line.convolutions.try_emplace(radix);
      convolution = &at->second;
      if (is_new) build_convolution(radix, static_cast<int>(n / radix), *convolution);
      const int own = convolution->batch * (convolution->line->n + 2);
      line.scratch = std::max(line.scratch, own + convolution->line->scratch);
    }
    const std::vector<int> frequencies = output_frequencies<T>(radix, convolution);
    offset.push_back(line.twiddles.size());
    for (int64_t j = 0; j < m; ++j) {
      for (int q = convolution ? 0 : 1; q < radix; ++q) {
        const int64_t k = j * frequencies[q] * blocks;
        line.twiddles.push_back(static_cast<T>(cos_turn(k, n)));
        line.twiddles.push_back(static_cast<T>(-sin_turn(k, n)));
      }
    }
    std::vector<int32_t> place(radix);
    for (int q = 0; q < radix; ++q) place[frequencies[q]] = static_cast<int32_t>(q * m);
    for (int64_t f = 0; f < n; ++f) line.positions[f] += place[f / blocks % radix];
    line.stages[s] = {radix, static_cast<int>(m), static_cast<int>(blocks), nullptr, convolution};
    size = m;
  }
  for (int s = 0; s < line.stage_count; ++s) line.stages[s].twiddle = line.twiddles.data() + offset[s];
  line.position = line.positions.data();
  line.cosine = line.cosines.data();
  line.sine = line.sines.data();
  return result;
}

template <class T>
const OwnedLine<T>& cached(int64_t n) {
  static auto* cache = new std::map<int64_t, std::unique_ptr<OwnedLine<T>>>;
  auto& slot = (*cache)[n];
  if (!slot) slot = build<T>(n);
  return *slot;
}

}  // namespace

template <class T>
const Line<T>& line(int64_t n) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  return cached<T>(n);
}

template const Line<float>& line<float>(int64_t);
template const Line<double>& line<double>(int64_t);

}  // namespace blurfft
