#include "../../arguments.h"
#include "../ops.h"

#include <torch/csrc/stable/library.h>

#include "losses.h"
#include "taps.h"

namespace blurfft::cpu {

std::tuple<Tensor, Gradient, Gradient> blur_mse(const Tensor& input, const Tensor& target, const Tensor& kernel,
                                                double scale, bool per_sample, bool input_grad, bool kernel_grad) {
  const Tensor taps_in = as_contiguous(kernel);
  const ParameterShape shape(kernel);
  const int64_t kernels_n = shape.n, kernels_c = shape.c, kh = shape.rows, kw = shape.columns;
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  Gradient kernel_out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    const Units units(input);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const TapTables<T> tap_tables(g, kh, kw);
    const TapGeometry<T>& taps = tap_tables.taps;
    if (kernel_grad) kernel_out = empty(kernel, kernel.sizes(), real_type<T>);
    const Factor residual(scale / g.gain());
    const size_t packed = packed_elements(g, call.lanes, true);
    const ptrdiff_t step = kernels_c > 1 ? static_cast<ptrdiff_t>(packed) : 0;
    const size_t tap_elements = call.tap_workspace_elements(g, taps);
    const bool streaming = fills_the_caches(input);
    Array<double> energy(units.samples * units.channels);
    const Images inputs(input), targets(target), grads(grad.value_or(input));
    const auto fill = [&](int64_t index, T* tables) {
      for (int64_t c = 0; c < kernels_c; ++c) {
        call.transfer(g, taps, values<T>(taps_in) + (index * kernels_c + c) * kh * kw, tables + c * packed,
                      tables + kernels_c * packed);
      }
    };
    const auto run = [&](int64_t unit, const T* tables, T* cross, T* work, const Team*) {
      const int64_t channel = units.first_channel(unit);
      const BlurArgs<T> args = {tables + channel * step,
                                step,
                                static_cast<T>(residual.power_of_two),
                                static_cast<T>(2 * residual.rest),
                                streaming,
                                cross ? cross + channel * step : nullptr,
                                step,
                                &energy[unit / units.per_sample * units.channels + channel]};
      Image out = {};
      if (input_grad) out = units.image(grads, unit);
      call.blur_mse(geometries(units, unit), units.image(inputs, unit), units.image(targets, unit),
                    input_grad ? &out : nullptr, args, work);
    };
    // d loss / d K = -2 conj(F target) F r on every frequency; `cross` stands for the mirror rows too, by half.
    const auto finish = [&](int64_t index, T* tables, const T* cross) {
      Array<double> sums(kh * kw);
      for (int64_t c = 0; c < kernels_c; ++c) {
        call.transfer_grad(g, taps, cross + c * packed, sums.data(), tables + kernels_c * packed);
        T* to = values<T>(*kernel_out) + (index * kernels_c + c) * kh * kw;
        for (int64_t i = 0; i < kh * kw; ++i) to[i] = static_cast<T>(-4 * residual.rest * sums[i]);
      }
    };
    each_weighted_unit<T>(units, TeamSplit::none(units), kernels_n > 1, packed * kernels_c + tap_elements,
                          kernel_grad ? packed * kernels_c : 0, 2 * call.workspace_elements(g, 1), fill, run, finish);
    for (double& e : energy) e *= residual.rest;
    loss = reduce_loss<T>(input, energy, units.samples, units.channels, {}, scale, per_sample);
  });
  return {loss, grad, kernel_out};
}

}  // namespace blurfft::cpu

// The one operator that the CUDA kernels do not have.
STABLE_TORCH_LIBRARY_FRAGMENT(blurfft_cpu, m) {
  m.def(
      "blur_mse(Tensor input, Tensor target, Tensor kernel, float scale, bool per_sample, bool input_grad, "
      "bool kernel_grad) -> (Tensor, Tensor?, Tensor?)");
}

STABLE_TORCH_LIBRARY_IMPL(blurfft_cpu, CPU, m) {
  using namespace blurfft;
  m.impl("blur_mse", TORCH_BOX((&Checked<&cpu::blur_mse, &arguments::blur_mse>::call)));
}
