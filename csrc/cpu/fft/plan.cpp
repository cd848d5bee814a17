#include "plan.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "lock.h"

namespace blurfft {

namespace {

// Primes with a butterfly of their own, in the order in which a line takes them.
constexpr int kOddRadices[] = {13, 11, 7, 5, 3};

constexpr int kLargestButterfly = kOddRadices[0];
template <class T>
bool is_direct(int radix) {
  return radix <= kLargestDirect<T>;
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

// What a stage that is no convolution takes for an element, in cycles of a core with AVX2.
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
      return 0.6 * radix;
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

template <class T>
int64_t convolution_length(int64_t prime) {
  if (is_direct<T>(static_cast<int>(prime))) return 0;
  int64_t best = 0;
  double least = 0;
  const auto consider = [&](int64_t length) {
    // A convolution within another would take more time, and have larger errors.
    if (!std::ranges::all_of(radices(length), is_direct<T>)) return;
    const double cost = convolution_cost(prime, length);
    if (best > 0 && cost >= least) return;
    least = cost;
    best = length;
  };
  consider(prime - 1);
  // Even ones only, as prime - 1 is: their first radix is then 2, 4 or 8.
  for (int64_t length = 2 * prime - 2; length < 5 * prime / 2; length += 2) consider(length);
  return best;
}
template int64_t convolution_length<float>(int64_t);
template int64_t convolution_length<double>(int64_t);

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
  std::vector<int32_t> places;  // of a convolution's elements
  std::vector<double> cosines, sines;
  std::vector<T> twiddles;
  std::map<int, std::vector<T>> roots;              // by radix
  std::map<int, OwnedConvolution<T>> convolutions;  // likewise
};

// cos(2 pi k / n) and sin(2 pi k / n) from the first eighth of a turn: right angles are exact, so that a kernel's zeros
// are, and angles that mirror each other have the same values. More accurate than double, where the errors of twiddle
// factors would add to those of the arithmetic.
long double cos_turn(int64_t k, int64_t n) {
  const long double turn = 2 * std::acos(-1.0L);
  k = (k % n + n) % n;
  if (2 * k > n) k = n - k;
  if (4 * k > n) return -cos_turn(n - 2 * k, 2 * n);
  return 8 * k <= n ? std::cos(turn * static_cast<long double>(k) / static_cast<long double>(n))
                    : std::sin(turn * static_cast<long double>(n - 4 * k) / static_cast<long double>(4 * n));
}
long double sin_turn(int64_t k, int64_t n) { return cos_turn(4 * k - n, 4 * n); }

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

// Of n elements a step apart. Once a length, so it need not be fast, but more accurate than what it serves.
std::vector<Wide> transform(const Wide* x, int64_t n, int64_t step, const std::vector<Wide>& roots) {
  if (n == 1) return {*x};
  int64_t radix = 2;
  while (n % radix != 0) ++radix;
  const int64_t m = n / radix;
  std::vector<Wide> result(n);
  for (int64_t k = 0; k < radix; ++k) {
    const std::vector<Wide> part = transform(x + k * step, m, radix * step, roots);
    for (int64_t f = 0; f < n; ++f) result[f] += roots[k * f % n * step] * part[f % m];
  }
  return result;
}
std::vector<Wide> transform(const std::vector<Wide>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<Wide> roots;
  roots.reserve(n);
  for (int64_t k = 0; k < n; ++k) roots.emplace_back(cos_turn(k, n), -sin_turn(k, n));
  return transform(x.data(), n, 1, roots);
}

template <class T>
std::vector<T> roots_of_prime(int p) {
  const int half = p / 2;
  std::vector<T> roots;
  for (int first = 1; first <= half; first += kRootOutputs) {
    const int end = std::min(first + kRootOutputs, half + 1);
    for (int k = 1; k <= half; ++k) {
      for (int q = first; q < end; ++q) roots.push_back(static_cast<T>(cos_turn(q * k, p)));
      for (int q = first; q < end; ++q) roots.push_back(static_cast<T>(sin_turn(q * k, p)));
    }
  }
  return roots;
}

// The energy of a radix's outputs relative to what its exact roots would give.
template <class T>
long double energy_gain(int radix) {
  std::vector<long double> energies;  // of the rounded roots
  for (int64_t k = 0; k < radix; ++k) {
    const long double re = static_cast<T>(cos_turn(k, radix)), im = static_cast<T>(sin_turn(k, radix));
    energies.push_back(re * re + im * im);
  }
  long double energy = 0;
  for (int q = 0; q < radix; ++q) {
    for (int k = 0; k < radix; ++k) energy += energies[q * k % radix];
  }
  return energy / (static_cast<long double>(radix) * radix);
}
// Of all stages that are no convolutions together.
template <class T>
long double energy_gain(const std::vector<int>& radices) {
  long double gain = 1;
  for (int radix : radices) gain *= is_direct<T>(radix) ? energy_gain<T>(radix) : 1;
  return gain;
}

// With its elements in order or, `coprime`, as Factor says.
template <class T>
const OwnedLine<T>& cached(int64_t n, bool coprime);

template <class T>
void build_convolution(int p, OwnedConvolution<T>& convolution) {
  const int64_t length = convolution_length<T>(p);
  const OwnedLine<T>& line = cached<T>(length, true);
  convolution.line = &line;

  const std::vector<int32_t> powers = generated(p);
  std::vector<Wide> kernel(length);
  for (int s = 0; s < p - 1; ++s) {
    const int power = powers[s];
    const Wide root(cos_turn(power, p), -sin_turn(power, p));
    kernel[s == 0 ? 0 : length - s] = root;  // r - q = -s
    if (s > 0) kernel[p - 1 - s] = root;     // the same, a period later
  }
  const std::vector<Wide> spectrum = transform(kernel);
  const long double scale = static_cast<long double>(length) * energy_gain<T>(radices(length));
  convolution.spectra.resize(2 * length);
  for (int64_t f = 0; f < length; ++f) {
    const Wide value = spectrum[f] / scale;
    convolution.spectra[2 * line.position[f]] = static_cast<T>(value.real());
    convolution.spectra[2 * line.position[f] + 1] = static_cast<T>(value.imag());
  }
  convolution.all_powers.resize(length);
  convolution.all_ordinals.resize(length);
  for (int q = 0; q < p - 1; ++q) {
    convolution.all_powers[line.places[q]] = powers[q];
    convolution.all_ordinals[line.places[q]] = 1 + q;
  }
  convolution.spectrum = convolution.spectra.data();
  convolution.powers = convolution.all_powers.data();
  convolution.ordinals = convolution.all_ordinals.data();
}

// Which frequency a stage of this radix leaves where: g^-r at 1 + r, if it is a convolution.
template <class T>
std::vector<int> output_frequencies(int radix) {
  std::vector<int> frequencies(radix);
  std::iota(frequencies.begin(), frequencies.end(), 0);
  if (is_direct<T>(radix)) return frequencies;
  const std::vector<int32_t> powers = generated(radix);
  for (int r = 0; r < radix - 1; ++r) frequencies[1 + r] = powers[(radix - 1 - r) % (radix - 1)];
  return frequencies;
}

int64_t inverse_modulo(int64_t a, int64_t n) {
  int64_t inverse = 1 % n;
  while (a * inverse % n != 1 % n) ++inverse;
  return inverse;
}

// Stages that have twiddle factors between them: all of a line whose elements are in order. A convolution's may be in
// any order, and in that of the Chinese remainder theorem the powers of different primes need none (Good and Thomas).
struct Factor {
  int64_t size;   // of these stages together
  int64_t later;  // of those that follow them
};
std::vector<Factor> factors_of_stages(const std::vector<int>& radices, bool coprime) {
  const auto prime = [&](int radix) { return !coprime ? 0 : radix % 2 == 0 ? 2 : radix; };
  std::vector<Factor> factors;
  for (size_t s = 0; s < radices.size(); ++s) {
    Factor factor = {1, 1};
    for (size_t i = 0; i < radices.size(); ++i) {
      if (prime(radices[i]) == prime(radices[s])) {
        factor.size *= radices[i];
      } else if (i > s) {
        factor.later *= radices[i];
      }
    }
    factors.push_back(factor);
  }
  return factors;
}

template <class T>
std::unique_ptr<OwnedLine<T>> build(int64_t n, bool coprime) {
  constexpr int kBatchElements = 128;
  auto result = std::make_unique<OwnedLine<T>>();
  OwnedLine<T>& line = *result;
  const std::vector<int> all = radices(n);
  const std::vector<Factor> factors = factors_of_stages(all, coprime);
  line.n = static_cast<int>(n);
  line.stage_count = static_cast<int>(all.size());
  line.gain = static_cast<double>(energy_gain<T>(all));
  std::vector<double> cosines(n), sines(n);
  for (int64_t k = 0; k < n; ++k) {
    cosines[k] = static_cast<double>(cos_turn(k, n));
    sines[k] = static_cast<double>(sin_turn(k, n));
  }

  // After decimation in frequency the first radix's output index is the most significant digit of the position and,
  // of its factor's, the least significant digit of the frequency.
  line.positions.resize(n);
  std::vector<int32_t> places(n);
  std::vector<ptrdiff_t> offset;  // -1: no twiddle factors
  int64_t blocks = 1;
  for (int s = 0; s < line.stage_count; ++s) {
    const int radix = all[s];
    const int64_t m = n / blocks / radix;
    const Factor factor = factors[s];
    int64_t before = 1;  // of the factor's stages, this one
    for (int i = s - 1; i >= 0 && factors[i].later == factor.later; --i) before *= all[i];
    const T* roots = nullptr;
    OwnedConvolution<T>* convolution = nullptr;
    if (radix > kLargestButterfly && is_direct<T>(radix)) {
      std::vector<T>& owned = line.roots[radix];
      if (owned.empty()) owned = roots_of_prime<T>(radix);
      roots = owned.data();
    }
    if (!is_direct<T>(radix)) {
      const auto [at, is_new] = line.convolutions.try_emplace(radix);
      convolution = &at->second;
      if (is_new) build_convolution(radix, *convolution);
    }
    const int length = convolution ? convolution->line->n : radix;
    const int batch = std::clamp(kBatchElements / length, 1, static_cast<int>(n / radix));
    if (convolution) line.scratch = std::max(line.scratch, batch * (length + 2));
    const std::vector<int> frequencies = output_frequencies<T>(radix);
    const bool twiddled = before * radix < factor.size;
    offset.push_back(twiddled ? static_cast<ptrdiff_t>(line.twiddles.size()) : -1);
    for (int64_t j = 0; twiddled && j < m; ++j) {
      for (int q = convolution ? 0 : 1; q < radix; ++q) {
        const int64_t k = j / factor.later * frequencies[q] * before % factor.size * (n / factor.size);
        line.twiddles.push_back(static_cast<T>(cosines[k]));
        line.twiddles.push_back(static_cast<T>(-sines[k]));
      }
    }
    std::vector<int32_t> place(radix);
    for (int q = 0; q < radix; ++q) place[frequencies[q]] = static_cast<int32_t>(q * m);
    const int64_t inverse = inverse_modulo(n / factor.size, factor.size);
    for (int64_t f = 0; f < n; ++f) {
      line.positions[f] += place[f * inverse % factor.size / before % radix];
      if (before == 1) places[f] += static_cast<int32_t>(f % factor.size * factor.later);
    }
    line.stages[s] = {radix, static_cast<int>(m), static_cast<int>(blocks), batch, nullptr, roots, convolution};
    blocks *= radix;
  }
  for (int s = 0; s < line.stage_count; ++s) {
    if (offset[s] >= 0) line.stages[s].twiddle = line.twiddles.data() + offset[s];
  }
  // Images have their elements in order, and small kernels, whose transforms are of these angles.
  if (coprime) {
    line.places = std::move(places);
  } else {
    line.cosines = std::move(cosines);
    line.sines = std::move(sines);
  }
  line.position = line.positions.data();
  line.cosine = line.cosines.data();
  line.sine = line.sines.data();
  return result;
}

template <class T>
const OwnedLine<T>& cached(int64_t n, bool coprime) {
  static auto* cache = new std::map<std::pair<int64_t, bool>, std::unique_ptr<OwnedLine<T>>>;
  auto& slot = (*cache)[{n, coprime}];
  if (!slot) slot = build<T>(n, coprime);
  return *slot;
}

}  // namespace

template <class T>
const Line<T>& line(int64_t n) {
  std::lock_guard<std::mutex> lock(fork_safe_mutex<Line<T>>());
  return cached<T>(n, false);
}

template const Line<float>& line<float>(int64_t);
template const Line<double>& line<double>(int64_t);

}  // namespace blurfft
