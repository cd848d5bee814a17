#include "spectral_filter.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool spectral_filter(const Batch& batch, const Planes& input, const T* transfer, Extent transfers, bool complex,
                     const Planes& out, const Context& context) {
  const SpectralFilterParams<T> params = {image_of(input),        image_of(out),           transfer,          complex,
                                          sample_step(transfers), channel_step(transfers), every_plane(batch)};
  return with_plane<T>(SpectralFilterPlanes{}, batch, [&]<class Plane>() {
    check(launch_spectral_filter<Plane>(params, stream_of(context)), "spectral_filter");
  });
}

template bool spectral_filter(const Batch&, const Planes&, const float*, Extent, bool, const Planes&, const Context&);
template bool spectral_filter(const Batch&, const Planes&, const double*, Extent, bool, const Planes&, const Context&);

}  // namespace blurfft::cuda::fused
