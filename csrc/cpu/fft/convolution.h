// Stages of a prime radix that is too large for the definition. A block is gathered into a line of its own, which is
// transformed, multiplied by a spectrum and transformed back, and scattered: see Convolution.
#pragma once

#include "line.h"

namespace blurfft {
namespace {

// The first stage of a convolution's line, from where a block lies: Plain without twiddle factors. Values of x are
// taken less `mean`; a spectrum's are not, whose first may be far larger than the others.
template <int R, bool Plain, bool Inverse, class T>
void gather_stage(const Stage<T>& s, const int32_t* index, const T* in, ptrdiff_t leg, Cpx<T> mean, T* out) {
  constexpr int step = 2 * kLanes<T>;
  const int m = s.m;
  const T* twiddle = s.twiddle;
  for (int j = 0; j < m; ++j, out += step) {
    Cpx<T> a[R];
#pragma GCC unroll 8
    for (int k = 0; k < R; ++k) {
      const ptrdiff_t at = index[j + k * m];
      if (at == 0) {
        a[k] = Cpx<T>{};
        continue;
      }
      a[k] = load_cpx(in + at * leg);
      if constexpr (!Inverse) a[k] = a[k] - mean;
    }
    dft<R, false>(a);
    store_cpx(out, a[0]);
#pragma GCC unroll 8
    for (int k = 1; k < R; ++k) {
      if constexpr (!Plain) a[k] = multiply<false>(a[k], twiddle + 2 * k - 2);
      store_cpx(out + k * m * step, a[k]);
    }
    if constexpr (!Plain) twiddle += 2 * R - 2;
  }
}

// The last stage of the way back, to where a block lies. What belongs to zeros goes to the first element, which is
// written afterwards.
template <int R, bool Plain, class T>
void scatter_stage(const Stage<T>& s, const int32_t* index, const T* in, Cpx<T> first, T* out, ptrdiff_t leg) {
  constexpr int step = 2 * kLanes<T>;
  const int m = s.m;
  const T* twiddle = s.twiddle;
  for (int j = 0; j < m; ++j, in += step) {
    Cpx<T> a[R];
    a[0] = load_cpx(in);
#pragma GCC unroll 8
    for (int k = 1; k < R; ++k) {
      a[k] = load_cpx(in + k * m * step);
      if constexpr (!Plain) a[k] = multiply<true>(a[k], twiddle + 2 * k - 2);
    }
    if constexpr (!Plain) twiddle += 2 * R - 2;
    dft<R, true>(a);
#pragma GCC unroll 8
    for (int k = 0; k < R; ++k) store_cpx(out + index[j + k * m] * leg, a[k] + first);
  }
}

// The last stage of a line, the product with a spectrum and the first stage back.
template <int R, bool Conjugate, class T>
void product_stage(T* at, int blocks, const T* spectrum) {
  constexpr int step = 2 * kLanes<T>;
  for (int block = 0; block < blocks; ++block, at += R * step, spectrum += 2 * R) {
    Cpx<T> a[R];
#pragma GCC unroll 16
    for (int k = 0; k < R; ++k) a[k] = load_cpx(at + k * step);
    if constexpr (R > 1) dft<R, false>(a);
#pragma GCC unroll 16
    for (int k = 0; k < R; ++k) a[k] = multiply<Conjugate>(a[k], spectrum + 2 * k);
    if constexpr (R > 1) dft<R, true>(a);
#pragma GCC unroll 16
    for (int k = 0; k < R; ++k) store_cpx(at + k * step, a[k]);
  }
}
template <bool Conjugate, class T, class Between>
void run_product(const Stage<T>& s, int blocks, T* at, const T* spectrum, Between between) {
  constexpr int step = 2 * kLanes<T>;
  between();
  const bool is_butterfly = with_butterfly(
      s.radix, [&]<int R>() BLURFFT_LAMBDA_INLINE { product_stage<R, Conjugate>(at, blocks, spectrum); });
  if (is_butterfly) return;
  prime_stage<false>(s, blocks, at, step, at, step);
  product_stage<1, Conjugate>(at, blocks * s.radix, spectrum);
  prime_stage<true>(s, blocks, at, step, at, step);
}

// A convolution's line but for its first stage: there, times the spectrum, and back, `copies` lines at a time.
template <bool Conjugate, class T, class Between>
void convolve(const Convolution<T>& c, int copies, T* work, Between between) {
  constexpr int step = 2 * kLanes<T>;
  const Line<T>& line = *c.line;
  T* const no_scratch = nullptr;  // no stage here is a convolution
  const int last = line.stage_count - 1, parts = copies == 1 ? separate_parts(line) : 1;
  for (int part = 0; part < parts; ++part) {
    const ptrdiff_t from = static_cast<ptrdiff_t>(part) * line.stages[0].m;
    T* at = work + from * step;
    const auto blocks = [&](int i) { return copies * line.stages[i].blocks / parts; };
    for (int i = 1; i < last; ++i) {
      run_stage<false>(line.stages[i], blocks(i), at, step, at, step, no_scratch, between);
    }
    for (int copy = 0; copy < copies; ++copy) {
      run_product<Conjugate>(line.stages[last], blocks(last) / copies, at + copy * line.n * step, c.spectrum + 2 * from,
                             between);
    }
    for (int i = last - 1; i > 0; --i) {
      run_stage<true>(line.stages[i], blocks(i), at, step, at, step, no_scratch, between);
    }
  }
}

// Blocks that follow each other, as many as go through the line at a time.
template <int R, bool Plain, bool Inverse, class T, class Between>
void convolve_blocks(const Stage<T>& s, int count, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step,
                     T* scratch, Between between) {
  constexpr int step = 2 * kLanes<T>;
  const Convolution<T>& c = *s.convolution;
  const Stage<T>& first = c.line->stages[0];
  const T part = 1 / static_cast<T>(s.radix);
  const ptrdiff_t in_leg = s.m * in_step, out_leg = s.m * out_step, line_step = c.line->n * step;
  const int32_t *from = Inverse ? c.ordinals : c.powers, *to = Inverse ? c.powers : c.ordinals;
  // Behind the lines: of each block the sum, and what its other outputs have in common.
  T* const ends = scratch + s.batch * line_step;
  for (int i = 0; i < count; ++i, in += s.radix * in_leg) {
    const Cpx<T> sum = sum_of_elements(in, in_leg, s.radix), x0 = load_cpx(in);
    const Cpx<T> mean = {part * sum.re, part * sum.im};
    gather_stage<R, Plain, Inverse>(first, from, in, in_leg, mean, scratch + i * line_step);
    store_cpx(ends + 2 * i * step, sum);
    store_cpx(ends + (2 * i + 1) * step, Inverse ? x0 : x0 - mean);
  }
  convolve<Inverse>(c, count, scratch, between);
  for (int i = 0; i < count; ++i, out += s.radix * out_leg) {
    const Cpx<T> common = load_cpx(ends + (2 * i + 1) * step);
    scatter_stage<R, Plain>(first, to, scratch + i * line_step, common, out, out_leg);
    store_cpx(out, load_cpx(ends + 2 * i * step));
  }
}
template <bool Inverse, class T, class Between>
void run_blocks(const Stage<T>& s, int count, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step, T* scratch,
                Between between) {
  const Stage<T>& first = s.convolution->line->stages[0];
  // A 2 comes first where it is the only one, so that it has no twiddle factors.
  if (first.radix == 2)
    return convolve_blocks<2, true, Inverse>(s, count, in, in_step, out, out_step, scratch, between);
  if (first.radix == 4) {
    return first.twiddle ? convolve_blocks<4, false, Inverse>(s, count, in, in_step, out, out_step, scratch, between)
                         : convolve_blocks<4, true, Inverse>(s, count, in, in_step, out, out_step, scratch, between);
  }
  return first.twiddle ? convolve_blocks<8, false, Inverse>(s, count, in, in_step, out, out_step, scratch, between)
                       : convolve_blocks<8, true, Inverse>(s, count, in, in_step, out, out_step, scratch, between);
}

template <bool Conjugate, class T>
void multiply_block(const T* in, ptrdiff_t in_leg, T* out, ptrdiff_t out_leg, int count, const T* twiddle) {
  for (int i = 0; i < count; ++i) {
    store_cpx(out + i * out_leg, multiply<Conjugate>(load_cpx(in + i * in_leg), twiddle + 2 * i));
  }
}

template <bool Inverse, class T, class Between>
void convolution_stage(const Stage<T>& s, int blocks, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step,
                       T* scratch, Between between) {
  const int batch = s.batch;
  const ptrdiff_t in_leg = s.m * in_step, out_leg = s.m * out_step;
  const ptrdiff_t in_block = s.radix * in_leg, out_block = s.radix * out_leg;
  for (int j = 0; j < s.m; ++j, in += in_step, out += out_step) {
    if (j == 0 || !s.twiddle) {
      for (int block = 0; block < blocks; block += batch) {
        const int count = blocks - block < batch ? blocks - block : batch;
        run_blocks<Inverse>(s, count, in + block * in_block, in_step, out + block * out_block, out_step, scratch,
                            between);
      }
      continue;
    }
    // Twiddle factors are needed where another convolution follows, which is rare: a pass of their own.
    const T* twiddle = s.twiddle + static_cast<ptrdiff_t>(j) * 2 * s.radix;
    for (int block = 0; block < blocks; ++block) {
      const T* from = in + block * in_block;
      T* to = out + block * out_block;
      if constexpr (Inverse) {
        multiply_block<true>(from, in_leg, to, out_leg, s.radix, twiddle);
        run_blocks<true>(s, 1, to, out_step, to, out_step, scratch, between);
      } else {
        run_blocks<false>(s, 1, from, in_step, to, out_step, scratch, between);
        multiply_block<false>(to, out_leg, to, out_leg, s.radix, twiddle);
      }
    }
  }
}

}  // namespace
}  // namespace blurfft
