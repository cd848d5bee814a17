#include "rfft2.cuh"

#include "fused.cuh"

namespace blurfft::cuda::fused {

template <class T>
bool rfft2(const Batch& batch, const Planes& input, double scale, T* out, const Context& context) {
  const TransformParams<T> params = {image_of(input), reinterpret_cast<Complex<T>*>(out), static_cast<T>(scale),
                                     every_plane(batch)};
  return with_plane<T>(TransformPlanes{}, batch,
                       [&]<class Plane>() { check(launch_rfft2<Plane>(params, stream_of(context)), "rfft2"); });
}

template <class T>
bool irfft2(const Batch& batch, const T* input, double scale, const Planes& out, const Context& context) {
  // The kernel only reads it.
  auto* half = reinterpret_cast<Complex<T>*>(const_cast<T*>(input));
  const TransformParams<T> params = {image_of(out), half, static_cast<T>(scale), every_plane(batch)};
  return with_plane<T>(TransformPlanes{}, batch,
                       [&]<class Plane>() { check(launch_irfft2<Plane>(params, stream_of(context)), "irfft2"); });
}

template bool rfft2(const Batch&, const Planes&, double, float*, const Context&);
template bool rfft2(const Batch&, const Planes&, double, double*, const Context&);
template bool irfft2(const Batch&, const float*, double, const Planes&, const Context&);
template bool irfft2(const Batch&, const double*, double, const Planes&, const Context&);

}  // namespace blurfft::cuda::fused
