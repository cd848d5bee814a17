// The ops of blurfft/ops/ for processes without Python: an exported or compiled model calls them. `import blurfft` puts
// its own implementations in their place, with gradients, transforms and the choice between backends.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "arguments.h"
#include "cpu/ops.h"
#include "schemas.h"  // written by setup.py from blurfft/ops/
#include "tensor.h"
#ifdef BLURFFT_HAVE_CUDA
#include "cuda/ops.h"
#endif

namespace blurfft {
namespace {

#define BLURFFT_MEMBER(name, ...) static constexpr auto name = &Checked<&BLURFFT_BACKEND::name, &arguments::name>::call;

#define BLURFFT_BACKEND cpu
struct Cpu {
  BLURFFT_OPERATORS(BLURFFT_MEMBER)
  static constexpr auto blur_mse = &Checked<&cpu::blur_mse, &arguments::blur_mse>::call;
};
#undef BLURFFT_BACKEND

#ifdef BLURFFT_HAVE_CUDA
std::tuple<Tensor, Gradient, Gradient> cuda_blur_mse(const Tensor& input, const Tensor& target, const Tensor& kernel,
                                                     double scale, bool per_sample, bool input_grad, bool kernel_grad);
#define BLURFFT_BACKEND cuda
struct Cuda {
  BLURFFT_OPERATORS(BLURFFT_MEMBER)
  static constexpr auto blur_mse = &Checked<&cuda_blur_mse, &arguments::blur_mse>::call;
};
#undef BLURFFT_BACKEND

ScalarType compute_type(ScalarType type) { return type == ScalarType::Double ? type : ScalarType::Float; }

// From the operators that there are: |F r|^2 of all frequencies is |r|^2.
std::tuple<Tensor, Gradient, Gradient> cuda_blur_mse(const Tensor& input, const Tensor& target, const Tensor& kernel,
                                                     double scale, bool per_sample, bool input_grad, bool kernel_grad) {
  const ScalarType type = compute_type(input.scalar_type());
  const int64_t height = input.size(2), width = input.size(3);
  const ParameterShape taps(kernel);
  const Tensor planes = torch::stable::reshape(kernel, {taps.n, taps.c, taps.rows, taps.columns});
  const Tensor sharp = torch::stable::to(target, type), image = torch::stable::to(input, type);
  const Tensor blurred = cuda::spectral_filter(sharp, cuda::otf(planes, height, width));
  Tensor ones = torch::stable::new_empty(kernel, {1, 1, height, width / 2 + 1});
  torch::stable::fill_(ones, 1);
  auto [loss, grad, none] =
      cuda::spectral_loss(image, blurred, ones, scale, per_sample, input_grad || kernel_grad, false);
  Gradient kernel_out;
  if (kernel_grad) {
    const Tensor cross = cuda::cross_spectrum(sharp, *grad, taps.n, taps.c, true);
    const Tensor sum = cuda::otf_backward(cross, width, taps.rows, taps.columns);
    const Tensor negative = torch::stable::subtract(torch::stable::new_zeros(sum, sum.sizes()), sum);
    kernel_out = torch::stable::reshape(negative, kernel.sizes());
  }
  if (input_grad) grad = torch::stable::to(*grad, gradient_type(input.scalar_type()));
  return {loss, input_grad ? grad : std::nullopt, kernel_out};
}
#endif

// f(backend) for the device of the op's first tensor.
template <class F>
auto on_device(const char* op, const Tensor& tensor, F f) {
#ifdef BLURFFT_HAVE_CUDA
  if (tensor.is_cuda()) return f(Cuda());
#endif
  STD_TORCH_CHECK(tensor.is_cpu(), "blurfft::", op, ": libblurfft has no kernels for the device of this tensor",
                  tensor.is_cuda() ? "; it was built without those for CUDA" : "", ". In Python, `import blurfft` has");
  return f(Cpu());
}
#define BLURFFT_CALL(op, tensor, ...) \
  on_device(#op, tensor, [&](auto backend) { return backend.op(tensor, __VA_ARGS__); })

// As in blurfft/ops/rfft2.py: of a norm the factor, of a mean's count its own.
double scale_of(const std::string& norm, const char* unscaled, int64_t n) {
  return norm == unscaled ? 1 : std::pow(static_cast<double>(n), norm == "ortho" ? -0.5 : -1);
}
double per(int64_t count) {
  return count ? 1.0 / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
}

Tensor rfft2(const Tensor& input, std::string norm) {
  const int64_t pixels = input.size(input.dim() - 2) * input.size(input.dim() - 1);
  return BLURFFT_CALL(rfft2, input, scale_of(norm, "backward", pixels));
}
Tensor irfft2(const Tensor& input, int64_t width, std::string norm) {
  const int64_t pixels = input.size(input.dim() - 2) * width;
  return BLURFFT_CALL(irfft2, input, width, scale_of(norm, "forward", pixels));
}
Tensor otf(const Tensor& kernel, int64_t height, int64_t width) { return BLURFFT_CALL(otf, kernel, height, width); }
Tensor otf_backward(const Tensor& grad, int64_t width, int64_t kh, int64_t kw) {
  return BLURFFT_CALL(otf_backward, grad, width, kh, kw);
}
Tensor spectral_filter(const Tensor& input, const Tensor& transfer) {
  return BLURFFT_CALL(spectral_filter, input, transfer);
}
Tensor cross_spectrum(const Tensor& a, const Tensor& b, int64_t n, int64_t c, bool complex) {
  return BLURFFT_CALL(cross_spectrum, a, b, n == 1 ? 1 : a.size(0), c == 1 ? 1 : a.size(1), complex);
}

// The dispatcher knows no absent gradients: they are empty.
Tensor present(const Gradient& grad, const Tensor& by) {
  return grad ? *grad : torch::stable::new_empty(by, {0}, gradient_type(by.scalar_type()));
}

std::tuple<Tensor, Tensor, Tensor> spectral_loss(const Tensor& input, const Tensor& target, const Tensor& weight,
                                                 int64_t count, bool per_sample, bool input_grad, bool weight_grad) {
  const auto [loss, grad, by_weight] =
      BLURFFT_CALL(spectral_loss, input, target, weight, per(count), per_sample, input_grad, weight_grad);
  return {loss, present(grad, input), present(by_weight, weight)};
}
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> wiener_loss(const Tensor& input, const Tensor& target,
                                                               const Tensor& kernel, const Tensor& nsr,
                                                               const Tensor& eps, int64_t count, bool nll,
                                                               bool per_sample, bool input_grad, bool kernel_grad) {
  const auto [loss, grad, by_kernel, by_nsr, by_eps] =
      BLURFFT_CALL(wiener_loss, input, target, kernel, nsr, eps, per(count), nll, per_sample, input_grad, kernel_grad);
  return {loss, present(grad, input), present(by_kernel, kernel), present(by_nsr, nsr), present(by_eps, eps)};
}
std::tuple<Tensor, Tensor, Tensor> blur_mse(const Tensor& input, const Tensor& target, const Tensor& kernel,
                                            int64_t count, bool per_sample, bool input_grad, bool kernel_grad) {
  const auto [loss, grad, by_kernel] =
      BLURFFT_CALL(blur_mse, input, target, kernel, per(count), per_sample, input_grad, kernel_grad);
  return {loss, present(grad, input), present(by_kernel, kernel)};
}
std::tuple<Tensor, Tensor> focal_frequency_loss(const Tensor& input, const Tensor& target, double alpha,
                                                bool log_matrix, double loss_weight, int64_t count, bool per_sample,
                                                bool input_grad) {
  const auto [loss, grad] = BLURFFT_CALL(focal_frequency_loss, input, target, alpha, log_matrix,
                                         loss_weight * per(count), per_sample, input_grad);
  return {loss, present(grad, input)};
}

}  // namespace
}  // namespace blurfft

#define BLURFFT_DECLARE_OP(name, schema) m.def(schema);
STABLE_TORCH_LIBRARY(blurfft, m){BLURFFT_SCHEMAS(BLURFFT_DECLARE_OP)}

// Python's implementations are registered under a key that torch prefers, whichever comes first.
STABLE_TORCH_LIBRARY_IMPL(blurfft, CompositeExplicitAutograd, m) {
  m.impl("rfft2", TORCH_BOX(&blurfft::rfft2));
  m.impl("irfft2", TORCH_BOX(&blurfft::irfft2));
  m.impl("otf", TORCH_BOX(&blurfft::otf));
  m.impl("otf_backward", TORCH_BOX(&blurfft::otf_backward));
  m.impl("spectral_filter", TORCH_BOX(&blurfft::spectral_filter));
  m.impl("cross_spectrum", TORCH_BOX(&blurfft::cross_spectrum));
  m.impl("spectral_loss", TORCH_BOX(&blurfft::spectral_loss));
  m.impl("wiener_loss", TORCH_BOX(&blurfft::wiener_loss));
  m.impl("blur_mse", TORCH_BOX(&blurfft::blur_mse));
  m.impl("focal_frequency_loss", TORCH_BOX(&blurfft::focal_frequency_loss));
}
