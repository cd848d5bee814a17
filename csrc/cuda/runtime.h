// What the operators ask of torch: device, stream and memory. The tests put the SIMT emulator's in its place.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <vector>

namespace blurfft::cuda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Makes the tensor's device the current one and, in its destructor, what was the current one again.
class DeviceGuard {
 public:
  explicit DeviceGuard(const Tensor& tensor);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;

 private:
  void* guard_;
};

// torch's current stream (a cudaStream_t) on the tensor's device.
void* current_stream(const Tensor& tensor);

// Where kernels read an argument.
void* data_of(const Tensor& argument);
// Whether an argument is one number that the host knows: a tensor of one element in its memory.
bool on_host(const Tensor& argument);
// Where they read and write one.
void* updated_data_of(const Tensor& argument);
// What they write: contiguous, or with the layout of `like`.
Tensor new_output(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType type);
Tensor new_output_like(const Tensor& like, ScalarType type);
// What only they see.
Tensor new_scratch(const Tensor& like, size_t bytes);

}  // namespace blurfft::cuda
