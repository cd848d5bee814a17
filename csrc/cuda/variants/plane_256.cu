#include "push_plane.cuh"
#include "variants.cuh"

namespace blurfft::cuda::variants {

bool launch_256(const std::string&, const SpectralLossParams<float>& params, cudaStream_t stream) {
  if (!clusters_serve()) return false;
  using Plane = PushPlane<256>;
  const LaunchConfig config = plane_launch<Plane>(params.schedule.items(), stream);
  check(launch(spectral_loss_push<Plane>, config, params), "spectral_loss_push");
  return true;
}

}  // namespace blurfft::cuda::variants
