#include "../ops.h"

#include <vector>

#include "units.h"

namespace blurfft::cpu {

Tensor rfft2(const Tensor& input, double scale) {
  const Tensor planes = planes_of(input);
  std::vector<int64_t> sizes(input.sizes().begin(), input.sizes().end());
  sizes.back() = sizes.back() / 2 + 1;
  Tensor out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    out = empty(input, sizes, complex_type<T>);
    const Units units(planes, false);
    const Images images(planes);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const TeamSplit split(units);
    const int64_t step = units.height * sizes.back() * 2;
    each_unit<T>(
        units, split, call.workspace_elements(g, split.team.parts), [&](int64_t unit, T* work, const Team* team) {
          call.forward(g, units.image(images, unit), values<T>(out) + unit * step, static_cast<T>(scale), work, team);
        });
  });
  return out;
}

Tensor irfft2(const Tensor& input, int64_t width, double scale) {
  const Tensor half = as_contiguous(input);
  std::vector<int64_t> sizes(input.sizes().begin(), input.sizes().end());
  sizes.back() = width;
  Tensor out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    out = empty(input, sizes, real_type<T>);
    const Tensor planes = planes_of(out);
    const Units units(planes, false);
    const Images images(planes);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const TeamSplit split(units);
    const int64_t step = units.height * (width / 2 + 1) * 2;
    each_unit<T>(
        units, split, call.workspace_elements(g, split.team.parts), [&](int64_t unit, T* work, const Team* team) {
          call.inverse(g, values<T>(half) + unit * step, units.image(images, unit), static_cast<T>(scale), work, team);
        });
  });
  return out;
}

}  // namespace blurfft::cpu
