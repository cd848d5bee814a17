// scale * sum of weight * |F (input - target)|^2 over a plane's full spectrum, with its gradients, in one visit.
#pragma once

#include "planes.cuh"

namespace blurfft::cuda {

// Without and with the gradient of the weight, in spectral_loss*.cu: files of their own are compiled side by side.
using SpectralLossSquarePlanes =
    PlaneList<Plane16, Plane28, Plane32, Plane64, Plane96, Plane128, Plane160, Plane192, Plane224, Plane256>;
using SpectralLossOblongPlanes = PlaneList<Plane32x64, Plane64x32, Plane64x128, Plane128x64, Plane96x128, Plane128x96>;
using SpectralLossPowerPlanes =
    PlaneList<Plane16, Plane28, Plane32, Plane64, Plane96WithPower, Plane128, Plane160, Plane256>;

template <class T>
struct SpectralLossParams {
  Image input, target, grad;          // grad.data: null if it is not wanted
  const T* weight;                    // (N | 1, C | 1, H, W/2 + 1)
  int weight_sample, weight_channel;  // in planes of the weight, 0 where it is shared
  T scale;
  T* loss;   // for each plane
  T* power;  // scale * multiplicity * |F e|^2, a sum for each item of the schedule; null if it is not wanted
  Schedule schedule;
  bool overlapping;  // of the launch
};

template <class T, bool Power>
struct LossVisitor {
  using Loaded = T;
  const T* weight;
  SpectrumSize size;
  T factor;
  T* power;
  bool first;
  T unit, squares;  // of the doubled spectrum x: square_unit(), and what the loss takes of |unit x|^2
  T sum = 0;

  __device__ LossVisitor(const T* weight, SpectrumSize size, T scale, T* power, bool first)
      : weight(weight),
        size(size),
        factor(scale / (size.height * size.width)),
        power(power),
        first(first),
        unit(square_unit<T>(4 * size.height * size.width)),
        squares(factor / (4 * unit * unit)) {}

  __device__ __forceinline__ Loaded load(bool edge, int f1, int f2) const {
    return load_half(edge, weight, size, f1, f2);
  }
  __device__ __forceinline__ Complex<T> visit(bool edge, int f1, int f2, Complex<T> x, T w, T count) {
    const Complex<T> y = unit * x;
    const T energy = squares * (y.re * y.re + y.im * y.im);
    sum += count * (w * energy);
    if constexpr (Power) {
      const T multiplicity = edge && size.self_mirrored(f2) ? 1 : 2;
      store_half(edge, power, size, f1, f2, multiplicity * energy, first);
    }
    return factor * w * x;
  }
};

// One plane. loaded(): see FixedPlane::forward().
template <bool Power, class Access = PlainAccess, class Plane, class Loaded = Nothing>
__device__ __forceinline__ void spectral_loss_of(const SpectralLossParams<typename Plane::T>& p, Plane& plane, int item,
                                                 PlaneIndex at, bool first, const Loaded& loaded = {}) {
  using T = typename Plane::T;
  const SpectrumSize size = plane.size();
  const bool back = p.grad.data != nullptr;
  plane.forward(
      Source<T, Plane::kWidth, true, Access>{p.input, p.target, p.input.plane(at.n, at.c), p.target.plane(at.n, at.c)},
      loaded);
  wait_for_previous();  // for the weight
  const long long weight_plane = at.n * p.weight_sample + at.c * p.weight_channel;
  LossVisitor<T, Power> visitor(p.weight + weight_plane * size.elements(), size, p.scale,
                                Power ? p.power + static_cast<long long>(item) * size.elements() : nullptr, first);
  plane.template visit<true, true>(visitor, back);
  const T sum = plane.sum(visitor.sum);
  if (plane.leads()) p.loss[at.index] = sum;
  if (back) {
    plane.inverse(Sink<T, Plane::kWidth, Access>{p.grad, p.grad.plane(at.n, at.c)});
  } else if (Power) {
    plane.sync();
  }
}

template <class Plane, bool Power>
__device__ __forceinline__ void spectral_loss_planes(const SpectralLossParams<typename Plane::T>& p) {
  BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
  const int item = first_item<Plane>();
  if (item >= p.schedule.items()) return;
  Plane plane(shared);
  if constexpr (Power) {
    const int begin = p.schedule.begin(item), end = p.schedule.end(item);
#pragma unroll 1
    for (int member = begin; member < end; ++member) {
      spectral_loss_of<true>(p, plane, item, p.schedule.plane(item, member), member == begin);
    }
  } else {
    spectral_loss_of<false>(p, plane, item, {item, item / p.schedule.channels, item % p.schedule.channels}, true);
  }
}

// Power: whether the gradient of the weight is wanted; it takes registers that the rest can do without.
template <class Plane, bool Power>
__global__ void __launch_bounds__(block_threads<Plane>(),
                                  resident(Power ? (Plane::kBlocks * 3 + 1) / 4 : Plane::kBlocks))
    spectral_loss_kernel(const SpectralLossParams<typename Plane::T> p) {
  if constexpr (kRunsHere<Plane>) spectral_loss_planes<Plane, Power>(p);
}

// Without power the schedule is plane_schedule(), with it that of what shares the weight.
template <class Plane, bool Power>
cudaError_t launch_spectral_loss(const SpectralLossParams<typename Plane::T>& params, cudaStream_t stream) {
  LaunchConfig config = plane_launch<Plane>(params.schedule.items(), stream);
  config.overlapping = params.overlapping;
  return launch(spectral_loss_kernel<Plane, Power>, config, params);
}
template <>
cudaError_t launch_spectral_loss<Plane256, false>(const SpectralLossParams<float>&, cudaStream_t);
template <>
cudaError_t launch_spectral_loss<Plane256, true>(const SpectralLossParams<float>&, cudaStream_t);

}  // namespace blurfft::cuda
