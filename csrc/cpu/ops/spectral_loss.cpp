#include "../ops.h"

#include "losses.h"

namespace blurfft::cpu {

std::tuple<Tensor, Gradient, Gradient> spectral_loss(const Tensor& input, const Tensor& target, const Tensor& weight,
                                                     double scale, bool per_sample, bool input_grad, bool weight_grad) {
  const Tensor half = as_contiguous(weight);
  const ParameterShape shape(weight);
  const int64_t weights_n = shape.n, weights_c = shape.c, rows = shape.rows, columns = shape.columns;
  const int64_t samples = input.size(0), channels = input.size(1);
  const Gradient grad = gradient_by(input, input_grad);
  Tensor loss;
  Gradient power_out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    const Geometry<T> g = geometry<T>(input.size(2), input.size(3), 1);
    const size_t packed = packed_elements(g, call.lanes, false);
    const int64_t entries = rows * columns;
    const Factor power(scale / g.gain());
    if (weight_grad) power_out = empty(weight, weight.sizes(), real_type<T>);
    Array<double> energy(samples * channels);
    fused_loss<T>(
        input, target, grad, weights_n > 1, weights_c, 0, weight_grad, static_cast<T>(power.power_of_two),
        energy.data(),
        [&](int64_t index, T* tables) {
          for (int64_t c = 0; c < weights_c; ++c) {
            call.pack(g, values<T>(half) + (index * weights_c + c) * entries, false,
                      static_cast<T>(2 * scale / g.gain()), tables + c * packed);
          }
        },
        [&](int64_t index, const T*, const T* sums) {
          for (int64_t c = 0; c < weights_c; ++c) {
            call.unpack(g, sums + c * packed, false, static_cast<T>(power.rest), true,
                        values<T>(*power_out) + (index * weights_c + c) * entries);
          }
        });
    loss = reduce_loss<T>(input, energy, samples, channels, {}, scale, per_sample);
  });
  return {loss, grad, power_out};
}

}  // namespace blurfft::cpu
