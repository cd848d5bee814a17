// The operators that every compiled backend has: OP(name, schema, parameters, result). Meanings in blurfft/ops/. A
// parameter of two dimensions is one of (1, 1, ...). The result comes last, since it may have commas.
#pragma once

#include <cstdint>
#include <tuple>

#include "tensor.h"

// clang-format off
#define BLURFFT_OPERATORS(OP)                                                                                          \
  OP(rfft2, "(Tensor input, float scale) -> Tensor",                                                                   \
     (const Tensor& input, double scale), Tensor)                                                                      \
  OP(irfft2, "(Tensor input, int width, float scale) -> Tensor",                                                       \
     (const Tensor& input, int64_t width, double scale), Tensor)                                                       \
  OP(otf, "(Tensor kernel, int height, int width) -> Tensor",                                                          \
     (const Tensor& kernel, int64_t height, int64_t width), Tensor)                                                    \
  OP(otf_backward, "(Tensor grad, int width, int kh, int kw) -> Tensor",                                               \
     (const Tensor& grad, int64_t width, int64_t kh, int64_t kw), Tensor)                                              \
  OP(spectral_filter, "(Tensor input, Tensor transfer) -> Tensor",                                                     \
     (const Tensor& input, const Tensor& transfer), Tensor)                                                            \
  OP(cross_spectrum, "(Tensor a, Tensor b, int n, int c, bool complex) -> Tensor",                                     \
     (const Tensor& a, const Tensor& b, int64_t n, int64_t c, bool complex), Tensor)                                   \
  OP(spectral_loss,                                                                                                    \
     "(Tensor input, Tensor target, Tensor weight, float scale, bool per_sample, bool input_grad, bool weight_grad)"   \
     " -> (Tensor, Tensor?, Tensor?)",                                                                                 \
     (const Tensor& input, const Tensor& target, const Tensor& weight, double scale, bool per_sample, bool input_grad, \
      bool weight_grad),                                                                                               \
     std::tuple<Tensor, Gradient, Gradient>)                                                                           \
  OP(wiener_loss,                                                                                                      \
     "(Tensor input, Tensor target, Tensor kernel, Tensor nsr, Tensor eps, float scale, bool nll, bool per_sample,"    \
     " bool input_grad, bool kernel_grad) -> (Tensor, Tensor?, Tensor?, Tensor?, Tensor?)",                            \
     (const Tensor& input, const Tensor& target, const Tensor& kernel, const Tensor& nsr, const Tensor& eps,           \
      double scale, bool nll, bool per_sample, bool input_grad, bool kernel_grad),                                     \
     std::tuple<Tensor, Gradient, Gradient, Gradient, Gradient>)                                                       \
  OP(focal_frequency_loss,                                                                                             \
     "(Tensor input, Tensor target, float alpha, bool log_matrix, float scale, bool per_sample, bool input_grad)"      \
     " -> (Tensor, Tensor?)",                                                                                          \
     (const Tensor& input, const Tensor& target, double alpha, bool log_matrix, double scale, bool per_sample,         \
      bool input_grad),                                                                                                \
     std::tuple<Tensor, Gradient>)
// clang-format on

#define BLURFFT_DECLARE(name, schema, parameters, ...) auto name parameters->__VA_ARGS__;
