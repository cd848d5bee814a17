// The transform of a real plane by one warp or one block, in shared memory, there and back.
//
// A real H x W plane is transformed as H x W/2 complex numbers: column j in the real and column j + W/2 in the
// imaginary part. NaN and Inf thus stay in their plane, any two planes may have different weights, and none is left
// without a partner; in return rows f1 and -f1 must be separated after the columns are done. That costs additions in
// registers and nothing else: element j of row f1 of the left half and element j + W/2, of the right half, are two legs
// of the same butterfly of the rows' first pass (whose radix is even), and both come from element j of the packed rows
// f1 and -f1. So the line of f1 lives in the two packed rows from then on: its first W/2 elements in that of f1, the
// others in that of -f1. Rows 0 and H/2, which are their own mirror images, share the line of f1 = 0: X0 + i Xn.
//
//   global --load--> columns, first pass -> columns, second pass -> rows, first pass -> rows, second pass: spectrum
//   global <-store-- columns, first pass <- columns, second pass <- rows, first pass <-
//
// Each arrow between passes is one exchange through shared memory: in place, written once, one barrier, read once.
// Spectra are never reordered and never leave registers: a visitor sees each frequency where it is. They are twice the
// unnormalised transform, since the separation's halves are left out; the inverse is the unnormalised one.
#pragma once

#include "image.cuh"
#include "spectrum.cuh"

namespace blurfft::cuda {

// x holds legs of packed rows f1 and -f1, then of the line: twice its left and its right half.
template <int R, class T>
__device__ __forceinline__ void separate_rows(Complex<T> (&x)[R], bool special) {
  constexpr int half = R / 2;
#pragma unroll
  for (int k = 0; k < half; ++k) {
    const Complex<T> a = x[k], b = x[k + half];
    x[k] = special ? Complex<T>{2 * a.re, 2 * b.re} : Complex<T>{a.re + b.re, a.im - b.im};
    x[k + half] = special ? Complex<T>{2 * a.im, 2 * b.im} : Complex<T>{a.im + b.im, b.re - a.re};
  }
}
template <int R, class T>
__device__ __forceinline__ void join_rows(Complex<T> (&x)[R], bool special) {
  constexpr int half = R / 2;
#pragma unroll
  for (int k = 0; k < half; ++k) {
    const Complex<T> a = x[k], b = x[k + half];
    x[k] = special ? Complex<T>{a.re, b.re} : Complex<T>{a.re - b.im, a.im + b.re};
    x[k + half] = special ? Complex<T>{a.im, b.im} : Complex<T>{a.re + b.im, b.re - a.im};
  }
}

// The rows' first pass, on the legs of element t of a line; `special` is the line of f1 = 0.
template <int Leg, bool Inverse, int R, class T>
__device__ __forceinline__ void transform_rows(Complex<T> (&x)[R], int t, bool special) {
  const Complex<T>* twiddle = kTwiddles<T, R, Leg>.entries + t;
  if constexpr (Inverse) {
    apply_twiddles<true>(x, twiddle, Leg);
    dft<R, true>(x);
    join_rows(x, special);
  } else {
    separate_rows(x, special);
    dft<R, false>(x);
    apply_twiddles<false>(x, twiddle, Leg);
  }
}

// Where rows lie after the columns' passes: the packed rows of line 0 .. H/2 - 1 and of its mirror image.
template <class Vertical>
struct PackedRows {
  BLURFFT_HD static constexpr int row(int line) {
    return line < Vertical::second / 2 ? line : line + Vertical::second / 2;
  }
  BLURFFT_HD static constexpr int mirror(int line) {
    const int r = row(line), leg = Vertical::second;
    return line == 0 ? leg / 2 : r < leg ? leg - r : Vertical::n + leg - 1 - r;
  }
  BLURFFT_HD static constexpr int frequency(int line) { return Vertical::frequency(row(line)); }
};

struct Nothing {
  __device__ __forceinline__ void operator()() const {}
};

// H = Vertical::n rows, W = Horizontal::n columns. Threads: of one plane; 32 is a warp, which needs no block barrier.
// Planes: of a block; more than one only if each is a warp's. Blocks: of a multiprocessor, which bounds registers.
template <class T_, class Vertical_, class Horizontal_, int Threads, int Planes, int Blocks>
struct FixedPlane {
  using T = T_;
  using Vertical = Vertical_;
  using Horizontal = Horizontal_;
  using Rows = PackedRows<Vertical>;
  static constexpr int kHeight = Vertical::n, kWidth = Horizontal::n;
  static constexpr int kThreads = Threads, kPlanes = Planes, kBlocks = Blocks, kFilterBlocks = (Blocks * 3 + 1) / 4,
                       kCluster = 1;
  static constexpr int C1 = Vertical::first, C2 = Vertical::second, R1 = Horizontal::first, R2 = Horizontal::second;
  static constexpr int kHalf = kWidth / 2, kLines = kHeight / 2;
  static_assert(C2 % 2 == 0 && (R1 == 4 || R1 == 8 || R1 == 16), "see mirror() and visit()");
  static_assert(Threads % 32 == 0 && (Planes == 1 || Threads == 32));

  // No two of the 16 threads that shared memory serves at a time may hit the same of its 16 eight-byte banks, nor two
  // of 8 threads the same of 8 sixteen-byte ones. Neighbours run along columns in the column passes, along t or R2
  // apart in the row passes: a swizzle serves all if R2 is 8, and leaves columns 2j and 2j + 1 side by side, so that
  // they are one access; for others an odd pitch comes close.
  static constexpr bool kSwizzled = R2 == 8;
  static constexpr int kPitch = kSwizzled ? (kHalf + 15) / 16 * 16 : kHalf | 1;
  static constexpr int kElements = kHeight * kPitch;  // complex, of shared memory, for each plane
  // Columns that a thread takes along when it loads and stores: two in registers only where the radix is small.
  static constexpr int kColumns = kSwizzled && C1 <= 8 ? 2 : 1;

  BLURFFT_HD static constexpr int at(int row, int column) {
    if constexpr (!kSwizzled) return row * kPitch + column;
    const int block = column / R2;
    int key = (row & 1) << 3;
    if constexpr (R1 == 16) key |= (block & 2) << 1 | (block & 4) >> 1;
    if constexpr (R1 == 8) key |= (block & 1) << 2 | (block & 2);
    if constexpr (R1 == 4) key |= (block & 1) << 2 | (row & 2);
    return row * kPitch + (column ^ key);
  }

  Complex<T>* z;
  int thread;

  __device__ __forceinline__ explicit FixedPlane(void* shared)
      : z(static_cast<Complex<T>*>(shared) + threadIdx.x / Threads * kElements), thread(threadIdx.x % Threads) {}

  static constexpr size_t kSharedBytes = sizeof(Complex<T>) * kElements * Planes;  // of a block
  // On a device whose blocks may have so much (163 KB on an A100, 227 KB on an H100).
  static bool fits(size_t shared_limit) { return kSharedBytes <= shared_limit; }
  // The sum over the plane, in the thread that leads().
  __device__ __forceinline__ T sum(T value) { return reduce<Threads>(value, thread, Add{}); }
  __device__ __forceinline__ bool leads() const { return thread == 0; }

  __device__ __forceinline__ static constexpr SpectrumSize size() { return {kHeight, kWidth}; }

  // Source to spectrum, spectrum to sink; between the two a visit(), or a fill() alone. loaded(): what is to be done
  // once this thread's loads have arrived.
  template <class Source, class Loaded = Nothing>
  __device__ __forceinline__ void forward(const Source& source, const Loaded& loaded = {}) {
    load(source);
    loaded();
    sync();
    second_columns<false>();
    sync();
    first_rows<false>();
    sync();
  }
  template <class Sink>
  __device__ __forceinline__ void inverse(const Sink& sink) {
    sync();
    first_rows<true>();
    sync();
    second_columns<true>();
    sync();
    store(sink);
  }

  __device__ __forceinline__ static void sync() {
    if constexpr (Threads == 32) {
      __syncwarp();
    } else {
      __syncthreads();
    }
  }

  // N neighbouring columns of a row, the first of them even.
  template <int N>
  __device__ __forceinline__ void get(Complex<T> (&x)[N], int row, int column) const {
    if constexpr (kSwizzled && N % 2 == 0) {
#pragma unroll
      for (int i = 0; i < N / 2; ++i) {
        const float4 pair = *reinterpret_cast<const float4*>(z + at(row, column + 2 * i));
        x[2 * i] = {pair.x, pair.y};
        x[2 * i + 1] = {pair.z, pair.w};
      }
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) x[i] = z[at(row, column + i)];
    }
  }
  template <int N>
  __device__ __forceinline__ void put(const Complex<T> (&x)[N], int row, int column) const {
    if constexpr (kSwizzled && N % 2 == 0) {
#pragma unroll
      for (int i = 0; i < N / 2; ++i) {
        const Complex<T> a = x[2 * i], b = x[2 * i + 1];
        *reinterpret_cast<float4*>(z + at(row, column + 2 * i)) = make_float4(a.re, a.im, b.re, b.im);
      }
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) z[at(row, column + i)] = x[i];
    }
  }

  // See ClusterPlane.
  __device__ __forceinline__ static void finish() {}

  // Rows t + k C2 of packed columns come from source; a column's thread is the same here and in store().
  template <class Source>
  __device__ __forceinline__ void load(const Source& source) {
    constexpr int groups = kHalf / kColumns;
#pragma unroll 1
    for (int i = thread; i < C2 * groups; i += Threads) {
      const int t = i / groups, j = i % groups * kColumns;
      Complex<T> x[kColumns][C1];
      source.template load<C2, kHalf>(x, t, j);
#pragma unroll
      for (int n = 0; n < kColumns; ++n) dft<C1, false>(x[n]);
      apply_twiddles<false>(x, kTwiddles<T, C1, C2>.entries + t, C2);
#pragma unroll
      for (int q = 0; q < C1; ++q) {
        Complex<T> row[kColumns];
#pragma unroll
        for (int n = 0; n < kColumns; ++n) row[n] = x[n][q];
        put(row, q * C2 + t, j);
      }
    }
  }
  template <class Sink>
  __device__ __forceinline__ void store(const Sink& sink) const {
    constexpr int groups = kHalf / kColumns;
#pragma unroll 1
    for (int i = thread; i < C2 * groups; i += Threads) {
      const int t = i / groups, j = i % groups * kColumns;
      Complex<T> x[kColumns][C1];
#pragma unroll
      for (int q = 0; q < C1; ++q) {
        Complex<T> row[kColumns];
        get(row, q * C2 + t, j);
#pragma unroll
        for (int n = 0; n < kColumns; ++n) x[n][q] = row[n];
      }
      apply_twiddles<true>(x, kTwiddles<T, C1, C2>.entries + t, C2);
#pragma unroll
      for (int n = 0; n < kColumns; ++n) dft<C1, true>(x[n]);
      sink.template store<C2, kHalf>(x, t, j);
    }
  }

  template <bool Inverse>
  __device__ __forceinline__ void second_columns() {
#pragma unroll 1
    for (int i = thread; i < C1 * kHalf; i += Threads) {
      const int q = i / kHalf, j = i % kHalf;
      Complex<T> x[C2];
#pragma unroll
      for (int s = 0; s < C2; ++s) x[s] = z[at(q * C2 + s, j)];
      dft<C2, Inverse>(x);
#pragma unroll
      for (int s = 0; s < C2; ++s) z[at(q * C2 + s, j)] = x[s];
    }
  }

  template <bool Inverse>
  __device__ __forceinline__ void first_rows() {
    constexpr int half = R1 / 2;
#pragma unroll 1
    for (int i = thread; i < kLines * R2; i += Threads) {
      const int line = i / R2, t = i % R2, upper = Rows::row(line), lower = Rows::mirror(line);
      Complex<T> x[R1];
#pragma unroll
      for (int k = 0; k < half; ++k) {
        x[k] = z[at(upper, t + k * R2)];
        x[k + half] = z[at(lower, t + k * R2)];
      }
      transform_rows<R2, Inverse>(x, t, line == 0);
#pragma unroll
      for (int k = 0; k < half; ++k) {
        z[at(upper, t + k * R2)] = x[k];
        z[at(lower, t + k * R2)] = x[k + half];
      }
    }
  }

  // Every frequency once: visitor.load(edge, f1, f2) before the last butterflies, so that what it reads is on its way
  // early, then visitor.visit(edge, f1, f2, x, that, T count) with the (doubled) spectrum x, which returns what takes
  // its place. A line stands for itself and its mirror image -f1, except for 0 and H/2: count is 1 there and 2 for all
  // others, so that 1/4 of the sum of count * |x|^2 is that over the full spectrum. edge: f2 may be 0 or W/2.
  // Forward or Inverse is left out where the spectrum is looked at a second time: the same thread sees the same
  // frequencies. Without `back` nothing takes the spectrum's place.
  template <bool Forward, bool Inverse, class Visitor>
  __device__ __forceinline__ void visit(Visitor& visitor, bool back = true) {
    constexpr int half = R1 / 2;
#pragma unroll 1
    for (int i = thread; i < kSpectrumThreads; i += Threads) {
      const Place at_i(i);
      if (at_i.line >= kLines) continue;
      const int q = at_i.q, packed = at_i.packed, f1 = Rows::frequency(at_i.line);
      Complex<T> x[R2];
      get(x, packed, at_i.column);
      typename Visitor::Loaded loaded[R2];
#pragma unroll
      for (int p = 0; p < R2; ++p) loaded[p] = visitor.load(is_edge(p), f1, q + R1 * p);
      if constexpr (Forward) dft<R2, false>(x);
      if (i < 32) {
        // The first line holds X0 + i Xn at f2; at -f2 it is conj(X0) + i conj(Xn), and that is R1 - q's thread's.
        if (at_i.line == 0) put(x, packed, at_i.column);
        __syncwarp();
        if (at_i.line == 0) {
          const int other = (R1 - q) % R1, partner = other < half ? Rows::row(0) : Rows::mirror(0);
          const int column = other % half * R2;
#pragma unroll
          for (int p = 0; p < R2; ++p) {
            const bool edge = is_edge(p);
            const int f2 = q + R1 * p;
            const Complex<T> y = conj(z[at(partner, column + (q == 0 ? (R2 - p) % R2 : R2 - 1 - p))]);
            const auto last = visitor.load(edge, kLines, f2);
            const Complex<T> sum = x[p] + y, difference = x[p] - y;
            const Complex<T> zero = visitor.visit(edge, 0, f2, static_cast<T>(0.5) * sum, loaded[p], static_cast<T>(1));
            const Complex<T> nyquist =
                visitor.visit(edge, kLines, f2, static_cast<T>(0.5) * Complex<T>{difference.im, -difference.re}, last,
                              static_cast<T>(1));
            x[p] = {zero.re - nyquist.im, zero.im + nyquist.re};
          }
        }
        __syncwarp();
      }
      if (at_i.line != 0) {
#pragma unroll
        for (int p = 0; p < R2; ++p) {
          x[p] = visitor.visit(is_edge(p), f1, q + R1 * p, x[p], loaded[p], static_cast<T>(2));
        }
      }
      if constexpr (Inverse) {
        if (back) dft<R2, true>(x);
      }
      if (back) put(x, packed, at_i.column);
    }
  }

  // The spectrum reader.load(edge, f1, f2), not doubled, ready for inverse().
  template <class Reader>
  __device__ __forceinline__ void fill(const Reader& reader) {
#pragma unroll 1
    for (int i = thread; i < kSpectrumThreads; i += Threads) {
      const Place at_i(i);
      if (at_i.line >= kLines) continue;
      const int f1 = Rows::frequency(at_i.line);
      Complex<T> x[R2];
#pragma unroll
      for (int p = 0; p < R2; ++p) x[p] = reader.load(is_edge(p), f1, at_i.q + R1 * p);
      if (at_i.line == 0) {
#pragma unroll
        for (int p = 0; p < R2; ++p) {
          const Complex<T> last = reader.load(is_edge(p), kLines, at_i.q + R1 * p);
          x[p] = {x[p].re - last.im, x[p].im + last.re};
        }
      }
      dft<R2, true>(x);
      put(x, at_i.packed, at_i.column);
    }
  }

 protected:
  // What iteration i does of the rows' second pass: 16 threads share a bank cycle, those of q < R1/2 in the rows of f1,
  // then those of q >= R1/2 in the mirror rows.
  static constexpr int kLinesAtOnce = 32 / R1, kSpectrumThreads = (kLines + kLinesAtOnce - 1) / kLinesAtOnce * 32;
  struct Place {
    int line, q, packed, column;

    __device__ __forceinline__ explicit Place(int i) {
      constexpr int half = R1 / 2;
      const int lane = i % 32, block = lane % half;
      line = i / 32 * kLinesAtOnce + lane / half % kLinesAtOnce;
      q = block + lane / 16 * half;
      packed = lane < 16 ? Rows::row(line) : Rows::mirror(line);
      column = block * R2;
    }
  };

  // Whether some thread's frequency q + R1 p is 0 or W/2.
  BLURFFT_HD static constexpr bool is_edge(int p) { return p == 0 || p == R2 / 2; }
};

}  // namespace blurfft::cuda
