#include "../ops.h"

#include <cstring>

#include "losses.h"

namespace blurfft::cpu {

// Every plane is transformed twice: for its spectrum's largest value, then, still in the cache, for the weighted error.
std::tuple<Tensor, Gradient> focal_frequency_loss(const Tensor& input, const Tensor& target, double alpha,
                                                  bool log_matrix, double scale, bool per_sample, bool input_grad) {
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    const Units units(input);
    const UnitGeometry<T> geometries(units);
    const size_t packed = packed_elements(geometries.whole, call.lanes, false);
    const TeamSplit split(units);
    const size_t work_elements = call.workspace_elements(geometries.whole, split.team.parts);
    const ptrdiff_t step = static_cast<ptrdiff_t>(packed);
    const double gain = geometries.whole.gain();
    const Factor power(1 / gain);
    const bool streaming = fills_the_caches(input);
    Array<double> energy(units.samples * units.channels);
    const Images inputs(input), targets(target), grads(grad.value_or(input));
    each_unit<T>(units, split, work_elements + packed * units.interleave, [&](int64_t unit, T* work, const Team* team) {
      T* tables = work + work_elements;
      const Image a = units.image(inputs, unit), b = units.image(targets, unit);
      const Geometry<T>& g = geometries(units, unit);
      std::memset(tables, 0, sizeof(T) * packed * g.planes);
      // Without an image to write the table has no effect.
      call.filter(g, a, &b, nullptr,
                  {tables, step, false, false, tables, step, static_cast<T>(power.power_of_two), nullptr}, work, team);
      for (int c = 0; c < g.planes; ++c) {
        call.focal_weight(
            g, {alpha, log_matrix, static_cast<T>(power.rest), static_cast<T>(2 * scale / gain), tables + c * step});
      }
      Image out = {};
      if (input_grad) out = units.image(grads, unit);
      double* sums = &energy[unit / units.per_sample * units.channels + units.first_channel(unit)];
      call.filter(g, a, &b, input_grad ? &out : nullptr, {tables, step, false, streaming, nullptr, 0, 0, sums}, work,
                  team);
    });
    loss = reduce_loss<T>(input, energy, units.samples, units.channels, {}, scale, per_sample);
  });
  return {loss, grad};
}

}  // namespace blurfft::cpu
