// Roots of unity computed where they are needed, for lengths that have no table.
#pragma once

#include "fft.cuh"

namespace blurfft::cuda {

__device__ inline void sincos_of_pi(float x, float* s, float* c) { sincospif(x, s, c); }
__device__ inline void sincos_of_pi(double x, double* s, double* c) { sincospi(x, s, c); }

// exp(-2 pi i k / n) for 0 <= k < n <= 2^27.
template <class T>
__device__ inline Complex<T> unit_root(int k, int n) {
  // The rest after whole quarters is exact and at most an eighth of a turn, where rounding the angle costs least.
  const int quarters = static_cast<int>((int64_t{8} * k + n) / (int64_t{2} * n));
  const T eighth = static_cast<T>(int64_t{4} * k - int64_t{quarters} * n) / static_cast<T>(2 * n);
  T s, c;
  sincos_of_pi(eighth, &s, &c);
  switch (quarters & 3) {
    case 0:
      return {c, -s};
    case 1:
      return {-s, -c};
    case 2:
      return {-c, s};
    default:
      return {s, c};
  }
}

// exp(-2 pi i a b / n) for any a and b.
template <class T>
__device__ inline Complex<T> unit_root_of_product(int a, int b, int n) {
  const int k = static_cast<int>(int64_t{a} * b % n);
  return unit_root<T>(k < 0 ? k + n : k, n);
}

}  // namespace blurfft::cuda
