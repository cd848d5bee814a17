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

// Rows of an image, from the first, past whose end a vector may reach: into later rows.
template <class T>
BLURFFT_INLINE int overrun_rows(const Image& image, int height, int total) {
  if (image.row < total) return 0;
  const int64_t kept = (kLanes<T> + image.row - 1) / image.row;
  return kept < height ? static_cast<int>(height - kept) : 0;
}

// z = a - b, column j of the left half in the real and of the right half in the imaginary part. Row by row: reading
// in order is what the hardware prefetches, and worth more than doing a stage of the columns on the way. What a row's
// last vector holds beyond its columns is of no account, but an odd width's missing columns must be zero.
template <class T>
void load_plane(const Plane<T>& p, const Image& a, const Image* b) {
  constexpr int L = kLanes<T>;
  const int width = p.g.width(), height = p.g.height(), planes = p.g.planes, right = p.total - p.half;
  const auto padded_row = [&](const Image& image, int h, int safe, T* scratch) {
    const T* row = read_row(image, h, width, planes, scratch);
    if (row == scratch || h < safe) return row;
    std::memcpy(scratch, row, sizeof(T) * p.total);
    return static_cast<const T*>(scratch);
  };
  const int safe_a = overrun_rows<T>(a, height, p.total), safe_b = b ? overrun_rows<T>(*b, height, p.total) : 0;
  for (int h = 0; h < height; ++h) {
    const T* x = padded_row(a, h, safe_a, p.in_a);
    T* out = p.z + h * p.row_step;
    if (b) {
      const T* y = padded_row(*b, h, safe_b, p.in_b);
      for (int i = 0; i < p.half; i += L, out += 2 * L) {
        store(out, load(x + i) - load(y + i));
        store(out + L, load(x + p.half + i) - load(y + p.half + i));
      }
    } else {
      for (int i = 0; i < p.half; i += L, out += 2 * L) {
        store(out, load(x + i));
        store(out + L, load(x + p.half + i));
      }
    }
    for (int i = right; i < p.half; ++i) p.z[h * p.row_step + i / L * 2 * L + L + i % L] = 0;
  }
  std::memset(p.z + height * p.row_step, 0, sizeof(T) * p.row_step);
}

template <class T>
void store_plane(const Plane<T>& p, const Image& image, bool streaming) {
  constexpr int L = kLanes<T>;
  const int width = p.g.width(), height = p.g.height(), planes = p.g.planes, right = p.total - p.half;
  const int safe = image.row == p.total ? overrun_rows<T>(image, height, p.total) : 0;
  const auto aligned = [](const T* at) { return reinterpret_cast<uintptr_t>(at) % kVectorBytes == 0; };
  for (int h = 0; h < height; ++h) {
    T* direct = flat_row<T>(image, h, planes);
    const T* in = p.z + h * p.row_step;
    if (streaming && direct && right == p.half && p.half % L == 0 && aligned(direct) && aligned(direct + p.half)) {
      for (int i = 0; i < p.half; i += L, in += 2 * L) {
        store_streaming(direct + i, load(in));
        store_streaming(direct + p.half + i, load(in + L));
      }
      continue;
    }
    T* out = h < safe && direct ? direct : p.in_a;
    // Backwards: the left half's last vector reaches into the right half, which is written after it, and the right
    // half's into the next row or scratch.
    for (int i = (p.half - 1) / L * L; i >= 0; i -= L) {
      store(out + i, load(in + 2 * i));
      if (i < right) store(out + p.half + i, load(in + 2 * i + L));
    }
    if (!direct) {
      write_row(image, h, width, planes, out);
    } else if (out != direct) {
      std::memcpy(direct, out, sizeof(T) * p.total);
    }
  }
  if (streaming) fence_streaming();
}

template <bool Inverse, class T>
void transform_columns(const Plane<T>& p) {
  if (p.g.vertical->stage_count == 0) return;
  for (int b = 0; b < p.blocks; ++b) {
    T* column = p.z + b * 2 * kLanes<T>;
    run_stages<Inverse>(*p.g.vertical, p.g.vertical->stage_count, column, p.row_step, column, p.row_step, p.column,
                        2 * kLanes<T>);
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
  constexpr int L = kLanes<T>, Q = kQuad<T>;
  const int32_t* row = p.g.rows.row + group * L;
  const int32_t* mirror = p.g.rows.mirror + group * L;
  const int right = p.total - p.half;
  for (int i = 0; i < p.half; i += Q) {
    const T* z = p.z + i / L * 2 * L + i % L;
    T* left_out = p.row + i * 2 * L;
    T* right_out = left_out + p.half * 2 * L;
    const int left_count = p.half - i < Q ? p.half - i : Q,
              right_count = right - i < left_count ? right - i : left_count;
    // Real parts give A's real and B's imaginary part, imaginary parts the other two.
    Vec<T> x[Q], y[Q];
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return z + row[l] * p.row_step; }, x);
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return z + mirror[l] * p.row_step; }, y);
    const auto each = [](int count, auto f) BLURFFT_LAMBDA_INLINE {
      if (count == Q) {
#pragma GCC unroll 4
        for (int c = 0; c < Q; ++c) f(c);
      } else {
        for (int c = 0; c < count; ++c) f(c);
      }
    };
    each(left_count, [&](int c) BLURFFT_LAMBDA_INLINE { store(left_out + c * 2 * L, x[c] + y[c]); });
    each(right_count, [&](int c) BLURFFT_LAMBDA_INLINE { store(right_out + c * 2 * L + L, y[c] - x[c]); });
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return z + row[l] * p.row_step + L; }, x);
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return z + mirror[l] * p.row_step + L; }, y);
    each(left_count, [&](int c) BLURFFT_LAMBDA_INLINE { store(left_out + c * 2 * L + L, x[c] - y[c]); });
    each(right_count, [&](int c) BLURFFT_LAMBDA_INLINE { store(right_out + c * 2 * L, x[c] + y[c]); });
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
      transpose<T>(x);
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
  if (line.stage_count < 2) return;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * kLanes<T>;
  T* at = p.row + c * 2 * kLanes<T>;
  run_stages<Inverse>(line, line.stage_count - 1, at, step, at, step, at, step);
}
template <bool Inverse, class T>
void inner_stage(const Plane<T>& p, int c) {
  const Line<T>& line = *p.g.horizontal;
  if (line.stage_count == 0) return;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * kLanes<T>;
  T* at = p.row + c * 2 * kLanes<T>;
  const Stage<T>& last = line.stages[line.stage_count - 1];
  run_stage<Inverse>(last, last.blocks, at, step, at, step);
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
