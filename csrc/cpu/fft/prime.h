// Stages of a prime radix that has no butterfly but is small enough for the definition of the transform.
#pragma once

#include "line.h"

namespace blurfft {
namespace {

// For Q outputs the sums over k in [begin, end) of the sums[k] times their cosines, and of the differences[k] times
// their sines.
template <int Q, class T>
BLURFFT_INLINE void multiply_roots(const T* sums, const T* differences, int begin, int end, const T* roots,
                                   Cpx<T> (&even)[Q], Cpx<T> (&odd)[Q]) {
  constexpr int step = 2 * kLanes<T>;
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) even[q] = odd[q] = Cpx<T>{};
  roots += 2 * Q * begin;
  for (int k = begin; k < end; ++k, roots += 2 * Q) {
    const Cpx<T> s = load_cpx(sums + k * step);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) even[q] = {even[q].re + roots[q] * s.re, even[q].im + roots[q] * s.im};
    const Cpx<T> d = load_cpx(differences + k * step);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) odd[q] = {odd[q].re + roots[Q + q] * d.re, odd[q].im + roots[Q + q] * d.im};
  }
}

// Elements a leg apart. Outputs q and -q are the sum and the difference of what elements k and -k give together.
template <bool Inverse, bool Twiddle, class T>
void prime_butterfly(int radix, const T* roots, const T* in, ptrdiff_t in_leg, T* out, ptrdiff_t out_leg,
                     const T* twiddle) {
  constexpr int step = 2 * kLanes<T>;
  T sums[kLargestDirect<T> / 2 * step], differences[kLargestDirect<T> / 2 * step];
  const int half = radix / 2;
  // A few products at a time are added up on their own: rounding errors grow with the length of a chain.
  const int chains = half < 16 ? 2 : (half + 7) / 8, chain = (half + chains - 1) / chains;
  const auto element = [&](int k) BLURFFT_LAMBDA_INLINE {
    const Cpx<T> a = load_cpx(in + k * in_leg);
    if constexpr (Inverse && Twiddle) return multiply<true>(a, twiddle + 2 * k - 2);
    return a;
  };
  const auto store_output = [&](int q, Cpx<T> a) BLURFFT_LAMBDA_INLINE {
    if constexpr (!Inverse && Twiddle) a = multiply<false>(a, twiddle + 2 * q - 2);
    store_cpx(out + q * out_leg, a);
  };
  for (int k = 0; k < half; ++k) {
    const Cpx<T> a = element(1 + k), b = element(radix - 1 - k);
    store_cpx(sums + k * step, a + b);
    store_cpx(differences + k * step, a - b);
  }
  const Cpx<T> first = load_cpx(in);
  store_cpx(out, first + sum_of_elements(sums, step, half));
  const auto outputs = [&]<int Q>(std::integral_constant<int, Q>, int q) BLURFFT_LAMBDA_INLINE {
    Cpx<T> even[Q], odd[Q], more_even[Q], more_odd[Q];
    const T* of_outputs = roots + (q - 1) * 2 * half;
    multiply_roots<Q>(sums, differences, 0, chain, of_outputs, even, odd);
    for (int begin = chain; begin < half; begin += chain) {
      const int end = begin + chain < half ? begin + chain : half;
      multiply_roots<Q>(sums, differences, begin, end, of_outputs, more_even, more_odd);
#pragma GCC unroll 4
      for (int i = 0; i < Q; ++i) {
        even[i] = even[i] + more_even[i];
        odd[i] = odd[i] + more_odd[i];
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < Q; ++i) {
      const Cpx<T> a = first + even[i], b = rotate<Inverse>(odd[i]);
      store_output(q + i, a + b);
      store_output(radix - q - i, a - b);
    }
  };
  int q = 1;
  for (; q + kRootOutputs <= half + 1; q += kRootOutputs) outputs(std::integral_constant<int, kRootOutputs>{}, q);
  if (q == half) outputs(std::integral_constant<int, 1>{}, q);
  if (q == half - 1) outputs(std::integral_constant<int, 2>{}, q);
}

template <bool Inverse, class T>
void prime_stage(const Stage<T>& s, int blocks, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step) {
  const ptrdiff_t in_leg = s.m * in_step, out_leg = s.m * out_step;
  const T* twiddle = s.twiddle;
  for (int j = 0; j < s.m; ++j, in += in_step, out += out_step) {
    const T* from = in;
    T* to = out;
    for (int block = 0; block < blocks; ++block, from += s.radix * in_leg, to += s.radix * out_leg) {
      if (j == 0 || !twiddle) {
        prime_butterfly<Inverse, false>(s.radix, s.roots, from, in_leg, to, out_leg, twiddle);
      } else {
        prime_butterfly<Inverse, true>(s.radix, s.roots, from, in_leg, to, out_leg, twiddle);
      }
    }
    if (twiddle) twiddle += 2 * s.radix - 2;
  }
}

}  // namespace
}  // namespace blurfft
