// Butterflies of radix 2, 3, 4, 5, 7, 8, 11 and 13 on vectors of independent transforms.
#pragma once

#include "vec.h"

namespace blurfft {
namespace {

// cos and sin of 2 pi k / R for the odd radices, k = 0 .. R - 1.
template <int R>
struct Roots;
template <>
struct Roots<3> {
  static constexpr double cos[3] = {1, -0.5, -0.5};
  static constexpr double sin[3] = {0, 0.86602540378443864676, -0.86602540378443864676};
};
template <>
struct Roots<5> {
  static constexpr double c1 = 0.30901699437494742410, c2 = -0.80901699437494742410;
  static constexpr double s1 = 0.95105651629515357212, s2 = 0.58778525229247312917;
  static constexpr double cos[5] = {1, c1, c2, c2, c1};
  static constexpr double sin[5] = {0, s1, s2, -s2, -s1};
};
template <>
struct Roots<7> {
  static constexpr double c1 = 0.62348980185873353053, c2 = -0.22252093395631440429, c3 = -0.90096886790241912624;
  static constexpr double s1 = 0.78183148246802980871, s2 = 0.97492791218182360702, s3 = 0.43388373911755812048;
  static constexpr double cos[7] = {1, c1, c2, c3, c3, c2, c1};
  static constexpr double sin[7] = {0, s1, s2, s3, -s3, -s2, -s1};
};
template <>
struct Roots<11> {
  static constexpr double c1 = 0.84125353283118116886, c2 = 0.41541501300188642553, c3 = -0.14231483827328514044,
                          c4 = -0.65486073394528506406, c5 = -0.95949297361449738989;
  static constexpr double s1 = 0.54064081745559758211, s2 = 0.90963199535451837141, s3 = 0.98982144188093273238,
                          s4 = 0.75574957435425828377, s5 = 0.28173255684142969771;
  static constexpr double cos[11] = {1, c1, c2, c3, c4, c5, c5, c4, c3, c2, c1};
  static constexpr double sin[11] = {0, s1, s2, s3, s4, s5, -s5, -s4, -s3, -s2, -s1};
};
template <>
struct Roots<13> {
  static constexpr double c1 = 0.88545602565320989590, c2 = 0.56806474673115580251, c3 = 0.12053668025532305335,
                          c4 = -0.35460488704253562597, c5 = -0.74851074817110109863, c6 = -0.97094181742605202716;
  static constexpr double s1 = 0.46472317204376854566, s2 = 0.82298386589365639458, s3 = 0.99270887409805399280,
                          s4 = 0.93501624268541482344, s5 = 0.66312265824079520238, s6 = 0.23931566428755776715;
  static constexpr double cos[13] = {1, c1, c2, c3, c4, c5, c6, c6, c5, c4, c3, c2, c1};
  static constexpr double sin[13] = {0, s1, s2, s3, s4, s5, s6, -s6, -s5, -s4, -s3, -s2, -s1};
};

// a * -i forward, a * +i inverse.
template <bool Inverse, class T>
BLURFFT_INLINE Cpx<T> rotate(Cpx<T> a) {
  if constexpr (Inverse) {
    return {-a.im, a.re};
  } else {
    return {a.im, -a.re};
  }
}

// One component of an odd radix: `along` are that component of the a_k, `across` the other one. Outputs pair
// a_k with a_{R-k}: the cosine part acts on sums along, the sine part on differences across.
template <int R, class T>
BLURFFT_INLINE void dft_component(const Vec<T> (&along)[R], const Vec<T> (&across)[R], T sign, Vec<T> (&out)[R]) {
  constexpr int half = (R - 1) / 2;
  Vec<T> s[half], d[half];
#pragma GCC unroll 8
  for (int k = 0; k < half; ++k) {
    s[k] = along[k + 1] + along[R - 1 - k];
    d[k] = across[k + 1] - across[R - 1 - k];
  }
#pragma GCC unroll 8
  for (int q = 1; q <= half; ++q) {
    Vec<T> even = along[0], odd = (sign * static_cast<T>(Roots<R>::sin[q])) * d[0];
#pragma GCC unroll 8
    for (int k = 0; k < half; ++k) even += static_cast<T>(Roots<R>::cos[q * (k + 1) % R]) * s[k];
#pragma GCC unroll 8
    for (int k = 1; k < half; ++k) odd += (sign * static_cast<T>(Roots<R>::sin[q * (k + 1) % R])) * d[k];
    out[q] = even + odd;
    out[R - q] = even - odd;
  }
  out[0] = along[0];
#pragma GCC unroll 8
  for (int k = 0; k < half; ++k) out[0] += s[k];
}

template <int R, bool Inverse, class T>
BLURFFT_INLINE void dft(Cpx<T> (&a)[R]) {
  static_assert(R % 2 == 1);
  constexpr T sign = Inverse ? -1 : 1;
  Vec<T> re[R], im[R], y[R];
#pragma GCC unroll 16
  for (int k = 0; k < R; ++k) {
    re[k] = a[k].re;
    im[k] = a[k].im;
  }
  dft_component<R, T>(re, im, sign, y);
#pragma GCC unroll 16
  for (int k = 0; k < R; ++k) a[k].re = y[k];
  dft_component<R, T>(im, re, -sign, y);
#pragma GCC unroll 16
  for (int k = 0; k < R; ++k) a[k].im = y[k];
}

template <bool Inverse, class T>
BLURFFT_INLINE void dft2(Cpx<T>& a, Cpx<T>& b) {
  const Cpx<T> d = a - b;
  a = a + b;
  b = d;
}
template <bool Inverse, class T>
BLURFFT_INLINE void dft4(Cpx<T>& a0, Cpx<T>& a1, Cpx<T>& a2, Cpx<T>& a3) {
  const Cpx<T> s02 = a0 + a2, d02 = a0 - a2, s13 = a1 + a3, d13 = rotate<Inverse>(a1 - a3);
  a0 = s02 + s13;
  a2 = s02 - s13;
  a1 = d02 + d13;
  a3 = d02 - d13;
}

template <int R, bool Inverse, class T>
  requires(R == 2)
BLURFFT_INLINE void dft(Cpx<T> (&a)[R]) {
  dft2<Inverse>(a[0], a[1]);
}
template <int R, bool Inverse, class T>
  requires(R == 4)
BLURFFT_INLINE void dft(Cpx<T> (&a)[R]) {
  dft4<Inverse>(a[0], a[1], a[2], a[3]);
}
template <int R, bool Inverse, class T>
  requires(R == 8)
BLURFFT_INLINE void dft(Cpx<T> (&a)[R]) {
  constexpr T h = static_cast<T>(0.70710678118654752440);
  // Decimation in frequency: sums feed the even outputs, twiddled differences the odd ones.
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) dft2<Inverse>(a[k], a[k + 4]);
  dft4<Inverse>(a[0], a[1], a[2], a[3]);
  const Cpx<T> r1 = rotate<Inverse>(a[5]), r3 = rotate<Inverse>(a[7]);
  a[5] = {h * (a[5].re + r1.re), h * (a[5].im + r1.im)};
  a[6] = rotate<Inverse>(a[6]);
  a[7] = {h * (r3.re - a[7].re), h * (r3.im - a[7].im)};
  dft4<Inverse>(a[4], a[5], a[6], a[7]);
  // Slots now hold outputs 0 2 4 6 1 3 5 7.
  const Cpx<T> y1 = a[4], y2 = a[1], y3 = a[5], y4 = a[2], y5 = a[6], y6 = a[3];
  a[1] = y1;
  a[2] = y2;
  a[3] = y3;
  a[4] = y4;
  a[5] = y5;
  a[6] = y6;
}

}  // namespace
}  // namespace blurfft
