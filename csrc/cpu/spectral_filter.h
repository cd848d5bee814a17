// A table applied to an image's spectrum, its power and energy on the way: the filter and every loss with a weight.
#pragma once

#include "spectrum.h"

namespace blurfft::cpu {
namespace {

template <class T>
struct Action {
  const T* table;  // of this group
  T* power;
  T power_scale;
  Vec<T> energy;
};

// Energies add up in chains of about 64 elements: rounding errors grow with the length of a chain.
template <int R>
constexpr int kBlocksOfChain = 64 / R;

// The last forward stage, the table and the first inverse stage in one visit: they touch the same R elements.
template <int R, bool Complex, bool Inverse, class T>
void middle(T* at, ptrdiff_t step, int blocks, Action<T>& action) {
  constexpr int L = kLanes<T>;
  constexpr ptrdiff_t entry = Complex ? 2 * L : L;
  const T* table = action.table;
  T* power = action.power;
  const T power_scale = action.power_scale;
  for (int begin = 0; begin < blocks; begin += kBlocksOfChain<R>) {
    const int end = blocks - begin < kBlocksOfChain<R> ? blocks : begin + kBlocksOfChain<R>;
    Vec<T> energy = {};
    for (int block = begin; block < end; ++block, at += R * step, table += R * entry) {
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
    if constexpr (!Complex) action.energy += energy;
  }
  action.table = table;
  action.power = power;
}

template <bool Complex, bool Inverse, class T, class Between>
void run_middle(const Line<T>& line, int parts, T* at, ptrdiff_t step, T* scratch, Action<T>& action, Between between) {
  if (line.stage_count == 0) return middle<1, Complex, Inverse>(at, step, 1, action);
  const Stage<T>& last = line.stages[line.stage_count - 1];
  const int blocks = last.blocks / parts;
  const bool is_butterfly = with_butterfly(
      last.radix, [&]<int R>() BLURFFT_LAMBDA_INLINE { middle<R, Complex, Inverse>(at, step, blocks, action); });
  if (is_butterfly) return;
  // A few blocks at a time, while they are in the first-level cache.
  const int batch = last.batch;
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
    run_stage<back.value>(line.stages[i], line.stages[i].blocks / of_parts, at, step, at, step, p.row_scratch, between);
  };
  if (outer > 0) run(Constant<false>(), 0, 1, row);
  for (int part = 0; part < parts; ++part) {
    T* at = row + part * line.stages[0].m * step;
    for (int i = 1; i < outer; ++i) run(Constant<false>(), i, parts, at);
    run_middle<Complex, Inverse>(line, parts, at, step, p.row_scratch, action, between);
    if constexpr (!Inverse) continue;
    for (int i = outer - 1; i > 0; --i) run(Constant<true>(), i, parts, at);
  }
  if (Inverse && outer > 0) run(Constant<true>(), 0, 1, row);
}

// `table` and `middle`: the first group and row H/2 of a table; so `power` and `middle_power`.
template <bool Complex, class T>
double act_on_special_group(const Plane<T>& p, int c, const T* table, const T* middle, T* power, T* middle_power,
                            T power_scale) {
  constexpr int L = kLanes<T>;
  VecSum<T> sums;
  double united_energy = 0;
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
    sums.add(z.re * y.re + z.im * y.im);
    if (paired) sums.add(w.re * v.re + w.im * v.im);
    united_energy += (paired ? 2 : 1) * static_cast<double>(x.first.re * xt.first.re + x.first.im * xt.first.im +
                                                            (x.middle.re * xt.middle.re + x.middle.im * xt.middle.im));
    unite(xt, y, v);
    store_cpx(m.mirror, v);
    store_cpx(m.at, y);
  }
  // Every other row stands for its mirror too.
  Vec<T> energy = sums.total();
  energy[0] = 0;
  return 2 * sum<T>(energy) + united_energy;
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
      if (group == 0 && p.g.rows.united) {
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
      energies[group * p.g.planes + c] = energy / 2;
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
  split(whole, team, g.height(), [&](const Plane<T>& p, int begin, int end) {
    load_plane(p, a, b, begin, end);
    if (out && !streams(p, *out, args.streaming)) p.ahead_out = rows_ahead(p, *out, 0);
  });
  split(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<false>(p, begin, end); });
  mix_special_rows<false>(whole);
  split(whole, team, g.rows.groups, [&](const Plane<T>& p, int begin, int end) {
    if (!out) return act_on_rows<false, false>(p, args, energies, begin, end);
    if (args.complex_table) return act_on_rows<true, true>(p, args, energies, begin, end);
    act_on_rows<false, true>(p, args, energies, begin, end);
  });
  if (args.energy) add_up(g, energies, args.energy);
  if (!out) return;
  mix_special_rows<true>(whole);
  split(whole, team, whole.blocks,
        [&](const Plane<T>& p, int begin, int end) { transform_columns<true>(p, begin, end); });
  split(whole, team, g.height(),
        [&](const Plane<T>& p, int begin, int end) { store_plane(p, *out, args.streaming, begin, end); });
}

}  // namespace
}  // namespace blurfft::cpu
