// Tensors times one number that only the device knows: the gradients of a loss times the loss's own. It is 1 in
// loss.backward(), and then nothing is read but that number, whereas a product would move 8 bytes for each float32.
#pragma once

#include "image.cuh"

namespace blurfft::cuda {

constexpr int kScaleThreads = 256;
constexpr int kScaleTensors = 4;  // of a launch

struct ScaledTensor {
  void* data;
  long long count;
  Element element;
};
template <class T>
struct ScaleParams {
  ScaledTensor tensors[kScaleTensors];  // count = 0 for none
  const T* factor;
};

// Any grid.
template <class T>
__global__ void __launch_bounds__(kScaleThreads) scale_kernel(const ScaleParams<T> p) {
  const T factor = *p.factor;
  if (factor == 1) return;
  const long long first = static_cast<long long>(blockIdx.x) * kScaleThreads + threadIdx.x;
  const long long step = static_cast<long long>(gridDim.x) * kScaleThreads;
#pragma unroll
  for (int k = 0; k < kScaleTensors; ++k) {
    const ScaledTensor& tensor = p.tensors[k];
    with_type<T>(tensor.element, [&](auto* type) {
      auto* data = static_cast<std::remove_reference_t<decltype(*type)>*>(tensor.data);
#pragma unroll 4
      for (long long i = first; i < tensor.count; i += step) narrow(factor * widen(data[i]), data + i);
    });
  }
}

}  // namespace blurfft::cuda
