// What is read and written along a half spectrum (H, W/2 + 1) while all W columns of a line pass by; sums over a block.
#pragma once

#include "fft.cuh"

namespace blurfft::cuda {

__device__ __forceinline__ float load_const(const float* at) { return __ldg(at); }
__device__ __forceinline__ double load_const(const double* at) { return __ldg(at); }
__device__ __forceinline__ float conj(float x) { return x; }
__device__ __forceinline__ double conj(double x) { return x; }

__device__ __forceinline__ float half_of(float x) { return 0.5f * x; }
__device__ __forceinline__ double half_of(double x) { return 0.5 * x; }
template <class T>
__device__ __forceinline__ Complex<T> half_of(Complex<T> x) {
  return static_cast<T>(0.5) * x;
}

struct SpectrumSize {
  int height, width;

  BLURFFT_HD constexpr int columns() const { return width / 2 + 1; }
  BLURFFT_HD constexpr int elements() const { return height * columns(); }
  BLURFFT_HD constexpr int mirror(int f1) const { return f1 == 0 ? 0 : height - f1; }
  // Column 0 and, of an even width, W/2: both f1 and -f1 are there.
  BLURFFT_HD constexpr bool self_mirrored(int f2) const { return f2 == 0 || 2 * f2 == width; }
};

// Entry (f1, f2), 0 <= f2 < W, of a Hermitian spectrum given by its half: where f2 > W/2 the conjugate of (-f1, -f2).
// In columns that hold both f1 and -f1 any values may stand; what acts on a real plane is their Hermitian part, as it
// does in irfft2. edge: f2 may be such a column.
template <class Value>
__device__ __forceinline__ Value load_half(bool edge, const Value* __restrict__ half, SpectrumSize size, int f1,
                                           int f2) {
  const bool right = 2 * f2 > size.width;
  const int own = f1 * size.columns() + f2, other = size.mirror(f1) * size.columns() + (size.width - f2);
  Value value = load_const(half + (right ? other : own));
  if (edge) {
    if (size.self_mirrored(f2)) {
      const Value partner = load_const(half + size.mirror(f1) * size.columns() + f2);
      value = half_of(value + conj(partner));
    }
  }
  return right ? conj(value) : value;
}

// The other way: `value` of the line of f1 at f2, whose mirror image has the conjugate. Over a plane every entry of the
// half spectrum is set (or, unless `first`, added to) by one thread, the same one for every plane.
template <class Value>
__device__ __forceinline__ void store_half(bool edge, Value* half, SpectrumSize size, int f1, int f2, Value value,
                                           bool first) {
  const auto put = [&](int at, Value v) { half[at] = first ? v : half[at] + v; };
  const int mirrored = size.mirror(f1);
  const bool alone = mirrored == f1;
  if (2 * f2 <= size.width) put(f1 * size.columns() + f2, value);
  if (alone) return;
  if (2 * f2 > size.width) put(mirrored * size.columns() + (size.width - f2), conj(value));
  if (edge) {
    if (size.self_mirrored(f2)) put(mirrored * size.columns() + f2, conj(value));
  }
}

// A power of two near 1 / sqrt(n). Squares of an unnormalised transform of n pixels are in range once it has been
// multiplied by it, where those of the orthonormal transform are.
template <class T>
BLURFFT_HD constexpr T square_unit(int n) {
  T unit = 1;
  for (; n > 1; n = (n + 3) / 4) unit /= 2;
  return unit;
}

// A visitor that leaves factor * x in the half spectrum.
template <class T>
struct HalfSpectrumWriter {
  using Loaded = Index<0>;
  Complex<T>* half;
  SpectrumSize size;
  T factor;

  __device__ __forceinline__ Loaded load(bool, int, int) const { return {}; }
  __device__ __forceinline__ Complex<T> visit(bool edge, int f1, int f2, Complex<T> x, Loaded, T) const {
    store_half(edge, half, size, f1, f2, factor * x, true);
    return x;
  }
};

// The sum (or whatever `combine` does) of every thread's value, in all threads; the order is always the same.
template <int Threads, class T, class Combine>
__device__ __forceinline__ T reduce(T value, int thread, Combine combine) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, step));
  if constexpr (Threads > 32) {
    __shared__ T warps[Threads / 32];
    if (thread % 32 == 0) warps[thread / 32] = value;
    __syncthreads();
    value = warps[0];
#pragma unroll 1
    for (int i = 1; i < Threads / 32; ++i) value = combine(value, warps[i]);
    __syncthreads();
  }
  return value;
}
struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace blurfft::cuda
