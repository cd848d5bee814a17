// What a variant is launched with.
#pragma once

#include <string>

#include "../kernels.h"

namespace blurfft::cuda::variants {

// Names of the variants of a plane's kernel, separated by spaces; empty if the size has none.
std::string names(Size plane);

// As kernels.h has it, for dense float32 and bfloat16 images; null energies if there is no such variant.
Energies<float> spectral_loss(const std::string& name, const Batch& batch, const Planes& input, const Planes& target,
                              const float* weight, Extent weights, double scale, const Planes& grad,
                              const Context& context);

}  // namespace blurfft::cuda::variants
