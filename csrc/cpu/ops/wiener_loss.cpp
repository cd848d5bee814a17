#include "../ops.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "losses.h"
#include "taps.h"

namespace blurfft::cpu {
namespace {

// Of parameters (n, c, ...), where 1 stands for all samples or channels.
struct Extent {
  int64_t n, c;

  int64_t count() const { return n * c; }
  int64_t entry(int64_t sample, int64_t channel) const { return (n > 1 ? sample : 0) * c + (c > 1 ? channel : 0); }
};

}  // namespace

std::tuple<Tensor, Gradient, Gradient, Gradient, Gradient> wiener_loss(const Tensor& input, const Tensor& target,
                                                                       const Tensor& kernel, const Tensor& nsr,
                                                                       const Tensor& eps, double scale, bool nll,
                                                                       bool per_sample, bool input_grad,
                                                                       bool kernel_grad) {
  const int64_t samples = input.size(0), channels = input.size(1), height = input.size(2), width = input.size(3);
  const ParameterShape shape(kernel);
  const int64_t kernels_n = shape.n, kernels_c = shape.c, kh = shape.rows, kw = shape.columns;
  const int64_t taps = kh * kw;
  const Tensor taps_in = as_contiguous(kernel), nsr_in = as_contiguous(nsr), eps_in = as_contiguous(eps);
  const Extent kernel_extent = {kernels_n, kernels_c}, nsr_extent = {nsr.size(0), nsr.size(1)},
               eps_extent = {eps.size(0), eps.size(1)};
  const int64_t weights_n = std::max({kernel_extent.n, nsr_extent.n, eps_extent.n});
  const int64_t weights_c = std::max({kernel_extent.c, nsr_extent.c, eps_extent.c});
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  Gradient kernel_out, nsr_out, eps_out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    const Geometry<T> g = geometry<T>(height, width, 1);
    const TapTables<T> tables(g, kh, kw);
    const double n = static_cast<double>(height) * static_cast<double>(width);
    const double quadratic = scale * (nll ? 0.5 : 1);
    const Factor square(quadratic / g.gain());
    // Planes that share a weight, each with the weight's whole log-determinant.
    const double planes_per_weight =
        static_cast<double>((weights_n > 1 ? 1 : samples) * (weights_c > 1 ? 1 : channels));
    const size_t packed = packed_elements(g, call.lanes, false);
    const int64_t weights = weights_n * weights_c;
    Array<double> energy(samples * channels), log_determinant(nll ? weights : 0);
    // A kernel of its own for every weight gets its gradient at once; a shared one, the sum over its weights at the
    // end.
    const bool own_kernels = kernel_extent.count() == weights;
    if (kernel_grad) kernel_out = empty(kernel, kernel.sizes(), real_type<T>);
    Array<double> kernel_sums(kernel_grad && !own_kernels ? weights * taps : 0);
    Array<double> nsr_sums(kernel_grad ? weights : 0), eps_sums(kernel_grad ? weights : 0);

    // Transfer functions, kept from fill to finish for the gradient. Without one they may lie where the planes will.
    const size_t transfer_elements = 2 * packed;
    const size_t tap_elements = call.tap_workspace_elements(g, tables.taps);
    const size_t spectra_elements = transfer_elements * weights_c + tap_elements;
    const bool keep_spectra = kernel_grad || weights_n > 1;
    fused_loss<T>(
        input, target, grad, weights_n > 1, weights_c, keep_spectra ? spectra_elements : 0, kernel_grad,
        static_cast<T>(square.power_of_two), energy.data(),
        [&](int64_t index, T* weight) {
          T* spectra = keep_spectra ? weight + weights_c * packed : scratch<T>(spectra_elements);
          T* tap_work = spectra + weights_c * transfer_elements;
          for (int64_t c = 0; c < weights_c; ++c) {
            const WienerArgs<T> args = {values<T>(taps_in) + kernel_extent.entry(index, c) * taps,
                                        values<T>(nsr_in)[nsr_extent.entry(index, c)],
                                        values<T>(eps_in)[eps_extent.entry(index, c)],
                                        spectra + c * transfer_elements,
                                        weight + c * packed,
                                        static_cast<T>(2 * quadratic / g.gain()),
                                        nll ? &log_determinant[index * weights_c + c] : nullptr};
            call.wiener(g, tables.taps, args, tap_work);
          }
        },
        [&](int64_t index, T* weight, const T* power) {
          T* spectra = weight + weights_c * packed;
          T* tap_work = spectra + weights_c * transfer_elements;
          Array<double> own_sums(own_kernels ? taps : 0);
          for (int64_t c = 0; c < weights_c; ++c) {
            const int64_t at = index * weights_c + c;
            T* transfer = spectra + c * transfer_elements;
            double* sums = own_kernels ? own_sums.data() : &kernel_sums[at * taps];
            const WienerGradArgs<T> args = {power + c * packed,
                                            transfer,
                                            values<T>(nsr_in)[nsr_extent.entry(index, c)],
                                            values<T>(eps_in)[eps_extent.entry(index, c)],
                                            square.rest,
                                            nll ? -0.5 * scale * planes_per_weight : 0.0,
                                            sums,
                                            &nsr_sums[at],
                                            &eps_sums[at]};
            call.wiener_grad(g, tables.taps, args, transfer, tap_work);
            if (own_kernels) std::copy(sums, sums + taps, values<T>(*kernel_out) + at * taps);
          }
        });

    Array<double> offset;
    if (nll) {
      const double plane_constant = 0.5 * n * std::log(2 * std::numbers::pi);
      offset.assign(samples, 0);
      for (int64_t i = 0; i < samples; ++i) {
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t at = (weights_n > 1 ? i : 0) * weights_c + (weights_c > 1 ? c : 0);
          offset[i] += scale * (plane_constant - 0.5 * log_determinant[at]);
        }
      }
    }
    loss = reduce_loss<T>(input, energy, samples, channels, offset, scale, per_sample);

    if (!kernel_grad) return;
    // Sums over the weights that a kernel, nsr or eps is shared by, in a fixed order.
    const auto reduce = [&](const Tensor& like, Extent extent, const Array<double>& sums, int64_t size) {
      const Tensor result = empty(like, like.sizes(), real_type<T>);
      T* out = values<T>(result);
      if (extent.count() == weights) {
        std::copy(sums.begin(), sums.end(), out);
        return result;
      }
      Array<double> total(extent.count() * size);
      for (int64_t i = 0; i < weights; ++i) {
        double* to = &total[extent.entry(i / weights_c, i % weights_c) * size];
        for (int64_t j = 0; j < size; ++j) to[j] += sums[i * size + j];
      }
      std::copy(total.begin(), total.end(), out);
      return result;
    };
    if (!own_kernels) kernel_out = reduce(kernel, kernel_extent, kernel_sums, taps);
    nsr_out = reduce(nsr, nsr_extent, nsr_sums, 1);
    eps_out = reduce(eps, eps_extent, eps_sums, 1);
  });
  return {loss, grad, kernel_out, nsr_out, eps_out};
}

}  // namespace blurfft::cpu
