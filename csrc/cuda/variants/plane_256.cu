#include "push_plane.cuh"
#include "variants.cuh"

namespace blurfft::cuda::variants {

bool launch_256(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream) {
  if (!clusters_serve()) return false;
  const auto push = [&]<class Plane>() {
    const LaunchConfig config = plane_launch<Plane>(params.schedule.items(), stream);
    check(launch(spectral_loss_push<Plane>, config, params), "spectral_loss_push");
  };
  if (has(name, "wide")) {
    push.template operator()<PushPlane<512>>();
  } else {
    push.template operator()<PushPlane<256>>();
  }
  return true;
}

}  // namespace blurfft::cuda::variants
