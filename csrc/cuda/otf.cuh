// Transfer functions of small kernels by the direct, separable transform, and its adjoint. A kernel has kh of the
// plane's H rows, so that nothing is padded and no plane of zeros is read.
//
// With u and v counted from the kernel's centre, K(f1, f2) = sum_u e(-u f1 / H) R(u, f2) with
// R(u, f2) = sum_v k(u, v) e(-v f2 / W). Rows f1 and -f1 share their cosines and sines, and so do u and -u:
// K(+-f1) = P -+ iQ, P = sum_d (R(d) + R(-d)) cos, Q = sum_d (R(d) - R(-d)) sin, d >= 0.
#pragma once

#include "roots.cuh"

namespace blurfft::cuda {

constexpr int kOtfThreads = 256;
constexpr int kOtfColumns = 33;  // of a block: the half spectrum of a width of 64
constexpr int kOtfGroups = 8;    // of threads, each taking every so manieth row pair
constexpr int kOtfPairs = 5;     // row pairs of a thread
constexpr int kOtfTaps = 16;     // offsets d or v in shared memory at a time

struct OtfGeometry {
  int height, width, kh, kw;
  int columns;  // of a block, at most kOtfColumns

  OtfGeometry() = default;
  // Blocks of equal width.
  OtfGeometry(int64_t height, int64_t width, int64_t kh, int64_t kw)
      : height(static_cast<int>(height)),
        width(static_cast<int>(width)),
        kh(static_cast<int>(kh)),
        kw(static_cast<int>(kw)) {
    const int blocks = (half() + kOtfColumns - 1) / kOtfColumns;
    columns = (half() + blocks - 1) / blocks;
  }
  __host__ __device__ int half() const { return width / 2 + 1; }
  __host__ __device__ int pairs() const { return height / 2 + 1; }
  __host__ __device__ int groups() const {
    return kOtfThreads / columns < kOtfGroups ? kOtfThreads / columns : kOtfGroups;
  }
  __host__ __device__ int column_blocks() const { return (half() + columns - 1) / columns; }
  // Complex numbers.
  __host__ __device__ int64_t entries() const { return int64_t{height} * half(); }

  int row_blocks() const { return (pairs() + groups() * kOtfPairs - 1) / (groups() * kOtfPairs); }
  int blocks() const { return column_blocks() * row_blocks(); }  // of a spectrum
  dim3 grid(int64_t spectra) const { return dim3(spectra, column_blocks(), row_blocks()); }
  static constexpr int kSharedElements = kOtfTaps * (3 * kOtfColumns + kOtfGroups * kOtfPairs);
};

// Frequency and plane of a thread's results in a grid of (kernels, column blocks, row blocks).
struct OtfThread {
  int local_column, group, column, first_pair;
  bool active;

  __device__ explicit OtfThread(const OtfGeometry& g) {
    local_column = threadIdx.x % g.columns;
    group = threadIdx.x / g.columns;
    column = blockIdx.y * g.columns + local_column;
    first_pair = blockIdx.z * g.groups() * kOtfPairs;
    active = group < g.groups() && column < g.half();
  }

  // f(row, i, side) for every result of this thread: the i-th pair's row f1 (side 0) and -f1 (side 1).
  template <class F>
  __device__ void for_each(const OtfGeometry& g, F f) const {
#pragma unroll
    for (int i = 0; i < kOtfPairs; ++i) {
      const int pair = first_pair + group + g.groups() * i;
      if (!active || pair >= g.pairs()) continue;
      f(pair, i, 0);
      if (pair > 0 && 2 * pair != g.height) f(g.height - pair, i, 1);
    }
  }
};

// How often a column of a half spectrum occurs in the full one.
template <class T>
__device__ inline T multiplicity(int column, int width) {
  return column == 0 || 2 * column == width ? T(1) : T(2);
}

// K at the frequencies of this thread. `shared` holds OtfGeometry::kSharedElements; every thread of the block calls. It
// is added up in double: a response that the taps cancel in is right relative to itself, so that 0 is 0 next to any
// nsr.
template <class T>
__device__ void transfer_function(const OtfGeometry& g, const OtfThread& t, const T* kernel, Complex<double>* shared,
                                  Complex<T> (&K)[kOtfPairs][2]) {
  constexpr int kItems = (kOtfTaps * kOtfColumns + kOtfThreads - 1) / kOtfThreads;
  const int thread = threadIdx.x, columns = g.columns, cu = g.kh / 2, cv = g.kw / 2;
  const int pairs = g.groups() * kOtfPairs, first_column = blockIdx.y * columns;
  Complex<double>* even = shared;                          // (taps, columns): R(d) + R(-d)
  Complex<double>* odd = even + kOtfTaps * kOtfColumns;    // (taps, columns): R(d) - R(-d)
  Complex<double>* phase = odd + kOtfTaps * kOtfColumns;   // (taps, columns): along a row of the kernel
  Complex<double>* turn = phase + kOtfTaps * kOtfColumns;  // (taps, pairs): along a column

  Complex<double> P[kOtfPairs] = {}, Q[kOtfPairs] = {};
  for (int d0 = 0; d0 <= cu; d0 += kOtfTaps) {
    const int depth = cu + 1 - d0 < kOtfTaps ? cu + 1 - d0 : kOtfTaps;
    Complex<double> sum[kItems] = {}, difference[kItems] = {};
    for (int v0 = 0; v0 < g.kw; v0 += kOtfTaps) {
      const int taps = g.kw - v0 < kOtfTaps ? g.kw - v0 : kOtfTaps;
      __syncthreads();
      for (int i = thread; i < taps * columns; i += kOtfThreads) {
        phase[i] = unit_root_of_product<double>(first_column + i % columns, v0 + i / columns - cv, g.width);
      }
      __syncthreads();
#pragma unroll
      for (int item = 0; item < kItems; ++item) {
        const int i = thread + item * kOtfThreads;
        if (i >= depth * columns) continue;
        const int d = d0 + i / columns;
        const T* below = kernel + (cu - d) * g.kw + v0;
        const T* above = d > 0 && cu + d < g.kh ? kernel + (cu + d) * g.kw + v0 : nullptr;
        for (int v = 0; v < taps; ++v) {
          const Complex<double> w = phase[v * columns + i % columns];
          const double a = above ? above[v] : T(0), b = below[v];
          sum[item].re += (a + b) * w.re;
          sum[item].im += (a + b) * w.im;
          difference[item].re += (a - b) * w.re;
          difference[item].im += (a - b) * w.im;
        }
      }
    }
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int i = thread + item * kOtfThreads;
      if (i >= depth * columns) continue;
      even[i] = sum[item];
      odd[i] = difference[item];
    }
    for (int i = thread; i < depth * pairs; i += kOtfThreads) {
      turn[i] = unit_root_of_product<double>(t.first_pair + i % pairs, d0 + i / pairs, g.height);
    }
    __syncthreads();
    if (t.active) {
      for (int d = 0; d < depth; ++d) {
        const Complex<double> e = even[d * columns + t.local_column], o = odd[d * columns + t.local_column];
#pragma unroll
        for (int i = 0; i < kOtfPairs; ++i) {
          const Complex<double> w = turn[d * pairs + t.group + g.groups() * i];
          P[i].re += e.re * w.re;
          P[i].im += e.im * w.re;
          Q[i].re -= o.re * w.im;
          Q[i].im -= o.im * w.im;
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kOtfPairs; ++i) {
    K[i][0] = {static_cast<T>(P[i].re + Q[i].im), static_cast<T>(P[i].im - Q[i].re)};
    K[i][1] = {static_cast<T>(P[i].re - Q[i].im), static_cast<T>(P[i].im + Q[i].re)};
  }
}

template <class T>
struct OtfParams {
  OtfGeometry geometry;
  const T* kernel;  // (kernels, kh, kw)
  Complex<T>* out;  // (kernels, H, W//2+1)
};

template <class T>
__global__ void __launch_bounds__(kOtfThreads, 1) otf_kernel(OtfParams<T> p) {
  const OtfGeometry& g = p.geometry;
  const OtfThread thread(g);
  BLURFFT_DYNAMIC_SHARED(Complex<double>, shared);
  Complex<T> K[kOtfPairs][2];
  transfer_function(g, thread, p.kernel + int64_t{blockIdx.x} * g.kh * g.kw, shared, K);
  Complex<T>* out = p.out + blockIdx.x * g.entries();
  thread.for_each(g, [&](int row, int i, int side) { out[int64_t{row} * g.half() + thread.column] = K[i][side]; });
}

// The adjoint, Re sum_f D(f) e(+ u f1 / H + v f2 / W) over the half spectrum: first down the columns, in chunks of rows
// whose partial sums the second kernel adds up while it goes along the rows.

constexpr int kAdjointTaps = 4;    // offsets d of a block
constexpr int kAdjointPairs = 64;  // row pairs of a chunk

template <class T>
struct OtfBackwardParams {
  OtfGeometry geometry;
  int chunks;
  const Complex<T>* grad;  // (kernels, H, W//2+1)
  Complex<T>* columns;     // (kernels, chunks, kh, W//2+1), scratch
  T* out;                  // (kernels, kh, kw)

  static constexpr int kSharedElements = kAdjointTaps * kAdjointPairs + 2 * kAdjointTaps * kOtfThreads;
};

// Grid: (kernels, column blocks, chunks * tap blocks).
template <class T>
__global__ void __launch_bounds__(kOtfThreads, 1) otf_backward_columns(OtfBackwardParams<T> p) {
  const OtfGeometry& g = p.geometry;
  const OtfThread t(g);
  const int thread = threadIdx.x, half = g.half(), cu = g.kh / 2;
  const int chunk = blockIdx.z % p.chunks, d0 = blockIdx.z / p.chunks * kAdjointTaps;
  const int first = chunk * kAdjointPairs;
  BLURFFT_DYNAMIC_SHARED(Complex<T>, turn);                // (taps, pairs)
  Complex<T>* sums = turn + kAdjointTaps * kAdjointPairs;  // (taps, even or odd, threads)
  for (int i = thread; i < kAdjointTaps * kAdjointPairs; i += kOtfThreads) {
    turn[i] = unit_root_of_product<T>(first + i % kAdjointPairs, d0 + i / kAdjointPairs, g.height);
  }
  __syncthreads();

  Complex<T> A[kAdjointTaps] = {}, B[kAdjointTaps] = {};
  if (t.active) {
    const Complex<T>* grad = p.grad + blockIdx.x * g.entries() + t.column;
    for (int i = t.group; i < kAdjointPairs && first + i < g.pairs(); i += g.groups()) {
      const int pair = first + i;
      const Complex<T> x = grad[int64_t{pair} * half];
      Complex<T> y = {};
      if (pair > 0 && 2 * pair != g.height) y = grad[int64_t{g.height - pair} * half];
#pragma unroll
      for (int d = 0; d < kAdjointTaps; ++d) {
        const Complex<T> w = turn[d * kAdjointPairs + i];
        A[d].re += (x.re + y.re) * w.re;
        A[d].im += (x.im + y.im) * w.re;
        B[d].re -= (x.re - y.re) * w.im;
        B[d].im -= (x.im - y.im) * w.im;
      }
    }
  }
#pragma unroll
  for (int d = 0; d < kAdjointTaps; ++d) {
    sums[(2 * d) * kOtfThreads + thread] = A[d];
    sums[(2 * d + 1) * kOtfThreads + thread] = B[d];
  }
  __syncthreads();

  Complex<T>* out = p.columns + (int64_t{blockIdx.x} * p.chunks + chunk) * g.kh * half;
  for (int i = thread; i < kAdjointTaps * g.columns; i += kOtfThreads) {
    const int d = i / g.columns, local = i % g.columns, column = blockIdx.y * g.columns + local;
    if (d0 + d > cu || column >= half) continue;
    Complex<T> a = {}, b = {};
    for (int group = 0; group < g.groups(); ++group) {
      const Complex<T> x = sums[(2 * d) * kOtfThreads + group * g.columns + local];
      const Complex<T> y = sums[(2 * d + 1) * kOtfThreads + group * g.columns + local];
      a.re += x.re;
      a.im += x.im;
      b.re += y.re;
      b.im += y.im;
    }
    out[int64_t{cu - d0 - d} * half + column] = {a.re + b.im, a.im - b.re};
    if (d0 + d > 0 && cu + d0 + d < g.kh) out[int64_t{cu + d0 + d} * half + column] = {a.re - b.im, a.im + b.re};
  }
}

// Grid: (kernels, kh). Shared memory: W//2+1 complex numbers.
template <class T>
__global__ void __launch_bounds__(kOtfThreads, 1) otf_backward_rows(OtfBackwardParams<T> p) {
  const OtfGeometry& g = p.geometry;
  const int half = g.half(), u = blockIdx.y;
  BLURFFT_DYNAMIC_SHARED(Complex<T>, line);
  for (int column = threadIdx.x; column < half; column += kOtfThreads) {
    Complex<T> sum = {};
    for (int chunk = 0; chunk < p.chunks; ++chunk) {
      const Complex<T> x = p.columns[((int64_t{blockIdx.x} * p.chunks + chunk) * g.kh + u) * half + column];
      sum.re += x.re;
      sum.im += x.im;
    }
    line[column] = sum;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  for (int v = threadIdx.x / 32; v < g.kw; v += kOtfThreads / 32) {
    T sum = 0;
    for (int column = lane; column < half; column += 32) {
      const Complex<T> w = unit_root_of_product<T>(column, v - g.kw / 2, g.width);
      sum += line[column].re * w.re + line[column].im * w.im;
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (lane == 0) p.out[(int64_t{blockIdx.x} * g.kh + u) * g.kw + v] = sum;
  }
}

}  // namespace blurfft::cuda
