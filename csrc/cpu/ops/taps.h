// The tables of small kernels' transforms.
#pragma once

#include "../capability.h"
#include "memory.h"

namespace blurfft::cpu {

// Small kernels' tables, the same for every kernel of a call.
template <class T>
struct TapTables {
  Buffer<T> tables;
  TapGeometry<T> taps;
  TapTables(const Geometry<T>& g, int64_t height, int64_t width) {
    const Routines<T>& call = routines<T>();
    const int kh = static_cast<int>(height), kw = static_cast<int>(width);
    tables.reserve(call.tap_table_elements(g, kh, kw));
    taps = call.fill_taps(g, kh, kw, tables.get());
  }
};

}  // namespace blurfft::cpu
