#include "spectral_loss.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool spectral_loss(const Batch& batch, const Planes& input, const Planes& target, const T* weight, Extent weights,
                   double scale, const Planes& grad, T* energy, T* weight_grad, const Context& context) {
  SpectralLossParams<T> params = {image_of(input),      image_of(target),      image_of(grad),        weight,
                                  sample_step(weights), channel_step(weights), static_cast<T>(scale), energy,
                                  weight_grad,          every_plane(batch),    context.overlapping};
  const cudaStream_t stream = stream_of(context);
  if (!weight_grad) {
    return with_plane<T>(SpectralLossPlanes{}, batch, [&]<class Plane>() {
      check(launch_spectral_loss<Plane, false>(params, stream), "spectral_loss");
    });
  }
  return with_plane<T>(SpectralLossPowerPlanes{}, batch, [&]<class Plane>() {
    const int64_t entries = entries_of(batch.plane);
    params.schedule = sharing_planes(batch, weights, entries * sizeof(T), Plane::kPlanes);
    const bool in_slabs = params.schedule.chunks > 1;
    if (in_slabs) params.power = new_scratch<T>(context, params.schedule.items() * entries);
    check(launch_spectral_loss<Plane, true>(params, stream), "spectral_loss");
    if (in_slabs) {
      check(sum_slabs(params.power, weight_grad, params.schedule.groups, params.schedule.chunks,
                      static_cast<int>(entries), stream),
            "sum_slabs");
    }
  });
}

template bool spectral_loss(const Batch&, const Planes&, const Planes&, const float*, Extent, double, const Planes&,
                            float*, float*, const Context&);
template bool spectral_loss(const Batch&, const Planes&, const Planes&, const double*, Extent, double, const Planes&,
                            double*, double*, const Context&);

}  // namespace blurfft::cuda::fused
