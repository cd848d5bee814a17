// Operators of the compiled backends, through torch's stable ABI. The public operators, with their gradients, are
// registered in blurfft/ops.py under the same names in namespace blurfft. What only the CPU kernels offer is registered
// beside them.
#include <torch/csrc/stable/library.h>

#include "cpu/ops.h"
#ifdef BLURFFT_HAVE_CUDA
#include "cuda/ops.h"
#endif

namespace {

void define(torch::stable::detail::StableLibrary& m) {
  m.def("rfft2(Tensor input, float scale) -> Tensor");
  m.def("irfft2(Tensor input, int width, float scale) -> Tensor");
  m.def("otf(Tensor kernel, int height, int width) -> Tensor");
  m.def("otf_backward(Tensor grad, int width, int kh, int kw) -> Tensor");
  m.def("spectral_filter(Tensor input, Tensor transfer) -> Tensor");
  m.def("cross_spectrum(Tensor a, Tensor b, int n, int c, bool complex) -> Tensor");
  m.def(
      "spectral_loss(Tensor input, Tensor target, Tensor weight, float scale, bool per_sample, bool input_grad, "
      "bool weight_grad) -> (Tensor, Tensor?, Tensor?)");
  m.def(
      "wiener_loss(Tensor input, Tensor target, Tensor kernel, Tensor nsr, Tensor eps, float scale, bool nll, "
      "bool per_sample, bool input_grad, bool kernel_grad) -> (Tensor, Tensor?, Tensor?, Tensor?, Tensor?)");
  m.def(
      "focal_frequency_loss(Tensor input, Tensor target, float alpha, bool log_matrix, float scale, bool per_sample, "
      "bool input_grad) -> (Tensor, Tensor?)");
}

}  // namespace

STABLE_TORCH_LIBRARY(blurfft_cpu, m) { define(m); }

STABLE_TORCH_LIBRARY_IMPL(blurfft_cpu, CPU, m) {
  using namespace blurfft::cpu;
  m.impl("rfft2", TORCH_BOX(&rfft2));
  m.impl("irfft2", TORCH_BOX(&irfft2));
  m.impl("otf", TORCH_BOX(&otf));
  m.impl("otf_backward", TORCH_BOX(&otf_backward));
  m.impl("spectral_filter", TORCH_BOX(&spectral_filter));
  m.impl("cross_spectrum", TORCH_BOX(&cross_spectrum));
  m.impl("spectral_loss", TORCH_BOX(&spectral_loss));
  m.impl("wiener_loss", TORCH_BOX(&wiener_loss));
  m.impl("focal_frequency_loss", TORCH_BOX(&focal_frequency_loss));
}

#ifdef BLURFFT_HAVE_CUDA
STABLE_TORCH_LIBRARY(blurfft_cuda, m) {
  define(m);
  m.def("scale_(Tensor(a!)[] tensors, Tensor factor) -> ()");
#ifdef BLURFFT_HAVE_CUDA_VARIANTS
  m.def("spectral_loss_variant(str name, Tensor input, Tensor target, Tensor weight, float scale) -> (Tensor, Tensor)");
  m.def("variant_names(int height, int width) -> str");
#endif
}

STABLE_TORCH_LIBRARY_IMPL(blurfft_cuda, CUDA, m) {
  using namespace blurfft::cuda;
  m.impl("rfft2", TORCH_BOX(&rfft2));
  m.impl("irfft2", TORCH_BOX(&irfft2));
  m.impl("otf", TORCH_BOX(&otf));
  m.impl("otf_backward", TORCH_BOX(&otf_backward));
  m.impl("spectral_filter", TORCH_BOX(&spectral_filter));
  m.impl("cross_spectrum", TORCH_BOX(&cross_spectrum));
  m.impl("spectral_loss", TORCH_BOX(&spectral_loss));
  m.impl("wiener_loss", TORCH_BOX(&wiener_loss));
  m.impl("focal_frequency_loss", TORCH_BOX(&focal_frequency_loss));
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
