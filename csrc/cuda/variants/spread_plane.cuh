// FixedPlane whose line of f1 = 0 is a whole warp's: each lane takes apart and visits W/32 of its frequencies, where in
// FixedPlane R1 lanes of the warp visit W/R1 each, twice, and the others wait.
#pragma once

#include "../plane.cuh"

namespace blurfft::cuda::variants {

template <class Plane>
struct SpreadPlane : Plane {
  using T = typename Plane::T;
  using Rows = typename Plane::Rows;
  using Place = typename Plane::Place;
  using Plane::kHalf, Plane::kLines, Plane::kThreads, Plane::kWidth, Plane::R1, Plane::R2, Plane::thread, Plane::z;
  static constexpr int kOwn = kWidth / 32;
  static_assert(kWidth % 32 == 0);

  using Plane::Plane;

  // As FixedPlane's.
  template <bool Forward, bool Inverse, class Visitor>
  __device__ __forceinline__ void visit(Visitor& visitor, bool back = true) {
    static_assert(Forward && Inverse);
    using Loaded = typename Visitor::Loaded;
#pragma unroll 1
    for (int i = thread; i < Plane::kSpectrumThreads; i += kThreads) {
      const Place at_i(i);
      if (at_i.line >= kLines) continue;
      const int q = at_i.q, f1 = Rows::frequency(at_i.line);
      const bool with_first = i < 32;  // the whole warp
      Complex<T> x[R2];
      this->get(x, at_i.packed, at_i.column);
      Loaded loaded[R2], zeroes[kOwn], lasts[kOwn];
#pragma unroll
      for (int p = 0; p < R2; ++p) loaded[p] = visitor.load(Plane::is_edge(p), f1, q + R1 * p);
      if (with_first) {
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
          const int f2 = frequency(thread + 32 * n);
          zeroes[n] = visitor.load(true, 0, f2);
          lasts[n] = visitor.load(true, kLines, f2);
        }
      }
      dft<R2, false>(x);
      if (with_first) {
        if (at_i.line == 0) this->put(x, at_i.packed, at_i.column);
        __syncwarp();
        Complex<T> y[kOwn];
#pragma unroll
        for (int n = 0; n < kOwn; ++n) {
          const int position = thread + 32 * n, p = position % R2, block = position / R2;
          const int mirror = (R1 - block) % R1 * R2 + (block == 0 ? (R2 - p) % R2 : R2 - 1 - p);
          const Complex<T> a = first_line(position), b = conj(first_line(mirror));
          const Complex<T> sum = half_of(a + b), difference = half_of(a - b);
          const Complex<T> zero = visitor.visit(true, 0, frequency(position), sum, zeroes[n], static_cast<T>(1));
          const Complex<T> last = visitor.visit(true, kLines, frequency(position), {difference.im, -difference.re},
                                                lasts[n], static_cast<T>(1));
          y[n] = {zero.re - last.im, zero.im + last.re};
        }
        __syncwarp();
#pragma unroll
        for (int n = 0; n < kOwn; ++n) first_line(thread + 32 * n) = y[n];
        __syncwarp();
        if (at_i.line == 0) this->get(x, at_i.packed, at_i.column);
      }
      if (at_i.line != 0) {
#pragma unroll
        for (int p = 0; p < R2; ++p) {
          x[p] = visitor.visit(Plane::is_edge(p), f1, q + R1 * p, x[p], loaded[p], static_cast<T>(2));
        }
      }
      if (back) {
        dft<R2, true>(x);
        this->put(x, at_i.packed, at_i.column);
      }
    }
  }

 private:
  __device__ __forceinline__ static int frequency(int position) { return Plane::Horizontal::frequency(position); }
  __device__ __forceinline__ Complex<T>& first_line(int position) const {
    return z[Plane::at(position < kHalf ? Rows::row(0) : Rows::mirror(0), position % kHalf)];
  }
};

}  // namespace blurfft::cuda::variants
