#include "spectral_filter.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool spectral_filter(const Batch& batch, const Planes& input, const T* transfer, Extent transfers, bool complex,
                     const Planes& out, const Context& context) {
  const Fused<T, SpectralFilterPlanes> plane(batch);
  if (!plane.served) return false;
  const SpectralFilterParams<T> params = {image_of(input),        image_of(out),           transfer,          complex,
                                          sample_step(transfers), channel_step(transfers), every_plane(batch)};
  cudaError_t error = cudaSuccess;
  blurfft::cuda::spectral_filter(params, plane.height, plane.width, plane.shared_bytes, stream_of(context), error);
  check(error, "spectral_filter");
  return true;
}

template bool spectral_filter(const Batch&, const Planes&, const float*, Extent, bool, const Planes&, const Context&);
template bool spectral_filter(const Batch&, const Planes&, const double*, Extent, bool, const Planes&, const Context&);

}  // namespace blurfft::cuda::fused
