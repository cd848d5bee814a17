#include "../ops.h"

#include "losses.h"

namespace blurfft::cpu {

Tensor cross_spectrum(const Tensor& a, const Tensor& b, int64_t n, int64_t c, bool complex) {
  Tensor out;
  for_type(a.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    const Units units(a);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const int64_t columns = units.width / 2 + 1, entries = units.height * columns;
    out = empty(a, {n, c, units.height, columns}, complex ? complex_type<T> : real_type<T>);
    const size_t packed = packed_elements(g, call.lanes, true);
    const ptrdiff_t step = c > 1 ? static_cast<ptrdiff_t>(packed) : 0;
    const Factor scale(1 / g.gain());
    const Images first(a), second(b);
    const auto fill = [](int64_t, T*) {};
    const auto run = [&](int64_t unit, const T*, T* sums, T* work, const Team*) {
      call.cross(geometries(units, unit), units.image(first, unit), units.image(second, unit),
                 static_cast<T>(scale.power_of_two), sums + units.first_channel(unit) * step, step, work);
    };
    const auto finish = [&](int64_t sample, T* parts, const T* sums) {
      for (int64_t i = 0; i < c; ++i) {
        T* to = values<T>(out) + (sample * c + i) * entries * (complex ? 2 : 1);
        T* half = complex ? to : parts;
        call.unpack(g, sums + i * packed, true, static_cast<T>(scale.rest), true, half);
        if (complex) continue;
        for (int64_t j = 0; j < entries; ++j) to[j] = half[2 * j];
      }
    };
    each_weighted_unit<T>(units, TeamSplit::none(units), n > 1, complex ? 0 : 2 * entries, packed * c,
                          2 * call.workspace_elements(g, 1), fill, run, finish);
  });
  return out;
}

}  // namespace blurfft::cpu
