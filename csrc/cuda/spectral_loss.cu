#include "spectral_loss.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool spectral_loss(const Batch& batch, const Planes& input, const Planes& target, const T* weight, Extent weights,
                   double scale, const Planes& grad, T* energy, T* weight_grad, const Context& context) {
  const auto run = [&]<class List>() {
    const Fused<T, List> plane(batch);
    if (!plane.served) return false;
    const int64_t entries = entries_of(batch.plane);
    const Schedule schedule = weight_grad ? sharing_planes(batch, weights, entries * sizeof(T)) : every_plane(batch);
    const bool in_slabs = weight_grad && schedule.chunks > 1;
    T* power = in_slabs ? new_scratch<T>(context, schedule.items() * entries) : weight_grad;
    const SpectralLossParams<T> params = {
        image_of(input),       image_of(target),      image_of(grad), weight, sample_step(weights),
        channel_step(weights), static_cast<T>(scale), energy,         power,  schedule};
    cudaError_t error = cudaSuccess;
    blurfft::cuda::spectral_loss(params, plane.height, plane.width, plane.shared_bytes, stream_of(context), error);
    check(error, "spectral_loss");
    if (in_slabs) {
      check(sum_slabs(power, weight_grad, schedule.groups, schedule.chunks, static_cast<int>(entries),
                      stream_of(context)),
            "sum_slabs");
    }
    return true;
  };
  return weight_grad ? run.template operator()<SpectralLossPowerPlanes>()
                     : run.template operator()<SpectralLossPlanes>();
}

template bool spectral_loss(const Batch&, const Planes&, const Planes&, const float*, Extent, double, const Planes&,
                            float*, float*, const Context&);
template bool spectral_loss(const Batch&, const Planes&, const Planes&, const double*, Extent, double, const Planes&,
                            double*, double*, const Context&);

}  // namespace blurfft::cuda::fused
