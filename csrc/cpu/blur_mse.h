// Squared error to a blurred image.
#pragma once

#include "two_images.h"

namespace blurfft::cpu {
namespace {

// Rows of the spectra of a and b: a's become args.out_scale * r, with r and the energy, which is returned, as
// in BlurArgs.
template <class T>
double residual_rows(const Plane<T>& p, const Plane<T>& q, int c, const T* table, const BlurArgs<T>& args,
                     Vec<T> multiplicity, T* cross) {
  constexpr int L = kLanes<T>;
  const T scale = args.scale, out_scale = args.out_scale;
  const Vec<T> per_row = multiplicity / 2;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * L;
  T* at = p.row + c * 2 * L;
  const T* other = q.row + c * 2 * L;
  VecSum<T> energy;
  for (int i = 0; i < p.g.width(); ++i, at += step, other += step) {
    const Cpx<T> y = load_cpx(other), rest = load_cpx(at) - apply(y, table, i, true);
    const Cpx<T> r = {scale * rest.re, scale * rest.im};
    energy.add(rest.re * r.re + rest.im * r.im);
    if (cross) {
      T* sum = cross + i * 2 * L;
      const Cpx<T> product = conj_product(y, r);
      store_cpx(sum, load_cpx(sum) + Cpx<T>{per_row * product.re, per_row * product.im});
    }
    store_cpx(at, Cpx<T>{out_scale * r.re, out_scale * r.im});
  }
  return sum<T>(multiplicity * energy.total());
}
template <class T>
double residual_special_group(const Plane<T>& p, const Plane<T>& q, int c, const T* table, const T* middle,
                              const BlurArgs<T>& args, T* cross, T* middle_cross) {
  constexpr int L = kLanes<T>;
  constexpr T half = static_cast<T>(0.5);
  const T scale = args.scale, out_scale = args.out_scale;
  VecSum<T> sums;
  double united_energy = 0;
  for (int f2 = 0; f2 <= p.g.width() / 2; ++f2) {
    const MirrorPair<T> a = mirror_pair(p, c, f2), b = mirror_pair(q, c, f2);
    const bool paired = a.position != a.mirror_position;
    const Cpx<T> x = load_cpx(a.at), u = load_cpx(a.mirror), y = load_cpx(b.at), w = load_cpx(b.mirror);
    Cpx<T> r = x - apply(y, table, a.position, true), s = u - apply(w, table, a.mirror_position, true);
    const EntryPair<T> other = separate(y, w), blurred = apply(other, table, middle, a.position, true);
    EntryPair<T> rest = separate(x, u);
    rest = {{rest.first.re - blurred.first.re, rest.first.im - blurred.first.im},
            {rest.middle.re - blurred.middle.re, rest.middle.im - blurred.middle.im}};
    sums.add(scaled_square(r, scale));
    if (paired) sums.add(scaled_square(s, scale));
    united_energy +=
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
  Vec<T> energy = sums.total();
  energy[0] = 0;
  return 2 * sum<T>(energy) + united_energy;
}

template <class T>
void blur_mse(const Geometry<T>& g, const Image& a, const Image& b, const Image* out, const BlurArgs<T>& args,
              T* work) {
  const TwoImages<T> images(g, a, b, work);
  const Plane<T>&p = images.p, &q = images.q;
  if (out && !streams(p, *out, args.streaming)) p.ahead_out = rows_ahead(p, *out, 0);
  const ptrdiff_t group_step = static_cast<ptrdiff_t>(g.width()) * 2 * kLanes<T>, last = middle_row(g, true);
  double* energies = group_energies(g, work, 1);
  const auto each = [&](int group, int c) BLURFFT_LAMBDA_INLINE {
    const T* table = args.table + c * args.table_step;
    T* cross = args.cross ? args.cross + c * args.cross_step : nullptr;
    double energy;
    if (group == 0 && g.rows.united) {
      energy = residual_special_group(p, q, c, table, table + last, args, cross, cross ? cross + last : nullptr);
    } else {
      const ptrdiff_t at = group * group_step;
      energy = residual_rows(p, q, c, table + at, args, row_multiplicity(g, group), cross ? cross + at : nullptr);
    }
    energies[group * g.planes + c] = energy;
    if (out) transform_rows<true>(p, c);
  };
  images.each_rows(each, [&](int group) BLURFFT_LAMBDA_INLINE {
    if (out) store_rows(p, group);
  });
  add_up(g, energies, args.energy);
  if (!out) return;
  mix_special_rows<true>(p);
  transform_columns<true>(p);
  store_plane(p, *out, args.streaming);
}

}  // namespace
}  // namespace blurfft::cpu
