// The operators of namespace blurfft_cuda.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "../operators.h"

namespace blurfft::cuda {

BLURFFT_OPERATORS(BLURFFT_DECLARE)
// In place; of this backend alone.
void scale_(const std::vector<Tensor>& tensors, const Tensor& factor);
#ifdef BLURFFT_HAVE_CUDA_VARIANTS
// See variants/README.md: spectral_loss of a shared weight, with the gradient of the input; and their names.
std::tuple<Tensor, Tensor> spectral_loss_variant(std::string name, const Tensor& input, const Tensor& target,
                                                 const Tensor& weight, double scale);
std::string variant_names(int64_t height, int64_t width);
#endif

}  // namespace blurfft::cuda
