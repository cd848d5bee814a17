// The transform of an image to a half spectrum, and its inverse.
#pragma once

#include "spectrum.h"

namespace blurfft::cpu {
namespace {

// Where the lanes of a group lie in a half spectrum: as RowGroups has them, lanes without a row at `unused`.
template <class T, class Value = T>
struct HalfRows {
  Value *row[kLanes<T>], *mirror[kLanes<T>];
  HalfRows(const Geometry<T>& g, int group, Value* half, Value* unused) {
    const int height = g.height();
    const ptrdiff_t row_step = (g.width() / 2 + 1) * 2;
    for (int l = 0; l < kLanes<T>; ++l) {
      const int f1 = group * kLanes<T> + l;
      const bool used = f1 < g.lane_rows();
      row[l] = used ? half + f1 * row_step : unused;
      mirror[l] = used ? half + (f1 ? height - f1 : g.rows.united ? height / 2 : 0) * row_step : unused;
    }
  }
};

// Row spectra of a group, times `scale`, to rows f1 and, conjugate, -f1 of a half spectrum.
template <class T>
void store_half_rows(const Geometry<T>& g, const HalfRows<T>& to, const T* spectra, T scale) {
  constexpr int L = kLanes<T>, pairs = kQuad<T> / 2;
  const int width = g.width(), columns = width / 2 + 1;
  const int32_t* position = g.horizontal->position;
  const auto column = [&](int f2) { return spectra + position[f2] * 2 * L; };
  const auto mirror_column = [&](int f2) { return column(f2 ? width - f2 : 0); };
  int f2 = 0;
  for (; f2 + pairs <= columns; f2 += pairs) {
    Vec<T> x[2 * pairs], y[2 * pairs];
#pragma GCC unroll 2
    for (int i = 0; i < pairs; ++i) {
      const Cpx<T> a = load_cpx(column(f2 + i)), b = load_cpx(mirror_column(f2 + i));
      x[2 * i] = scale * a.re;
      x[2 * i + 1] = scale * a.im;
      y[2 * i] = scale * b.re;
      y[2 * i + 1] = -scale * b.im;
    }
    store_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return to.mirror[l] + 2 * f2; }, y);
    store_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return to.row[l] + 2 * f2; }, x);
  }
  for (; f2 < columns; ++f2) {
    const T *a = column(f2), *b = mirror_column(f2);
    for (int l = 0; l < L; ++l) {
      to.mirror[l][2 * f2] = scale * b[l];
      to.mirror[l][2 * f2 + 1] = -scale * b[L + l];
      to.row[l][2 * f2] = scale * a[l];
      to.row[l][2 * f2 + 1] = scale * a[L + l];
    }
  }
}

// The reverse. Columns 0 and W/2 hold rows f1 and -f1 both; as torch.fft.irfft2 does, their Hermitian part is what
// counts.
template <class T>
void load_half_rows(const Geometry<T>& g, const HalfRows<T, const T>& from, T* spectra, T scale) {
  constexpr int L = kLanes<T>, pairs = kQuad<T> / 2;
  const int width = g.width(), columns = width / 2 + 1;
  const int32_t* position = g.horizontal->position;
  const auto column = [&](int f2) { return spectra + position[f2] * 2 * L; };
  const auto mirror_column = [&](int f2) { return column(f2 ? width - f2 : 0); };
  int f2 = 0;
  for (; f2 + pairs <= columns; f2 += pairs) {
    Vec<T> x[2 * pairs], y[2 * pairs];
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return from.row[l] + 2 * f2; }, x);
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return from.mirror[l] + 2 * f2; }, y);
#pragma GCC unroll 2
    for (int i = 0; i < pairs; ++i) {
      store_cpx(mirror_column(f2 + i), Cpx<T>{scale * y[2 * i], -scale * y[2 * i + 1]});
      store_cpx(column(f2 + i), Cpx<T>{scale * x[2 * i], scale * x[2 * i + 1]});
    }
  }
  const auto one_by_one = [&](int f2) {
    T *a = column(f2), *b = mirror_column(f2);
    const T part = a == b ? scale / 2 : scale;
    for (int l = 0; l < L; ++l) {
      const T re = part * from.row[l][2 * f2], im = part * from.row[l][2 * f2 + 1];
      const T mirror_re = part * from.mirror[l][2 * f2], mirror_im = part * from.mirror[l][2 * f2 + 1];
      if (a == b) {
        a[l] = re + mirror_re;
        a[L + l] = im - mirror_im;
      } else {
        a[l] = re;
        a[L + l] = im;
        b[l] = mirror_re;
        b[L + l] = -mirror_im;
      }
    }
  };
  for (; f2 < columns; ++f2) one_by_one(f2);
  one_by_one(0);
  if (width % 2 == 0) one_by_one(width / 2);
}

template <class T>
void forward(const Geometry<T>& g, const Image& in, T* out, T scale, T* work, const Team* team) {
  const Plane<T> whole(g, work);
  const int height = g.height(), width = g.width();
  split(whole, team, height, [&](const Plane<T>& p, int begin, int end) {
    load_plane(p, in, static_cast<const Image*>(nullptr), begin, end);
    p.ahead_out = {out, static_cast<ptrdiff_t>(height) * (width / 2 + 1) * 2};
  });
  split(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<false>(p, begin, end); });
  mix_special_rows<false>(whole);
  split(whole, team, g.rows.groups, [&](const Plane<T>& p, int begin, int end) {
    for (int group = begin; group < end; ++group) {
      p.look_ahead();
      load_rows(p, group);
      transform_rows<false>(p, 0);
      p.look_ahead();
      store_half_rows(g, HalfRows<T>(g, group, out, p.in_a), p.row, scale);
      if (group > 0 || !g.rows.united) continue;
      T* middle_row = out + static_cast<ptrdiff_t>(height / 2) * (width / 2 + 1) * 2;
      for (int f2 = 0; f2 <= width / 2; ++f2) {
        const EntryPair<T> x = separate(mirror_pair(p, 0, f2));
        out[2 * f2] = scale * x.first.re;
        out[2 * f2 + 1] = scale * x.first.im;
        middle_row[2 * f2] = scale * x.middle.re;
        middle_row[2 * f2 + 1] = scale * x.middle.im;
      }
    }
  });
}

template <class T>
void inverse(const Geometry<T>& g, const T* in, const Image& out, T scale, T* work, const Team* team) {
  constexpr int L = kLanes<T>;
  const Plane<T> whole(g, work);
  const int height = g.height(), width = g.width();
  const ptrdiff_t spectrum = static_cast<ptrdiff_t>(height) * (width / 2 + 1) * 2;
  split(whole, team, g.rows.groups, [&](const Plane<T>& p, int begin, int end) {
    if (!team) {
      p.ahead_a = {in + spectrum, spectrum};
      p.ahead_out = rows_ahead(p, out, 0);
    }
    for (int group = begin; group < end; ++group) {
      p.look_ahead();
      load_half_rows(g, HalfRows<T, const T>(g, group, in, in), p.row, scale);
      // Rows 0 and H/2 share lane 0 of the first group as X_0 + iX_n.
      if (group == 0 && g.rows.united) {
        const T* middle_row = in + static_cast<ptrdiff_t>(height / 2) * (width / 2 + 1) * 2;
        for (int f2 = 0; f2 <= width / 2; ++f2) {
          const MirrorPair<T> m = mirror_pair(p, 0, f2);
          const bool self_paired = m.position == m.mirror_position;
          const T x_re = scale * in[2 * f2], x_im = self_paired ? 0 : scale * in[2 * f2 + 1];
          const T y_re = scale * middle_row[2 * f2], y_im = self_paired ? 0 : scale * middle_row[2 * f2 + 1];
          m.mirror[0] = x_re + y_im;
          m.mirror[L] = y_re - x_im;
          m.at[0] = x_re - y_im;
          m.at[L] = y_re + x_im;
        }
      }
      transform_rows<true>(p, 0);
      p.look_ahead();
      store_rows(p, group);
    }
  });
  mix_special_rows<true>(whole);
  split(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<true>(p, begin, end); });
  split(whole, team, height, [&](const Plane<T>& p, int begin, int end) { store_plane(p, out, false, begin, end); });
}

}  // namespace
}  // namespace blurfft::cpu
