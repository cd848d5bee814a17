#include "focal_frequency_loss.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool focal_frequency_loss(const Batch& batch, const Planes& input, const Planes& target, double alpha, bool log_matrix,
                          double scale, const Planes& grad, T* energy, const Context& context) {
  const FocalFrequencyLossParams<T> params = {
      image_of(input), image_of(target),      image_of(grad), static_cast<T>(std::min(alpha, kLargestAlpha)),
      log_matrix,      static_cast<T>(scale), energy,         every_plane(batch)};
  return with_plane<T>(FocalFrequencyLossPlanes{}, batch, [&]<class Plane>() {
    check(launch_focal_frequency_loss<Plane>(params, stream_of(context)), "focal_frequency_loss");
  });
}

template bool focal_frequency_loss(const Batch&, const Planes&, const Planes&, double, bool, double, const Planes&,
                                   float*, const Context&);
template bool focal_frequency_loss(const Batch&, const Planes&, const Planes&, double, bool, double, const Planes&,
                                   double*, const Context&);

}  // namespace blurfft::cuda::fused
