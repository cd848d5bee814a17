// Transforms of many lines at once by one block, in its shared memory, of any length up to 2048 that only the launch
// knows: one compilation serves every length.
//
// A length whose prime factors are at most 7 is a `Line`: one pass for each radix, in place, with roots of unity that
// the block computes. Any other is a `PrimeLine`, which has the radices 11 and 13 as well: they take registers that
// would cost a `Line` every third block. Its primes from 17 to 47 are passes that sum directly, which is as exact as
// torch's transforms are and, in shared memory, about as quick as a convolution; and no length up to 2048 has more than
// one prime above, whose pass comes first and is Rader's convolution. With g a generator of the residues modulo p, j
// and i running over p - 1 values and w = exp(-2 pi i / p),
//
//   X[g^-i] = x[0] - c + sum_j (x[g^j] - c) w^(g^(j - i))   X[0] = p c + x[0] - c + sum_j (x[g^j] - c)
//   x[g^i] = X[0] + sum_j X[g^-j] w^-(g^(i - j))            x[0] = X[0] + sum_j X[g^-j]
//
// The sum of w^(k f) over all k vanishes, so any c will do; with the average of a few elements the mean of an image,
// often its largest coefficient by far, costs the others no accuracy. The inverse leaves it out of the convolution's
// input for the same reason. Where p - 1 has a prime factor above 13, the convolution is padded with zeros to a length
// of at least 2p - 3. The p elements of the stage are kept in slots: element 0, then x[g^j] in slot 1 + j; after the
// stage frequency 0, then X[g^-j] there. So the convolution is in order, and the permutations are looked up where lines
// are read and written.
#pragma once

#include "roots.cuh"

namespace blurfft::cuda {

constexpr int kLineThreads = 256;
constexpr int kFew = 8;  // elements, whose average is near a line's mean

// A length cut at run time. Plain data: goes to a kernel by value.
constexpr int kMaxPasses = 8;
struct Line {
  int n;
  int passes;
  int radix[kMaxPasses];

  BLURFFT_HD int storage() const { return n; }  // elements that it takes in shared memory
  BLURFFT_HD int position(int frequency) const {
    int at = 0, leg = n;
    for (int i = 0; i < passes; ++i) {
      leg /= radix[i];
      at += frequency % radix[i] * leg;
      frequency /= radix[i];
    }
    return at;
  }
};

inline int largest_prime_factor(int n) {
  int largest = 1;
  for (int factor = 2; n > 1; ++factor) {
    while (n % factor == 0) n /= factor, largest = factor;
  }
  return largest;
}

// Prime radices that have a butterfly in every kernel, in those of a PrimeLine alone, and that are summed there.
constexpr int kLargestSmoothRadix = 7, kLargestRadix = 13, kLargestDirectRadix = 47;

// The passes of a length without prime factors above 47, those of odd radix first, the largest before the others.
inline Line make_line(int n) {
  Line line{n, 0, {}};
  // 2^k in as few passes as 8 allows, of radices as even as can be: 16 is 4 * 4.
  int twos = 0;
  while (n % 2 == 0) n /= 2, ++twos;
  for (; n > 1; n /= line.radix[line.passes - 1]) line.radix[line.passes++] = largest_prime_factor(n);
  for (int left = (twos + 2) / 3; left > 0; --left) {
    const int bits = (twos + left - 1) / left;
    line.radix[line.passes++] = 1 << bits;
    twos -= bits;
  }
  return line;
}

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

// `count` lines. Their length divides `order`, that of the roots exp(-2 pi i k / order). A direction is a constant, or
// a bool: one compilation of each radix then serves both ways.
template <class T, class Layout, bool AnyRadix>
struct Lines {
  Layout layout;
  Complex<T>* z;
  const Complex<T>* roots;
  int order, count;

  __device__ Complex<T>& at(int line, int i) const { return z[Layout::bank(layout.start(line) + i * layout.stride())]; }

  template <int R>
  __device__ __forceinline__ void pass(int n, int leg, bool inverse) const {
    const int butterflies = n / R, step = order / (R * leg), stride = layout.stride();
    for (int i = threadIdx.x; i < count * butterflies; i += kLineThreads) {
      const int line = Layout::kLinesFirst ? i % count : i / butterflies;
      const int u = Layout::kLinesFirst ? i / count : i % butterflies;
      const int t = u % leg, first = layout.start(line) + (u / leg * R * leg + t) * stride;
      Complex<T> x[R];
#pragma unroll
      for (int k = 0; k < R; ++k) x[k] = z[Layout::bank(first + k * leg * stride)];
      const auto twiddle = [&] {
#pragma unroll
        for (int k = 1; k < R; ++k) {
          const Complex<T> w = roots[k * t * step];
          x[k] = x[k] * (inverse ? conj(w) : w);
        }
      };
      if (inverse) twiddle();
      if constexpr (AnyRadix) {
        const T sign = inverse ? -1 : 1;
#pragma unroll
        for (int k = 0; k < R; ++k) x[k].im *= sign;
        // Element 0 of a long sum, of a spectrum the mean, comes last: see direct_pass().
        const Complex<T> zeroth = x[0];
        if constexpr (R > kLargestSmoothRadix) x[0] = {};
        dft<R, false>(x);
        if constexpr (R > kLargestSmoothRadix) {
#pragma unroll
          for (int k = 0; k < R; ++k) x[k] = zeroth + x[k];
        }
#pragma unroll
        for (int k = 0; k < R; ++k) x[k].im *= sign;
      } else if (inverse) {
        dft<R, true>(x);
      } else {
        dft<R, false>(x);
      }
      if (!inverse) twiddle();
#pragma unroll
      for (int k = 0; k < R; ++k) z[Layout::bank(first + k * leg * stride)] = x[k];
    }
    __syncthreads();
  }

  __device__ __forceinline__ void pass(int radix, int n, int leg, bool inverse) const {
    switch (radix) {
      case 2:
        return pass<2>(n, leg, inverse);
      case 3:
        return pass<3>(n, leg, inverse);
      case 4:
        return pass<4>(n, leg, inverse);
      case 5:
        return pass<5>(n, leg, inverse);
      case 7:
        return pass<7>(n, leg, inverse);
      case 8:
        return pass<8>(n, leg, inverse);
    }
    if constexpr (AnyRadix) {
      if (radix == 11) return pass<11>(n, leg, inverse);
      if (radix == 13) return pass<13>(n, leg, inverse);
      direct_pass(radix, n, leg, inverse);
    }
  }

  // Of an odd radix: a thread sums outputs q and radix - q of a butterfly, cosines over sums and sines over
  // differences.
  __device__ __forceinline__ void direct_pass(int radix, int n, int leg, bool inverse) const {
    const int stride = leg * layout.stride(), pairs = radix / 2 + 1, butterflies = count * (n / radix);
    const int step = order / radix, turn = order / (radix * leg);
    const auto leg_of = [&](int butterfly) { return butterfly / count % leg; };
    const auto first_of = [&](int butterfly) {
      const int u = butterfly / count;
      return layout.start(butterfly % count) + (u / leg * radix * leg + u % leg) * layout.stride();
    };
    if (inverse && leg > 1) {
      for (int i = threadIdx.x; i < butterflies * (radix - 1); i += kLineThreads) {
        const int butterfly = i % butterflies, k = i / butterflies + 1;
        Complex<T>& x = z[Layout::bank(first_of(butterfly) + k * stride)];
        x = x * conj(roots[k * leg_of(butterfly) * turn]);
      }
      __syncthreads();
    }
    const int together = kLineThreads / pairs, q = threadIdx.x / together;
    const T sign = inverse ? -1 : 1;
    for (int begin = 0; begin < butterflies; begin += together) {
      const int butterfly = begin + threadIdx.x % together;
      const bool mine = q < pairs && butterfly < butterflies;
      const int first = mine ? first_of(butterfly) : 0;
      Complex<T> even = {}, odd = {}, zeroth = {};
      if (mine) {
        const auto at = [&](int k) { return z[Layout::bank(first + k * stride)]; };
        // A constant adds to output 0 alone: without one near the mean, as is an average of few, the others are small
        // sums of small numbers. Of a spectrum the mean is element 0, which comes last.
        Complex<T> mean = {};
        if (!inverse) {
          for (int k = 0; k < kFew; ++k) mean = mean + at(k * radix / kFew);
          mean = T(1.0 / kFew) * mean;
        }
        for (int k = 1, turns = q; k < pairs; ++k, turns += q) {
          if (turns >= radix) turns -= radix;
          const Complex<T> a = at(k) - mean, b = at(radix - k) - mean;
          const Complex<T> w = roots[turns * step], sum = a + b, difference = sign * (a - b);
          even.re += w.re * sum.re;
          even.im += w.re * sum.im;
          odd.re -= w.im * difference.im;
          odd.im += w.im * difference.re;
        }
        zeroth = at(0) - mean;
        if (q == 0) even = even + static_cast<T>(radix) * mean;
      }
      __syncthreads();
      if (!mine) continue;
      const int t = leg_of(butterfly);
      const auto put = [&](int output, Complex<T> x) {
        if (!inverse && leg > 1) x = x * roots[output * t * turn];
        z[Layout::bank(first + output * stride)] = x;
      };
      put(q, zeroth + (even + odd));
      if (q > 0) put(radix - q, zeroth + (even - odd));
    }
    __syncthreads();
  }

  // Frequency f ends at line.position(f); the inverse begins there.
  __device__ __forceinline__ void transform(const Line& line, bool inverse) const {
    int leg = inverse ? 1 : line.n;
    for (int i = 0; i < line.passes; ++i) {
      const int radix = line.radix[inverse ? line.passes - 1 - i : i];
      if (!inverse) leg /= radix;
      pass(radix, line.n, leg, inverse);
      if (inverse) leg *= radix;
    }
  }
};

// The stage of a large prime: the convolution has prime - 1 elements or, padded, more. Without one, prime is 1.
struct PrimeStage {
  int prime, generator;
  Line convolution;

  BLURFFT_HD int slots() const { return convolution.n + 1; }
};

// Goes to a kernel by value, with tables that prime_tables_kernel has made on the device.
template <class T>
struct PrimeLine {
  int n;
  PrimeStage stage;
  Line rest;
  Complex<T>* roots;        // (n)
  int *element, *position;  // (n): where element i is kept, and frequency f
  // Of the convolution: roots of unity; its kernel's transform / n, by position; the frequency of slot 1 + j.
  Complex<T>*convolution_roots, *spectrum;
  int* frequency;

  // Elements that a line takes in shared memory.
  BLURFFT_HD int storage() const { return rest.n * stage.slots(); }
};

inline int power_modulo(int base, int exponent, int modulus) {
  int64_t result = 1;
  for (int i = 0; i < exponent; ++i) result = result * base % modulus;
  return static_cast<int>(result);
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
  const int prime = largest_prime_factor(n);
  PrimeLine<T> line = {};
  line.n = n;
  line.stage = prime > kLargestDirectRadix ? make_prime_stage(prime) : PrimeStage{1, 0, {}};
  line.rest = make_line(n / line.stage.prime);
  return line;
}

// f(table, entries) for each table.
template <class T, class F>
void for_each_table(PrimeLine<T>& line, F&& f) {
  f(line.roots, line.n);
  f(line.element, line.n);
  f(line.position, line.n);
  if (line.stage.prime == 1) return;
  f(line.convolution_roots, line.stage.convolution.n);
  f(line.spectrum, line.stage.convolution.n);
  f(line.frequency, line.stage.prime - 1);
}

// Entry f of the transform of the convolution's kernel, exp(-2 pi i g^-l / p) at element l (and, padded, at the end
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

// Shared memory: g^j and its inverse function. Any grid.
template <class T>
__global__ void __launch_bounds__(kLineThreads, 1) prime_tables_kernel(const __grid_constant__ PrimeLine<T> line) {
  BLURFFT_DYNAMIC_SHARED(int, powers);
  const PrimeStage& stage = line.stage;
  const Line& convolution = stage.convolution;
  const int p = stage.prime, first = blockIdx.x * kLineThreads + threadIdx.x, all = gridDim.x * kLineThreads;
  int* logarithms = powers + p;
  for (int j = threadIdx.x; j < p - 1; j += kLineThreads) {
    int power = 1;
    for (int bit = 1 << 10; bit > 0; bit /= 2) {
      power = power * power % p;
      if (j & bit) power = power * stage.generator % p;
    }
    powers[j] = power;
    logarithms[power] = j;
  }
  __syncthreads();

  for (int i = first; i < line.n; i += all) {
    line.roots[i] = unit_root<T>(i, line.n);
    const int leg = line.rest.n, k = i / leg, q = i % p;
    const int slot = k == 0 ? 0 : 1 + logarithms[k],
              frequency_slot = q == 0 ? 0 : 1 + (p - 1 - logarithms[q]) % (p - 1);
    line.element[i] = slot * leg + i % leg;
    line.position[i] = frequency_slot * leg + line.rest.position(i / p);
  }
  for (int i = first; i < convolution.n; i += all) line.convolution_roots[i] = unit_root<T>(i, convolution.n);
  for (int i = first; i < p - 1; i += all) line.frequency[i] = powers[(p - 1 - i) % (p - 1)];
  for (int f = first / 32; f < convolution.n; f += all / 32) {
    const Complex<double> x = convolution_spectrum(stage, powers, f);
    if (threadIdx.x % 32 == 0) {
      line.spectrum[convolution.position(f)] = {static_cast<T>(x.re), static_cast<T>(x.im)};
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
  Lines<T, Layout, false> lines;
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
  __device__ void forward() const { lines.transform(line, false); }
  __device__ void inverse() const { lines.transform(line, true); }
};

template <class T, bool Columns>
struct LineTransform<T, PrimeLine<T>, Columns> {
  using Layout = std::conditional_t<Columns, ColumnLayout, RowLayout>;
  using Parts = Lines<T, PartLayout<Layout>, true>;
  static constexpr int kMaxParts = 192;
  const PrimeLine<T>& line;
  Lines<T, Layout, true> lines;

  BLURFFT_HD static int elements(const PrimeLine<T>& line, int count) {
    return Layout::bank(count * line.storage() - 1) + 1;
  }
  static size_t shared_bytes(const PrimeLine<T>& line, int count) { return elements(line, count) * sizeof(Complex<T>); }

  __device__ LineTransform(const PrimeLine<T>& line, int count, Complex<T>* shared)
      : line(line), lines{{Columns ? count : line.storage()}, shared, line.roots, line.n, count} {}
  __device__ Complex<T>& element(int of, int i) const { return lines.at(of, line.element[i]); }
  __device__ Complex<T>& frequency(int of, int f) const { return lines.at(of, line.position[f]); }

  __device__ void forward() const { transform(false); }
  __device__ void inverse() const {
    // The slots of a padded convolution, in which a forward transform or nobody has left anything, are its zeros.
    const Parts parts = slots();
    const int padding = line.stage.slots() - line.stage.prime;
    for (int i = threadIdx.x; i < parts.count * padding; i += kLineThreads) {
      parts.at(i % parts.count, line.stage.prime - 1 + i / parts.count) = {};
    }
    if (padding) __syncthreads();
    transform(true);
  }

 private:
  __device__ int side_by_side() const { return Columns ? lines.count : 1; }
  // The stage's lines without slot 0.
  __device__ Parts slots() const {
    const int width = line.rest.n * side_by_side();
    return {{width, line.stage.slots() * width, width},
            lines.z,
            line.convolution_roots,
            line.stage.convolution.n,
            lines.count * line.rest.n};
  }
  // Lines of the other radices, in what the stage leaves.
  __device__ Parts rest() const {
    const int width = side_by_side();
    return {{width, line.rest.n * width, 0}, lines.z, line.roots, line.n, lines.count * line.stage.slots()};
  }

  // There and back through the convolution, then the other radices; or first these. A loop, for one copy of the code.
  __device__ __forceinline__ void transform(bool inverse) const {
#pragma unroll 1
    for (int step = 0; step < 3; ++step) {
      const bool others = step == (inverse ? 0 : 2), back = others ? inverse : step == (inverse ? 2 : 1);
      if (!others && line.stage.prime == 1) continue;
      if (step == 0 && !inverse) subtract_mean();
      (others ? rest() : slots()).transform(others ? line.rest : line.stage.convolution, back);
      if (!others && !back) multiply_by_spectrum(inverse);
      if (step == (inverse ? 0 : 1) && line.stage.prime > 1) multiply_by_roots(inverse);
    }
  }
  // f(part, element) for the first so many elements of all lines of the stage.
  template <class F>
  __device__ __forceinline__ void for_each(int elements, F&& f) const {
    const int count = lines.count * line.rest.n;
    for (int i = threadIdx.x; i < count * elements; i += kLineThreads) f(i % count, i / count);
    __syncthreads();
  }
  __device__ Complex<T>& slot_0(const Parts& parts, int part) const {
    return lines.z[Layout::bank(parts.layout.start(part) - parts.layout.width)];
  }
  // Of all lines of the stage, which are fewer: shared memory for 80 KB of columns, and 54 slots at least.
  __device__ static Complex<T>& mean(int part) {
    __shared__ Complex<T> means[kMaxParts];
    return means[part];
  }
  __device__ __forceinline__ void subtract_mean() const {
    const Parts parts = slots();
    for_each(1, [&](int part, int) {
      Complex<T> sum = slot_0(parts, part);
      for (int k = 1; k < kFew; ++k) sum = sum + parts.at(part, k * (line.stage.prime - 1) / kFew);
      mean(part) = T(1.0 / kFew) * sum;
    });
    for_each(line.stage.convolution.n, [&](int part, int j) {
      Complex<T>& x = parts.at(part, j);
      x = j < line.stage.prime - 1 ? x - mean(part) : Complex<T>{};
    });
  }
  __device__ __forceinline__ void multiply_by_spectrum(bool inverse) const {
    const Parts parts = slots();
    for_each(line.stage.convolution.n, [&](int part, int f) {
      Complex<T>& x = parts.at(part, f);
      const Complex<T> sum = x, w = line.spectrum[f];
      x = x * (inverse ? conj(w) : w);
      if (f > 0) return;
      Complex<T>& zeroth = slot_0(parts, part);
      const Complex<T> c = inverse ? Complex<T>{} : mean(part), rest = zeroth - c;
      x = x + rest;  // to every element
      zeroth = static_cast<T>(line.stage.prime) * c + (rest + sum);
    });
  }
  __device__ __forceinline__ void multiply_by_roots(bool inverse) const {
    if (line.rest.n == 1) return;
    const Parts parts = slots();
    for_each(line.stage.prime - 1, [&](int part, int j) {
      const Complex<T> w = line.roots[line.frequency[j] * (part % parts.layout.width / side_by_side())];
      Complex<T>& x = parts.at(part, j);
      x = x * (inverse ? conj(w) : w);
    });
  }
};

}  // namespace blurfft::cuda
