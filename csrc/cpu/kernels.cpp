// Compiled once for each instruction set, with BLURFFT_CPU_CAPABILITY naming it. No torch header and nothing of the
// standard library that emits shared inline functions: see vec.h.
#include "kernels.h"

#include <math.h>

#include "../fft/plane.h"

#define BLURFFT_STRING_(x) #x
#define BLURFFT_STRING(x) BLURFFT_STRING_(x)
#define BLURFFT_JOIN_(a, b) a##b
#define BLURFFT_JOIN(a, b) BLURFFT_JOIN_(a, b)

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
    if (!g.rows.shared) return;
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

// ---- The action on one group of row spectra -------------------------------------------------------------------

template <class T>
struct Action {
  const T* table;  // of this group
  T* power;
  T power_scale;
  Vec<T> energy;
};

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

// The last forward stage, the table and the first inverse stage in one visit: they touch the same R elements.
template <int R, bool Complex, bool Inverse, class T>
void middle(T* at, ptrdiff_t step, int blocks, Action<T>& action) {
  constexpr int L = kLanes<T>;
  constexpr ptrdiff_t entry = Complex ? 2 * L : L;
  const T* table = action.table;
  T* power = action.power;
  const T power_scale = action.power_scale;
  Vec<T> energy = {};
  for (int block = 0; block < blocks; ++block, at += R * step, table += R * entry) {
    Cpx<T> a[R];
#pragma GCC unroll 16
    for (int k = 0; k < R; ++k) a[k] = load_cpx(at + k * step);
    if constexpr (R > 1) dft<R, false>(a);
    if (power) {
#pragma GCC unroll 16
      for (int k = 0; k < R; ++k) store(power + k * L, load(power + k * L) + scaled_square(a[k], power_scale));
      power += R * L;
    }
#pragma GCC unroll 16
    for (int k = 0; k < R; ++k) {
      const Cpx<T> y = apply(a[k], table, k, Complex);
      if constexpr (!Complex) energy += a[k].re * y.re + a[k].im * y.im;
      a[k] = y;
    }
    if constexpr (Inverse) {
      if constexpr (R > 1) dft<R, true>(a);
#pragma GCC unroll 16
      for (int k = 0; k < R; ++k) store_cpx(at + k * step, a[k]);
    }
  }
  action.table = table;
  action.power = power;
  action.energy += energy;
}

template <bool Complex, bool Inverse, class T, class Between>
void run_middle(const Line<T>& line, int parts, T* at, ptrdiff_t step, T* scratch, Action<T>& action, Between between) {
  if (line.stage_count == 0) return middle<1, Complex, Inverse>(at, step, 1, action);
  const Stage<T>& last = line.stages[line.stage_count - 1];
  const int blocks = last.blocks / parts;
  switch (last.radix) {
    case 2:
      return middle<2, Complex, Inverse>(at, step, blocks, action);
    case 3:
      return middle<3, Complex, Inverse>(at, step, blocks, action);
    case 4:
      return middle<4, Complex, Inverse>(at, step, blocks, action);
    case 5:
      return middle<5, Complex, Inverse>(at, step, blocks, action);
    case 7:
      return middle<7, Complex, Inverse>(at, step, blocks, action);
    case 8:
      return middle<8, Complex, Inverse>(at, step, blocks, action);
    case 11:
      return middle<11, Complex, Inverse>(at, step, blocks, action);
    case 13:
      return middle<13, Complex, Inverse>(at, step, blocks, action);
  }
  // As many blocks as go through a convolution's line at a time, while they are in the first-level cache.
  const int batch = last.convolution->batch;
  for (int block = 0; block < blocks; block += batch, at += batch * last.radix * step) {
    const int count = blocks - block < batch ? blocks - block : batch;
    run_stage<false>(last, count, at, step, at, step, scratch, between);
    middle<1, Complex, Inverse>(at, step, count * last.radix, action);
    if constexpr (Inverse) run_stage<true>(last, count, at, step, at, step, scratch, between);
  }
}

// All stages of a group's rows, there and back, part by part as in run_stages.
template <bool Complex, bool Inverse, class T>
void act_on_group(const Plane<T>& p, int c, Action<T>& action) {
  const Line<T>& line = *p.g.horizontal;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * kLanes<T>;
  T* row = p.row + c * 2 * kLanes<T>;
  const int outer = line.stage_count - 1, parts = outer > 0 ? separate_parts(line) : 1;
  const LookAhead<T> between{p};
  const auto run = [&](auto back, int i, int of_parts, T* at) BLURFFT_LAMBDA_INLINE {
    run_stage<back.value>(line.stages[i], line.stages[i].blocks / of_parts, at, step, at, step, p.scratch, between);
  };
  if (outer > 0) run(Constant<false>(), 0, 1, row);
  for (int part = 0; part < parts; ++part) {
    T* at = row + part * line.stages[0].m * step;
    for (int i = 1; i < outer; ++i) run(Constant<false>(), i, parts, at);
    run_middle<Complex, Inverse>(line, parts, at, step, p.scratch, action, between);
    if constexpr (!Inverse) continue;
    for (int i = outer - 1; i > 0; --i) run(Constant<true>(), i, parts, at);
  }
  if (Inverse && outer > 0) run(Constant<true>(), 0, 1, row);
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
// The two rows share lane 0 of the first group as X_0 + iX_n, which in the mirror column is conj(X_0) + i conj(X_n).
// What is nonlinear, or has a weight for each of them, must separate them first: their sizes may be far apart.
template <class T>
BLURFFT_INLINE EntryPair<T> separate(Cpx<T> z, Cpx<T> mirror) {
  constexpr T half = static_cast<T>(0.5);
  return {{half * (z.re[0] + mirror.re[0]), half * (z.im[0] - mirror.im[0])},
          {half * (z.im[0] + mirror.im[0]), half * (mirror.re[0] - z.re[0])}};
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

// `table` and `middle`: the first group and row H/2 of a table; so `power` and `middle_power`.
template <bool Complex, class T>
double act_on_special_group(const Plane<T>& p, int c, const T* table, const T* middle, T* power, T* middle_power,
                            T power_scale) {
  constexpr int L = kLanes<T>;
  Vec<T> energy = {};
  double shared_energy = 0;
  for (int f2 = 0; f2 <= p.g.width() / 2; ++f2) {
    const MirrorPair<T> m = mirror_pair(p, c, f2);
    const bool paired = m.position != m.mirror_position;
    const Cpx<T> z = load_cpx(m.at), w = load_cpx(m.mirror);
    const EntryPair<T> x = separate(z, w);
    if (power) {
      const T first = x.first.scaled_square(power_scale), other = x.middle.scaled_square(power_scale);
      const auto add = [&](int position, Cpx<T> value) {
        Vec<T> square = scaled_square(value, power_scale);
        square[0] = first;
        store(power + position * L, load(power + position * L) + square);
        middle_power[middle_row_entry<T>(position, false)] += other;
      };
      add(m.position, z);
      if (paired) add(m.mirror_position, w);
    }
    // The rows of a real sequence's transform: their mirror columns, and those of a table, are conjugates.
    const EntryPair<T> xt = apply(x, table, middle, m.position, Complex);
    Cpx<T> y = apply(z, table, m.position, Complex), v = apply(w, table, m.mirror_position, Complex);
    energy += z.re * y.re + z.im * y.im;
    if (paired) energy += w.re * v.re + w.im * v.im;
    shared_energy += (paired ? 2 : 1) * static_cast<double>(x.first.re * xt.first.re + x.first.im * xt.first.im +
                                                            (x.middle.re * xt.middle.re + x.middle.im * xt.middle.im));
    unite(xt, y, v);
    store_cpx(m.mirror, v);
    store_cpx(m.at, y);
  }
  // Every other row stands for its mirror too.
  energy[0] = 0;
  return 2 * sum<T>(energy) + shared_energy;
}

template <bool Complex, bool Inverse, class T>
void act_on_rows(const Plane<T>& p, const FilterArgs<T>& args, double* energies, int begin, int end) {
  constexpr int L = kLanes<T>;
  const ptrdiff_t group_step = static_cast<ptrdiff_t>(p.g.width()) * L * (Complex ? 2 : 1);
  const ptrdiff_t power_group_step = static_cast<ptrdiff_t>(p.g.width()) * L;
  for (int group = begin; group < end; ++group) {
    p.look_ahead();
    load_rows(p, group);
    for (int c = 0; c < p.g.planes; ++c) {
      p.look_ahead();
      const T* table = args.table + c * args.table_step;
      T* power = args.power ? args.power + c * args.power_step : nullptr;
      double energy;
      if (group == 0 && p.g.rows.shared) {
        transform_rows<false>(p, c);
        energy = act_on_special_group<Complex>(p, c, table, table + middle_row(p.g, Complex), power,
                                               power ? power + middle_row(p.g, false) : nullptr, args.power_scale);
        if constexpr (Inverse) transform_rows<true>(p, c);
      } else {
        Action<T> action = {
            table + group * group_step, power ? power + group * power_group_step : nullptr, args.power_scale, {}};
        act_on_group<Complex, Inverse>(p, c, action);
        energy = sum<T>(row_multiplicity(p.g, group) * action.energy);
      }
      energies[group * p.g.planes + c] = energy / 4;
    }
    p.look_ahead();
    if constexpr (Inverse) store_rows(p, group);
  }
}

template <class T>
void filter(const Geometry<T>& g, const Image& a, const Image* b, const Image* out, const FilterArgs<T>& args, T* work,
            const Team* team) {
  const Plane<T> whole(g, work);
  double* energies = group_energies(g, work, team ? team->parts : 1);
  share(whole, team, g.height(), [&](const Plane<T>& p, int begin, int end) {
    load_plane(p, a, b, begin, end);
    if (out && !streams(p, *out, args.streaming)) p.ahead_out = rows_ahead(p, *out, 0);
  });
  share(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<false>(p, begin, end); });
  mix_special_rows<false>(whole);
  share(whole, team, g.rows.groups, [&](const Plane<T>& p, int begin, int end) {
    if (!out) return act_on_rows<false, false>(p, args, energies, begin, end);
    if (args.complex_table) return act_on_rows<true, true>(p, args, energies, begin, end);
    act_on_rows<false, true>(p, args, energies, begin, end);
  });
  if (args.energy) {
    for (int c = 0; c < g.planes; ++c) args.energy[c] = 0;
    for (int i = 0; i < g.rows.groups * g.planes; ++i) args.energy[i % g.planes] += energies[i];
  }
  if (!out) return;
  mix_special_rows<true>(whole);
  share(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<true>(p, begin, end); });
  share(whole, team, g.height(),
        [&](const Plane<T>& p, int begin, int end) { store_plane(p, *out, args.streaming, begin, end); });
}

// ---- Spectra in and out ----------------------------------------------------------------------------------------

template <class Complex>
BLURFFT_INLINE Complex conj_product(Complex u, Complex v) {
  return {u.re * v.re + u.im * v.im, u.re * v.im - u.im * v.re};
}

// sum += scale * conj(X) Y over all row spectra.
template <class T>
void cross(const Geometry<T>& g, const Image& a, const Image& b, T scale, T* sum, ptrdiff_t sum_step, T* work) {
  constexpr int L = kLanes<T>;
  const Plane<T> p(g, work), q(g, work + workspace_elements(g, 1));
  load_columns(p, a);
  load_columns(q, b);
  const ptrdiff_t group_step = static_cast<ptrdiff_t>(g.width()) * 2 * L;
  for (int group = 0; group < g.rows.groups; ++group) {
    p.look_ahead();
    load_rows(p, group);
    q.look_ahead();
    load_rows(q, group);
    for (int c = 0; c < g.planes; ++c) {
      transform_rows<false>(p, c);
      transform_rows<false>(q, c);
      T* out = sum + c * sum_step + group * group_step;
      T* middle = sum + c * sum_step + middle_row(g, true);
      for (int f2 = 0; f2 < g.width(); ++f2) {
        const MirrorPair<T> x = mirror_pair(p, c, f2), y = mirror_pair(q, c, f2);
        const Cpx<T> x_at = load_cpx(x.at);
        Cpx<T> product = conj_product(Cpx<T>{scale * x_at.re, scale * x_at.im}, load_cpx(y.at));
        T* at = out + x.position * 2 * L;
        if (group == 0 && g.rows.shared) {
          const EntryPair<T> u = separate(x), v = separate(y);
          const Entry<T> first = conj_product(u.first.times(scale), v.first);
          const Entry<T> other = conj_product(u.middle.times(scale), v.middle);
          product.re[0] = first.re;
          product.im[0] = first.im;
          const ptrdiff_t entry = middle_row_entry<T>(x.position, true);
          middle[entry] += other.re;
          middle[entry + L] += other.im;
        }
        store_cpx(at, load_cpx(at) + product);
      }
    }
  }
}

// ---- Squared error to a blurred image ---------------------------------------------------------------------------

// Rows of the spectra of a and b: a's become args.out_scale * r, with r and the energy, four times of which is
// returned, as in BlurArgs.
template <class T>
double residual_rows(const Plane<T>& p, const Plane<T>& q, int c, const T* table, const BlurArgs<T>& args,
                     Vec<T> multiplicity, T* cross) {
  constexpr int L = kLanes<T>;
  const T scale = args.scale, out_scale = args.out_scale;
  const Vec<T> share = multiplicity / 2;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * L;
  T* at = p.row + c * 2 * L;
  const T* other = q.row + c * 2 * L;
  Vec<T> energy = {};
  for (int i = 0; i < p.g.width(); ++i, at += step, other += step) {
    const Cpx<T> y = load_cpx(other), rest = load_cpx(at) - apply(y, table, i, true);
    const Cpx<T> r = {scale * rest.re, scale * rest.im};
    energy += rest.re * r.re + rest.im * r.im;
    if (cross) {
      T* sum = cross + i * 2 * L;
      const Cpx<T> product = conj_product(y, r);
      store_cpx(sum, load_cpx(sum) + Cpx<T>{share * product.re, share * product.im});
    }
    store_cpx(at, Cpx<T>{out_scale * r.re, out_scale * r.im});
  }
  return sum<T>(multiplicity * energy);
}
template <class T>
double residual_special_group(const Plane<T>& p, const Plane<T>& q, int c, const T* table, const T* middle,
                              const BlurArgs<T>& args, T* cross, T* middle_cross) {
  constexpr int L = kLanes<T>;
  constexpr T half = static_cast<T>(0.5);
  const T scale = args.scale, out_scale = args.out_scale;
  Vec<T> energy = {};
  double shared_energy = 0;
  for (int f2 = 0; f2 <= p.g.width() / 2; ++f2) {
    const MirrorPair<T> a = mirror_pair(p, c, f2), b = mirror_pair(q, c, f2);
    const bool paired = a.position != a.mirror_position;
    const Cpx<T> x = load_cpx(a.at), u = load_cpx(a.mirror), y = load_cpx(b.at), w = load_cpx(b.mirror);
    Cpx<T> r = x - apply(y, table, a.position, true), s = u - apply(w, table, a.mirror_position, true);
    const EntryPair<T> other = separate(y, w), blurred = apply(other, table, middle, a.position, true);
    EntryPair<T> rest = separate(x, u);
    rest = {{rest.first.re - blurred.first.re, rest.first.im - blurred.first.im},
            {rest.middle.re - blurred.middle.re, rest.middle.im - blurred.middle.im}};
    energy += scaled_square(r, scale);
    if (paired) energy += scaled_square(s, scale);
    shared_energy +=
        (paired ? 2 : 1) * static_cast<double>(rest.first.scaled_square(scale) + rest.middle.scaled_square(scale));
    r = {scale * r.re, scale * r.im};
    s = {scale * s.re, scale * s.im};
    rest = {rest.first.times(scale), rest.middle.times(scale)};
    if (cross) {
      const Entry<T> first = conj_product(other.first, rest.first), last = conj_product(other.middle, rest.middle);
      // The rows of a real sequence's transform: their mirror columns are conjugates.
      const auto add = [&](int position, Cpx<T> product, T sign) {
        product.re[0] = half * first.re;
        product.im[0] = sign * half * first.im;
        T* sum = cross + position * 2 * L;
        store_cpx(sum, load_cpx(sum) + product);
        const ptrdiff_t entry = middle_row_entry<T>(position, true);
        middle_cross[entry] += half * last.re;
        middle_cross[entry + L] += sign * half * last.im;
      };
      add(a.position, conj_product(y, r), 1);
      if (paired) add(a.mirror_position, conj_product(w, s), -1);
    }
    unite(rest, r, s);
    store_cpx(a.mirror, Cpx<T>{out_scale * s.re, out_scale * s.im});
    store_cpx(a.at, Cpx<T>{out_scale * r.re, out_scale * r.im});
  }
  energy[0] = 0;
  return 2 * sum<T>(energy) + shared_energy;
}

template <class T>
void blur_mse(const Geometry<T>& g, const Image& a, const Image& b, const Image* out, const BlurArgs<T>& args,
              T* work) {
  const Plane<T> p(g, work), q(g, work + workspace_elements(g, 1));
  load_columns(p, a);
  load_columns(q, b);
  if (out && !streams(p, *out, args.streaming)) p.ahead_out = rows_ahead(p, *out, 0);
  const ptrdiff_t group_step = static_cast<ptrdiff_t>(g.width()) * 2 * kLanes<T>, last = middle_row(g, true);
  for (int c = 0; c < g.planes; ++c) args.energy[c] = 0;
  for (int group = 0; group < g.rows.groups; ++group) {
    p.look_ahead();
    load_rows(p, group);
    q.look_ahead();
    load_rows(q, group);
    for (int c = 0; c < g.planes; ++c) {
      transform_rows<false>(p, c);
      transform_rows<false>(q, c);
      const T* table = args.table + c * args.table_step;
      T* cross = args.cross ? args.cross + c * args.cross_step : nullptr;
      double energy;
      if (group == 0 && g.rows.shared) {
        energy = residual_special_group(p, q, c, table, table + last, args, cross, cross ? cross + last : nullptr);
      } else {
        const ptrdiff_t at = group * group_step;
        energy = residual_rows(p, q, c, table + at, args, row_multiplicity(g, group), cross ? cross + at : nullptr);
      }
      args.energy[c] += energy / 4;
      if (out) transform_rows<true>(p, c);
    }
    if (out) store_rows(p, group);
  }
  if (!out) return;
  mix_special_rows<true>(p);
  transform_columns<true>(p);
  store_plane(p, *out, args.streaming);
}

// Where column f2 of row f1 <= H/2 is in a packed spectrum.
template <class T>
BLURFFT_INLINE ptrdiff_t packed_entry(const Geometry<T>& g, int f1, int f2, bool complex_values) {
  constexpr int L = kLanes<T>;
  const int position = g.horizontal->position[f2];
  if (g.rows.shared && 2 * f1 == g.height()) {
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
        to[0] = scale * (self_paired ? (half[from] + half[mirrored + f2]) / 2 : half[from]);
      } else if (self_paired) {
        const ptrdiff_t other = mirrored + f2;
        to[0] = scale * ((half[2 * from] + half[2 * other]) / 2);
        to[L] = scale * ((half[2 * from + 1] - half[2 * other + 1]) / 2);
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
      mirror[l] = used ? half + (f1 ? height - f1 : g.rows.shared ? height / 2 : 0) * row_step : unused;
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
    for (int l = 0; l < L; ++l) {
      const T re = scale * from.row[l][2 * f2], im = scale * from.row[l][2 * f2 + 1];
      const T mirror_re = scale * from.mirror[l][2 * f2], mirror_im = scale * from.mirror[l][2 * f2 + 1];
      if (a == b) {
        a[l] = (re + mirror_re) / 2;
        a[L + l] = (im - mirror_im) / 2;
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
  share(whole, team, height, [&](const Plane<T>& p, int begin, int end) {
    load_plane(p, in, static_cast<const Image*>(nullptr), begin, end);
    p.ahead_out = {out, static_cast<ptrdiff_t>(height) * (width / 2 + 1) * 2};
  });
  share(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<false>(p, begin, end); });
  mix_special_rows<false>(whole);
  share(whole, team, g.rows.groups, [&](const Plane<T>& p, int begin, int end) {
    for (int group = begin; group < end; ++group) {
      p.look_ahead();
      load_rows(p, group);
      transform_rows<false>(p, 0);
      p.look_ahead();
      store_half_rows(g, HalfRows<T>(g, group, out, p.in_a), p.row, scale / 2);
      if (group > 0 || !g.rows.shared) continue;
      T* middle_row = out + static_cast<ptrdiff_t>(height / 2) * (width / 2 + 1) * 2;
      for (int f2 = 0; f2 <= width / 2; ++f2) {
        const EntryPair<T> x = separate(mirror_pair(p, 0, f2));
        out[2 * f2] = scale / 2 * x.first.re;
        out[2 * f2 + 1] = scale / 2 * x.first.im;
        middle_row[2 * f2] = scale / 2 * x.middle.re;
        middle_row[2 * f2 + 1] = scale / 2 * x.middle.im;
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
  share(whole, team, g.rows.groups, [&](const Plane<T>& p, int begin, int end) {
    if (!team) {
      p.ahead_a = {in + spectrum, spectrum};
      p.ahead_out = rows_ahead(p, out, 0);
    }
    for (int group = begin; group < end; ++group) {
      p.look_ahead();
      load_half_rows(g, HalfRows<T, const T>(g, group, in, in), p.row, scale);
      // Rows 0 and H/2 share lane 0 of the first group as X_0 + iX_n.
      if (group == 0 && g.rows.shared) {
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
  share(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<true>(p, begin, end); });
  share(whole, team, height, [&](const Plane<T>& p, int begin, int end) { store_plane(p, out, false, begin, end); });
}

// ---- Small kernels ---------------------------------------------------------------------------------------------

template <class T>
BLURFFT_INLINE Vec<T> select(Vec<T> where_not_zero, Vec<T> yes, Vec<T> no) {
  return where_not_zero != 0 ? yes : no;
}

// Taps u of a kernel, up to whole vectors.
template <class T>
int padded_taps(int kh) {
  constexpr int L = kLanes<T>;
  return (kh / 2 + 1 + L - 1) / L * L;
}

template <class T>
size_t tap_table_elements(const Geometry<T>& g, int kh, int kw) {
  const size_t lane_taps = static_cast<size_t>(g.rows.groups) * (kh / 2 + 1) * kLanes<T>;
  const size_t row_taps = static_cast<size_t>(g.height() / 2 + 1) * padded_taps<T>(kh);
  return 2 * (lane_taps + row_taps + static_cast<size_t>(g.width() / 2 + 1) * (kw / 2 + 1));
}

template <class T>
TapGeometry<T> fill_taps(const Geometry<T>& g, int kh, int kw, T* tables) {
  constexpr int L = kLanes<T>;
  const int height = g.height(), width = g.width(), us = kh / 2 + 1, padded = padded_taps<T>(kh);
  T* vertical = tables;
  T* rows = vertical + static_cast<ptrdiff_t>(g.rows.groups) * us * 2 * L;
  T* horizontal = rows + static_cast<ptrdiff_t>(height / 2 + 1) * 2 * padded;
  const TapGeometry<T> taps = {kh, kw, vertical, rows, horizontal};
  for (int group = 0; group < g.rows.groups; ++group, vertical += us * 2 * L) {
    for (int l = 0; l < L; ++l) {
      const int64_t f1 = group * L + l;
      const bool wanted = f1 < g.lane_rows();
      for (int u = 0; u < us; ++u) {
        vertical[u * 2 * L + l] = wanted ? g.vertical->cosine[f1 * u % height] : 0;
        vertical[u * 2 * L + L + l] = wanted ? g.vertical->sine[f1 * u % height] : 0;
      }
    }
  }
  for (int64_t f1 = 0; f1 <= height / 2; ++f1, rows += 2 * padded) {
    for (int u = 0; u < padded; ++u) {
      rows[u] = u < us ? g.vertical->cosine[f1 * u % height] : 0;
      rows[padded + u] = u < us ? g.vertical->sine[f1 * u % height] : 0;
    }
  }
  for (int64_t f2 = 0; f2 <= width / 2; ++f2) {
    for (int v = 0; v <= kw / 2; ++v) {
      *horizontal++ = g.horizontal->cosine[f2 * v % width];
      *horizontal++ = g.horizontal->sine[f2 * v % width];
    }
  }
  return taps;
}

// Taps folded about the centre, even and odd in u and in v: four quarters of a kernel, [kw / 2 + 1][4][padded u].
template <class T>
struct Taps {
  static constexpr int L = kLanes<T>;
  int us, vs, padded;
  T* folded;
  T* quarters;  // [groups][kw / 2 + 1][4][L]: of each v the four sums over u, of one group at a time; in the adjoint
                // over f2, of every group and, in lane 0 of one more, of row H/2
  T* columns;   // [column_sets][2][4][L], the adjoint's sums over a set of columns

  Taps(const Geometry<T>& g, const TapGeometry<T>& t, T* work)
      : us(t.kh / 2 + 1), vs(t.kw / 2 + 1), padded(padded_taps<T>(t.kh)), folded(work) {
    quarters = folded + static_cast<ptrdiff_t>(vs) * 4 * padded;
    columns = quarters + static_cast<ptrdiff_t>(g.rows.groups + g.rows.shared) * vs * 4 * L;
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
  const Taps<T> taps(g, t, nullptr);
  return static_cast<size_t>(taps.columns - taps.folded) + static_cast<size_t>(column_sets(g)) * 8 * kLanes<T>;
}

// The up to two rows (or columns) of `size` taps at distance u from the centre; the centre itself, and what an even
// size lacks on one side, is -1.
struct Sides {
  int after, before;

  Sides(int size, int u) : after(size / 2 + u < size ? size / 2 + u : -1), before(u ? size / 2 - u : -1) {}
  bool both() const { return after >= 0 && before >= 0; }
};

template <class T>
void fold_taps(const TapGeometry<T>& t, const Taps<T>& taps, const T* kernel) {
  for (int v = 0; v < taps.vs; ++v) {
    const Sides columns(t.kw, v);
    T* at = taps.folded + static_cast<ptrdiff_t>(v) * 4 * taps.padded;
    for (int u = 0; u < taps.us; ++u, ++at) {
      const Sides rows(t.kh, u);
      const auto fold = [&](auto tap) BLURFFT_LAMBDA_INLINE {
        const T a = tap(rows.after, columns.after), b = tap(rows.after, columns.before);
        const T c = tap(rows.before, columns.after), d = tap(rows.before, columns.before);
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
void unfold_taps(const TapGeometry<T>& t, const Taps<T>& taps, double* kernel) {
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

// From a group's quarters P, Q, R, S of each v to its columns: K(f1, +-f2) = (P -+ S) -+ i(Q +- R), summed over v with
// the cosine for P and R and the sine for Q and S.
template <class T>
void expand_columns(const Geometry<T>& g, const Taps<T>& taps, const T* angles, T* packed) {
  constexpr int L = kLanes<T>;
  const int sets = column_sets(g), vs = taps.vs;
  for (int f2 = 0; f2 < sets; ++f2, angles += 2 * vs) {
    // Of v = 0 the cosine is 1 and the sine 0.
    Vec<T> p = load(taps.quarters), q = {}, r = load(taps.quarters + 2 * L), s = {};
    Vec<T> odd_p = {}, odd_q = {}, odd_r = {}, odd_s = {};
    const auto add = [&](int v, Vec<T>& to_p, Vec<T>& to_q, Vec<T>& to_r, Vec<T>& to_s) BLURFFT_LAMBDA_INLINE {
      const T c = angles[2 * v], w = angles[2 * v + 1];
      const T* quarters = taps.quarters + static_cast<ptrdiff_t>(v) * 4 * L;
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
    const Vec<T> sum_re = p + s, odd_sum_re = odd_p + odd_s, difference_re = p - s, odd_difference_re = odd_p - odd_s;
    const Vec<T> sum_im = q + r, odd_sum_im = odd_q + odd_r, difference_im = q - r, odd_difference_im = odd_q - odd_r;
    if (set.opposite >= 0) {
      store_cpx(packed + set.opposite_mirror * 2 * L, Cpx<T>{difference_re - odd_difference_re, odd_sum_im - sum_im});
      store_cpx(packed + set.opposite * 2 * L, Cpx<T>{sum_re - odd_sum_re, difference_im - odd_difference_im});
    }
    // Where a column is its own mirror image the first counts.
    store_cpx(packed + set.mirror * 2 * L, Cpx<T>{sum_re + odd_sum_re, difference_im + odd_difference_im});
    store_cpx(packed + set.at * 2 * L, Cpx<T>{difference_re + odd_difference_re, -(sum_im + odd_sum_im)});
  }
}

// Row H/2 of a transfer function: along u every other tap is negative, and no sine remains.
template <class T>
void transfer_middle_row(const Geometry<T>& g, const Taps<T>& taps, const T* angles, T* packed) {
  constexpr int L = kLanes<T>;
  const int width = g.width(), vs = taps.vs;
  for (int v = 0; v < vs; ++v) {
    const T* at = taps.folded + static_cast<ptrdiff_t>(v) * 4 * taps.padded;
    T p = 0, q = 0, sign = 1;
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
    T re = 0, im = 0;
    for (int v = 0; v < vs; ++v) {
      re += taps.quarters[2 * v] * angles[2 * v];
      im += taps.quarters[2 * v + 1] * angles[2 * v + 1];
    }
    T* mirror = packed + middle_row_entry<T>(g.horizontal->position[f2 ? width - f2 : 0], true);
    mirror[0] = re;
    mirror[L] = im;
    T* at = packed + middle_row_entry<T>(g.horizontal->position[f2], true);
    at[0] = re;
    at[L] = -im;
  }
}

template <class T>
void transfer(const Geometry<T>& g, const TapGeometry<T>& t, const T* kernel, T* packed, T* work) {
  constexpr int L = kLanes<T>;
  const Taps<T> taps(g, t, work);
  fold_taps(t, taps, kernel);
  const T* turns = t.vertical;
  for (int group = 0; group < g.rows.groups; ++group, packed += static_cast<ptrdiff_t>(g.width()) * 2 * L) {
    // Along u: even-even p, even-odd q, odd-even r, odd-odd s.
    const T* at = taps.folded;
    T* out = taps.quarters;
    for (int v = 0; v < taps.vs; ++v, at += 4 * taps.padded, out += 4 * L) {
      Vec<T> p = {}, q = {}, r = {}, s = {};
      for (int u = 0; u < taps.us; ++u) {
        const Vec<T> c = load(turns + u * 2 * L), w = load(turns + u * 2 * L + L);
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
    expand_columns(g, taps, t.horizontal, packed);
    turns += static_cast<ptrdiff_t>(taps.us) * 2 * L;
  }
  if (g.rows.shared) transfer_middle_row(g, taps, t.horizontal, packed);
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
void contract_columns(const Geometry<T>& g, const Taps<T>& taps, const T* angles, int v, T* out) {
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
void contract_rows(const Geometry<T>& g, const Taps<T>& taps, const T* turns, int v) {
  constexpr int L = kLanes<T>;
  for (int u0 = 0; u0 < taps.padded; u0 += L) {
    Vec<T> sums[4 * Count];
#pragma GCC unroll 8
    for (int i = 0; i < 4 * Count; ++i) sums[i] = Vec<T>{};
    const T* turn = turns + u0;
    for (int group = 0; group < g.rows.groups + g.rows.shared; ++group) {
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
void contract_middle_row(const Geometry<T>& g, const Taps<T>& taps, const T* angles, const T* cotangent) {
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
  const Taps<T> taps(g, t, work);
  for (int group = 0; group < g.rows.groups; ++group) {
    fold_columns(g, cotangent + static_cast<ptrdiff_t>(group) * g.width() * 2 * L, taps.columns);
    T* out = taps.quarters + static_cast<ptrdiff_t>(group) * taps.vs * 4 * L;
    for (int parity = 0; parity < 2; ++parity) {
      int v = parity;
      for (; v + 2 < taps.vs; v += 4) contract_columns<2>(g, taps, t.horizontal, v, out);
      if (v < taps.vs) contract_columns<1>(g, taps, t.horizontal, v, out);
    }
  }
  if (g.rows.shared) contract_middle_row(g, taps, t.horizontal, cotangent + middle_row(g, true));
  int v = 0;
  for (; v + 2 <= taps.vs; v += 2) contract_rows<2>(g, taps, t.rows, v);
  if (v < taps.vs) contract_rows<1>(g, taps, t.rows, v);
  unfold_taps(t, taps, kernel);
}

// ---- Weight of the focal frequency loss ------------------------------------------------------------------------

template <class T>
BLURFFT_INLINE T square_root(T x) {
  return static_cast<T>(sizeof(T) == 8 ? sqrt(x) : sqrtf(x));
}
// |F e|^alpha, or the logarithm of that plus 1, relative to that of the largest power: in range whatever alpha is.
template <class T>
struct FocalMatrix {
  double alpha, largest, largest_logarithm;
  T largest_root;
  bool log_matrix;

  FocalMatrix(double exponent, bool log, T power)
      : alpha(exponent),
        largest(power),
        largest_logarithm(logarithm(power)),
        largest_root(square_root(power)),
        log_matrix(log) {}
  double logarithm(double power) const {
    const double root = sqrt(power), m = alpha == 1 ? root : pow(root, alpha);
    return m < 1e300 ? log(m + 1) : alpha * log(root);
  }
  BLURFFT_INLINE Vec<T> operator()(Vec<T> power) const {
    Vec<T> m = {};
    if (log_matrix) {
      for (int l = 0; l < kLanes<T>; ++l) m[l] = static_cast<T>(logarithm(power[l]) / largest_logarithm);
    } else if (alpha == 1) {
      for (int l = 0; l < kLanes<T>; ++l) m[l] = square_root(power[l]);
      m /= largest_root;
    } else {
      for (int l = 0; l < kLanes<T>; ++l) m[l] = static_cast<T>(pow(sqrt(power[l] / largest), alpha));
    }
    return m;
  }
};

template <class T>
void focal_weight(const Geometry<T>& g, const FocalArgs<T>& args) {
  constexpr int L = kLanes<T>;
  const Vec<T> zero = {}, one = splat(static_cast<T>(1));
  T* at = args.table;
  Vec<T> high = zero, all = zero;
  for (const Run<T>& run : Runs<T>(g)) {
    for (int i = 0; i < run.groups * run.vectors; ++i, at += L) {
      const Vec<T> power = select<T>(run.multiplicity, load(at) * args.power_scale, zero);
      high = power > high ? power : high;
      all += power;
    }
  }
  T largest = 0;
  bool all_numbers = true;
  for (int l = 0; l < L; ++l) {
    largest = high[l] > largest ? high[l] : largest;
    all_numbers = all_numbers && all[l] == all[l];
  }
  // NaN if it is infinite: squares out of range have no weights, and weights of 0 would make nothing of the largest
  // errors. Only a loss that counts for nothing needs none.
  const Vec<T> valid = splat(args.table_scale == 0 ? 0 : largest - largest);
  const FocalMatrix<T> matrix(args.alpha, args.log_matrix, largest);
  at = args.table;
  for (const Run<T>& run : Runs<T>(g)) {
    for (int i = 0; i < run.groups * run.vectors; ++i, at += L) {
      // NaN, as of 0 / 0 in a plane without an error, counts as 0.
      const Vec<T> m = matrix(load(at) * args.power_scale), within = m >= one ? one : m > zero ? m : zero;
      store(at, args.table_scale * ((all_numbers ? select<T>(run.multiplicity, within, zero) : zero) + valid));
    }
  }
}

// ---- Precision spectrum and log-determinant --------------------------------------------------------------------

template <class T>
struct FloatBits;
template <>
struct FloatBits<float> {
  typedef int32_t Int;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float smallest = 0x1p-126f, largest = 0x1.fffffep127f;
};
template <>
struct FloatBits<double> {
  typedef int64_t Int;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double smallest = 0x1p-1022, largest = 0x1.fffffffffffffp1023;
};

// Sum of logarithms as the logarithm of a product, lane by lane: exponents are added as integers, mantissas in [1, 2)
// multiplied until they might overflow. As accurate as a sum of accurate logs at a few operations a value.
template <class T>
struct LogSum {
  typedef typename FloatBits<T>::Int Int;
  typedef Int IntVec __attribute__((vector_size(kVectorBytes)));
  static constexpr int kBurst = FloatBits<T>::bias - 1;

  Vec<T> product = splat(static_cast<T>(1)), once = product, twice = product;
  IntVec exponent = {}, exponents = {};
  int count = 0;

  // Takes the exponents of x into the sum and leaves the mantissas.
  BLURFFT_INLINE Vec<T> split(Vec<T> x) {
    constexpr Int one = static_cast<Int>(FloatBits<T>::bias) << FloatBits<T>::mantissa;
    constexpr Int fraction = (static_cast<Int>(1) << FloatBits<T>::mantissa) - 1;
    IntVec bits;
    std::memcpy(&bits, &x, sizeof bits);
    exponent += (bits >> FloatBits<T>::mantissa) - FloatBits<T>::bias;
    bits = (bits & fraction) | one;
    Vec<T> mantissa;
    std::memcpy(&mantissa, &bits, sizeof mantissa);
    return mantissa;
  }
  BLURFFT_INLINE void add(Vec<T> x) {
    product *= split(x);
    if (++count == kBurst) {
      product = split(product);
      count = 1;
    }
  }
  // The end of values that count as often as their lane's multiplicity says: 0, 1 or 2.
  BLURFFT_INLINE void close(Vec<T> multiplicity) {
    const Vec<T> one = splat(static_cast<T>(1));
    product = split(product);
    once *= multiplicity == 1 ? product : one;
    twice *= multiplicity == 2 ? product : one;
    exponents += exponent * __builtin_convertvector(multiplicity, IntVec);
    product = one;
    exponent = IntVec{};
    count = 0;
  }
  double total() const {
    constexpr double log_2 = 0.69314718055994530942;
    double ones = 1, twos = 1, powers = 0;
    for (int l = 0; l < kLanes<T>; ++l) {
      ones *= static_cast<double>(once[l]);
      twos *= static_cast<double>(twice[l]);
      powers += static_cast<double>(exponents[l]);
    }
    return log(ones) + 2 * log(twos) + log_2 * powers;
  }
};

// |K|^2, the largest number where it is out of range: 1 / |K|^2 then is 0 as it should be, but |K|^2 / |K|^4 no number.
template <class T>
BLURFFT_INLINE Vec<T> limited_square(Cpx<T> k) {
  const Vec<T> s = squared_modulus(k), largest = splat(FloatBits<T>::largest);
  return s > largest ? largest : s;
}
template <class T>
BLURFFT_INLINE Vec<T> precision(const T* transfer, const WienerArgs<T>& args) {
  const Vec<T> s = limited_square(load_cpx(transfer)), inverse = 1 / (s + args.nsr);
  return s * inverse * inverse + args.eps;
}

// Zero and subnormal, infinite and NaN values have no exponent to add: one plain logarithm each.
template <class T>
double plain_log_determinant(const Geometry<T>& g, const WienerArgs<T>& args) {
  constexpr int L = kLanes<T>;
  double total = 0;
  const T* in = args.transfer;
  for (const Run<T>& run : Runs<T>(g)) {
    for (int i = 0; i < run.groups * run.vectors; ++i, in += 2 * L) {
      const Vec<T> omega = precision(in, args);
      for (int l = 0; l < L; ++l) {
        const double multiplicity = run.multiplicity[l];
        if (multiplicity != 0) total += multiplicity * log(static_cast<double>(omega[l]));
      }
    }
  }
  return total;
}

template <class T>
void wiener(const Geometry<T>& g, const TapGeometry<T>& t, const WienerArgs<T>& args, T* work) {
  constexpr int L = kLanes<T>;
  transfer(g, t, args.kernel, args.transfer, work);
  const Vec<T> one = splat(static_cast<T>(1));
  LogSum<T> logs;
  Vec<T> low = one, high = one;
  bool all_numbers = true;
  const T* in = args.transfer;
  T* out = args.table;
  for (const Run<T>& run : Runs<T>(g)) {
    const Vec<T> multiplicity = run.multiplicity;
    const int vectors = run.groups * run.vectors;
    Vec<T> check = {};
    const auto each = [&](auto all_used) BLURFFT_LAMBDA_INLINE {
      for (int i = 0; i < vectors; ++i, in += 2 * L, out += L) {
        Vec<T> omega = precision(in, args), counted = omega;
        if constexpr (!all_used.value) {
          // Unused lanes would be 0 / 0 where nsr is 0.
          omega = select<T>(multiplicity, omega, Vec<T>{});
          counted = select<T>(multiplicity, omega, one);
        }
        store(out, args.table_scale * omega);
        if (!args.log_determinant) continue;
        low = counted < low ? counted : low;
        high = counted > high ? counted : high;
        check += counted;
        logs.add(counted);
      }
    };
    run.all_lanes ? each(Constant<true>()) : each(Constant<false>());
    for (int l = 0; l < L; ++l) all_numbers = all_numbers && check[l] == check[l];
    if (args.log_determinant) logs.close(multiplicity);
  }
  if (args.log_determinant) {
    bool regular = all_numbers;
    for (int l = 0; l < L; ++l) {
      regular = regular && low[l] >= FloatBits<T>::smallest && high[l] <= FloatBits<T>::largest;
    }
    *args.log_determinant = regular ? logs.total() : plain_log_determinant(g, args);
  }
}

template <class T>
void wiener_grad(const Geometry<T>& g, const TapGeometry<T>& t, const WienerGradArgs<T>& args, T* cotangent, T* work) {
  constexpr int L = kLanes<T>;
  const T quadratic_scale = static_cast<T>(args.quadratic_scale), log_scale = static_cast<T>(args.log_scale);
  double nsr_grad = 0, eps_grad = 0;
  const T *in = args.transfer, *power = args.power;
  T* out = cotangent;
  for (const Run<T>& run : Runs<T>(g)) {
    const Vec<T> multiplicity = run.multiplicity;
    const int vectors = run.vectors;
    Vec<T> nsr_sum = {}, eps_sum = {};
    const auto each = [&](auto all_used, auto with_log) BLURFFT_LAMBDA_INLINE {
      for (int i = 0; i < vectors; ++i, in += 2 * L, power += L, out += 2 * L) {
        const Cpx<T> k = load_cpx(in);
        const Vec<T> s = limited_square(k);
        Vec<T> inverse = 1 / (s + args.nsr);
        if constexpr (!all_used.value) inverse = select<T>(multiplicity, inverse, Vec<T>{});
        const Vec<T> share = s * inverse;  // at most 1, where powers of the inverse may be out of range
        Vec<T> grad = quadratic_scale * load(power);
        if constexpr (with_log.value) grad += log_scale / (share * inverse + args.eps);
        grad *= multiplicity;
        if constexpr (!all_used.value) grad = select<T>(multiplicity, grad, Vec<T>{});
        const Vec<T> slope = (grad + grad) * (inverse * inverse);
        eps_sum += grad;
        nsr_sum -= share * slope;
        const Vec<T> along = (args.nsr - s) * inverse * slope;
        store_cpx(out, Cpx<T>{along * k.re, along * k.im});
      }
    };
    const auto each_lane = [&](auto with_log) BLURFFT_LAMBDA_INLINE {
      run.all_lanes ? each(Constant<true>(), with_log) : each(Constant<false>(), with_log);
    };
    for (int group = 0; group < run.groups; ++group) {
      log_scale != 0 ? each_lane(Constant<true>()) : each_lane(Constant<false>());
      nsr_grad += sum<T>(nsr_sum);
      eps_grad += sum<T>(eps_sum);
      nsr_sum = eps_sum = Vec<T>{};
    }
  }
  *args.nsr_grad = nsr_grad;
  *args.eps_grad = eps_grad;
  transfer_grad(g, t, cotangent, args.kernel, work);
}

template <class T>
constexpr Kernels<T> kKernels = {
    kLanes<T>,
    workspace_elements<T>,
    tap_workspace_elements<T>,
    filter<T>,
    cross<T>,
    blur_mse<T>,
    forward<T>,
    inverse<T>,
    pack<T>,
    unpack<T>,
    tap_table_elements<T>,
    fill_taps<T>,
    transfer<T>,
    transfer_grad<T>,
    pack_cotangent<T>,
    focal_weight<T>,
    wiener<T>,
    wiener_grad<T>,
};

}  // namespace

extern const Capability BLURFFT_JOIN(capability_, BLURFFT_CPU_CAPABILITY);
const Capability BLURFFT_JOIN(capability_, BLURFFT_CPU_CAPABILITY) = {BLURFFT_STRING(BLURFFT_CPU_CAPABILITY),
                                                                      &kKernels<float>, &kKernels<double>};

}  // namespace blurfft::cpu
