#include "plan.h"

#include <cmath>
#include <map>
#include <memory>
#include <mutex>

namespace blurfft {

std::vector<int> radices(int64_t n) {
  int odd[] = {7, 5, 3};
  std::vector<int> tail;
  int64_t rest = n;
  for (int p : odd) {
    for (; rest > 1 && rest % p == 0; rest /= p) tail.push_back(p);
  }
  int twos = 0;
  for (; rest > 1 && rest % 2 == 0; rest /= 2) ++twos;
  if (rest != 1) return {};
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

bool supports_length(int64_t n) { return n >= 1 && n <= kMaxLength && (n == 1 || !radices(n).empty()); }

namespace {

// The tables behind a Line's pointers.
template <class T>
struct OwnedLine : Line<T> {
  std::vector<int32_t> positions;
  std::vector<T> cosines, sines, twiddles;
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

  std::vector<size_t> offset;
  int64_t size = n;
  for (int s = 0; s < line.stage_count; ++s) {
    const int radix = factors[s];
    const int64_t m = size / radix;
    offset.push_back(line.twiddles.size());
    for (int64_t j = 0; j < m; ++j) {
      for (int q = 1; q < radix; ++q) {
        const int64_t k = j * q * (n / size);
        line.twiddles.push_back(static_cast<T>(cos_turn(k, n)));
        line.twiddles.push_back(static_cast<T>(-sin_turn(k, n)));
      }
    }
    line.stages[s] = {radix, static_cast<int>(m), static_cast<int>(n / size), nullptr};
    size = m;
  }
  for (int s = 0; s < line.stage_count; ++s) line.stages[s].twiddle = line.twiddles.data() + offset[s];

  // After decimation in frequency the first radix's output index is the most significant digit of the position and
  // the least significant digit of the frequency.
  line.positions.resize(n);
  for (int64_t f = 0; f < n; ++f) {
    int64_t rest = f, position = 0;
    for (int s = 0; s < line.stage_count; ++s) {
      position += rest % factors[s] * line.stages[s].m;
      rest /= factors[s];
    }
    line.positions[f] = static_cast<int32_t>(position);
  }
  line.position = line.positions.data();
  line.cosine = line.cosines.data();
  line.sine = line.sines.data();
  return result;
}

}  // namespace

template <class T>
const Line<T>& line(int64_t n) {
  static std::mutex mutex;
  static auto* cache = new std::map<int64_t, std::unique_ptr<OwnedLine<T>>>;
  std::lock_guard<std::mutex> lock(mutex);
  auto& slot = (*cache)[n];
  if (!slot) slot = build<T>(n);
  return *slot;
}

template const Line<float>& line<float>(int64_t);
template const Line<double>& line<double>(int64_t);

}  // namespace blurfft
