// Packed spectra: their lanes and runs, where row H/2 is, the arithmetic of entries and of the two rows in one lane.
#pragma once

#include "compensated_sum.h"
#include "fft/plane.h"
#include "routines.h"

namespace blurfft::cpu {
namespace {

template <bool Value>
struct Constant {
  static constexpr bool value = Value;
};

// Behind the planes: the energies of every group of rows, added up in their order by whatever thread they are of.
template <class T>
double* group_energies(const Geometry<T>& g, T* work, int parts) {
  return reinterpret_cast<double*>(work + Plane<T>(g, nullptr).elements(parts));
}
template <class T>
size_t workspace_elements(const Geometry<T>& g, int parts) {
  constexpr int L = kLanes<T>, per_double = static_cast<int>(sizeof(double) / sizeof(T));
  const ptrdiff_t energies = static_cast<ptrdiff_t>(g.rows.groups) * g.planes * per_double;
  return Plane<T>(g, nullptr).elements(parts) + (energies + L - 1) / L * L;
}

// energy[c]: the sum over the groups.
template <class T>
void add_up(const Geometry<T>& g, const double* group_energies, double* energy) {
  for (int c = 0; c < g.planes; ++c) {
    CompensatedSum sum;
    for (int group = 0; group < g.rows.groups; ++group) sum.add(group_energies[group * g.planes + c]);
    energy[c] = sum.total();
  }
}

// Lanes of a group: how many rows of the plane each stands for.
template <class T>
BLURFFT_INLINE Vec<T> row_multiplicity(const Geometry<T>& g, int group) {
  constexpr int L = kLanes<T>;
  Vec<T> m = {};
  for (int l = 0; l < L; ++l) {
    const int f1 = group * L + l;
    m[l] = static_cast<T>(f1 >= g.lane_rows() ? 0 : f1 == 0 || 2 * f1 == g.height() ? 1 : 2);
  }
  return m;
}

template <class T>
BLURFFT_INLINE bool all_lanes_used(const Geometry<T>& g, int group) {
  return (group + 1) * kLanes<T> <= g.lane_rows();
}

// Groups of a packed spectrum whose lanes stand for the same numbers of rows, one after another.
template <class T>
struct Run {
  Vec<T> multiplicity;
  bool all_lanes;       // are used
  int groups, vectors;  // so many vectors a group
};
// All of a packed spectrum, in its order: the first group, those like the second, the last and, if it follows them, row
// H/2 up to its last whole vector and what is left.
template <class T>
struct Runs {
  Run<T> runs[5];
  int count = 0;

  explicit Runs(const Geometry<T>& g) {
    constexpr int L = kLanes<T>;
    const int last = g.rows.groups - 1, width = g.width();
    const auto add = [&](Vec<T> multiplicity, bool all_lanes, int groups, int vectors) {
      if (groups > 0 && vectors > 0) runs[count++] = {multiplicity, all_lanes, groups, vectors};
    };
    add(row_multiplicity(g, 0), all_lanes_used(g, 0), 1, width);
    if (last > 0) {
      add(row_multiplicity(g, 1), true, last - 1, width);
      add(row_multiplicity(g, last), all_lanes_used(g, last), 1, width);
    }
    if (!g.rows.united) return;
    Vec<T> rest = {};
    for (int l = 0; l < width % L; ++l) rest[l] = 1;
    add(splat(static_cast<T>(1)), true, 1, width / L);
    add(rest, false, 1, width % L != 0);
  }
  const Run<T>* begin() const { return runs; }
  const Run<T>* end() const { return runs + count; }
};

// Where column `position` of row H/2 is, counted from where the row begins.
template <class T>
BLURFFT_INLINE ptrdiff_t middle_row_entry(int position, bool complex_values) {
  constexpr unsigned L = kLanes<T>;
  const unsigned at = position;
  return static_cast<ptrdiff_t>(at / L) * (complex_values ? 2 * L : L) + at % L;
}
// Where row H/2 begins.
template <class T>
BLURFFT_INLINE ptrdiff_t middle_row(const Geometry<T>& g, bool complex_values) {
  return static_cast<ptrdiff_t>(g.rows.groups) * g.width() * kLanes<T> * (complex_values ? 2 : 1);
}

template <class T>
BLURFFT_INLINE Vec<T> select(Vec<T> where_not_zero, Vec<T> yes, Vec<T> no) {
  return where_not_zero != 0 ? yes : no;
}

template <class T>
BLURFFT_INLINE Cpx<T> apply(Cpx<T> z, const T* table, int position, bool complex_table) {
  if (complex_table) {
    const Cpx<T> t = load_cpx(table + position * 2 * kLanes<T>);
    return {z.re * t.re - z.im * t.im, z.re * t.im + z.im * t.re};
  }
  const Vec<T> t = load(table + position * kLanes<T>);
  return {t * z.re, t * z.im};
}
template <class T>
BLURFFT_INLINE Vec<T> squared_modulus(Cpx<T> z) {
  return z.re * z.re + z.im * z.im;
}
// scale * |z|^2, where |z|^2 alone may be out of range.
template <class T>
BLURFFT_INLINE Vec<T> scaled_square(Cpx<T> z, T scale) {
  return z.re * (scale * z.re) + z.im * (scale * z.im);
}

template <class Complex>
BLURFFT_INLINE Complex conj_product(Complex u, Complex v) {
  return {u.re * v.re + u.im * v.im, u.re * v.im - u.im * v.re};
}

// A column of row 0 and of row H/2.
template <class T>
struct Entry {
  T re, im;
  BLURFFT_INLINE Entry times(T factor) const { return {factor * re, factor * im}; }
  BLURFFT_INLINE T scaled_square(T scale) const { return re * (scale * re) + im * (scale * im); }
};
template <class T>
struct EntryPair {
  Entry<T> first, middle;
};
// The two rows share lane 0 of the first group as (X_0 + iX_n) / 2, in the mirror column (conj(X_0) + i conj(X_n)) / 2.
// What is nonlinear, or has a weight for each of them, must separate them first: their sizes may be far apart.
template <class T>
BLURFFT_INLINE EntryPair<T> separate(Cpx<T> z, Cpx<T> mirror) {
  return {{z.re[0] + mirror.re[0], z.im[0] - mirror.im[0]}, {z.im[0] + mirror.im[0], mirror.re[0] - z.re[0]}};
}
template <class T>
BLURFFT_INLINE EntryPair<T> separate(const MirrorPair<T>& m) {
  return separate(load_cpx(m.at), load_cpx(m.mirror));
}
template <class T>
BLURFFT_INLINE void unite(const EntryPair<T>& x, Cpx<T>& z, Cpx<T>& mirror) {
  z.re[0] = x.first.re - x.middle.im;
  z.im[0] = x.first.im + x.middle.re;
  mirror.re[0] = x.first.re + x.middle.im;
  mirror.im[0] = x.middle.re - x.first.im;
}
// Each times its own entry of the first group and of row H/2 of a table.
template <class T>
BLURFFT_INLINE EntryPair<T> apply(const EntryPair<T>& x, const T* table, const T* middle, int position,
                                  bool complex_table) {
  const auto times = [&](Entry<T> z, const T* t) BLURFFT_LAMBDA_INLINE -> Entry<T> {
    if (!complex_table) return {z.re * t[0], z.im * t[0]};
    return {z.re * t[0] - z.im * t[kLanes<T>], z.re * t[kLanes<T>] + z.im * t[0]};
  };
  const T* first = table + position * kLanes<T> * (complex_table ? 2 : 1);
  return {times(x.first, first), times(x.middle, middle + middle_row_entry<T>(position, complex_table))};
}

}  // namespace
}  // namespace blurfft::cpu
