// The operators of namespace blurfft_cuda; schemas in library.cpp, meanings in blurfft/ops.py. A parameter of
// two dimensions is one of (1, 1, ...).
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "../tensor.h"

namespace blurfft::cuda {

Tensor rfft2(const Tensor& input, double scale);
Tensor irfft2(const Tensor& input, int64_t width, double scale);
Tensor otf(const Tensor& kernel, int64_t height, int64_t width);
Tensor otf_backward(const Tensor& grad, int64_t width, int64_t kh, int64_t kw);
Tensor spectral_filter(const Tensor& input, const Tensor& transfer);
Tensor cross_spectrum(const Tensor& a, const Tensor& b, int64_t n, int64_t c, bool complex);
std::tuple<Tensor, Gradient, Gradient> spectral_loss(const Tensor& input, const Tensor& target, const Tensor& weight,
                                                     double scale, bool per_sample, bool input_grad, bool weight_grad);
std::tuple<Tensor, Gradient, Gradient, Gradient, Gradient> wiener_loss(const Tensor& input, const Tensor& target,
                                                                       const Tensor& kernel, const Tensor& nsr,
                                                                       const Tensor& eps, double scale, bool nll,
                                                                       bool per_sample, bool input_grad,
                                                                       bool kernel_grad);
std::tuple<Tensor, Gradient> focal_frequency_loss(const Tensor& input, const Tensor& target, double alpha,
                                                  bool log_matrix, double scale, bool per_sample, bool input_grad);
// In place; of this backend alone.
void scale_(const std::vector<Tensor>& tensors, const Tensor& factor);
#ifdef BLURFFT_HAVE_CUDA_VARIANTS
// See variants/README.md: spectral_loss of a shared weight, with the gradient of the input; and their names.
std::tuple<Tensor, Tensor> spectral_loss_variant(std::string name, const Tensor& input, const Tensor& target,
                                                 const Tensor& weight, double scale);
std::string variant_names(int64_t height, int64_t width);
#endif

}  // namespace blurfft::cuda
