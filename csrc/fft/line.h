// One-dimensional mixed-radix transforms of vectors.
//
// Forward is decimation in frequency, in place, and leaves digit-reversed order; inverse is decimation in time and
// consumes it. Nothing is ever reordered: callers index spectra by Line::position.
#pragma once

#include "plan.h"
#include "radix.h"

namespace blurfft {
namespace {

template <class T>
BLURFFT_INLINE Cpx<T> multiply(Cpx<T> a, T re, T im) {
  return {a.re * re - a.im * im, a.im * re + a.re * im};
}

// R elements a leg apart; the twiddle factors of element 0 of a block are ones and skipped.
template <int R, bool Inverse, bool Twiddle, class T>
BLURFFT_INLINE void butterfly(const T* in, ptrdiff_t in_leg, T* out, ptrdiff_t out_leg, const T* tw) {
  Cpx<T> a[R];
#pragma GCC unroll 8
  for (int k = 0; k < R; ++k) a[k] = load_cpx(in + k * in_leg);
  if constexpr (Inverse && Twiddle) {
#pragma GCC unroll 8
    for (int k = 1; k < R; ++k) a[k] = multiply(a[k], tw[2 * k - 2], -tw[2 * k - 1]);
  }
  dft<R, Inverse>(a);
  if constexpr (!Inverse && Twiddle) {
#pragma GCC unroll 8
    for (int k = 1; k < R; ++k) a[k] = multiply(a[k], tw[2 * k - 2], tw[2 * k - 1]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < R; ++k) store_cpx(out + k * out_leg, a[k]);
}

// One stage over `blocks` blocks of R * m elements, element i at in + i * in_step. The two steps differ where a
// stage moves a column between the plane and a small buffer.
template <int R, bool Inverse, class T>
void radix_stage(const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step, int blocks, int m, const T* twiddle) {
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

// A stage on `blocks` consecutive blocks.
template <bool Inverse, class T>
void run_stage(const Stage<T>& s, int blocks, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step) {
  switch (s.radix) {
    case 2:
      return radix_stage<2, Inverse>(in, in_step, out, out_step, blocks, s.m, s.twiddle);
    case 3:
      return radix_stage<3, Inverse>(in, in_step, out, out_step, blocks, s.m, s.twiddle);
    case 4:
      return radix_stage<4, Inverse>(in, in_step, out, out_step, blocks, s.m, s.twiddle);
    case 5:
      return radix_stage<5, Inverse>(in, in_step, out, out_step, blocks, s.m, s.twiddle);
    case 7:
      return radix_stage<7, Inverse>(in, in_step, out, out_step, blocks, s.m, s.twiddle);
    default:
      return radix_stage<8, Inverse>(in, in_step, out, out_step, blocks, s.m, s.twiddle);
  }
}

// Stages [0, count) of a line: from `in` to `out` by way of `buffer`, which may be either. The first stage leaves
// independent parts; where a whole line would fill the first-level cache they are finished one after the other.
template <bool Inverse, class T>
void run_stages(const Line<T>& line, int count, const T* in, ptrdiff_t in_step, T* out, ptrdiff_t out_step, T* buffer,
                ptrdiff_t buffer_step) {
  constexpr size_t kCached = 20 << 10;
  const bool by_parts = count > 1 && line.n * 2 * kVectorBytes > static_cast<ptrdiff_t>(kCached);
  const int parts = by_parts ? line.stages[0].radix : 1, length = by_parts ? line.stages[0].m : line.n;
  const auto first = [&](const T* from, ptrdiff_t from_step, T* to, ptrdiff_t to_step) {
    run_stage<Inverse>(line.stages[0], 1, from, from_step, to, to_step);
  };
  if (count == 1) return first(in, in_step, out, out_step);
  if constexpr (!Inverse) first(in, in_step, buffer, buffer_step);
  for (int part = 0; part < parts; ++part) {
    const ptrdiff_t offset = static_cast<ptrdiff_t>(part) * length;
    for (int i = 1; i < count; ++i) {
      const int stage = Inverse ? count - i : i;
      const bool from_in = Inverse && i == 1, to_out = !Inverse && i == count - 1;
      const T* from = from_in ? in + offset * in_step : buffer + offset * buffer_step;
      T* to = to_out ? out + offset * out_step : buffer + offset * buffer_step;
      run_stage<Inverse>(line.stages[stage], line.stages[stage].blocks / parts, from, from_in ? in_step : buffer_step,
                         to, to_out ? out_step : buffer_step);
    }
  }
  if constexpr (Inverse) first(buffer, buffer_step, out, out_step);
}

}  // namespace
}  // namespace blurfft
