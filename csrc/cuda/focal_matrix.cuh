// The matrix that the focal frequency loss weights by: |F e|^alpha, or log(1 + |F e|^alpha), over its largest.
#pragma once

#include "device.cuh"

namespace blurfft::cuda {

// What is above this no longer changes the matrix in either precision.
constexpr double kLargestAlpha = 1e30;

// From powers |F e|^2 in any unit: in range whatever alpha is.
template <class T>
struct FocalMatrix {
  T alpha;
  bool log_matrix;
  T unit;  // |F e|, orthonormal, in units of the powers' roots

  // Relative to the largest entry. NaN, as of a plane without error, counts as 0, as in the original. But powers out of
  // range have no weights, and weights of 0 would make nothing of the largest errors: then it is NaN.
  __device__ __forceinline__ T operator()(T power, T largest) const {
    const T value = quotient(power, largest);
    return (value > 0 ? value < 1 ? value : 1 : 0) + (largest - largest);
  }

 private:
  __device__ __forceinline__ T quotient(T power, T largest) const {
    return alpha == 1 && !log_matrix ? sqrt(power / largest) : general(*this, power, largest);
  }
  // Called, not copied into every step of an unrolled loop: there the powers and logarithms, which few calls need, made
  // five sixths of a kernel's code.
  static __device__ __attribute__((noinline)) T general(FocalMatrix matrix, T power, T largest) {
    return matrix.general_quotient(power, largest);
  }
  __device__ __forceinline__ T general_quotient(T power, T largest) const {
    const T ratio = sqrt(power / largest);
    if (!log_matrix) return pow(ratio, alpha);
    const T distance = unit * sqrt(power), most = unit * sqrt(largest);
    // Where log(1 + x) is x, which itself may be too small.
    if (alpha * log(most) < -64) return pow(ratio, alpha);
    return log_of(distance) / log_of(most);
  }
  // log(1 + distance^alpha), divided by an alpha above 1, since the power and its logarithm may be out of range.
  __device__ __forceinline__ T log_of(T distance) const {
    const T divisor = alpha > 1 ? alpha : 1;
    if (alpha == 1) return log1p(distance);
    const T exponent = alpha * log(distance);
    return exponent > 64 ? alpha / divisor * log(distance) : log1p(pow(distance, alpha)) / divisor;
  }
};

}  // namespace blurfft::cuda
