#include "variants.cuh"

namespace blurfft::cuda::variants {

bool launch_64(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream) {
  using Other = FixedPlane<float, TwoPass<8, 8>, TwoPass<8, 8>, 128, 1, 6>;
  return launch_size<Plane64, Other>(name, params, stream);
}

}  // namespace blurfft::cuda::variants
