// Operators of the compiled backends, through torch's stable ABI. The public ones, of the same names in namespace
// blurfft, are in ops.cpp. What only the CPU kernels offer is registered beside them.
#include <torch/csrc/stable/library.h>

#include "arguments.h"
#include "cpu/ops.h"
#ifdef BLURFFT_HAVE_CUDA
#include "cuda/ops.h"
#endif

#define BLURFFT_DEFINE(name, schema, ...) m.def(#name schema);
#define BLURFFT_IMPLEMENT(name, ...) \
  m.impl(#name, TORCH_BOX((&blurfft::Checked<&name, &blurfft::arguments::name>::call)));

STABLE_TORCH_LIBRARY(blurfft_cpu, m) { BLURFFT_OPERATORS(BLURFFT_DEFINE); }

STABLE_TORCH_LIBRARY_IMPL(blurfft_cpu, CPU, m) {
  using namespace blurfft::cpu;
  BLURFFT_OPERATORS(BLURFFT_IMPLEMENT);
}

#ifdef BLURFFT_HAVE_CUDA
STABLE_TORCH_LIBRARY(blurfft_cuda, m) {
  BLURFFT_OPERATORS(BLURFFT_DEFINE);
  m.def("scale_(Tensor(a!)[] tensors, Tensor factor) -> ()");
#ifdef BLURFFT_HAVE_CUDA_VARIANTS
  m.def("spectral_loss_variant(str name, Tensor input, Tensor target, Tensor weight, float scale) -> (Tensor, Tensor)");
  m.def("variant_names(int height, int width) -> str");
#endif
}

STABLE_TORCH_LIBRARY_IMPL(blurfft_cuda, CUDA, m) {
  using namespace blurfft::cuda;
  BLURFFT_OPERATORS(BLURFFT_IMPLEMENT);
  m.impl("scale_", TORCH_BOX(&scale_));
#ifdef BLURFFT_HAVE_CUDA_VARIANTS
  m.impl("spectral_loss_variant", TORCH_BOX(&spectral_loss_variant));
#endif
}
#ifdef BLURFFT_HAVE_CUDA_VARIANTS
STABLE_TORCH_LIBRARY_IMPL(blurfft_cuda, CompositeExplicitAutograd, m) {
  m.impl("variant_names", TORCH_BOX(&blurfft::cuda::variant_names));
}
#endif
#endif
