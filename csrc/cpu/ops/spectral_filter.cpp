#include "../ops.h"

#include <algorithm>

#include "units.h"

namespace blurfft::cpu {

Tensor spectral_filter(const Tensor& input, const Tensor& transfer) {
  const Tensor half = as_contiguous(transfer);
  const Tensor out = empty_as(input, input.scalar_type());
  const int64_t tables_n = transfer.size(0), tables_c = transfer.size(1);
  const bool complex_values = is_complex(transfer);
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    const Units units(input);
    const UnitGeometry<T> geometries(units);
    const Geometry<T>& g = geometries.whole;
    const size_t packed = packed_elements(g, call.lanes, complex_values);
    const int64_t entries = units.height * (units.width / 2 + 1) * (complex_values ? 2 : 1);
    const T scale = static_cast<T>(1 / g.gain());
    const ptrdiff_t step = tables_c > 1 ? static_cast<ptrdiff_t>(packed) : 0;
    const bool streaming = fills_the_caches(input);
    const Images inputs(input), outs(out);
    const auto fill = [&](int64_t n, T* tables) {
      for (int64_t c = 0; c < tables_c; ++c) {
        call.pack(g, values<T>(half) + (n * tables_c + c) * entries, complex_values, scale, tables + c * packed);
      }
    };
    const auto run = [&](int64_t unit, const T* tables, T* work, const Team* team) {
      const Image a = units.image(inputs, unit), to = units.image(outs, unit);
      const FilterArgs<T> args = {
          tables + units.first_channel(unit) * step, step, complex_values, streaming, nullptr, 0, 0, nullptr};
      call.filter(geometries(units, unit), a, nullptr, &to, args, work, team);
    };
    if (tables_n == 1) {
      Buffer<T> tables(packed * tables_c);
      fill(0, tables.get());
      const TeamSplit split(units);
      each_unit<T>(units, split, call.workspace_elements(g, split.team.parts),
                   [&](int64_t unit, T* work, const Team* team) { run(unit, tables.get(), work, team); });
      return;
    }
    // A sample's units have its tables in common: by one thread, unless there are too few samples for all.
    const bool enough = units.samples >= torch::stable::get_num_threads();
    const int64_t together = enough ? std::max<int64_t>(1, units.per_sample) : 1;
    const int64_t grain = (units.grain() + together - 1) / together;
    in_parallel(units.count() / together, grain, [&](int64_t begin, int64_t end) {
      const size_t work_elements = call.workspace_elements(g, 1);
      T* work = scratch<T>(work_elements + packed * tables_c);
      T* tables = work + work_elements;
      int64_t filled = -1;
      for (int64_t unit = begin * together; unit < end * together; ++unit) {
        const int64_t n = unit / units.per_sample;
        if (n != filled) fill(filled = n, tables);
        run(unit, tables, work, nullptr);
      }
    });
  });
  return out;
}

}  // namespace blurfft::cpu
