// The focal frequency loss: scale * sum of w |F e|^2, w = |F e|^alpha over its maximum in the plane, and its gradient.
#pragma once

#include "focal_matrix.cuh"
#include "planes.cuh"

namespace blurfft::cuda {

using FocalFrequencyLossPlanes = PlaneList<Plane32, Plane64, Plane128>;

template <class T>
struct FocalFrequencyLossParams {
  Image input, target, grad;  // grad.data: null if it is not wanted
  T alpha;
  bool log_matrix;
  T scale;
  T* loss;            // for each plane
  Schedule schedule;  // plane_schedule()
};

// |unit x|^2
template <class T>
__device__ __forceinline__ T power_in(T unit, Complex<T> x) {
  const Complex<T> y = unit * x;
  return y.re * y.re + y.im * y.im;
}

// First the largest power; the spectrum stays as it is.
template <class T>
struct FocalMaximum {
  using Loaded = Index<0>;
  T unit, maximum;

  __device__ __forceinline__ Loaded load(bool, int, int) const { return {}; }
  __device__ __forceinline__ Complex<T> visit(bool, int, int, Complex<T> x, Loaded, T) {
    const T power = power_in(unit, x);
    maximum = power > maximum ? power : maximum;
    return x;
  }
};

template <class T>
struct FocalVisitor {
  using Loaded = Index<0>;
  FocalMatrix<T> matrix;
  T unit, maximum;
  T factor, squares;  // of the gradient, and of the loss from powers
  T sum;

  __device__ __forceinline__ Loaded load(bool, int, int) const { return {}; }
  __device__ __forceinline__ Complex<T> visit(bool, int, int, Complex<T> x, Loaded, T count) {
    const T power = power_in(unit, x), w = matrix(power, maximum);
    sum += count * (w * (squares * power));
    return w * factor * x;
  }
};

struct Maximum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

template <class Plane>
__global__ void __launch_bounds__(block_threads<Plane>(), resident(Plane::kBlocks))
    focal_frequency_loss_kernel(const FocalFrequencyLossParams<typename Plane::T> p) {
  using T = typename Plane::T;
  BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
  const int index = first_item<Plane>();
  if (index >= p.schedule.items()) return;
  Plane plane(shared);
  const int pixels = plane.size().height * plane.size().width;
  const int n = index / p.schedule.channels, c = index % p.schedule.channels;
  plane.forward(Source<T, Plane::kWidth, true>{p.input, p.target, p.input.plane(n, c), p.target.plane(n, c)});

  // Of the doubled spectrum. A loss that counts for nothing needs no powers, and they may be out of range.
  const T exact = square_unit<T>(4 * pixels), unit = p.scale == 0 ? 0 : exact;
  FocalMaximum<T> maximum{unit, 0};
  plane.template visit<true, false>(maximum);
  FocalVisitor<T> visitor{{p.alpha, p.log_matrix, 1 / (exact * sqrt(static_cast<T>(4 * pixels)))},
                          unit,
                          reduce<Plane::kThreads>(maximum.maximum, plane.thread, Maximum{}),
                          p.scale / pixels,
                          p.scale / (4 * pixels * exact * exact),
                          0};
  const bool back = p.grad.data != nullptr;
  plane.template visit<false, true>(visitor, back);
  const T sum = reduce<Plane::kThreads>(visitor.sum, plane.thread, Add{});
  if (plane.thread == 0) p.loss[index] = sum;
  if (back) plane.inverse(Sink<T, Plane::kWidth>{p.grad, p.grad.plane(n, c)});
}

template <class Plane>
cudaError_t launch_focal_frequency_loss(const FocalFrequencyLossParams<typename Plane::T>& params,
                                        cudaStream_t stream) {
  return launch(focal_frequency_loss_kernel<Plane>, plane_launch<Plane>(params.schedule.items(), stream), params);
}

}  // namespace blurfft::cuda
