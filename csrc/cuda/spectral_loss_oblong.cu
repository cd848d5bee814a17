#include "fused.cuh"
#include "spectral_loss.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool spectral_loss_oblong(const Batch& batch, const SpectralLossParams<T>& params, const Context& context) {
  return with_plane<T>(SpectralLossOblongPlanes{}, batch, [&]<class Plane>() {
    check(launch_spectral_loss<Plane, false>(params, stream_of(context)), "spectral_loss");
  });
}

template bool spectral_loss_oblong(const Batch&, const SpectralLossParams<float>&, const Context&);
template bool spectral_loss_oblong(const Batch&, const SpectralLossParams<double>&, const Context&);

}  // namespace blurfft::cuda::fused
