// rfft2 and irfft2 of planes that a block or a cluster holds: one pass over memory.
#pragma once

#include "planes.cuh"

namespace blurfft::cuda {

using TransformPlanes = PlaneList<Plane28, Plane32, Plane64, Plane96, Plane128, Plane160, Plane192, Plane224, Plane256>;

template <class T>
struct TransformParams {
  Image image;        // (N, C, H, W)
  Complex<T>* half;   // (N, C, H, W/2 + 1)
  T scale;            // of the unnormalised transform
  Schedule schedule;  // plane_schedule()
};

// What torch's c2r reads: of columns that hold both f1 and -f1 the Hermitian part.
template <class T>
struct HalfSpectrumReader {
  const Complex<T>* half;
  SpectrumSize size;
  T factor;

  __device__ __forceinline__ Complex<T> load(bool edge, int f1, int f2) const {
    return factor * load_half(edge, half, size, f1, f2);
  }
};

template <class Plane>
__global__ void __launch_bounds__(block_threads<Plane>(), resident(Plane::kBlocks))
    rfft2_kernel(const TransformParams<typename Plane::T> p) {
  if constexpr (kRunsHere<Plane>) {
    using T = typename Plane::T;
    BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
    const int index = first_item<Plane>();
    if (index >= p.schedule.items()) return;
    Plane plane(shared);
    const int n = index / p.schedule.channels, c = index % p.schedule.channels;
    plane.forward(Source<T, Plane::kWidth, false>{p.image, {}, p.image.plane(n, c), 0});
    HalfSpectrumWriter<T> writer{p.half + static_cast<long long>(index) * plane.size().elements(), plane.size(),
                                 p.scale / 2};
    plane.template visit<true, false>(writer, false);
    plane.finish();
  }
}

template <class Plane>
__global__ void __launch_bounds__(block_threads<Plane>(), resident(Plane::kBlocks))
    irfft2_kernel(const TransformParams<typename Plane::T> p) {
  if constexpr (kRunsHere<Plane>) {
    using T = typename Plane::T;
    BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
    const int index = first_item<Plane>();
    if (index >= p.schedule.items()) return;
    Plane plane(shared);
    const int n = index / p.schedule.channels, c = index % p.schedule.channels;
    plane.fill(
        HalfSpectrumReader<T>{p.half + static_cast<long long>(index) * plane.size().elements(), plane.size(), p.scale});
    plane.inverse(Sink<T, Plane::kWidth>{p.image, p.image.plane(n, c)});
  }
}

template <class Plane>
cudaError_t launch_rfft2(const TransformParams<typename Plane::T>& params, cudaStream_t stream) {
  return launch(rfft2_kernel<Plane>, plane_launch<Plane>(params.schedule.items(), stream), params);
}
template <class Plane>
cudaError_t launch_irfft2(const TransformParams<typename Plane::T>& params, cudaStream_t stream) {
  return launch(irfft2_kernel<Plane>, plane_launch<Plane>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_rfft2<Plane256>(const TransformParams<float>&, cudaStream_t);
template <>
cudaError_t launch_irfft2<Plane256>(const TransformParams<float>&, cudaStream_t);

}  // namespace blurfft::cuda
