// The focal frequency loss: scale * sum of w |F e|^2, w = |F e|^alpha over its maximum in the plane, and its gradient.
#pragma once

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

template <class T>
struct FocalMatrix {
  T alpha;
  bool log_matrix;
  T norm;  // of the doubled spectrum's power: 1 / 4n

  __device__ __forceinline__ T operator()(Complex<T> x) const {
    const T distance = sqrt(norm * (x.re * x.re + x.im * x.im));
    const T value = alpha == 1 ? distance : pow(distance, alpha);
    return log_matrix ? log(value + 1) : value;
  }
};

// First the largest entry of the matrix; the spectrum stays as it is.
template <class T>
struct FocalMaximum {
  using Loaded = Index<0>;
  FocalMatrix<T> matrix;
  T maximum;

  template <bool Edge>
  __device__ __forceinline__ Loaded load(int, int) const {
    return {};
  }
  template <bool Edge>
  __device__ __forceinline__ Complex<T> visit(int, int, Complex<T> x, Loaded, T) {
    const T value = matrix(x);
    maximum = value > maximum ? value : maximum;
    return x;
  }
};

template <class T>
struct FocalVisitor {
  using Loaded = Index<0>;
  FocalMatrix<T> matrix;
  T maximum, factor, sum;

  template <bool Edge>
  __device__ __forceinline__ Loaded load(int, int) const {
    return {};
  }
  template <bool Edge>
  __device__ __forceinline__ Complex<T> visit(int, int, Complex<T> x, Loaded, T count) {
    // Not a number, as in a plane of zeros, counts as 0; a comparison with it is false.
    const T value = matrix(x) / maximum;
    const T w = value > 0 ? factor * (value < 1 ? value : 1) : 0;
    sum += count * (w * (x.re * x.re + x.im * x.im));
    return w * x;
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
  const T norm = static_cast<T>(1) / (plane.size().height * plane.size().width);
  const int n = index / p.schedule.channels, c = index % p.schedule.channels;
  plane.forward(Source<T, Plane::kWidth, true>{p.input, p.target, p.input.plane(n, c), p.target.plane(n, c)});

  const FocalMatrix<T> matrix{p.alpha, p.log_matrix, norm / 4};
  FocalMaximum<T> maximum{matrix, 0};
  plane.template visit<true, false>(maximum);
  FocalVisitor<T> visitor{matrix, reduce<Plane::kThreads>(maximum.maximum, plane.thread, Maximum{}), p.scale * norm, 0};
  const bool back = p.grad.data != nullptr;
  plane.template visit<false, true>(visitor, back);
  const T sum = reduce<Plane::kThreads>(visitor.sum, plane.thread, Add{});
  if (plane.thread == 0) p.loss[index] = sum / 4;
  if (back) plane.inverse(Sink<T, Plane::kWidth>{p.grad, p.grad.plane(n, c)});
}

template <class Plane>
cudaError_t launch_focal_frequency_loss(const FocalFrequencyLossParams<typename Plane::T>& params,
                                        cudaStream_t stream) {
  return launch(focal_frequency_loss_kernel<Plane>, plane_launch<Plane>(params.schedule.items(), stream), params);
}

}  // namespace blurfft::cuda
