// The operators of kernels.h for planes that a block or a cluster holds in shared memory, in one kernel. Each returns
// whether it served the call; what it did not is for the staged path.
#pragma once

#include "kernels.h"

namespace blurfft::cuda {

template <class T>
struct SpectralLossParams;

namespace fused {

template <class T>
bool rfft2(const Batch& batch, const Planes& input, double scale, T* out, const Context& context);
template <class T>
bool irfft2(const Batch& batch, const T* input, double scale, const Planes& out, const Context& context);

template <class T>
bool spectral_filter(const Batch& batch, const Planes& input, const T* transfer, Extent transfers, bool complex,
                     const Planes& out, const Context& context);

template <class T>
bool cross_spectrum(const Batch& batch, const Planes& a, const Planes& b, Extent outs, bool complex, T* out,
                    const Context& context);

// energy: (planes)
template <class T>
bool spectral_loss(const Batch& batch, const Planes& input, const Planes& target, const T* weight, Extent weights,
                   double scale, const Planes& grad, T* energy, T* weight_grad, const Context& context);
// From spectral_loss(), in files of their own for compiling: of oblong planes, and with the gradient of the weight,
// params.power.
template <class T>
bool spectral_loss_oblong(const Batch& batch, const SpectralLossParams<T>& params, const Context& context);
template <class T>
bool spectral_loss_with_power(const Batch& batch, SpectralLossParams<T> params, Extent weights, const Context& context);

template <class T>
bool focal_frequency_loss(const Batch& batch, const Planes& input, const Planes& target, double alpha, bool log_matrix,
                          double scale, const Planes& grad, T* energy, const Context& context);

}  // namespace fused

}  // namespace blurfft::cuda
