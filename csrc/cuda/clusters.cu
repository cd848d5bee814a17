// The kernels of planes that take a cluster of blocks, in a file of their own: they are compiled for the architectures
// that have clusters, from PTX of those.
#include "cluster.cuh"
#include "cross_spectrum.cuh"
#include "rfft2.cuh"
#include "spectral_filter.cuh"
#include "spectral_loss.cuh"

namespace blurfft::cuda {

bool clusters_serve() {
#ifdef __CUDACC__
  // Binaries from older PTX, for whatever GPU, hold empty kernels; a GPU without clusters finds none.
  cudaFuncAttributes attributes{};
  if (cudaFuncGetAttributes(&attributes, spectral_loss_kernel<Plane256, false>) == cudaSuccess) {
    return attributes.ptxVersion >= 90;
  }
  cudaGetLastError();
  return false;
#else
  return true;
#endif
}

template <>
cudaError_t launch_rfft2<Plane256>(const TransformParams<float>& params, cudaStream_t stream) {
  return launch(rfft2_kernel<Plane256>, plane_launch<Plane256>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_irfft2<Plane256>(const TransformParams<float>& params, cudaStream_t stream) {
  return launch(irfft2_kernel<Plane256>, plane_launch<Plane256>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_spectral_filter<Plane256>(const SpectralFilterParams<float>& params, cudaStream_t stream) {
  return launch(spectral_filter_kernel<Plane256>, plane_launch<Plane256>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_cross_spectrum<Plane256>(const CrossSpectrumParams<float>& params, cudaStream_t stream) {
  return launch(cross_spectrum_kernel<Plane256>, plane_launch<Plane256>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_spectral_loss<Plane256, false>(const SpectralLossParams<float>& params, cudaStream_t stream) {
  return launch(spectral_loss_kernel<Plane256, false>, plane_launch<Plane256>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_spectral_loss<Plane256, true>(const SpectralLossParams<float>& params, cudaStream_t stream) {
  return launch(spectral_loss_kernel<Plane256, true>, plane_launch<Plane256>(params.schedule.items(), stream), params);
}

}  // namespace blurfft::cuda
