#include "otf.cuh"

#include "check.h"
#include "kernels.h"

namespace blurfft::cuda {

template <class T>
void otf(const T* kernel, int64_t count, Size taps, Size plane, T* out, const Context& context) {
  const OtfGeometry geometry(plane.height, plane.width, taps.height, taps.width);
  const OtfParams<T> params = {geometry, kernel, reinterpret_cast<Complex<T>*>(out)};
  check(launch(otf_kernel<T>,
               {.grid = geometry.grid(count),
                .block = dim3(kOtfThreads),
                .shared_bytes = OtfGeometry::kSharedElements * sizeof(Complex<double>),
                .stream = static_cast<cudaStream_t>(context.stream)},
               params),
        "otf");
}

template <class T>
void otf_backward(const T* grad, int64_t count, Size taps, Size plane, T* out, const Context& context) {
  OtfBackwardParams<T> params = {};
  params.geometry = OtfGeometry(plane.height, plane.width, taps.height, taps.width);
  const OtfGeometry& g = params.geometry;
  params.chunks = (g.pairs() + kAdjointPairs - 1) / kAdjointPairs;
  params.grad = reinterpret_cast<const Complex<T>*>(grad);
  params.columns =
      static_cast<Complex<T>*>(context.scratch(sizeof(Complex<T>) * count * params.chunks * g.kh * g.half()));
  params.out = out;
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const int tap_blocks = g.kh / 2 / kAdjointTaps + 1;
  check(launch(otf_backward_columns<T>,
               {.grid = dim3(count, g.column_blocks(), params.chunks * tap_blocks),
                .block = dim3(kOtfThreads),
                .shared_bytes = OtfBackwardParams<T>::kSharedElements * sizeof(Complex<T>),
                .stream = stream},
               params),
        "otf_backward_columns");
  check(launch(otf_backward_rows<T>,
               {.grid = dim3(count, g.kh),
                .block = dim3(kOtfThreads),
                .shared_bytes = g.half() * sizeof(Complex<T>),
                .stream = stream},
               params),
        "otf_backward_rows");
}

template void otf(const float*, int64_t, Size, Size, float*, const Context&);
template void otf(const double*, int64_t, Size, Size, double*, const Context&);
template void otf_backward(const float*, int64_t, Size, Size, float*, const Context&);
template void otf_backward(const double*, int64_t, Size, Size, double*, const Context&);

}  // namespace blurfft::cuda
