// The two-dimensional transform of a unit in place: load, columns, rows with an action on the spectrum, back.
#pragma once

#include "../cpu/kernels.h"
#include "convert.h"
#include "line.h"

namespace blurfft {
namespace {

using cpu::Element;
using cpu::Geometry;
using cpu::Image;

// Where things lie in a workspace.
template <class T>
struct Plane {
  static constexpr int L = kLanes<T>;
  const Geometry<T>& g;
  int total, half, blocks;  // columns of a unit row, packed columns, vectors of packed columns
  ptrdiff_t row_step;
  T *z, *column, *row, *in_a, *in_b;

  Plane(const Geometry<T>& geometry, T* work) : g(geometry) {
    total = g.width() * g.planes;
    half = (g.width() + 1) / 2 * g.planes;
    blocks = (half + L - 1) / L;
    // An odd number of cache lines a row: columns of a power-of-two plane would otherwise share a few cache sets.
    row_step = static_cast<ptrdiff_t>(blocks | 1) * 2 * L;
    z = work;
    column = z + (g.height() + 1) * row_step;
    row = column + static_cast<ptrdiff_t>(g.height()) * 2 * L;
    in_a = row + static_cast<ptrdiff_t>(2 * half) * 2 * L;
    in_b = in_a + row_length();
  }
  ptrdiff_t row_length() const { return (total + 3 * L) / L * L; }
  size_t elements() const { return (g.height() + 1) * row_step + (g.height() + 2 * half) * 2 * L + 2 * row_length(); }
};

// A row as contiguous values of T: the image itself where it is that already, else converted into scratch.
template <class T>
BLURFFT_INLINE const T* read_row(const Image& image, int h, int width, int planes, T* scratch) {
  const int64_t at = h * image.row;
  const bool flat = image.channel == 1 ? image.column == planes : planes == 1 && image.column == 1;
  if constexpr (sizeof(T) == 8) {
    const double* in = static_cast<const double*>(image.data) + at;
    if (flat) return in;
    widen_row(in, image.column, image.channel, width, planes, scratch);
  } else {
    switch (image.element) {
      case Element::f32: {
        const float* in = static_cast<const float*>(image.data) + at;
        if (flat) return in;
        widen_row(in, image.column, image.channel, width, planes, scratch);
        break;
      }
      case Element::bf16:
        widen_row(static_cast<const BFloat16*>(image.data) + at, image.column, image.channel, width, planes, scratch);
        break;
      default:
        widen_row(static_cast<const Half*>(image.data) + at, image.column, image.channel, width, planes, scratch);
    }
  }
  return scratch;
}
template <class T>
BLURFFT_INLINE T* flat_row(const Image& image, int h, int planes) {
  const bool flat = image.channel == 1 ? image.column == planes : planes == 1 && image.column == 1;
  const bool same = image.element == (sizeof(T) == 8 ? Element::f64 : Element::f32);
  return flat && same ? static_cast<T*>(image.data) + h * image.row : nullptr;
}
template <class T>
void write_row(const Image& image, int h, int width, int planes, const T* in) {
  const int64_t at = h * image.row;
  if constexpr (sizeof(T) == 8) {
    narrow_row(in, width, planes, static_cast<double*>(image.data) + at, image.column, image.channel);
  } else {
    switch (image.element) {
      case Element::f32:
        return narrow_row(in, width, planes, static_cast<float*>(image.data) + at, image.column, image.channel);
      case Element::bf16:
        return narrow_row(in, width, planes, static_cast<BFloat16*>(image.data) + at, image.column, image.channel);
      default:
        return narrow_row(in, width, planes, static_cast<Half*>(image.data) + at, image.column, image.channel);
    }
  }
}

template <class T>
BLURFFT_INLINE Vec<T> load_some(const T* p, int count) {
  Vec<T> v = {};
  for (int l = 0; l < count; ++l) v[l] = p[l];
  return v;
}
template <class T>
BLURFFT_INLINE void store_some(T* p, Vec<T> v, int count) {
  for (int l = 0; l < count; ++l) p[l] = v[l];
}

// Whether a vector may reach past the end of row h: into later rows, or into scratch that is padded for it.
template <class T>
BLURFFT_INLINE bool may_overrun(const Image& image, int h, int height, int total, const T* row, const T* scratch) {
  return row == scratch || (image.row >= total && (height - 1 - h) * image.row >= kLanes<T>);
}

// z = a - b, column j of the left half in the real and of the right half in the imaginary part. What a row's last
// vector holds beyond its columns is of no account, but an odd width's missing column must be zero.
template <class T>
void load_plane(const Plane<T>& p, const Image& a, const Image* b) {
  constexpr int L = kLanes<T>;
  const int width = p.g.width(), height = p.g.height(), planes = p.g.planes, right = p.total - p.half;
  const int full = right / L * L, tail = p.half - full, right_tail = right - full;
  for (int h = 0; h < height; ++h) {
    const T* x = read_row(a, h, width, planes, p.in_a);
    const T* y = b ? read_row(*b, h, width, planes, p.in_b) : nullptr;
    T* out = p.z + h * p.row_step;
    if (y) {
      for (int i = 0; i < full; i += L, out += 2 * L) {
        store(out, load(x + i) - load(y + i));
        store(out + L, load(x + p.half + i) - load(y + p.half + i));
      }
    } else {
      for (int i = 0; i < full; i += L, out += 2 * L) {
        store(out, load(x + i));
        store(out + L, load(x + p.half + i));
      }
    }
    // A channels_last sample of odd width lacks a whole pixel on the right, perhaps more than a vector.
    for (int i = 0; i < tail; i += L, out += 2 * L) {
      const int left_count = tail - i < L ? tail - i : L;
      const int right_count = right_tail - i < 0 ? 0 : right_tail - i < L ? right_tail - i : L;
      const bool overrun =
          may_overrun(a, h, height, p.total, x, p.in_a) && (!y || may_overrun(*b, h, height, p.total, y, p.in_b));
      const T *u = x + full + i, *v = y + full + i;
      Vec<T> re, im;
      if (overrun && left_count == right_count) {
        re = load(u);
        im = load(u + p.half);
        if (y) {
          re -= load(v);
          im -= load(v + p.half);
        }
      } else {
        re = load_some(u, left_count);
        im = load_some(u + p.half, right_count);
        if (y) {
          re -= load_some(v, left_count);
          im -= load_some(v + p.half, right_count);
        }
      }
      store(out, re);
      store(out + L, im);
    }
  }
  std::memset(p.z + height * p.row_step, 0, sizeof(T) * p.row_step);
}

template <class T>
void store_plane(const Plane<T>& p, const Image& image, bool streaming) {
  constexpr int L = kLanes<T>;
  const int width = p.g.width(), height = p.g.height(), planes = p.g.planes, right = p.total - p.half;
  const auto aligned = [](const T* at) { return reinterpret_cast<uintptr_t>(at) % kVectorBytes == 0; };
  for (int h = 0; h < height; ++h) {
    T* direct = flat_row<T>(image, h, planes);
    T* out = direct ? direct : p.in_a;
    const T* in = p.z + h * p.row_step;
    if (streaming && direct && right % L == 0 && p.half == right && aligned(out) && aligned(out + p.half)) {
      for (int i = 0; i < right; i += L, in += 2 * L) {
        store_streaming(out + i, load(in));
        store_streaming(out + p.half + i, load(in + L));
      }
      continue;
    }
    // The left half's last vector reaches into the right half and that one's into the next row: they come before
    // what they overwrite.
    const bool overrun = !direct || (image.row == p.total && (height - 1 - h) * image.row >= L);
    const auto store_tail = [&](T* to, const T* from, int count) {
      for (int i = count / L * L; i < count; i += L) {
        if (overrun) {
          store(to + i, load(from + 2 * i));
        } else {
          store_some(to + i, load(from + 2 * i), count - i);
        }
      }
    };
    store_tail(out, in, p.half);
    const int full = right / L * L;
    for (int i = 0; i < full; i += L) {
      store(out + i, load(in + 2 * i));
      store(out + p.half + i, load(in + 2 * i + L));
    }
    for (int i = full; i + L <= p.half; i += L) store(out + i, load(in + 2 * i));
    store_tail(out + p.half, in + L, right);
    if (!direct) write_row(image, h, width, planes, out);
  }
  if (streaming) fence_streaming();
}

template <bool Inverse, class T>
void transform_columns(const Plane<T>& p) {
  for (int b = 0; b < p.blocks; ++b) {
    transform_column<Inverse>(*p.g.vertical, p.z + b * 2 * kLanes<T>, p.row_step, p.column);
  }
}

// Row 0 and row H/2 of the packed columns are Z0 = A0 + iB0 and Zn = An + iBn with real A, B. Rewritten as
// Z0 + iZn and Z0 - iZn they unpack, like any row and its mirror, to the transforms of A0 + iAn and B0 + iBn.
template <bool Inverse, class T>
void mix_special_rows(const Plane<T>& p) {
  if (p.g.height() % 2) return;
  constexpr T half = static_cast<T>(0.5);
  T* first = p.z + p.g.rows.row[0] * p.row_step;
  T* second = p.z + p.g.rows.mirror[0] * p.row_step;
  for (int b = 0; b < p.blocks; ++b, first += 2 * kLanes<T>, second += 2 * kLanes<T>) {
    const Cpx<T> x = load_cpx(first), y = load_cpx(second);
    if constexpr (Inverse) {
      store_cpx(first, Cpx<T>{half * (x.re + y.re), half * (x.im + y.im)});
      store_cpx(second, Cpx<T>{half * (x.im - y.im), half * (y.re - x.re)});
    } else {
      store_cpx(first, Cpx<T>{x.re - y.im, x.im + y.re});
      store_cpx(second, Cpx<T>{x.re + y.im, x.im - y.re});
    }
  }
}

// Rows f1 and -f1 of packed columns A + iB give twice row f1 of the left half, A, and of the right half, B.
// Transposed on the way: p.row holds one vector (lanes are rows) for every column.
template <class T>
void load_rows(const Plane<T>& p, int group) {
  constexpr int L = kLanes<T>;
  const int32_t* row = p.g.rows.row + group * L;
  const int32_t* mirror = p.g.rows.mirror + group * L;
  const int right = p.total - p.half;
  for (int b = 0; b < p.blocks; ++b) {
    const int left_count = p.half - b * L < L ? p.half - b * L : L;
    const int right_count = right - b * L < left_count ? right - b * L : left_count;
    const T* z = p.z + b * 2 * L;
    T* left = p.row + b * L * 2 * L;
    T* at_right = left + p.half * 2 * L;
    const auto part = [&](int offset_row, int offset_mirror, auto combine, T* out, int count) {
      Vec<T> x[L];
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) {
        x[l] = combine(load(z + row[l] * p.row_step + offset_row), load(z + mirror[l] * p.row_step + offset_mirror));
      }
      transpose(x);
      if (count == L) {
#pragma GCC unroll 16
        for (int l = 0; l < L; ++l) store(out + l * 2 * L, x[l]);
      } else {
        for (int l = 0; l < count; ++l) store(out + l * 2 * L, x[l]);
      }
    };
    const auto add = [](Vec<T> u, Vec<T> v) { return u + v; };
    part(0, 0, add, left, left_count);
    part(L, L, [](Vec<T> u, Vec<T> v) { return u - v; }, left + L, left_count);
    part(L, L, add, at_right, right_count);
    part(0, 0, [](Vec<T> u, Vec<T> v) { return v - u; }, at_right + L, right_count);
  }
}
template <class T>
void store_rows(const Plane<T>& p, int group) {
  constexpr int L = kLanes<T>;
  const int32_t* row = p.g.rows.row + group * L;
  const int32_t* mirror = p.g.rows.mirror + group * L;
  const int right = p.total - p.half;
  for (int b = 0; b < p.blocks; ++b) {
    const int left_count = p.half - b * L < L ? p.half - b * L : L;
    const int right_count = right - b * L < left_count ? right - b * L : left_count;
    T* z = p.z + b * 2 * L;
    const T* left = p.row + b * L * 2 * L;
    const T* at_right = left + p.half * 2 * L;
    const auto part = [&](int from_left, int from_right, auto combine, const int32_t* rows, int offset) {
      Vec<T> x[L];
      if (right_count == L) {
#pragma GCC unroll 16
        for (int l = 0; l < L; ++l)
          x[l] = combine(load(left + l * 2 * L + from_left), load(at_right + l * 2 * L + from_right));
      } else {
        for (int l = 0; l < L; ++l) {
          const Vec<T> u = l < left_count ? load(left + l * 2 * L + from_left) : Vec<T>{};
          const Vec<T> v = l < right_count ? load(at_right + l * 2 * L + from_right) : Vec<T>{};
          x[l] = combine(u, v);
        }
      }
      transpose(x);
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) store(z + rows[l] * p.row_step + offset, x[l]);
    };
    const auto add = [](Vec<T> u, Vec<T> v) { return u + v; };
    const auto subtract = [](Vec<T> u, Vec<T> v) { return u - v; };
    // The mirror first: where a row is its own mirror (row 0 of an odd height) the row itself must win.
    part(0, L, add, mirror, 0);
    part(L, 0, [](Vec<T> u, Vec<T> v) { return v - u; }, mirror, L);
    part(0, L, subtract, row, 0);
    part(L, 0, add, row, L);
  }
}

// All stages of p.row's transforms of plane c but the last forward (first inverse) one.
template <bool Inverse, class T>
void outer_stages(const Plane<T>& p, int c) {
  const Line<T>& line = *p.g.horizontal;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * kLanes<T>;
  T* at = p.row + c * 2 * kLanes<T>;
  for (int i = 0; i < line.stage_count - 1; ++i) {
    run_stage<Inverse>(line.stages[Inverse ? line.stage_count - 2 - i : i], at, step, at, step);
  }
}
template <bool Inverse, class T>
void inner_stage(const Plane<T>& p, int c) {
  const Line<T>& line = *p.g.horizontal;
  if (line.stage_count == 0) return;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * kLanes<T>;
  T* at = p.row + c * 2 * kLanes<T>;
  run_stage<Inverse>(line.stages[line.stage_count - 1], at, step, at, step);
}
template <class T>
void forward_rows(const Plane<T>& p, int c) {
  outer_stages<false>(p, c);
  inner_stage<false>(p, c);
}
template <class T>
void inverse_rows(const Plane<T>& p, int c) {
  inner_stage<true>(p, c);
  outer_stages<true>(p, c);
}

// Column f2 of the row spectra of plane c, and of its mirror image.
template <class T>
struct MirrorPair {
  T *at, *mirror;
  int position, mirror_position;
};
template <class T>
BLURFFT_INLINE MirrorPair<T> mirror_pair(const Plane<T>& p, int c, int f2) {
  const int width = p.g.width();
  const int i = p.g.horizontal->position[f2], j = p.g.horizontal->position[f2 ? width - f2 : 0];
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * kLanes<T>;
  T* base = p.row + c * 2 * kLanes<T>;
  return {base + i * step, base + j * step, i, j};
}

}  // namespace
}  // namespace blurfft
