#include "variants.cuh"

namespace blurfft::cuda::variants {

bool launch_128(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream) {
  using Other = FixedPlane<float, TwoPass<8, 16>, TwoPass<16, 8>, 256, 1, 3>;
  return launch_size<Plane128, Other>(name, params, stream);
}

}  // namespace blurfft::cuda::variants
