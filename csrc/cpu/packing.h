// Half spectra, (H, W / 2 + 1), to packed ones and back.
#pragma once

#include "spectrum.h"

namespace blurfft::cpu {
namespace {

// Where column f2 of row f1 <= H/2 is in a packed spectrum.
template <class T>
BLURFFT_INLINE ptrdiff_t packed_entry(const Geometry<T>& g, int f1, int f2, bool complex_values) {
  constexpr int L = kLanes<T>;
  const int position = g.horizontal->position[f2];
  if (g.rows.united && 2 * f1 == g.height()) {
    return middle_row(g, complex_values) + middle_row_entry<T>(position, complex_values);
  }
  return (static_cast<ptrdiff_t>(f1 / L) * g.width() + position) * L * (complex_values ? 2 : 1) + f1 % L;
}

// Visits a half spectrum entry by entry with its place in a packed spectrum. Row f1 > H/2 is the conjugate of its
// mirror, column W - f2 of row H - f1.
template <class T, class Visit>
BLURFFT_INLINE void each_entry(const Geometry<T>& g, bool complex_values, Visit visit) {
  const int height = g.height(), width = g.width(), columns = width / 2 + 1;
  for (int f1 = 0; f1 < height; ++f1) {
    const bool conjugate = 2 * f1 > height;
    const int row = conjugate ? height - f1 : f1;
    for (int f2 = 0; f2 < columns; ++f2) {
      const int column = conjugate && f2 ? width - f2 : f2;
      visit(static_cast<ptrdiff_t>(f1) * columns + f2, packed_entry(g, row, column, complex_values), conjugate,
            f2 == 0 || 2 * f2 == width);
    }
  }
}

// Columns 0 and W/2 hold rows f1 and -f1 both; as torch.fft.irfft2 does, their Hermitian part is what counts.
template <class T>
void pack(const Geometry<T>& g, const T* half, bool complex_values, T scale, T* packed) {
  constexpr int L = kLanes<T>;
  const int height = g.height(), width = g.width(), columns = width / 2 + 1;
  std::memset(packed, 0, sizeof(T) * packed_elements(g, L, complex_values));
  for (int row = 0; 2 * row <= height; ++row) {
    const ptrdiff_t direct = static_cast<ptrdiff_t>(row) * columns;
    const ptrdiff_t mirrored = static_cast<ptrdiff_t>(row ? height - row : 0) * columns;
    for (int f2 = 0; f2 < width; ++f2) {
      const bool self_paired = f2 == 0 || 2 * f2 == width;
      const bool stored = f2 < columns;
      const ptrdiff_t from = stored ? direct + f2 : mirrored + width - f2;
      T* to = packed + packed_entry(g, row, f2, complex_values);
      if (!complex_values) {
        to[0] = scale * (self_paired ? half[from] / 2 + half[mirrored + f2] / 2 : half[from]);
      } else if (self_paired) {
        const ptrdiff_t other = mirrored + f2;
        to[0] = scale * (half[2 * from] / 2 + half[2 * other] / 2);
        to[L] = scale * (half[2 * from + 1] / 2 - half[2 * other + 1] / 2);
      } else {
        to[0] = scale * half[2 * from];
        to[L] = (stored ? scale : -scale) * half[2 * from + 1];
      }
    }
  }
}

template <class T>
void unpack(const Geometry<T>& g, const T* packed, bool complex_values, T scale, bool multiplicity, T* half) {
  constexpr int L = kLanes<T>;
  each_entry(g, complex_values, [&](ptrdiff_t to, ptrdiff_t from, bool conjugate, bool self_paired) {
    const T factor = multiplicity && !self_paired ? 2 * scale : scale;
    if (complex_values) {
      half[2 * to] = factor * packed[from];
      half[2 * to + 1] = (conjugate ? -factor : factor) * packed[from + L];
    } else {
      half[to] = factor * packed[from];
    }
  });
}

template <class T>
void pack_cotangent(const Geometry<T>& g, const T* half, T* packed) {
  constexpr int L = kLanes<T>;
  std::memset(packed, 0, sizeof(T) * packed_elements(g, L, true));
  each_entry(g, true, [&](ptrdiff_t from, ptrdiff_t to, bool conjugate, bool) {
    packed[to] += half[2 * from];
    packed[to + L] += conjugate ? -half[2 * from + 1] : half[2 * from + 1];
  });
}

}  // namespace
}  // namespace blurfft::cpu
