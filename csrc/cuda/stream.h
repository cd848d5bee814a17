#pragma once

#include <torch/csrc/stable/tensor.h>

namespace blurfft::cuda {

// torch's current stream (a cudaStream_t) on the tensor's device.
void* current_stream(const torch::stable::Tensor& tensor);

// Makes the tensor's device the current one and, in its destructor, what was the current one again.
class DeviceGuard {
 public:
  explicit DeviceGuard(const torch::stable::Tensor& tensor);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;

 private:
  void* guard_;
};

}  // namespace blurfft::cuda
