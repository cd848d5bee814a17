// The cross spectrum of two images, added up.
#pragma once

#include "two_images.h"

namespace blurfft::cpu {
namespace {

// sum += scale * conj(X) Y over all row spectra.
template <class T>
void cross(const Geometry<T>& g, const Image& a, const Image& b, T scale, T* sum, ptrdiff_t sum_step, T* work) {
  constexpr int L = kLanes<T>;
  const TwoImages<T> images(g, a, b, work);
  const Plane<T>&p = images.p, &q = images.q;
  const ptrdiff_t group_step = static_cast<ptrdiff_t>(g.width()) * 2 * L;
  const auto each = [&](int group, int c) BLURFFT_LAMBDA_INLINE {
    T* out = sum + c * sum_step + group * group_step;
    T* middle = sum + c * sum_step + middle_row(g, true);
    for (int f2 = 0; f2 < g.width(); ++f2) {
      const MirrorPair<T> x = mirror_pair(p, c, f2), y = mirror_pair(q, c, f2);
      const Cpx<T> x_at = load_cpx(x.at);
      Cpx<T> product = conj_product(Cpx<T>{scale * x_at.re, scale * x_at.im}, load_cpx(y.at));
      T* at = out + x.position * 2 * L;
      if (group == 0 && g.rows.united) {
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
  };
  images.each_rows(each, [](int) {});
}

}  // namespace
}  // namespace blurfft::cpu
