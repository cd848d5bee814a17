// The two-dimensional transform of a unit in place: load, columns, rows with an action on the spectrum, back.
#pragma once

#include "convert.h"
#include "geometry.h"
#include "line.h"

namespace blurfft {
namespace {

// Memory that will be needed soon, fetched a few cache lines at a time: no more than the core can wait for without
// standing still.
struct Ahead {
  static constexpr int kLines = 8;
  static constexpr ptrdiff_t kLine = 64;
  const char* at = nullptr;
  const char* end = nullptr;

  Ahead() = default;
  template <class T>
  Ahead(const T* first, ptrdiff_t count)
      : at(reinterpret_cast<const char*>(first)), end(reinterpret_cast<const char*>(first + count)) {}

  template <bool Write>
  BLURFFT_INLINE void fetch() {
    if (at >= end) return;
#pragma GCC unroll 8
    for (int i = 0; i < kLines; ++i) __builtin_prefetch(at + i * kLine, Write, Write ? 3 : 2);
    at += kLines * kLine;
  }
};

// Where things lie in a workspace.
template <class T>
struct Plane {
  static constexpr int L = kLanes<T>;
  const Geometry<T>& g;
  int total, half, blocks;  // columns of a unit row, packed columns, vectors of packed columns
  ptrdiff_t row_step;
  T *z, *column, *column_scratch, *row, *in_a, *in_b, *row_scratch;
  mutable Ahead ahead_a, ahead_b, ahead_out;

  // All but z is a thread's own: `part` is that of a thread with which others share the plane.
  Plane(const Geometry<T>& geometry, T* work, int part = 0) : g(geometry) {
    total = g.width() * g.planes;
    half = (g.width() + 1) / 2 * g.planes;
    blocks = (half + L - 1) / L;
    // An odd number of cache lines a row: columns of a power-of-two plane would otherwise share a few cache sets.
    row_step = static_cast<ptrdiff_t>(blocks | 1) * 2 * L;
    z = work;
    // What columns need, and what rows need, is never needed at the same time.
    column = row = z + (g.height() + 1) * row_step + part * own_elements();
    column_scratch = column + column_length() * 2 * L;
    in_a = row_scratch = row + static_cast<ptrdiff_t>(half + blocks * L) * 2 * L;
    in_b = in_a + row_length();
  }
  bool whole_vectors() const { return total == 2 * half && half % L == 0; }
  ptrdiff_t row_length() const { return (total + 3 * L) / L * L; }
  // Between the stages of a column, if it has more than one.
  ptrdiff_t column_length() const { return g.vertical->stage_count > 1 ? g.height() : 0; }
  ptrdiff_t own_elements() const {
    const auto larger = [](ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; };
    const ptrdiff_t beside_row = larger(2 * row_length(), static_cast<ptrdiff_t>(g.horizontal->scratch) * 2 * L);
    return larger((column_length() + g.vertical->scratch) * 2 * L,
                  static_cast<ptrdiff_t>(half + blocks * L) * 2 * L + beside_row);
  }
  BLURFFT_INLINE void look_ahead() const {
    ahead_a.fetch<false>();
    ahead_b.fetch<false>();
    ahead_out.fetch<true>();
  }
  size_t elements(int parts) const { return (g.height() + 1) * row_step + parts * own_elements(); }
};

// What the stages of a line call in between: of one type, so that they are compiled once.
template <class T>
struct LookAhead {
  const Plane<T>& p;
  BLURFFT_INLINE void operator()() const { p.look_ahead(); }
};

// f(plane, begin, end) over parts of [0, count), by all threads of the team at once: each with a plane of its own,
// which looks no further ahead than f.
template <class T, class F>
BLURFFT_INLINE void split(const Plane<T>& whole, const Team* team, int count, F f) {
  if (!team) return f(whole, 0, count);
  struct Call {
    const Geometry<T>& g;
    T* work;
    int parts, count;
    F& f;
  } call{whole.g, whole.z, team->parts, count, f};
  team->run(
      team->parts,
      [](void* context, int part) {
        const Call& c = *static_cast<Call*>(context);
        const int64_t from = static_cast<int64_t>(c.count) * part, to = from + c.count;
        c.f(Plane<T>(c.g, c.work, part), static_cast<int>(from / c.parts), static_cast<int>(to / c.parts));
      },
      &call);
}

// A vector store may alias anything, as far as the compiler knows: the loops below copy what they need again after one
// into locals first.

// A row where it lies, if that is as contiguous values of T.
template <class T>
BLURFFT_INLINE T* flat_row(const Image& image, int h, int planes) {
  const bool flat = image.channel == 1 ? image.column == planes : planes == 1 && image.column == 1;
  const bool same = image.element == (sizeof(T) == 8 ? Element::f64 : Element::f32);
  return flat && same ? static_cast<T*>(image.data) + h * image.row : nullptr;
}
// A row of any element type and stride as contiguous values of T.
template <class T>
void read_row(const Image& image, int h, int width, int planes, T* out) {
  const int64_t at = h * image.row;
  if constexpr (sizeof(T) == 8) {
    widen_row(static_cast<const double*>(image.data) + at, image.column, image.channel, width, planes, out);
  } else {
    switch (image.element) {
      case Element::f32:
        return widen_row(static_cast<const float*>(image.data) + at, image.column, image.channel, width, planes, out);
      case Element::bf16:
        return widen_row(static_cast<const BFloat16*>(image.data) + at, image.column, image.channel, width, planes,
                         out);
      default:
        return widen_row(static_cast<const Half*>(image.data) + at, image.column, image.channel, width, planes, out);
    }
  }
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
BLURFFT_INLINE int overrun_rows(const Plane<T>& p, const Image& image, int height) {
  if (p.whole_vectors()) return height;  // none does
  if (image.row < p.total) return 0;
  const int64_t past = p.half + p.blocks * kLanes<T> - p.total, kept = (past + image.row - 1) / image.row;
  return kept < height ? static_cast<int>(height - kept) : 0;
}

// As many rows of a dense image as a plane has, from `row` on: behind its own lie those of the next plane.
template <class T>
Ahead rows_ahead(const Plane<T>& p, const Image& image, int row) {
  const bool pixels = image.channel == 1 ? image.column == p.g.planes : p.g.planes == 1 && image.column == 1;
  if (!pixels || image.row != p.total) return {};
  const ptrdiff_t size = image.element == Element::f64 ? 8 : image.element == Element::f32 ? 4 : 2;
  const char* at = static_cast<const char*>(image.data) + image.row * row * size;
  return {at, image.row * p.g.height() * size};
}

// Half of a row of a, or of a - b, column j of the left half in the real and of the right half in the imaginary part.
// Half, because load_rows adds two rows up for each of theirs, whose sum may be out of range where theirs is not.
template <bool Difference, class T>
BLURFFT_INLINE void load_row(const T* a, const T* b, ptrdiff_t half, T* out) {
  constexpr T halved = static_cast<T>(0.5);
  const T *right_a = a + half, *right_b = b + half;
  for (ptrdiff_t i = 0; i < half; i += kLanes<T>) {
    if constexpr (Difference) {
      store_cpx(out + 2 * i,
                Cpx<T>{halved * (load(a + i) - load(b + i)), halved * (load(right_a + i) - load(right_b + i))});
    } else {
      store_cpx(out + 2 * i, Cpx<T>{halved * load(a + i), halved * load(right_a + i)});
    }
  }
}

// z = (a - b) / 2, or a / 2 if b is none. Row by row: reading in order is what the hardware prefetches, and worth more
// than doing a stage of the columns on the way. What a row's last vector holds beyond its columns is of no account, but
// an odd width's missing columns must be zero.
template <bool Difference, class T>
void load_plane_rows(const Plane<T>& p, const Image& a, const Image& b, int begin, int end_row) {
  constexpr int L = kLanes<T>;
  const int width = p.g.width(), height = p.g.height(), planes = p.g.planes;
  const int half = p.half, right = p.total - half;
  const ptrdiff_t row_step = p.row_step;
  const auto zero_missing = [&](T* row) BLURFFT_LAMBDA_INLINE {
    for (int i = right; i < half; ++i) row[i / L * 2 * L + L + i % L] = 0;
  };
  const T *flat_a = flat_row<T>(a, begin, planes), *flat_b = flat_row<T>(b, begin, planes);
  // Rows that are read where they are, past their ends even; all others go through scratch.
  const int safe_a = overrun_rows(p, a, height), safe_b = overrun_rows(p, b, height);
  const int safe = !flat_a || !flat_b ? 0 : safe_a < safe_b ? safe_a : safe_b;
  T* z = p.z + begin * row_step;
  int h = begin;
  for (; h < end_row && h < safe; ++h, z += row_step, flat_a += a.row, flat_b += b.row) {
    load_row<Difference>(flat_a, flat_b, half, z);
    zero_missing(z);
  }
  for (; h < end_row; ++h, z += row_step) {
    read_row(a, h, width, planes, p.in_a);
    if (Difference) read_row(b, h, width, planes, p.in_b);
    load_row<Difference>(p.in_a, p.in_b, half, z);
    zero_missing(z);
  }
  if (end_row == height) std::memset(z, 0, sizeof(T) * row_step);
  p.ahead_a = rows_ahead(p, a, end_row);
  if (Difference) p.ahead_b = rows_ahead(p, b, end_row);
}

template <class T>
void load_plane(const Plane<T>& p, const Image& a, const Image* b, int begin, int end_row) {
  if (b) return load_plane_rows<true>(p, a, *b, begin, end_row);
  load_plane_rows<false>(p, a, a, begin, end_row);
}

// Whether a plane is written past the caches, if it is to be.
template <class T>
BLURFFT_INLINE bool streams(const Plane<T>& p, const Image& image, bool streaming) {
  const T* flat = flat_row<T>(image, 0, p.g.planes);
  const auto aligned = [](ptrdiff_t bytes) { return bytes % kVectorBytes == 0; };
  return streaming && flat && p.whole_vectors() && aligned(reinterpret_cast<intptr_t>(flat)) &&
         aligned(image.row * static_cast<ptrdiff_t>(sizeof(T)));
}

// Rows [begin, end): a vector may reach into later ones, but not beyond, where another thread may have written.
template <class T>
void store_plane(const Plane<T>& p, const Image& image, bool streaming, int begin, int end_row) {
  constexpr int L = kLanes<T>;
  const int width = p.g.width(), planes = p.g.planes;
  const int total = p.total, half = p.half, right = total - half;
  const int safe = p.whole_vectors() || image.row == total ? overrun_rows(p, image, end_row) : 0;
  T* const flat = flat_row<T>(image, 0, planes);
  const ptrdiff_t row_step = p.row_step;
  const T* row = p.z + begin * row_step;
  if (streams(p, image, streaming)) {
    T *out = flat + begin * image.row, *at_right = out + half;
    for (int h = begin; h < end_row; ++h, row += row_step, out += image.row, at_right += image.row) {
      for (ptrdiff_t i = 0; i < half; i += L) {
        store_streaming(out + i, load(row + 2 * i));
        store_streaming(at_right + i, load(row + 2 * i + L));
      }
    }
    return;
  }
  // Backwards: the left half's last vector reaches into the right half, which is written after it, and the right half's
  // into the next row or, in scratch, from in_a into in_b. So does, of an odd width, what the right half lacks.
  const ptrdiff_t last = (half - 1) / L * L;
  for (int h = begin; h < end_row; ++h, row += row_step) {
    T* direct = flat ? flat + h * image.row : nullptr;
    T* out = h < safe && direct ? direct : p.in_a;
    T* at_right = out + half;
    store(out + last, load(row + 2 * last));
    if (last < right) store(at_right + last, load(row + 2 * last + L));
    for (ptrdiff_t i = last - L; i >= 0; i -= L) {
      store(out + i, load(row + 2 * i));
      store(at_right + i, load(row + 2 * i + L));
    }
    if (!direct) {
      write_row(image, h, width, planes, out);
    } else if (out != direct) {
      std::memcpy(direct, out, sizeof(T) * total);
    }
  }
}

template <class T>
void store_plane(const Plane<T>& p, const Image& image, bool streaming) {
  store_plane(p, image, streaming, 0, p.g.height());
}

template <bool Inverse, class T>
void transform_columns(const Plane<T>& p, int begin, int end) {
  const Line<T>& line = *p.g.vertical;
  for (int b = begin; b < end; ++b) {
    run_stages<Inverse>(line, p.z + b * 2 * kLanes<T>, p.row_step, p.column, 2 * kLanes<T>, p.column_scratch,
                        LookAhead<T>{p});
  }
}

template <bool Inverse, class T>
void transform_columns(const Plane<T>& p) {
  transform_columns<Inverse>(p, 0, p.blocks);
}

// Row 0 and row H/2 of the packed columns are Z0 = A0 + iB0 and Zn = An + iBn with real A, B. Where they share a lane
// they unpack to the transforms of A0 + iAn and B0 + iBn: on the way out rewritten as Z0 + iZn and Z0 - iZn, like any
// row and its mirror; on the way in Zn as -iZn, of which and Z0 load_rows adds nothing up, since Z0 may be so much
// larger, the image's mean being in it, that no more than its rounding error would be left of Zn. So they stay halves.
template <bool Inverse, class T>
void mix_special_rows(const Plane<T>& p) {
  if (!p.g.rows.united) return;
  T* first = p.z + p.g.rows.row[0] * p.row_step;
  T* second = p.z + p.g.rows.mirror[0] * p.row_step;
  for (int b = 0; b < p.blocks; ++b, first += 2 * kLanes<T>, second += 2 * kLanes<T>) {
    const Cpx<T> y = load_cpx(second);
    if constexpr (Inverse) {
      constexpr T half = static_cast<T>(0.5);
      const Cpx<T> x = load_cpx(first);
      store_cpx(first, Cpx<T>{half * (x.re + y.re), half * (x.im + y.im)});
      store_cpx(second, Cpx<T>{half * (x.im - y.im), half * (y.re - x.re)});
    } else {
      store_cpx(second, Cpx<T>{y.im, -y.re});
    }
  }
}

// An image with its columns transformed.
template <class T>
void load_columns(const Plane<T>& p, const Image& image) {
  load_plane(p, image, static_cast<const Image*>(nullptr), 0, p.g.height());
  transform_columns<false>(p);
  mix_special_rows<false>(p);
}

// Rows f1 and -f1 of halved packed columns A + iB give row f1 of the left half, A, and of the right half, B.
// Transposed on the way: p.row holds one vector (lanes are rows) for every column. `United`: lane 0 is that of rows 0
// and H/2, whose parts are complete as they are.
template <bool United, class T>
void load_group(const Plane<T>& p, int group) {
  constexpr int L = kLanes<T>, Q = kQuad<T>;
  const int half = p.half;
  Vec<T> paired = splat(static_cast<T>(1));
  paired[0] = 0;
  const auto plus = [&](Vec<T> u, Vec<T> v) BLURFFT_LAMBDA_INLINE { return United ? u + paired * v : u + v; };
  const auto minus = [&](Vec<T> u, Vec<T> v) BLURFFT_LAMBDA_INLINE { return United ? u - paired * v : u - v; };
  const T *row[L], *mirror[L];
  for (int l = 0; l < L; ++l) {
    row[l] = p.z + p.g.rows.row[group * L + l] * p.row_step;
    mirror[l] = p.z + p.g.rows.mirror[group * L + l] * p.row_step;
  }
  // Backwards: what the left half's last vectors hold beyond their columns lands on the right half's first, which are
  // written after them, the right half's behind the row.
  const int last = (half - 1) / Q * Q;
  T* left_out = p.row + last * 2 * L;
  T* right_out = left_out + half * 2 * L;
  for (int i = last; i >= 0; i -= Q, left_out -= Q * 2 * L, right_out -= Q * 2 * L) {
    const ptrdiff_t re = i / L * 2 * L + i % L, im = re + L;
    // Real parts give A's real and B's imaginary part, imaginary parts the other two.
    Vec<T> x[Q], y[Q], right_im[Q];
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return row[l] + re; }, x);
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return mirror[l] + re; }, y);
#pragma GCC unroll 4
    for (int c = 0; c < Q; ++c) {
      store(left_out + c * 2 * L, plus(x[c], y[c]));
      right_im[c] = minus(y[c], x[c]);
    }
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return row[l] + im; }, x);
    load_transposed<T>([&](int l) BLURFFT_LAMBDA_INLINE { return mirror[l] + im; }, y);
#pragma GCC unroll 4
    for (int c = 0; c < Q; ++c) store(left_out + c * 2 * L + L, United ? paired * x[c] - y[c] : x[c] - y[c]);
#pragma GCC unroll 4
    for (int c = 0; c < Q; ++c) store_cpx(right_out + c * 2 * L, Cpx<T>{plus(x[c], y[c]), right_im[c]});
  }
}
template <class T>
void load_rows(const Plane<T>& p, int group) {
  group == 0 && p.g.rows.united ? load_group<true>(p, group) : load_group<false>(p, group);
}
// The way back. Where rows 0 and H/2 have lanes of their own, what the lanes of such rows, their own mirrors, have for
// imaginary parts is nothing but rounding errors.
template <bool United, class T>
void store_group(const Plane<T>& p, int group) {
  constexpr int L = kLanes<T>;
  const int half = p.half;
  T *row[L], *mirror[L];
  Vec<T> paired = {};
  for (int l = 0; l < L; ++l) {
    row[l] = p.z + p.g.rows.row[group * L + l] * p.row_step;
    mirror[l] = p.z + p.g.rows.mirror[group * L + l] * p.row_step;
    paired[l] = row[l] != mirror[l];
  }
  // Vectors of columns reach behind the row, where an odd width's missing column must be zero.
  for (int i = p.total; i < half + p.blocks * L; ++i) store_cpx(p.row + i * 2 * L, Cpx<T>{});
  const T* left = p.row;
  const T* at_right = p.row + half * 2 * L;
  for (int i = 0; i < half; i += L, left += L * 2 * L, at_right += L * 2 * L) {
    // Mirror rows first: where a row is its own mirror the row itself must win.
    const auto part = [&](int from_left, int from_right, auto combine, T* const(&rows)[L],
                          int offset) BLURFFT_LAMBDA_INLINE {
      Vec<T> x[L];
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) {
        x[l] = combine(load(left + l * 2 * L + from_left), load(at_right + l * 2 * L + from_right));
      }
      transpose<T>(x);
#pragma GCC unroll 16
      for (int l = 0; l < L; ++l) store(rows[l] + 2 * i + offset, x[l]);
    };
    part(0, L, [=](Vec<T> re, Vec<T> im) { return United ? re + im : re + paired * im; }, mirror, 0);
    part(L, 0, [=](Vec<T> im, Vec<T> re) { return United ? re - im : re - paired * im; }, mirror, L);
    part(0, L, [=](Vec<T> re, Vec<T> im) { return United ? re - im : re - paired * im; }, row, 0);
    part(L, 0, [=](Vec<T> im, Vec<T> re) { return United ? im + re : paired * im + re; }, row, L);
  }
}
template <class T>
void store_rows(const Plane<T>& p, int group) {
  p.g.rows.united ? store_group<true>(p, group) : store_group<false>(p, group);
}

// The row transforms of plane c.
template <bool Inverse, class T>
void transform_rows(const Plane<T>& p, int c) {
  const Line<T>& line = *p.g.horizontal;
  const ptrdiff_t step = static_cast<ptrdiff_t>(p.g.planes) * 2 * kLanes<T>;
  T* at = p.row + c * 2 * kLanes<T>;
  run_stages<Inverse>(line, at, step, at, step, p.row_scratch, LookAhead<T>{p});
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
