// One-dimensional mixed-radix transforms of vectors.
//
// Forward is decimation in frequency, in place, and leaves digit-reversed order; inverse is decimation in time and
// consumes it. Nothing is ever reordered: callers index spectra by Line::position.
#pragma once

#include "plan.h"
#include "radix.h"

namespace blurfft {
namespace {

// a * w, or a * conj(w): negating w for it would cost as much as the product.
template <bool Conjugate, class T>
BLURFFT_INLINE Cpx<T> multiply(Cpx<T> a, const T* w) {
  const T re = w[0], im = w[1];
  if constexpr (Conjugate) {
    return {a.re * re + a.im * im, a.im * re - a.re * im};
  } else {
    return {a.re * re - a.im * im, a.im * re + a.re * im};
  }
}

// R elements a leg apart; the twiddle factors of element 0 of a block are ones and skipped.
template <int R, bool Inverse, bool Twiddle, class T>
BLURFFT_INLINE void butterfly(const T* in, ptrdiff_t in_leg, T* out, ptrdiff_t out_leg, const T* tw) {
  Cpx<T> a[R];
#pragma GCC unroll 16
  for (int k = 0; k < R; ++k) a[k] = R <= 4 ? in_registers(load_cpx(in + k * in_leg)) : load_cpx(in + k * in_leg);
  if constexpr (Inverse && Twiddle) {
#pragma GCC unroll 16
    for (int k = 1; k < R; ++k) a[k] = multiply<true>(a[k], tw + 2 * k - 2);
  }
  dft<R, Inverse>(a);
  if constexpr (!Inverse && Twiddle) {
#pragma GCC unroll 16
    for (int k = 1; k < R; ++k) a[k] = multiply<false>(a[k], tw + 2 * k - 2);
  }
#pragma GCC unroll 16
  for (int k = 0; k < R; ++k) store_cpx(out + k * out_leg, a[k]);
}

// The same for every element of a block, where none has twiddle factors.
template <int R, bool Inverse, class T>
void plain_stage(const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step, int blocks, int m) {
  const ptrdiff_t in_leg = m * in_step, out_leg = m * out_step;
  for (int block = 0; block < blocks; ++block, in += (R - 1) * in_leg, out += (R - 1) * out_leg) {
    for (int j = 0; j < m; ++j, in += in_step, out += out_step) {
      butterfly<R, Inverse, false>(in, in_leg, out, out_leg, in);
    }
  }
}

// One stage over `blocks` blocks of R * m elements, element i at in + i * in_step. The two steps differ where a
// stage moves a column between the plane and a small buffer.
template <int R, bool Inverse, class T>
void radix_stage(const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step, int blocks, int m, const T* twiddle) {
  if (!twiddle && m > 1) return plain_stage<R, Inverse>(in, in_step, out, out_step, blocks, m);
  const ptrdiff_t in_leg = m * in_step, out_leg = m * out_step;
  const ptrdiff_t in_block = R * in_leg, out_block = R * out_leg;
  const T* from = in;
  T* to = out;
  for (int block = 0; block < blocks; ++block, from += in_block, to += out_block) {
    butterfly<R, Inverse, false>(from, in_leg, to, out_leg, twiddle);
  }
  if (blocks == 1) {
    for (int j = 1; j < m; ++j) {
      twiddle += 2 * R - 2;
      butterfly<R, Inverse, true>(in += in_step, in_leg, out += out_step, out_leg, twiddle);
    }
    return;
  }
  for (int j = 1; j < m; ++j) {
    twiddle += 2 * R - 2;
    from = in += in_step;
    to = out += out_step;
    for (int block = 0; block < blocks; ++block, from += in_block, to += out_block) {
      butterfly<R, Inverse, true>(from, in_leg, to, out_leg, twiddle);
    }
  }
}

// The sum of elements a leg apart: as sums of few, whose rounding errors are small.
template <class T>
Cpx<T> sum_of_elements(const T* in, ptrdiff_t leg, int count) {
  constexpr int few = 16;
  Cpx<T> total = {};
  for (int begin = 0; begin < count; begin += few) {
    const int end = begin + few < count ? begin + few : count;
    Cpx<T> part = {};
    for (int i = begin; i < end; ++i) part = part + load_cpx(in + i * leg);
    total = total + part;
  }
  return total;
}

// Calls f with a radix as a constant if it has a butterfly, and tells whether.
template <class F>
BLURFFT_INLINE bool with_butterfly(int radix, F f) {
  switch (radix) {
    case 2:
      return f.template operator()<2>(), true;
    case 3:
      return f.template operator()<3>(), true;
    case 4:
      return f.template operator()<4>(), true;
    case 5:
      return f.template operator()<5>(), true;
    case 7:
      return f.template operator()<7>(), true;
    case 8:
      return f.template operator()<8>(), true;
    case 11:
      return f.template operator()<11>(), true;
    case 13:
      return f.template operator()<13>(), true;
    default:
      return false;
  }
}

template <bool Inverse, class T>
void prime_stage(const Stage<T>& s, int blocks, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step);
template <bool Inverse, class T, class Between>
void convolution_stage(const Stage<T>& s, int blocks, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step,
                       T* scratch, Between between);

// A stage of `blocks` blocks: all of a line's, or those of one of its parts, or those of several lines.
template <bool Inverse, class T, class Between>
void run_stage(const Stage<T>& s, int blocks, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step, T* scratch,
               Between between) {
  between();
  const bool is_butterfly = with_butterfly(s.radix, [&]<int R>() BLURFFT_LAMBDA_INLINE {
    radix_stage<R, Inverse>(in, in_step, out, out_step, blocks, s.m, s.twiddle);
  });
  if (is_butterfly) return;
  if (s.roots) return prime_stage<Inverse>(s, blocks, in, in_step, out, out_step);
  convolution_stage<Inverse>(s, blocks, in, in_step, out, out_step, scratch, between);
}

// The first stage divides a line into transforms of their own, as many as its radix. Where the line, vectors all, takes
// half of the first-level cache or more, each of these parts goes through all its stages before the next does; else the
// whole line is one part.
constexpr ptrdiff_t kLargeLineBytes = 1 << 14;
template <class T>
BLURFFT_INLINE int separate_parts(const Line<T>& line) {
  return line.n * 2 * static_cast<ptrdiff_t>(kVectorBytes) < kLargeLineBytes ? 1 : line.stages[0].radix;
}

// All stages of a line: the first to run reads from `line_at`, the last writes there, what lies between stays in
// `buffer`. The two may be the same. `scratch` is for the line's convolutions. Calls between() before each stage.
template <bool Inverse, class T, class Between>
void run_stages(const Line<T>& line, T* line_at, ptrdiff_t line_step, T* buffer, ptrdiff_t buffer_step, T* scratch,
                Between between) {
  const int count = line.stage_count;
  if (count == 0) return;
  const auto run = [&](int i, int parts, ptrdiff_t from) BLURFFT_LAMBDA_INLINE {
    const bool reads_line = i == (Inverse ? count - 1 : 0), writes_line = i == (Inverse ? 0 : count - 1);
    run_stage<Inverse>(line.stages[i], line.stages[i].blocks / parts,
                       reads_line ? line_at + from * line_step : buffer + from * buffer_step,
                       reads_line ? line_step : buffer_step,
                       writes_line ? line_at + from * line_step : buffer + from * buffer_step,
                       writes_line ? line_step : buffer_step, scratch, between);
  };
  if (!Inverse) run(0, 1, 0);
  const int parts = separate_parts(line);
  for (int part = 0; part < parts; ++part) {
    for (int i = 1; i < count; ++i)
      run(Inverse ? count - i : i, parts, static_cast<ptrdiff_t>(part) * line.stages[0].m);
  }
  if (Inverse) run(0, 1, 0);
}

}  // namespace
}  // namespace blurfft

#include "convolution.h"
#include "prime.h"
