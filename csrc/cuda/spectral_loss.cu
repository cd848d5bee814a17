#include "spectral_loss.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool spectral_loss(const Batch& batch, const Planes& input, const Planes& target, const T* weight, Extent weights,
                   double scale, const Planes& grad, T* energy, T* weight_grad, const Context& context) {
  const SpectralLossParams<T> params = {image_of(input),      image_of(target),      image_of(grad),        weight,
                                        sample_step(weights), channel_step(weights), static_cast<T>(scale), energy,
                                        weight_grad,          every_plane(batch),    context.overlapping};
  if (weight_grad) return spectral_loss_with_power(batch, params, weights, context);
  if (batch.plane.height != batch.plane.width) return spectral_loss_oblong(batch, params, context);
  return with_plane<T>(SpectralLossSquarePlanes{}, batch, [&]<class Plane>() {
    check(launch_spectral_loss<Plane, false>(params, stream_of(context)), "spectral_loss");
  });
}

template bool spectral_loss(const Batch&, const Planes&, const Planes&, const float*, Extent, double, const Planes&,
                            float*, float*, const Context&);
template bool spectral_loss(const Batch&, const Planes&, const Planes&, const double*, Extent, double, const Planes&,
                            double*, double*, const Context&);

}  // namespace blurfft::cuda::fused
