// Transforms of many lines at once by one block, in its shared memory, of any length up to 2048 that only the launch
// knows: one compilation serves every length.
//
// A length whose prime factors are at most 7 is a `Line`: one pass for each radix, in place, with roots of unity that
// the block computes. Any other is a `PrimeLine`, which has radices 11 and 13 as well: they take registers that would
// cost a `Line` every third block. Before these come the passes of larger primes, by Rader's convolution. With g a
// generator of the residues modulo p, j and i running over p - 1 values and w = exp(-2 pi i / p),
//
//   X[g^-i] = sum_j (x[g^j] - x[0]) w^(g^(j - i))   X[0] = p x[0] + sum_j (x[g^j] - x[0])
//   x[g^i] = X[0] + sum_j X[g^-j] w^-(g^(i - j))    x[0] = X[0] + sum_j X[g^-j]
//
// The sum of w^(k f) over all k vanishes, so the transform may take x[0] away first: then the mean of an image, often
// its largest coefficient by far, costs the others no accuracy. The inverse leaves it out of the convolution's input
// for the same reason. Where p - 1 has a prime factor above 13, the convolution is padded with zeros to a length of at
// least 2p - 3. The p elements of a stage are kept in slots: element 0, then x[g^j] in slot 1 + j; after the stage
// frequency 0, then X[g^-j] there. So the convolution is in order, and the permutations are looked up where lines are
// read and written.
#pragma once

#include "roots.cuh"

namespace blurfft::cuda {

constexpr int kLineThreads = 256;

// Element i of a line lies at bank(start(line) + i * stride()).
struct RowLayout {
  int length;

  static constexpr bool kLinesFirst = false;  // whether neighbouring threads take neighbouring lines
  // A leg of 1 to 8 elements would put a row's neighbouring butterflies into one bank.
  BLURFFT_HD static constexpr int bank(int at) { return at + at / 16; }
  __device__ int start(int line) const { return line * length; }
  __device__ static constexpr int stride() { return 1; }
};
struct ColumnLayout {
  int columns;

  static constexpr bool kLinesFirst = true;
  BLURFFT_HD static constexpr int bank(int at) { return at; }
  __device__ static int start(int line) { return line; }
  __device__ int stride() const { return columns; }
};
// Lines within lines: `width` of them side by side, the next ones `step` further on.
template <class Whole>
struct PartLayout {
  int width, step, offset;

  static constexpr bool kLinesFirst = true;
  BLURFFT_HD static constexpr int bank(int at) { return Whole::bank(at); }
  __device__ int start(int line) const { return line / width * step + offset + line % width; }
  __device__ int stride() const { return width; }
};

// `count` lines. Their length divides `order`, that of the roots exp(-2 pi i k / order).
template <class T, class Layout, int LargestRadix>
struct Lines {
  Layout layout;
  Complex<T>* z;
  const Complex<T>* roots;
  int order, count;

  __device__ Complex<T>& at(int line, int i) const { return z[Layout::bank(layout.start(line) + i * layout.stride())]; }

  template <int R, bool Inverse>
  __device__ __forceinline__ void pass(int n, int leg) const {
    const int butterflies = n / R, step = order / (R * leg), stride = layout.stride();
    for (int i = threadIdx.x; i < count * butterflies; i += kLineThreads) {
      const int line = Layout::kLinesFirst ? i % count : i / butterflies;
      const int u = Layout::kLinesFirst ? i / count : i % butterflies;
      const int t = u % leg, first = layout.start(line) + (u / leg * R * leg + t) * stride;
      Complex<T> x[R];
      unroll<R>([&](auto k) { x[k.value] = z[Layout::bank(first + k.value * leg * stride)]; });
      const auto twiddle = [&](auto k) {
        const Complex<T> w = roots[(k.value + 1) * t * step];
        x[k.value + 1] = x[k.value + 1] * (Inverse ? conj(w) : w);
      };
      if constexpr (Inverse) unroll<R - 1>(twiddle);
      dft<R, Inverse>(x);
      if constexpr (!Inverse) unroll<R - 1>(twiddle);
      unroll<R>([&](auto k) { z[Layout::bank(first + k.value * leg * stride)] = x[k.value]; });
    }
    __syncthreads();
  }

  template <bool Inverse>
  __device__ __forceinline__ void pass(int radix, int n, int leg) const {
    switch (radix) {
      case 2:
        return pass<2, Inverse>(n, leg);
      case 3:
        return pass<3, Inverse>(n, leg);
      case 4:
        return pass<4, Inverse>(n, leg);
      case 5:
        return pass<5, Inverse>(n, leg);
      case 7:
        return pass<7, Inverse>(n, leg);
      case 8:
        return pass<8, Inverse>(n, leg);
    }
    if constexpr (LargestRadix == kLargestRadix) {
      if (radix == 11) return pass<11, Inverse>(n, leg);
      return pass<13, Inverse>(n, leg);
    }
  }

  // Frequency f ends at line.position(f).
  __device__ __forceinline__ void forward(const Line& line) const {
    int leg = line.n;
    for (int i = 0; i < line.passes; ++i) {
      leg /= line.radix[i];
      pass<false>(line.radix[i], line.n, leg);
    }
  }
  __device__ __forceinline__ void inverse(const Line& line) const {
    int leg = 1;
    for (int i = line.passes - 1; i >= 0; --i) {
      pass<true>(line.radix[i], line.n, leg);
      leg *= line.radix[i];
    }
  }
};

// A stage of prime radix: the convolution has prime - 1 elements or, padded, more.
struct PrimeStage {
  int prime, generator;
  Line convolution;

  BLURFFT_HD int slots() const { return convolution.n + 1; }
};

constexpr int kMaxStages = 2;  // 17^3 is above 2048

// Goes to a kernel by value, with tables that prime_tables_kernel has made on the device.
template <class T>
struct PrimeLine {
  struct StageTables {
    Complex<T>*roots, *spectrum;  // of the convolution: roots of unity; its kernel's transform / n, by position
    int* frequency;               // of slot 1 + j
  };
  int n, stages;
  // The largest prime first: none but it is padded, since a second one is at most 43. Without stages the first has one
  // slot.
  PrimeStage stage[kMaxStages];
  Line rest;
  Complex<T>* roots;        // (n)
  int *element, *position;  // (n): where element i is kept, and frequency f
  StageTables tables[kMaxStages];

  // Elements that a line takes in shared memory.
  BLURFFT_HD int storage() const { return n / stage[0].prime * stage[0].slots(); }
};

inline int power_modulo(int base, int exponent, int modulus) {
  int64_t result = 1;
  for (int i = 0; i < exponent; ++i) result = result * base % modulus;
  return static_cast<int>(result);
}
inline int largest_prime_factor(int n) {
  int largest = 1;
  for (int factor = 2; n > 1; ++factor) {
    while (n % factor == 0) n /= factor, largest = factor;
  }
  return largest;
}

inline PrimeStage make_prime_stage(int prime) {
  const auto generates = [&](int g) {
    for (int factor = 2, rest = prime - 1; rest > 1; ++factor) {
      if (rest % factor != 0) continue;
      if (power_modulo(g, (prime - 1) / factor, prime) == 1) return false;
      while (rest % factor == 0) rest /= factor;
    }
    return true;
  };
  int generator = 2, length = prime - 1;
  while (!generates(generator)) ++generator;
  if (largest_prime_factor(length) > kLargestRadix) {
    length = 2 * prime - 3;
    while (largest_prime_factor(length) > kLargestSmoothRadix) ++length;
  }
  return {prime, generator, make_line(length)};
}

// Without its tables.
template <class T>
PrimeLine<T> make_prime_line(int n) {
  PrimeLine<T> line = {};
  line.n = n;
  line.stage[0].prime = 1;
  for (int prime; (prime = largest_prime_factor(n)) > kLargestRadix; n /= prime) {
    line.stage[line.stages++] = make_prime_stage(prime);
  }
  line.rest = make_line(n);
  return line;
}

// f(table, entries) for each table.
template <class T, class F>
void for_each_table(PrimeLine<T>& line, F&& f) {
  f(line.roots, line.n);
  for (int s = 0; s < line.stages; ++s) {
    f(line.tables[s].roots, line.stage[s].convolution.n);
    f(line.tables[s].spectrum, line.stage[s].convolution.n);
  }
  f(line.element, line.n);
  f(line.position, line.n);
  for (int s = 0; s < line.stages; ++s) f(line.tables[s].frequency, line.stage[s].prime - 1);
}

// Entry f of the transform of a stage's convolution kernel, exp(-2 pi i g^-l / p) at element l (and, padded, at the end
// once more, for l < 0), over its length: in double, each term from one exact angle.
__device__ inline Complex<double> convolution_spectrum(const PrimeStage& stage, const int* powers, int f) {
  const int p = stage.prime, n = stage.convolution.n;
  Complex<double> sum = {0, 0};
  for (int l = threadIdx.x % 32; l < n; l += 32) {
    // The power of g, from 0 to p - 2.
    const int inverse = l <= p - 2 ? (p - 1 - l) % (p - 1) : n - l;
    if (inverse > p - 2) continue;
    const int angle = powers[inverse] * n + f * l % n * p;
    sum = sum + unit_root<double>(angle < n * p ? angle : angle - n * p, n * p);
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    sum.re += __shfl_xor_sync(0xffffffffu, sum.re, offset);
    sum.im += __shfl_xor_sync(0xffffffffu, sum.im, offset);
  }
  return (1.0 / n) * sum;
}

// Shared memory: of each stage g^j and its inverse function. Any grid.
template <class T>
__global__ void __launch_bounds__(kLineThreads, 1) prime_tables_kernel(const __grid_constant__ PrimeLine<T> line) {
  BLURFFT_DYNAMIC_SHARED(int, shared);
  const int first = blockIdx.x * kLineThreads + threadIdx.x, all = gridDim.x * kLineThreads;
  const auto powers = [&](int s) { return shared + (s == 0 ? 0 : 2 * line.stage[0].prime); };
  const auto logarithms = [&](int s) { return powers(s) + line.stage[s].prime; };
  for (int s = 0; s < line.stages; ++s) {
    const PrimeStage& stage = line.stage[s];
    for (int j = threadIdx.x; j < stage.prime - 1; j += kLineThreads) {
      int power = 1;
      for (int bit = 1 << 10; bit > 0; bit /= 2) {
        power = power * power % stage.prime;
        if (j & bit) power = power * stage.generator % stage.prime;
      }
      powers(s)[j] = power;
      logarithms(s)[power] = j;
    }
  }
  __syncthreads();

  for (int i = first; i < line.n; i += all) {
    line.roots[i] = unit_root<T>(i, line.n);
    int element = 0, position = 0, leg = line.n, rest = i, frequency = i;
    for (int s = 0; s < line.stages; ++s) {
      const int p = line.stage[s].prime;
      leg /= p;
      const int k = rest / leg, q = frequency % p;
      if (k > 0) element += (1 + logarithms(s)[k]) * leg;
      if (q > 0) position += (1 + (p - 1 - logarithms(s)[q]) % (p - 1)) * leg;
      rest %= leg;
      frequency /= p;
    }
    line.element[i] = element + rest;
    line.position[i] = position + line.rest.position(frequency);
  }
  for (int s = 0; s < line.stages; ++s) {
    const PrimeStage& stage = line.stage[s];
    const Line& convolution = stage.convolution;
    const auto& tables = line.tables[s];
    for (int i = first; i < convolution.n; i += all) tables.roots[i] = unit_root<T>(i, convolution.n);
    for (int i = first; i < stage.prime - 1; i += all) {
      tables.frequency[i] = powers(s)[(stage.prime - 1 - i) % (stage.prime - 1)];
    }
    for (int f = first / 32; f < convolution.n; f += all / 32) {
      const Complex<double> x = convolution_spectrum(stage, powers(s), f);
      if (threadIdx.x % 32 == 0) {
        tables.spectrum[convolution.position(f)] = {static_cast<T>(x.re), static_cast<T>(x.im)};
      }
    }
  }
}

// A block's `count` lines, rows or columns of a plane: where their elements and frequencies are, and their transforms.
template <class T, class Length, bool Columns>
struct LineTransform;

template <class T, bool Columns>
struct LineTransform<T, Line, Columns> {
  using Layout = std::conditional_t<Columns, ColumnLayout, RowLayout>;
  const Line& line;
  Lines<T, Layout, kLargestSmoothRadix> lines;
  int* positions;

  // Shared memory: elements, roots, positions.
  BLURFFT_HD static int elements(const Line& line, int count) { return Layout::bank(count * line.n - 1) + 1; }
  static size_t shared_bytes(const Line& line, int count) {
    return (elements(line, count) + line.n) * sizeof(Complex<T>) + line.n * sizeof(int);
  }

  // A barrier comes before anything else.
  __device__ LineTransform(const Line& line, int count, Complex<T>* shared) : line(line) {
    Complex<T>* roots = shared + elements(line, count);
    positions = reinterpret_cast<int*>(roots + line.n);
    lines = {{Columns ? count : line.n}, shared, roots, line.n, count};
    for (int k = threadIdx.x; k < line.n; k += kLineThreads) {
      roots[k] = unit_root<T>(k, line.n);
      positions[k] = line.position(k);
    }
  }
  __device__ Complex<T>& element(int of, int i) const { return lines.at(of, i); }
  __device__ Complex<T>& frequency(int of, int f) const { return lines.at(of, positions[f]); }
  __device__ void forward() const { lines.forward(line); }
  __device__ void inverse() const { lines.inverse(line); }
};

template <class T, bool Columns>
struct LineTransform<T, PrimeLine<T>, Columns> {
  using Layout = std::conditional_t<Columns, ColumnLayout, RowLayout>;
  using Parts = Lines<T, PartLayout<Layout>, kLargestRadix>;
  const PrimeLine<T>& line;
  Lines<T, Layout, kLargestRadix> lines;

  BLURFFT_HD static int elements(const PrimeLine<T>& line, int count) {
    return Layout::bank(count * line.storage() - 1) + 1;
  }
  static size_t shared_bytes(const PrimeLine<T>& line, int count) { return elements(line, count) * sizeof(Complex<T>); }

  __device__ LineTransform(const PrimeLine<T>& line, int count, Complex<T>* shared)
      : line(line), lines{{Columns ? count : line.storage()}, shared, line.roots, line.n, count} {}
  __device__ Complex<T>& element(int of, int i) const { return lines.at(of, line.element[i]); }
  __device__ Complex<T>& frequency(int of, int f) const { return lines.at(of, line.position[f]); }

  __device__ void forward() const {
    int leg = line.n;
    for (int s = 0; s < line.stages; ++s) {
      leg /= line.stage[s].prime;
      transform_stage<false>(s, leg);
    }
    rest().forward(line.rest);
  }
  __device__ void inverse() const {
    // The slots of a padded convolution, in which a forward transform or nobody has left anything, are its zeros.
    const PrimeStage& stage = line.stage[0];
    const Parts first = parts(stage.slots(), line.n / stage.prime);
    const int padding = stage.slots() - stage.prime;
    for (int i = threadIdx.x; i < first.count * padding; i += kLineThreads) {
      first.at(i % first.count, stage.prime - 1 + i / first.count) = {};
    }
    if (padding) __syncthreads();
    rest().inverse(line.rest);
    int leg = line.rest.n;
    for (int s = line.stages - 1; s >= 0; --s) {
      transform_stage<true>(s, leg);
      leg *= line.stage[s].prime;
    }
  }

 private:
  __device__ int side_by_side() const { return Columns ? lines.count : 1; }
  // A stage's lines without slot 0, `leg` of them in each block of slots.
  __device__ Parts parts(int slots, int leg) const {
    const int width = leg * side_by_side();
    return {{width, slots * width, width}, lines.z, nullptr, 1, lines.count * line.storage() / slots};
  }
  // Lines of the other radices, in what all stages leave.
  __device__ Parts rest() const {
    const int width = side_by_side();
    return {{width, line.rest.n * width, 0}, lines.z, line.roots, line.n, lines.count * line.storage() / line.rest.n};
  }

  // Which element of a leg of stage s is kept in place t of it: the next stage has permuted it.
  __device__ int element_in(int s, int t) const {
    const int slot = t / line.rest.n, next = line.stage[1].prime - 1;
    if (s + 1 == line.stages || slot == 0) return t;
    return line.tables[1].frequency[(next - (slot - 1)) % next] * line.rest.n + t % line.rest.n;
  }

  template <bool Inverse>
  __device__ __forceinline__ void transform_stage(int s, int leg) const {
    const PrimeStage& stage = line.stage[s];
    const auto& tables = line.tables[s];
    const Line& convolution = stage.convolution;
    Parts parts = this->parts(stage.slots(), leg);
    parts.roots = tables.roots;
    parts.order = convolution.n;
    const int width = parts.layout.width, count = parts.count, values = count * convolution.n;
    const auto slot_0 = [&](int part) -> Complex<T>& {
      return lines.z[Layout::bank(parts.layout.start(part) - width)];
    };
    const auto multiply_by_roots = [&] {
      if (leg == 1) return;
      for (int i = threadIdx.x; i < count * (stage.prime - 1); i += kLineThreads) {
        const int part = i % count, j = i / count, t = element_in(s, part % width / side_by_side());
        const Complex<T> w = line.roots[tables.frequency[j] * t * (line.n / (stage.prime * leg))];
        Complex<T>& x = parts.at(part, j);
        x = x * (Inverse ? conj(w) : w);
      }
      __syncthreads();
    };

    if constexpr (Inverse) {
      multiply_by_roots();
    } else {
      for (int i = threadIdx.x; i < values; i += kLineThreads) {
        const int part = i % count, j = i / count;
        Complex<T>& x = parts.at(part, j);
        x = j < stage.prime - 1 ? x - slot_0(part) : Complex<T>{};
      }
      __syncthreads();
    }
    parts.forward(convolution);
    for (int i = threadIdx.x; i < values; i += kLineThreads) {
      const int part = i % count, f = i / count;
      Complex<T>& x = parts.at(part, f);
      const Complex<T> sum = x, w = tables.spectrum[f], zero = f == 0 ? slot_0(part) : Complex<T>{};
      x = x * (Inverse ? conj(w) : w);
      if (f == 0 && Inverse) {
        slot_0(part) = zero + sum;
        x = x + zero;  // to every element
      } else if (f == 0) {
        slot_0(part) = static_cast<T>(stage.prime) * zero + sum;
      }
    }
    __syncthreads();
    parts.inverse(convolution);
    if constexpr (!Inverse) multiply_by_roots();
  }
};

}  // namespace blurfft::cuda
