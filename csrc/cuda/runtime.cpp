#include "runtime.h"

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include "../tensor.h"

namespace blurfft::cuda {

using Guard = torch::stable::accelerator::DeviceGuard;

DeviceGuard::DeviceGuard(const Tensor& tensor) : guard_(new Guard(tensor.get_device_index())) {}
DeviceGuard::~DeviceGuard() { delete static_cast<Guard*>(guard_); }

void* current_stream(const Tensor& tensor) {
  // Only a torch with CUDA has this function, and the extension has to load without. RTLD_NOLOAD: whoever has a CUDA
  // tensor has the library.
  using Get = AOTITorchError(int32_t device, void** stream);
  static Get* const get = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<Get*>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  STD_TORCH_CHECK(get != nullptr, "blurfft: libtorch_cuda.so offers no aoti_torch_get_current_cuda_stream");
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(get(tensor.get_device_index(), &stream));
  return stream;
}

void* data_of(const Tensor& argument) { return argument.data_ptr(); }
bool on_host(const Tensor& argument) { return argument.numel() == 1 && argument.is_cpu(); }
void* updated_data_of(const Tensor& argument) { return argument.data_ptr(); }
Tensor new_output(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType type) {
  return torch::stable::new_empty(like, sizes, type);
}
Tensor new_output_like(const Tensor& like, ScalarType type) { return empty_like(like, type); }
Tensor new_scratch(const Tensor& like, size_t bytes) {
  return torch::stable::new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
}

}  // namespace blurfft::cuda
