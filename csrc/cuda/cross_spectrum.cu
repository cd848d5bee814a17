#include "cross_spectrum.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool cross_spectrum(const Batch& batch, const Planes& a, const Planes& b, Extent outs, bool complex, T* out,
                    const Context& context) {
  return with_plane<T>(CrossSpectrumPlanes{}, batch, [&]<class Plane>() {
    const int64_t entries = entries_of(batch.plane), values = complex ? 2 * entries : entries;
    const Schedule schedule = sharing_planes(batch, outs, entries * sizeof(Complex<T>), Plane::kPlanes);
    const bool in_slabs = schedule.chunks > 1;
    T* sums = in_slabs ? new_scratch<T>(context, schedule.items() * values) : out;
    const CrossSpectrumParams<T> params = {
        image_of(a), image_of(b), new_scratch<Complex<T>>(context, schedule.items() * entries),
        sums,        complex,     schedule};
    check(launch_cross_spectrum<Plane>(params, stream_of(context)), "cross_spectrum");
    if (in_slabs) {
      check(sum_slabs(sums, out, schedule.groups, schedule.chunks, static_cast<int>(values), stream_of(context)),
            "sum_slabs");
    }
  });
}

template bool cross_spectrum(const Batch&, const Planes&, const Planes&, Extent, bool, float*, const Context&);
template bool cross_spectrum(const Batch&, const Planes&, const Planes&, Extent, bool, double*, const Context&);

}  // namespace blurfft::cuda::fused
