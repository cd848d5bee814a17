#include "focal_frequency_loss.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool focal_frequency_loss(const Batch& batch, const Planes& input, const Planes& target, double alpha, bool log_matrix,
                          double scale, const Planes& grad, T* energy, const Context& context) {
  const Fused<T, FocalFrequencyLossPlanes> plane(batch);
  if (!plane.served) return false;
  const FocalFrequencyLossParams<T> params = {
      image_of(input), image_of(target),      image_of(grad), static_cast<T>(alpha),
      log_matrix,      static_cast<T>(scale), energy,         every_plane(batch)};
  cudaError_t error = cudaSuccess;
  blurfft::cuda::focal_frequency_loss(params, plane.height, plane.width, plane.shared_bytes, stream_of(context), error);
  check(error, "focal_frequency_loss");
  return true;
}

template bool focal_frequency_loss(const Batch&, const Planes&, const Planes&, double, bool, double, const Planes&,
                                   float*, const Context&);
template bool focal_frequency_loss(const Batch&, const Planes&, const Planes&, double, bool, double, const Planes&,
                                   double*, const Context&);

}  // namespace blurfft::cuda::fused
