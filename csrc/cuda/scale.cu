#include "scale.cuh"

#include "check.h"
#include "kernels.h"

namespace blurfft::cuda {

template <class T>
void scale(const Dense* tensors, int count, const T* factor, const Context& context) {
  for (; count > 0; tensors += kScaleTensors, count -= kScaleTensors) {
    ScaleParams<T> params = {};
    params.factor = factor;
    int64_t most = 0;
    for (int k = 0; k < std::min(count, kScaleTensors); ++k) {
      params.tensors[k] = {tensors[k].data, tensors[k].count, static_cast<Element>(tensors[k].type)};
      most = std::max(most, tensors[k].count);
    }
    if (most == 0) continue;
    constexpr int64_t each = 8, blocks = 2048;  // elements of a thread, unless that takes too many blocks
    const auto grid = static_cast<unsigned>(std::min(blocks, (most - 1) / (each * kScaleThreads) + 1));
    check(
        launch(scale_kernel<T>,
               {.grid = dim3(grid), .block = dim3(kScaleThreads), .stream = static_cast<cudaStream_t>(context.stream)},
               params),
        "scale");
  }
}

template void scale(const Dense*, int, const float*, const Context&);
template void scale(const Dense*, int, const double*, const Context&);

}  // namespace blurfft::cuda
