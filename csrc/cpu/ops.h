// The operators of namespace blurfft_cpu.
#pragma once

#include "../operators.h"

namespace blurfft::cpu {

BLURFFT_OPERATORS(BLURFFT_DECLARE)
// The one that the CUDA kernels do not have.
std::tuple<Tensor, Gradient, Gradient> blur_mse(const Tensor& input, const Tensor& target, const Tensor& kernel,
                                                double scale, bool per_sample, bool input_grad, bool kernel_grad);

}  // namespace blurfft::cpu
