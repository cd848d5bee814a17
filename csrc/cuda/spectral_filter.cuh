// F^-1[T F input], T real or complex.
#pragma once

#include "planes.cuh"

namespace blurfft::cuda {

using SpectralFilterPlanes =
    PlaneList<Plane28, Plane32, Plane64, Plane96, Plane128, Plane160, Plane192, Plane224, Plane256>;

template <class T>
struct SpectralFilterParams {
  Image input, output;
  const T* transfer;  // (N | 1, C | 1, H, W/2 + 1), pairs of T if it is complex
  bool complex_transfer;
  int transfer_sample, transfer_channel;  // in planes of the transfer function, 0 where it is shared
  Schedule schedule;                      // plane_schedule()
};

template <class T>
struct TransferVisitor {
  using Loaded = Complex<T>;
  const T* transfer;
  bool complex_transfer;
  SpectrumSize size;
  T factor;

  __device__ __forceinline__ Loaded load(bool edge, int f1, int f2) const {
    if (complex_transfer) return load_half(edge, reinterpret_cast<const Complex<T>*>(transfer), size, f1, f2);
    return {load_half(edge, transfer, size, f1, f2), 0};
  }
  __device__ __forceinline__ Complex<T> visit(bool, int, int, Complex<T> x, Loaded t, T) const {
    // A real transfer function is not multiplied as a complex one: 0 * Inf would be NaN.
    const T re = factor * t.re;
    if (!complex_transfer) return re * x;
    const T im = factor * t.im;
    return {x.re * re - x.im * im, x.im * re + x.re * im};
  }
};

template <class Plane>
__global__ void __launch_bounds__(block_threads<Plane>(), resident(Plane::kFilterBlocks))
    spectral_filter_kernel(const SpectralFilterParams<typename Plane::T> p) {
  if constexpr (kRunsHere<Plane>) {
    using T = typename Plane::T;
    BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
    const int index = first_item<Plane>();
    if (index >= p.schedule.items()) return;
    Plane plane(shared);
    const SpectrumSize size = plane.size();
    const int n = index / p.schedule.channels, c = index % p.schedule.channels;
    plane.forward(Source<T, Plane::kWidth, false>{p.input, {}, p.input.plane(n, c), 0});
    const long long transfer_plane = n * p.transfer_sample + c * p.transfer_channel;
    TransferVisitor<T> visitor{p.transfer + transfer_plane * size.elements() * (p.complex_transfer ? 2 : 1),
                               p.complex_transfer, size, static_cast<T>(0.5) / (size.height * size.width)};
    plane.template visit<true, true>(visitor);
    plane.inverse(Sink<T, Plane::kWidth>{p.output, p.output.plane(n, c)});
  }
}

template <class Plane>
cudaError_t launch_spectral_filter(const SpectralFilterParams<typename Plane::T>& params, cudaStream_t stream) {
  return launch(spectral_filter_kernel<Plane>, plane_launch<Plane>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_spectral_filter<Plane256>(const SpectralFilterParams<float>&, cudaStream_t);

}  // namespace blurfft::cuda
