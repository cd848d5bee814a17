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
  unroll<half>([&](auto k) {
    const Complex<T> a = x[k.value], b = x[k.value + half];
    x[k.value] = special ? Complex<T>{2 * a.re, 2 * b.re} : Complex<T>{a.re + b.re, a.im - b.im};
    x[k.value + half] = special ? Complex<T>{2 * a.im, 2 * b.im} : Complex<T>{a.im + b.im, b.re - a.re};
  });
}
template <int R, class T>
__device__ __forceinline__ void join_rows(Complex<T> (&x)[R], bool special) {
  constexpr int half = R / 2;
  unroll<half>([&](auto k) {
    const Complex<T> a = x[k.value], b = x[k.value + half];
    x[k.value] = special ? Complex<T>{a.re, b.re} : Complex<T>{a.re - b.im, a.im + b.re};
    x[k.value + half] = special ? Complex<T>{a.im, b.im} : Complex<T>{a.re + b.im, b.re - a.im};
  });
}

// H = Vertical::n rows, W = Horizontal::n columns. Threads: of one plane; 32 is a warp, which needs no block barrier.
// Planes: of a block; more than one only if each is a warp's. Blocks: of a multiprocessor, which bounds registers.
template <class T_, class Vertical_, class Horizontal_, int Threads, int Planes, int Blocks>
struct FixedPlane {
  using T = T_;
  using Vertical = Vertical_;
  using Horizontal = Horizontal_;
  static constexpr int kHeight = Vertical::n, kWidth = Horizontal::n;
  static constexpr int kThreads = Threads, kPlanes = Planes, kBlocks = Blocks, kFilterBlocks = (Blocks * 3 + 1) / 4,
                       kCluster = 1;
  static constexpr int C1 = Vertical::first, C2 = Vertical::second, R1 = Horizontal::first, R2 = Horizontal::second;
  static constexpr int kHalf = kWidth / 2, kLines = kHeight / 2;
  static_assert(C2 % 2 == 0 && (R1 == 4 || R1 == 8 || R1 == 16), "see mirror() and visit()");
  static_assert(Threads % 32 == 0 && (Planes == 1 || Threads == 32));

  // No two of the 16 threads that shared memory serves at a time may hit the same of its 16 eight-byte banks.
  // Neighbours run along columns in the column passes, along t or R2 apart in the row passes: a swizzle serves all
  // three if R2 is a multiple of 8; for others an odd pitch comes close.
  static constexpr bool kSwizzled = R2 % 8 == 0;
  static constexpr int kPitch = kSwizzled ? (kHalf + 15) / 16 * 16 : kHalf | 1;
  static constexpr int kElements = kHeight * kPitch;  // complex, of shared memory, for each plane

  BLURFFT_HD static constexpr int at(int row, int column) {
    if constexpr (!kSwizzled) return row * kPitch + column;
    // The block of R2 columns in the low bits, the row's own bits, reversed, above them.
    int key = column / R2;
    if constexpr (R1 == 16) key |= (row & 1) << 3;
    if constexpr (R1 == 8) key |= (row & 1) << 3 | (row & 2) << 1;
    if constexpr (R1 == 4) key |= (row & 1) << 3 | (row & 2) << 1 | (row & 4) >> 1;
    return row * kPitch + (column ^ key);
  }

  // Packed rows of line 0 .. H/2 - 1 and of its mirror image.
  BLURFFT_HD static constexpr int row(int line) { return line < C2 / 2 ? line : line + C2 / 2; }
  BLURFFT_HD static constexpr int mirror(int line) {
    const int r = row(line);
    return line == 0 ? C2 / 2 : r < C2 ? C2 - r : kHeight + C2 - 1 - r;
  }

  Complex<T>* z;
  int thread;

  __device__ __forceinline__ explicit FixedPlane(void* shared)
      : z(static_cast<Complex<T>*>(shared) + threadIdx.x / Threads * kElements), thread(threadIdx.x % Threads) {}

  static constexpr size_t kSharedBytes = sizeof(Complex<T>) * kElements * Planes;  // of a block
  static constexpr size_t kSharedLimit = kSharedBytes;
  // The sum over the plane, in the thread that leads().
  __device__ __forceinline__ T sum(T value) { return reduce<Threads>(value, thread, Add{}); }
  __device__ __forceinline__ bool leads() const { return thread == 0; }

  __device__ __forceinline__ static constexpr SpectrumSize size() { return {kHeight, kWidth}; }

  // Source to spectrum, spectrum to sink, with a visit() between.
  template <class Source>
  __device__ __forceinline__ void forward(const Source& source) {
    load(source);
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

  // Rows t + k C2 of packed columns come from source; a column's thread is the same here and in store().
  template <class Source>
  __device__ __forceinline__ void load(const Source& source) {
#pragma unroll 1
    for (int i = thread; i < C2 * kHalf; i += Threads) {
      const int t = i / kHalf, j = i % kHalf;
      Complex<T> x[C1];
      source.template load<C1, C2, kHalf>(x, t, j);
      dft<C1, false>(x);
      apply_twiddles<C1, false>(x, kTwiddles<T, C1, C2>.entries + t, C2);
      unroll<C1>([&](auto q) { z[at(q.value * C2 + t, j)] = x[q.value]; });
    }
  }
  template <class Sink>
  __device__ __forceinline__ void store(const Sink& sink) const {
#pragma unroll 1
    for (int i = thread; i < C2 * kHalf; i += Threads) {
      const int t = i / kHalf, j = i % kHalf;
      Complex<T> x[C1];
      unroll<C1>([&](auto q) { x[q.value] = z[at(q.value * C2 + t, j)]; });
      apply_twiddles<C1, true>(x, kTwiddles<T, C1, C2>.entries + t, C2);
      dft<C1, true>(x);
      sink.template store<C1, C2, kHalf>(x, t, j);
    }
  }

  template <bool Inverse>
  __device__ __forceinline__ void second_columns() {
#pragma unroll 1
    for (int i = thread; i < C1 * kHalf; i += Threads) {
      const int q = i / kHalf, j = i % kHalf;
      Complex<T> x[C2];
      unroll<C2>([&](auto s) { x[s.value] = z[at(q * C2 + s.value, j)]; });
      dft<C2, Inverse>(x);
      unroll<C2>([&](auto s) { z[at(q * C2 + s.value, j)] = x[s.value]; });
    }
  }

  template <bool Inverse>
  __device__ __forceinline__ void first_rows() {
    constexpr int half = R1 / 2;
#pragma unroll 1
    for (int i = thread; i < kLines * R2; i += Threads) {
      const int line = i / R2, t = i % R2;
      const int upper = row(line), lower = mirror(line);
      Complex<T> x[R1];
      unroll<half>([&](auto k) {
        x[k.value] = z[at(upper, t + k.value * R2)];
        x[k.value + half] = z[at(lower, t + k.value * R2)];
      });
      if constexpr (Inverse) {
        apply_twiddles<R1, true>(x, kTwiddles<T, R1, R2>.entries + t, R2);
        dft<R1, true>(x);
        join_rows(x, line == 0);
      } else {
        separate_rows(x, line == 0);
        dft<R1, false>(x);
        apply_twiddles<R1, false>(x, kTwiddles<T, R1, R2>.entries + t, R2);
      }
      unroll<half>([&](auto k) {
        z[at(upper, t + k.value * R2)] = x[k.value];
        z[at(lower, t + k.value * R2)] = x[k.value + half];
      });
    }
  }

  // Every frequency once: visitor.load<Edge>(f1, f2) before the last butterflies, so that what it reads is on its way
  // early, then visitor.visit<Edge>(f1, f2, x, that, T count) with the (doubled) spectrum x, which returns what takes
  // its place. A line stands for itself and its mirror image -f1, except for 0 and H/2: count is 1 there and 2 for all
  // others, so that 1/4 of the sum of count * |x|^2 is that over the full spectrum. Edge: f2 may be 0 or W/2.
  // Forward or Inverse is left out where the spectrum is looked at a second time: the same thread sees the same
  // frequencies. Without `back` nothing takes the spectrum's place.
  template <bool Forward, bool Inverse, class Visitor>
  __device__ __forceinline__ void visit(Visitor& visitor, bool back = true) {
    constexpr int half = R1 / 2, lines = 32 / R1;
#pragma unroll 1
    for (int i = thread; i < (kLines + lines - 1) / lines * 32; i += Threads) {
      // 16 threads share a bank cycle: those of q < R1/2 in the rows of f1, then those of q >= R1/2 in the mirror rows.
      const int lane = i % 32, line = i / 32 * lines + lane / half % lines, block = lane % half;
      const int q = block + lane / 16 * half;
      if (line >= kLines) continue;
      const int packed = lane < 16 ? row(line) : mirror(line);
      const int f1 = Vertical::frequency(row(line));
      Complex<T> x[R2];
      unroll<R2>([&](auto s) { x[s.value] = z[at(packed, block * R2 + s.value)]; });
      typename Visitor::Loaded loaded[R2];
      unroll<R2>([&](auto p) { loaded[p.value] = visitor.template load<is_edge(p.value)>(f1, q + R1 * p.value); });
      if constexpr (Forward) dft<R2, false>(x);
      if (i < 32) {
        // The first line holds X0 + i Xn at f2; at -f2 it is conj(X0) + i conj(Xn), and that is R1 - q's thread's.
        if (line == 0) unroll<R2>([&](auto p) { z[at(packed, block * R2 + p.value)] = x[p.value]; });
        __syncwarp();
        if (line == 0) {
          const int other = (R1 - q) % R1, partner = other < half ? row(0) : mirror(0), column = other % half * R2;
          unroll<R2>([&](auto p) {
            constexpr bool edge = is_edge(p.value);
            const int f2 = q + R1 * p.value;
            const Complex<T> y = conj(z[at(partner, column + (q == 0 ? (R2 - p.value) % R2 : R2 - 1 - p.value))]);
            const auto last = visitor.template load<edge>(kLines, f2);
            const Complex<T> sum = x[p.value] + y, difference = x[p.value] - y;
            const Complex<T> zero =
                visitor.template visit<edge>(0, f2, static_cast<T>(0.5) * sum, loaded[p.value], static_cast<T>(1));
            const Complex<T> nyquist = visitor.template visit<edge>(
                kLines, f2, static_cast<T>(0.5) * Complex<T>{difference.im, -difference.re}, last, static_cast<T>(1));
            x[p.value] = {zero.re - nyquist.im, zero.im + nyquist.re};
          });
        }
        __syncwarp();
      }
      if (line != 0) {
        unroll<R2>([&](auto p) {
          x[p.value] = visitor.template visit<is_edge(p.value)>(f1, q + R1 * p.value, x[p.value], loaded[p.value],
                                                                static_cast<T>(2));
        });
      }
      if constexpr (Inverse) {
        if (back) dft<R2, true>(x);
      }
      if (back) unroll<R2>([&](auto s) { z[at(packed, block * R2 + s.value)] = x[s.value]; });
    }
  }

 private:
  // Whether some thread's frequency q + R1 p is 0 or W/2.
  BLURFFT_HD static constexpr bool is_edge(int p) { return p == 0 || p == R2 / 2; }
};

}  // namespace blurfft::cuda
