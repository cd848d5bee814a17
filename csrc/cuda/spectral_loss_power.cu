#include "fused.cuh"
#include "spectral_loss.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool spectral_loss_with_power(const Batch& batch, SpectralLossParams<T> params, Extent weights,
                              const Context& context) {
  T* const weight_grad = params.power;
  const cudaStream_t stream = stream_of(context);
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

template bool spectral_loss_with_power(const Batch&, SpectralLossParams<float>, Extent, const Context&);
template bool spectral_loss_with_power(const Batch&, SpectralLossParams<double>, Extent, const Context&);

}  // namespace blurfft::cuda::fused
