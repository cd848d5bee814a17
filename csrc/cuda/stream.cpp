#include "stream.h"

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/headeronly/util/Exception.h>

namespace blurfft::cuda {

using torch::stable::Tensor;

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

DeviceGuard::DeviceGuard(const Tensor& tensor)
    : guard_(new torch::stable::accelerator::DeviceGuard(tensor.get_device_index())) {}
DeviceGuard::~DeviceGuard() { delete static_cast<torch::stable::accelerator::DeviceGuard*>(guard_); }

}  // namespace blurfft::cuda
