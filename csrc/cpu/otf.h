// Transfer functions of small kernels and the adjoint, as sums over the taps.
#pragma once

#include "spectrum.h"

namespace blurfft::cpu {
namespace {

// Taps u of a kernel, up to whole vectors.
template <class T>
int padded_taps(int kh) {
  constexpr int L = kLanes<T>;
  return (kh / 2 + 1 + L - 1) / L * L;
}

// Doubles in the place of elements.
template <class T>
constexpr int kPerDouble = static_cast<int>(sizeof(double) / sizeof(T));

template <class T>
size_t tap_table_elements(const Geometry<T>& g, int kh, int kw) {
  const size_t lane_taps = static_cast<size_t>(g.rows.groups) * (kh / 2 + 1) * kLanes<T>;
  const size_t column_taps = static_cast<size_t>(g.width() / 2 + 1) * (kw / 2 + 1);
  const size_t row_taps = static_cast<size_t>(g.height() / 2 + 1) * padded_taps<T>(kh);
  return 2 * ((lane_taps + column_taps) * kPerDouble<T> + row_taps + column_taps);
}

// (turn + step) modulo n, which needs no division; lanes that no row has go nowhere.
BLURFFT_INLINE int next_turn(int turn, int step, int n) {
  const int next = turn + step;
  return next < n ? next : step < n ? next - n : 0;
}

template <class T>
TapGeometry<T> fill_taps(const Geometry<T>& g, int kh, int kw, T* tables) {
  constexpr int L = kLanes<double>;
  const int height = g.height(), width = g.width(), us = kh / 2 + 1, vs = kw / 2 + 1, padded = padded_taps<T>(kh);
  const int lane_rows = g.rows.groups * kLanes<T>;
  double* vertical = reinterpret_cast<double*>(tables);
  double* horizontal = vertical + static_cast<ptrdiff_t>(lane_rows) * us * 2;
  T* rows = reinterpret_cast<T*>(horizontal + static_cast<ptrdiff_t>(width / 2 + 1) * vs * 2);
  T* columns = rows + static_cast<ptrdiff_t>(height / 2 + 1) * 2 * padded;
  const TapGeometry<T> taps = {kh, kw, vertical, horizontal, rows, columns};
  for (int f1 = 0; f1 < lane_rows; ++f1) {
    const bool wanted = f1 < g.lane_rows();
    double* at = vertical + static_cast<ptrdiff_t>(f1 / L) * us * 2 * L + f1 % L;
    for (int u = 0, turn = 0; u < us; ++u, at += 2 * L, turn = next_turn(turn, f1, height)) {
      at[0] = wanted ? g.vertical->cosine[turn] : 0;
      at[L] = wanted ? g.vertical->sine[turn] : 0;
    }
  }
  for (int f1 = 0; f1 <= height / 2; ++f1, rows += 2 * padded) {
    for (int u = 0, turn = 0; u < padded; ++u, turn = next_turn(turn, f1, height)) {
      rows[u] = static_cast<T>(u < us ? g.vertical->cosine[turn] : 0);
      rows[padded + u] = static_cast<T>(u < us ? g.vertical->sine[turn] : 0);
    }
  }
  for (int f2 = 0; f2 <= width / 2; ++f2) {
    for (int v = 0, turn = 0; v < vs; ++v, horizontal += 2, columns += 2, turn = next_turn(turn, f2, width)) {
      horizontal[0] = g.horizontal->cosine[turn];
      horizontal[1] = g.horizontal->sine[turn];
      columns[0] = static_cast<T>(horizontal[0]);
      columns[1] = static_cast<T>(horizontal[1]);
    }
  }
  return taps;
}

// Taps folded about the centre, even and odd in u and in v: four quarters of a kernel, [kw / 2 + 1][4][padded u], in
// double on the way to the spectrum and in T on the way back.
template <class T, class S>
struct Taps {
  int us, vs, padded;
  S* folded;
  // Of each v the four sums over u, [kw / 2 + 1][4][lanes], of as many rows as there are lanes of S.
  S* quarters;

  Taps(const TapGeometry<T>& t, T* work)
      : us(t.kh / 2 + 1),
        vs(t.kw / 2 + 1),
        padded(padded_taps<T>(t.kh)),
        folded(reinterpret_cast<S*>(work)),
        quarters(folded + static_cast<ptrdiff_t>(vs) * 4 * padded) {}
};
template <class T>
using WideTaps = Taps<T, double>;

// Of the adjoint: quarters are sums over f2, of every group and, in lane 0 of one more, of row H/2.
template <class T>
struct AdjointTaps : Taps<T, T> {
  static constexpr int L = kLanes<T>;
  T* columns;  // [column_sets][2][4][L], the sums over a set of columns

  AdjointTaps(const Geometry<T>& g, const TapGeometry<T>& t, T* work) : Taps<T, T>(t, work) {
    columns = this->quarters + static_cast<ptrdiff_t>(g.rows.groups + g.rows.united) * this->vs * 4 * L;
  }
};

// Columns f2, -f2 and, where W is even, W/2 - f2 and f2 - W/2, on which cos(2 pi f2 v / W) and the sine are the same up
// to signs: those of the last two change with v.
template <class T>
BLURFFT_INLINE int column_sets(const Geometry<T>& g) {
  return g.width() % 2 == 0 ? g.width() / 4 + 1 : g.width() / 2 + 1;
}
struct ColumnSet {
  int at, mirror;                 // positions in a packed row
  int opposite, opposite_mirror;  // the same of W/2 - f2; -1 where there is none
};
template <class T>
BLURFFT_INLINE ColumnSet column_set(const Geometry<T>& g, int f2) {
  const int width = g.width(), other = width / 2 - f2;
  const int32_t* position = g.horizontal->position;
  ColumnSet set = {position[f2], position[f2 ? width - f2 : 0], -1, -1};
  if (width % 2 == 0 && other != f2) {
    set.opposite = position[other];
    set.opposite_mirror = position[width - other == width ? 0 : width - other];
  }
  return set;
}

template <class T>
size_t tap_workspace_elements(const Geometry<T>& g, const TapGeometry<T>& t) {
  const WideTaps<T> wide(t, nullptr);
  const AdjointTaps<T> adjoint(g, t, nullptr);
  const size_t forward = static_cast<size_t>(wide.quarters - wide.folded) + wide.vs * 4 * kLanes<double>;
  const size_t sums = static_cast<size_t>(column_sets(g)) * 8 * kLanes<T>;
  const size_t back = static_cast<size_t>(adjoint.columns - adjoint.folded) + sums;
  return forward * kPerDouble<T> > back ? forward * kPerDouble<T> : back;
}

// The up to two rows (or columns) of `size` taps at distance u from the centre; the centre itself, and what an even
// size lacks on one side, is -1.
struct Sides {
  int after, before;

  Sides(int size, int u) : after(size / 2 + u < size ? size / 2 + u : -1), before(u ? size / 2 - u : -1) {}
  bool both() const { return after >= 0 && before >= 0; }
};

template <class T>
void fold_taps(const TapGeometry<T>& t, const WideTaps<T>& taps, const T* kernel) {
  for (int v = 0; v < taps.vs; ++v) {
    const Sides columns(t.kw, v);
    double* at = taps.folded + static_cast<ptrdiff_t>(v) * 4 * taps.padded;
    for (int u = 0; u < taps.us; ++u, ++at) {
      const Sides rows(t.kh, u);
      const auto fold = [&](auto tap) BLURFFT_LAMBDA_INLINE {
        const double a = tap(rows.after, columns.after), b = tap(rows.after, columns.before);
        const double c = tap(rows.before, columns.after), d = tap(rows.before, columns.before);
        at[0] = (a + b) + (c + d);
        at[taps.padded] = (a - b) + (c - d);
        at[2 * taps.padded] = (a + b) - (c + d);
        at[3 * taps.padded] = (a - b) - (c - d);
      };
      if (rows.both() && columns.both()) {
        fold([&](int row, int column) { return kernel[row * t.kw + column]; });
      } else {
        fold([&](int row, int column) { return row < 0 || column < 0 ? 0 : kernel[row * t.kw + column]; });
      }
    }
  }
}

// The adjoint.
template <class T>
void unfold_taps(const TapGeometry<T>& t, const AdjointTaps<T>& taps, double* kernel) {
  for (int v = 0; v < taps.vs; ++v) {
    const Sides columns(t.kw, v);
    const T* at = taps.folded + static_cast<ptrdiff_t>(v) * 4 * taps.padded;
    for (int u = 0; u < taps.us; ++u, ++at) {
      const Sides rows(t.kh, u);
      const double p = at[0], q = at[taps.padded], r = at[2 * taps.padded], s = at[3 * taps.padded];
      const auto unfold = [&](auto put) BLURFFT_LAMBDA_INLINE {
        put(rows.after, columns.after, (p + r) + (q + s));
        put(rows.after, columns.before, (p + r) - (q + s));
        put(rows.before, columns.after, (p - r) + (q - s));
        put(rows.before, columns.before, (p - r) - (q - s));
      };
      if (rows.both() && columns.both()) {
        unfold([&](int row, int column, double value) { kernel[row * t.kw + column] = value; });
      } else {
        unfold([&](int row, int column, double value) {
          if (row >= 0 && column >= 0) kernel[row * t.kw + column] = value;
        });
      }
    }
  }
}

// Of a vector of rows at lane `lane` of their group.
template <class T>
BLURFFT_INLINE void store_rows(T* packed, int lane, Cpx<double> v) {
  typedef T Narrow __attribute__((vector_size(kLanes<double> * sizeof(T)), aligned(alignof(T)), may_alias));
  T* at = packed + lane;
  *reinterpret_cast<Narrow*>(at) = __builtin_convertvector(v.re, Narrow);
  *reinterpret_cast<Narrow*>(at + kLanes<T>) = __builtin_convertvector(v.im, Narrow);
}

// From the quarters P, Q, R, S of each v of a vector of rows to their columns: K(f1, +-f2) = (P -+ S) -+ i(Q +- R),
// summed over v with the cosine for P and R and the sine for Q and S.
template <class T>
void expand_columns(const Geometry<T>& g, const WideTaps<T>& taps, const double* angles, T* packed, int lane) {
  constexpr int L = kLanes<double>, step = 2 * kLanes<T>;
  const int sets = column_sets(g), vs = taps.vs;
  for (int f2 = 0; f2 < sets; ++f2, angles += 2 * vs) {
    // Of v = 0 the cosine is 1 and the sine 0.
    Vec<double> p = load(taps.quarters), q = {}, r = load(taps.quarters + 2 * L), s = {};
    Vec<double> odd_p = {}, odd_q = {}, odd_r = {}, odd_s = {};
    const auto add = [&](int v, Vec<double>& to_p, Vec<double>& to_q, Vec<double>& to_r, Vec<double>& to_s)
                         BLURFFT_LAMBDA_INLINE {
                           const double c = angles[2 * v], w = angles[2 * v + 1];
                           const double* quarters = taps.quarters + static_cast<ptrdiff_t>(v) * 4 * L;
                           to_p += c * load(quarters);
                           to_q += w * load(quarters + L);
                           to_r += c * load(quarters + 2 * L);
                           to_s += w * load(quarters + 3 * L);
                         };
    int v = 1;
    for (; v + 1 < vs; v += 2) {
      add(v, odd_p, odd_q, odd_r, odd_s);
      add(v + 1, p, q, r, s);
    }
    if (v < vs) add(v, odd_p, odd_q, odd_r, odd_s);

    const ColumnSet set = column_set(g, f2);
    const Vec<double> sum_re = p + s, odd_sum_re = odd_p + odd_s, difference_re = p - s;
    const Vec<double> odd_difference_re = odd_p - odd_s, sum_im = q + r, odd_sum_im = odd_q + odd_r;
    const Vec<double> difference_im = q - r, odd_difference_im = odd_q - odd_r;
    if (set.opposite >= 0) {
      store_rows(packed + set.opposite_mirror * step, lane, {difference_re - odd_difference_re, odd_sum_im - sum_im});
      store_rows(packed + set.opposite * step, lane, {sum_re - odd_sum_re, difference_im - odd_difference_im});
    }
    // Where a column is its own mirror image the first counts.
    store_rows(packed + set.mirror * step, lane, {sum_re + odd_sum_re, difference_im + odd_difference_im});
    store_rows(packed + set.at * step, lane, {difference_re + odd_difference_re, -(sum_im + odd_sum_im)});
  }
}

// Row H/2 of a transfer function: along u every other tap is negative, and no sine remains.
template <class T>
void transfer_middle_row(const Geometry<T>& g, const WideTaps<T>& taps, const double* angles, T* packed) {
  constexpr int L = kLanes<T>;
  const int width = g.width(), vs = taps.vs;
  for (int v = 0; v < vs; ++v) {
    const double* at = taps.folded + static_cast<ptrdiff_t>(v) * 4 * taps.padded;
    double p = 0, q = 0, sign = 1;
    for (int u = 0; u < taps.us; ++u, sign = -sign) {
      p += sign * at[u];
      q += sign * at[taps.padded + u];
    }
    taps.quarters[2 * v] = p;
    taps.quarters[2 * v + 1] = q;
  }
  for (int position = width; position % L != 0; ++position) {
    T* unused = packed + middle_row_entry<T>(position, true);
    unused[0] = unused[L] = 0;
  }
  for (int f2 = 0; f2 <= width / 2; ++f2, angles += 2 * vs) {
    double re = 0, im = 0;
    for (int v = 0; v < vs; ++v) {
      re += taps.quarters[2 * v] * angles[2 * v];
      im += taps.quarters[2 * v + 1] * angles[2 * v + 1];
    }
    T* mirror = packed + middle_row_entry<T>(g.horizontal->position[f2 ? width - f2 : 0], true);
    mirror[0] = static_cast<T>(re);
    mirror[L] = static_cast<T>(im);
    T* at = packed + middle_row_entry<T>(g.horizontal->position[f2], true);
    at[0] = static_cast<T>(re);
    at[L] = static_cast<T>(-im);
  }
}

template <class T>
void transfer(const Geometry<T>& g, const TapGeometry<T>& t, const T* kernel, T* packed, T* work) {
  constexpr int L = kLanes<double>;
  const WideTaps<T> taps(t, work);
  fold_taps(t, taps, kernel);
  const double* turns = t.vertical;
  for (int group = 0; group < g.rows.groups; ++group, packed += static_cast<ptrdiff_t>(g.width()) * 2 * kLanes<T>) {
    for (int lane = 0; lane < kLanes<T>; lane += L, turns += static_cast<ptrdiff_t>(taps.us) * 2 * L) {
      // Along u: even-even p, even-odd q, odd-even r, odd-odd s.
      const double* at = taps.folded;
      double* out = taps.quarters;
      for (int v = 0; v < taps.vs; ++v, at += 4 * taps.padded, out += 4 * L) {
        Vec<double> p = {}, q = {}, r = {}, s = {};
        for (int u = 0; u < taps.us; ++u) {
          const Vec<double> c = load(turns + u * 2 * L), w = load(turns + u * 2 * L + L);
          p += at[u] * c;
          q += at[u + taps.padded] * c;
          r += at[u + 2 * taps.padded] * w;
          s += at[u + 3 * taps.padded] * w;
        }
        store(out, p);
        store(out + L, q);
        store(out + 2 * L, r);
        store(out + 3 * L, s);
      }
      expand_columns(g, taps, t.horizontal, packed, lane);
    }
  }
  if (g.rows.united) transfer_middle_row(g, taps, t.horizontal, packed);
}

// The adjoint of expand_columns up to the sums over f2, from a group's cotangents: for every set of columns what goes
// with even v and what goes with odd v, [column_sets][2][4][L].
template <class T>
void fold_columns(const Geometry<T>& g, const T* cotangent, T* out) {
  constexpr int L = kLanes<T>;
  struct Quarters {
    Vec<T> p, q, r, s;
  };
  const auto quarters = [&](int at, int mirror) BLURFFT_LAMBDA_INLINE -> Quarters {
    const Cpx<T> a = load_cpx(cotangent + at * 2 * L);
    if (at == mirror) return {a.re, -a.im, -a.im, -a.re};
    const Cpx<T> b = load_cpx(cotangent + mirror * 2 * L);
    return {a.re + b.re, b.im - a.im, -(a.im + b.im), b.re - a.re};
  };
  for (int f2 = 0; f2 < column_sets(g); ++f2, out += 8 * L) {
    const ColumnSet set = column_set(g, f2);
    const Quarters x = quarters(set.at, set.mirror);
    Quarters y = {};
    if (set.opposite >= 0) y = quarters(set.opposite, set.opposite_mirror);
    store(out, x.p + y.p);
    store(out + L, x.q - y.q);
    store(out + 2 * L, x.r + y.r);
    store(out + 3 * L, x.s - y.s);
    store(out + 4 * L, x.p - y.p);
    store(out + 5 * L, x.q + y.q);
    store(out + 6 * L, x.r - y.r);
    store(out + 7 * L, x.s + y.s);
  }
}

// The sums over f2 of `Count` taps v of one parity, to [v][4][L]: few enough at a time for the registers.
template <int Count, class T>
void contract_columns(const Geometry<T>& g, const AdjointTaps<T>& taps, const T* angles, int v, T* out) {
  constexpr int L = kLanes<T>;
  Vec<T> sums[Count][4];
#pragma GCC unroll 8
  for (int i = 0; i < 4 * Count; ++i) sums[i / 4][i % 4] = Vec<T>{};  // an initialiser would fill them in memory
  const T* in = taps.columns + v % 2 * 4 * L;
  angles += 2 * v;
  for (int f2 = 0; f2 < column_sets(g); ++f2, angles += 2 * taps.vs, in += 8 * L) {
#pragma GCC unroll 2
    for (int i = 0; i < Count; ++i) {
      const T c = angles[4 * i], w = angles[4 * i + 1];
      sums[i][0] += c * load(in);
      sums[i][1] += w * load(in + L);
      sums[i][2] += c * load(in + 2 * L);
      sums[i][3] += w * load(in + 3 * L);
    }
  }
  for (int i = 0; i < Count; ++i) {
    for (int k = 0; k < 4; ++k) store(out + ((v + 2 * i) * 4 + k) * L, sums[i][k]);
  }
}

// The sums over f1 of the quarters of `Count` taps v, lanes now being taps u.
template <int Count, class T>
void contract_rows(const Geometry<T>& g, const AdjointTaps<T>& taps, const T* turns, int v) {
  constexpr int L = kLanes<T>;
  for (int u0 = 0; u0 < taps.padded; u0 += L) {
    Vec<T> sums[4 * Count];
#pragma GCC unroll 8
    for (int i = 0; i < 4 * Count; ++i) sums[i] = Vec<T>{};
    const T* turn = turns + u0;
    for (int group = 0; group < g.rows.groups + g.rows.united; ++group) {
      const int rest = g.lane_rows() - group * L, rows = group == g.rows.groups ? 1 : rest < L ? rest : L;
      const T* in = taps.quarters + (static_cast<ptrdiff_t>(group) * taps.vs + v) * 4 * L;
      for (int l = 0; l < rows; ++l, ++in, turn += 2 * taps.padded) {
        const Vec<T> c = load(turn), w = load(turn + taps.padded);
#pragma GCC unroll 8
        for (int i = 0; i < 4 * Count; ++i) sums[i] += in[i * L] * (i % 4 < 2 ? c : w);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 4 * Count; ++i) {
      store(taps.folded + (static_cast<ptrdiff_t>(v) * 4 + i) * taps.padded + u0, sums[i]);
    }
  }
}

// The sums over f2 of row H/2, in lane 0 of its quarters; no sine along u, no other quarters.
template <class T>
void contract_middle_row(const Geometry<T>& g, const AdjointTaps<T>& taps, const T* angles, const T* cotangent) {
  constexpr int L = kLanes<T>;
  const int width = g.width(), vs = taps.vs;
  T* out = taps.quarters + static_cast<ptrdiff_t>(g.rows.groups) * vs * 4 * L;
  std::memset(out, 0, sizeof(T) * vs * 4 * L);
  for (int f2 = 0; f2 <= width / 2; ++f2, angles += 2 * vs) {
    const T* at = cotangent + middle_row_entry<T>(g.horizontal->position[f2], true);
    const T* mirror = cotangent + middle_row_entry<T>(g.horizontal->position[f2 ? width - f2 : 0], true);
    const bool paired = at != mirror;
    const T p = paired ? at[0] + mirror[0] : at[0], q = paired ? mirror[L] - at[L] : -at[L];
    for (int v = 0; v < vs; ++v) {
      out[v * 4 * L] += p * angles[2 * v];
      out[v * 4 * L + L] += q * angles[2 * v + 1];
    }
  }
}

// The adjoint of transfer.
template <class T>
void transfer_grad(const Geometry<T>& g, const TapGeometry<T>& t, const T* cotangent, double* kernel, T* work) {
  constexpr int L = kLanes<T>;
  const AdjointTaps<T> taps(g, t, work);
  for (int group = 0; group < g.rows.groups; ++group) {
    fold_columns(g, cotangent + static_cast<ptrdiff_t>(group) * g.width() * 2 * L, taps.columns);
    T* out = taps.quarters + static_cast<ptrdiff_t>(group) * taps.vs * 4 * L;
    for (int parity = 0; parity < 2; ++parity) {
      int v = parity;
      for (; v + 2 < taps.vs; v += 4) contract_columns<2>(g, taps, t.columns, v, out);
      if (v < taps.vs) contract_columns<1>(g, taps, t.columns, v, out);
    }
  }
  if (g.rows.united) contract_middle_row(g, taps, t.columns, cotangent + middle_row(g, true));
  int v = 0;
  for (; v + 2 <= taps.vs; v += 2) contract_rows<2>(g, taps, t.rows, v);
  if (v < taps.vs) contract_rows<1>(g, taps, t.rows, v);
  unfold_taps(t, taps, kernel);
}

}  // namespace
}  // namespace blurfft::cpu
