#include "wiener.cuh"

#include "check.h"

namespace blurfft::cuda {
namespace {

LaunchConfig blocks(dim3 grid, size_t shared_bytes, const Context& context) {
  return {.grid = grid,
          .block = dim3(kOtfThreads),
          .shared_bytes = shared_bytes,
          .stream = static_cast<cudaStream_t>(context.stream)};
}

template <class T>
WienerParams<T> params_of(const Wiener<T>& w) {
  return {OtfGeometry(w.plane.height, w.plane.width, w.taps.height, w.taps.width),
          w.spectra(),
          w.kernels,
          w.kernel,
          w.nsr,
          w.eps,
          nullptr,
          nullptr};
}

}  // namespace

template <class T>
LogDeterminant precision_spectrum(const Wiener<T>& wiener, bool log_determinant, T* weight, const Context& context) {
  WienerParams<T> params = params_of(wiener);
  const int64_t spectra = params.spectra.count(), parts = params.geometry.blocks();
  params.weight = weight;
  if (log_determinant) params.log_determinant = static_cast<double*>(context.scratch(sizeof(double) * spectra * parts));
  check(launch(precision_spectrum_kernel<T>, blocks(params.geometry.grid(spectra), sizeof(WienerShared), context),
               params),
        "precision_spectrum");
  return {params.log_determinant, parts};
}

template <class T>
void precision_spectrum_backward(const Wiener<T>& wiener, const T* weight_grad, double log_scale, T* kernel_grad,
                                 T* nsr_grad, T* eps_grad, const Context& context) {
  WienerGradParams<T> params = {};
  params.forward = params_of(wiener);
  const OtfGeometry& g = params.forward.geometry;
  const Extent spectra = wiener.spectra();
  const int64_t kernels = wiener.kernels.count(), parts = spectra.count() * g.blocks();
  params.weight_grad = weight_grad;
  params.log_scale = static_cast<T>(log_scale);
  params.transfer_grad = static_cast<Complex<T>*>(context.scratch(sizeof(Complex<T>) * kernels * g.entries()));
  const auto new_parts = [&](const T* grad) {
    return grad ? static_cast<double*>(context.scratch(sizeof(double) * parts)) : nullptr;
  };
  params.nsr_grad = new_parts(nsr_grad);
  params.eps_grad = new_parts(eps_grad);
  check(launch(precision_spectrum_backward_kernel<T>, blocks(g.grid(kernels), sizeof(WienerShared), context), params),
        "precision_spectrum_backward");
  otf_backward(reinterpret_cast<const T*>(params.transfer_grad), kernels, wiener.taps, wiener.plane, kernel_grad,
               context);
  const auto sum = [&](Extent parameters, const double* from, T* out) {
    if (!out) return;
    const ParameterSumParams<T> sums = {spectra, parameters, g.blocks(), from, out};
    check(launch(parameter_sum_kernel<T>, blocks(dim3(parameters.count()), sizeof(double) * kWarps, context), sums),
          "parameter_sum");
  };
  sum(wiener.nsr.extent, params.nsr_grad, nsr_grad);
  sum(wiener.eps.extent, params.eps_grad, eps_grad);
}

template <class T>
void loss_sum(const Batch& batch, const Energies<T>& energies, Extent spectra, const LogDeterminant& log_determinant,
              double constant, double scale, bool per_sample, T* loss, const Context& context) {
  const LossSumParams<T> params = {
      per_sample ? 1 : batch.samples, batch.channels,       energies.parts, energies.data, spectra,
      log_determinant.parts,          log_determinant.data, constant,       scale,         loss};
  LaunchConfig config = blocks(dim3(per_sample ? batch.samples : 1), sizeof(double) * kWarps, context);
  config.overlapping = context.overlapping;
  check(launch(loss_sum_kernel<T>, config, params), "loss_sum");
}

template LogDeterminant precision_spectrum(const Wiener<float>&, bool, float*, const Context&);
template LogDeterminant precision_spectrum(const Wiener<double>&, bool, double*, const Context&);
template void precision_spectrum_backward(const Wiener<float>&, const float*, double, float*, float*, float*,
                                          const Context&);
template void precision_spectrum_backward(const Wiener<double>&, const double*, double, double*, double*, double*,
                                          const Context&);
template void loss_sum(const Batch&, const Energies<float>&, Extent, const LogDeterminant&, double, double, bool,
                       float*, const Context&);
template void loss_sum(const Batch&, const Energies<double>&, Extent, const LogDeterminant&, double, double, bool,
                       double*, const Context&);

}  // namespace blurfft::cuda
