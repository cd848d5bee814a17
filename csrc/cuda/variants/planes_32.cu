#include "variants.cuh"

namespace blurfft::cuda::variants {

bool launch_32(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream) {
  using Other = FixedPlane<float, TwoPass<8, 4>, TwoPass<4, 8>, 32, 4, 6>;
  return launch_size<Plane32, Other>(name, params, stream);
}

}  // namespace blurfft::cuda::variants
