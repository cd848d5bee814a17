// Sums over the units of a batch: what the losses and the cross spectrum have in common.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../compensated_sum.h"
#include "units.h"

namespace blurfft::cpu {

// A factor as a power of two, with which sums of squares stay in range without rounding, and what is left of it.
struct Factor {
  double power_of_two = 1, rest;

  explicit Factor(double x) : rest(x) {
    constexpr int limit = 100;  // within the exponents of float32
    if (!std::isnormal(x)) return;
    power_of_two = std::ldexp(1, std::clamp(std::ilogb(x), -limit, limit));
    rest = x / power_of_two;
  }
};

// Runs over all units with their weights: fill(index, tables) makes the tables of weights `index` (a sample's, or 0
// where samples share them), run(unit, tables, sums, work, team) does a unit, finish(index, tables, sums) takes what
// the units with these weights have added to `sums`, the same for any number of threads, and may overwrite their
// tables. No sums: sum_elements is 0, `sums` null, finish not called.
template <class T, class Fill, class Run, class Finish>
void each_weighted_unit(const Units& units, const TeamSplit& split, bool weights_per_sample, size_t table_elements,
                        size_t sum_elements, size_t work_elements, Fill fill, Run run, Finish finish) {
  if (weights_per_sample) {
    const int64_t grain = std::max<int64_t>(1, units.grain() / std::max<int64_t>(1, units.per_sample));
    in_parallel(units.samples, grain, [&](int64_t begin, int64_t end) {
      T* work = scratch<T>(work_elements + table_elements + sum_elements);
      T* tables = work + work_elements;
      T* sums = sum_elements ? tables + table_elements : nullptr;
      for (int64_t n = begin; n < end; ++n) {
        fill(n, tables);
        if (sums) std::memset(sums, 0, sizeof(T) * sum_elements);
        for (int64_t i = 0; i < units.per_sample; ++i) run(n * units.per_sample + i, tables, sums, work, nullptr);
        if (sums) finish(n, tables, sums);
      }
    });
    return;
  }

  Buffer<T> tables(table_elements);
  fill(0, tables.get());
  if (!sum_elements) {
    each_unit<T>(units, split, work_elements,
                 [&](int64_t unit, T* work, const Team* team) { run(unit, tables.get(), nullptr, work, team); });
    return;
  }
  const int64_t parts = fixed_parts(units.count());
  Buffer<T> sums(sum_elements * parts);
  std::memset(sums.get(), 0, sizeof(T) * sum_elements * parts);
  // Where units are shared there are as many parts as units.
  in_fixed_parts(split.alone, [&](int64_t part, int64_t begin, int64_t end) {
    T* work = scratch<T>(work_elements);
    for (int64_t unit = begin; unit < end; ++unit) {
      run(unit, tables.get(), sums.get() + part * sum_elements, work, nullptr);
    }
  });
  for (int64_t unit = split.alone; unit < units.count(); ++unit) {
    run(unit, tables.get(), sums.get() + unit * sum_elements, scratch<T>(work_elements), &split.team);
  }
  add_parts(sums.get(), parts, sum_elements);
  finish(0, tables.get(), sums.get());
}

// Fused loss of every plane with the weights that fill makes; finish takes power_scale * n |F e|^2 summed over the
// planes that share each of them. Behind the weights the tables have kept_elements more, which only fill and finish
// use.
template <class T, class Fill, class Finish>
void fused_loss(const Tensor& input, const Tensor& target, const Gradient& grad, bool weights_per_sample,
                int64_t weights_per_channel, size_t kept_elements, bool want_power, T power_scale, double* energy,
                Fill fill, Finish finish) {
  const Routines<T>& call = routines<T>();
  const Units units(input);
  const UnitGeometry<T> geometries(units);
  const size_t packed = packed_elements(geometries.whole, call.lanes, false), elements = packed * weights_per_channel;
  const bool streaming = fills_the_caches(input);
  const ptrdiff_t step = weights_per_channel > 1 ? static_cast<ptrdiff_t>(packed) : 0;
  const Images inputs(input), targets(target), grads(grad.value_or(input));
  const TeamSplit split(units);
  const auto run = [&](int64_t unit, const T* tables, T* power, T* work, const Team* team) {
    const Image a = units.image(inputs, unit), b = units.image(targets, unit);
    const int64_t channel = units.first_channel(unit);
    FilterArgs<T> args = {tables + channel * step,
                          step,
                          false,
                          streaming,
                          power ? power + channel * step : nullptr,
                          step,
                          power_scale,
                          energy + unit / units.per_sample * units.channels + channel};
    Image out = {};
    if (grad) out = units.image(grads, unit);
    call.filter(geometries(units, unit), a, &b, grad ? &out : nullptr, args, work, team);
  };
  each_weighted_unit<T>(units, split, weights_per_sample, elements + kept_elements, want_power ? elements : 0,
                        call.workspace_elements(geometries.whole, split.team.parts), fill, run, finish);
}

// loss (N,) or (): sums in a fixed order, in double.
template <class T>
Tensor reduce_loss(const Tensor& like, const Array<double>& per_plane, int64_t samples, int64_t channels,
                   const Array<double>& offset, double scale, bool per_sample) {
  Tensor loss = empty(like, {&samples, per_sample ? size_t{1} : size_t{0}}, real_type<T>);
  // The scale of a mean over nothing is NaN, and so is the mean, as in F.mse_loss.
  CompensatedSum total;
  total.add(0 * scale);
  for (int64_t n = 0; n < samples; ++n) {
    CompensatedSum sample;
    if (!offset.empty()) sample.add(offset[n]);
    for (int64_t c = 0; c < channels; ++c) sample.add(per_plane[n * channels + c]);
    if (per_sample) values<T>(loss)[n] = static_cast<T>(sample.total());
    total.add(sample.total());
  }
  if (!per_sample) *values<T>(loss) = static_cast<T>(total.total());
  return loss;
}

}  // namespace blurfft::cpu
