// csrc/cuda/runtime.h for tensors of the CPU whose kernels run in the emulator: it is told of every tensor.
#include "cuda/runtime.h"

#include <simt.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <exception>
#include <set>
#include <string>

#include "cuda/ops.h"
#include "tensor.h"

namespace blurfft::cuda {
namespace {

std::string complaint;
std::set<void*> lent;
bool numbers_on_host = false;

void lend(const char* name, const Tensor& tensor, simt::Memory kind) {
  void* data = tensor.data_ptr();
  // One tensor may be two arguments.
  if (!lent.insert(data).second) return;
  int64_t last = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) last += std::max<int64_t>(0, tensor.size(i) - 1) * tensor.stride(i);
  const auto element = static_cast<size_t>(tensor.element_size());
  simt::lend(name, data, tensor.numel() ? (last + 1) * element : 0, element, kind);
}

}  // namespace

DeviceGuard::DeviceGuard(const Tensor&) : guard_(nullptr) { complaint.clear(); }
// The end of an operator.
DeviceGuard::~DeviceGuard() {
  lent.clear();
  if (std::uncaught_exceptions()) {
    simt::forget();
    return;
  }
  try {
    simt::finish();
  } catch (const std::exception& error) {
    complaint = error.what();
  }
}

void* current_stream(const Tensor&) { return nullptr; }

void* data_of(const Tensor& argument) {
  lend("argument", argument, simt::Memory::input);
  return argument.data_ptr();
}
bool on_host(const Tensor& argument) { return numbers_on_host && argument.numel() == 1; }
void* updated_data_of(const Tensor& argument) {
  lend("argument", argument, simt::Memory::inout);
  return argument.data_ptr();
}
Tensor new_output(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType type) {
  const Tensor output = torch::stable::new_empty(like, sizes, type);
  lend("output", output, simt::Memory::output);
  return output;
}
Tensor new_output_like(const Tensor& like, ScalarType type) {
  const Tensor output = empty_like(like, type);
  lend("output", output, simt::Memory::output);
  return output;
}
Tensor new_scratch(const Tensor& like, size_t bytes) {
  const Tensor scratch = torch::stable::new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
  lend("scratch", scratch, simt::Memory::scratch);
  return scratch;
}

}  // namespace blurfft::cuda

// What library.cpp defines for CUDA alone.
STABLE_TORCH_LIBRARY_FRAGMENT(blurfft_simt, m) {
  m.def("scale_(Tensor(a!)[] tensors, Tensor factor) -> ()");
  m.def("spectral_loss_variant(str name, Tensor input, Tensor target, Tensor weight, float scale) -> (Tensor, Tensor)");
  m.def("variant_names(int height, int width) -> str");
}
STABLE_TORCH_LIBRARY_IMPL(blurfft_simt, CPU, m) {
  m.impl("scale_", TORCH_BOX(&blurfft::cuda::scale_));
  m.impl("spectral_loss_variant", TORCH_BOX(&blurfft::cuda::spectral_loss_variant));
}
STABLE_TORCH_LIBRARY_IMPL(blurfft_simt, CompositeExplicitAutograd, m) {
  m.impl("variant_names", TORCH_BOX(&blurfft::cuda::variant_names));
}

// What the emulator says about the last operator, if it ran to its end.
extern "C" __attribute__((visibility("default"))) const char* simt_complaint() {
  return blurfft::cuda::complaint.c_str();
}
extern "C" __attribute__((visibility("default"))) void simt_seed(uint64_t seed) { simt::seed(seed); }
// From here on tensors of one element are numbers that the host knows, or are not.
extern "C" __attribute__((visibility("default"))) void simt_numbers_on_host(bool known) {
  blurfft::cuda::numbers_on_host = known;
}
