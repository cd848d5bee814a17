// Planes of any size, in three kernels: rows, columns, rows. Between them a chunk of planes lies in global memory as
// half spectra of its rows, (H, W//2+1); a chunk is small enough to stay in the second-level cache.
//
// Two real rows of one plane are one complex line, so that NaN and Inf stay in their plane.
#pragma once

#include "focal_matrix.cuh"
#include "image.cuh"
#include "lines.cuh"
#include "spectrum.cuh"

namespace blurfft::cuda {

// Planes that share a spectrum form a group. They are visited group after group; plane `order` is
// order / members * group + order % members * member.
struct StagedOrder {
  int64_t members, group, member;
  int64_t begin;  // of a chunk

  __device__ int64_t plane(int64_t order) const { return order / members * group + order % members * member; }
};

template <class T>
struct StagedRowsParams {
  Image a, b;  // forward: a, or a - b where b has data; inverse: a is what is written
  int channels, height, width;
  int lines;  // row pairs of a block
  StagedOrder order;
  T scale;           // of the inverse
  Complex<T>* work;  // (planes of the chunk, H, W//2+1)

  BLURFFT_HD int half() const { return width / 2 + 1; }
};

// Of a multiprocessor, at least. Most kernels have fewer registers than that takes.
template <class T, class Length>
constexpr int kLineBlocks = sizeof(T) == 4 || std::is_same_v<Length, Line> ? 2 : 1;

// Length: Line or PrimeLine<T>. Grid: (planes of the chunk, blocks of row pairs).
template <class T, class Length>
__global__ void __launch_bounds__(kLineThreads, kLineBlocks<T, Length>)
    staged_rows(StagedRowsParams<T> p, const __grid_constant__ Length length) {
  const int n = p.width, half = p.half(), first = blockIdx.y * p.lines * 2;
  BLURFFT_DYNAMIC_SHARED(Complex<T>, shared);
  const LineTransform<T, Length, false> lines(length, p.lines, shared);

  const int64_t plane = p.order.plane(p.order.begin + blockIdx.x);
  const int sample = static_cast<int>(plane / p.channels), channel = static_cast<int>(plane % p.channels);
  const auto add = [&](const Image& image, T sign) {
    with_type<T>(image.element, [&](auto* type) {
      using Value = std::remove_reference_t<decltype(*type)>;
      const Value* from = static_cast<const Value*>(image.data) + image.plane(sample, channel);
      for (int i = threadIdx.x; i < p.lines * n; i += kLineThreads) {
        const int line = i / n, column = i % n, row = first + 2 * line;
        Complex<T> x = {};
        if (row < p.height) x.re = sign * widen(from[row * image.row + column * image.column]);
        if (row + 1 < p.height) x.im = sign * widen(from[(row + 1) * image.row + column * image.column]);
        Complex<T>& to = lines.element(line, column);
        to = sign > 0 ? x : to + x;
      }
    });
  };
  add(p.a, 1);
  if (p.b.data) add(p.b, -1);
  __syncthreads();
  lines.forward();

  Complex<T>* work = p.work + blockIdx.x * static_cast<int64_t>(p.height) * half;
  for (int i = threadIdx.x; i < p.lines * half; i += kLineThreads) {
    const int line = i / half, f = i % half, row = first + 2 * line;
    const Complex<T> x = lines.frequency(line, f), y = lines.frequency(line, f ? n - f : 0);
    const T h = static_cast<T>(0.5);
    if (row < p.height) work[row * half + f] = {h * (x.re + y.re), h * (x.im - y.im)};
    if (row + 1 < p.height) work[(row + 1) * half + f] = {h * (x.im + y.im), h * (y.re - x.re)};
  }
}

// Grid: (planes of the chunk, blocks of row pairs). As torch.fft's c2r: imaginary parts at 0 and W/2 count for nothing.
template <class T, class Length>
__global__ void __launch_bounds__(kLineThreads, kLineBlocks<T, Length>)
    staged_rows_inverse(StagedRowsParams<T> p, const __grid_constant__ Length length) {
  const int n = p.width, half = p.half(), first = blockIdx.y * p.lines * 2;
  BLURFFT_DYNAMIC_SHARED(Complex<T>, shared);
  const LineTransform<T, Length, false> lines(length, p.lines, shared);
  __syncthreads();

  const Complex<T>* work = p.work + blockIdx.x * static_cast<int64_t>(p.height) * half;
  for (int i = threadIdx.x; i < p.lines * half; i += kLineThreads) {
    const int line = i / half, f = i % half, row = first + 2 * line;
    Complex<T> x = {}, y = {};
    if (row < p.height) x = work[row * half + f];
    if (row + 1 < p.height) y = work[(row + 1) * half + f];
    if (f == 0 || 2 * f == n) {
      lines.frequency(line, f) = {x.re, y.re};
    } else {
      lines.frequency(line, f) = {x.re - y.im, x.im + y.re};
      lines.frequency(line, n - f) = {x.re + y.im, y.re - x.im};
    }
  }
  __syncthreads();
  lines.inverse();

  const int64_t plane = p.order.plane(p.order.begin + blockIdx.x);
  const int sample = static_cast<int>(plane / p.channels), channel = static_cast<int>(plane % p.channels);
  with_type<T>(p.a.element, [&](auto* type) {
    using Value = std::remove_reference_t<decltype(*type)>;
    Value* to = static_cast<Value*>(p.a.data) + p.a.plane(sample, channel);
    for (int i = threadIdx.x; i < p.lines * n; i += kLineThreads) {
      const int line = i / n, column = i % n, row = first + 2 * line;
      const Complex<T> x = lines.element(line, column);
      if (row < p.height) narrow(p.scale * x.re, to + row * p.a.row + column * p.a.column);
      if (row + 1 < p.height) narrow(p.scale * x.im, to + (row + 1) * p.a.row + column * p.a.column);
    }
  });
}

// What the columns are transformed for.
enum class Staged : int {
  spectrum,  // forward: out = scale x
  image,     // inverse of `other`
  filter,    // x w, w real
  filter_complex,
  loss,           // x w, sums of w |x|^2 and of |x|^2
  cross,          // sums of conj(other) x
  cross_real,     // of its real part
  focal_maximum,  // forward, and the largest |x|^2
  focal,          // x w of the focal frequency loss
};

template <class T>
struct StagedColumnsParams {
  Staged task;
  bool forward, inverse;
  int height, width;
  int columns;  // of a block
  StagedOrder order;
  int64_t count;  // planes of the chunk
  // Blocks of a group: each takes every parts-th member, and its own part of the sums.
  int parts;
  int channels;
  Complex<T>* work;                       // (planes of the chunk, H, W//2+1)
  const Complex<T>* other;                // likewise
  Complex<T>* out;                        // likewise, `spectrum` only
  const T* weight;                        // (N|1, C|1, H, W//2+1), real or complex
  int64_t weight_sample, weight_channel;  // in planes
  T scale;                                // of what is written
  // Squares and products are of unit * x; these are their factors in the sums.
  T unit, sum_scale;
  T* sums;    // (groups, parts, H, W//2+1), real or complex, or null
  T* energy;  // sum_scale * sum of w |unit x|^2: (planes, blocks of columns), or null
  T* maxima;  // (planes of the chunk, blocks of columns)
  FocalMatrix<T> matrix;

  BLURFFT_HD int half() const { return width / 2 + 1; }
  BLURFFT_HD int blocks() const { return (half() + columns - 1) / columns; }
};

// The sum, or the maximum, over the block in a fixed order, in every thread.
template <class Value, class Combine>
__device__ inline Value staged_reduce(Value value, Combine combine) {
  __shared__ Value warps[kLineThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(0xffffffffu, value, offset));
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = warps[0];
  for (int i = 1; i < kLineThreads / 32; ++i) value = combine(value, warps[i]);
  return value;
}

// Grid: (groups that the chunk touches * parts, blocks of columns).
template <class T, class Length>
__global__ void __launch_bounds__(kLineThreads, kLineBlocks<T, Length>)
    staged_columns(StagedColumnsParams<T> p, const __grid_constant__ Length length) {
  const int n = p.height, half = p.half();
  BLURFFT_DYNAMIC_SHARED(Complex<T>, shared);
  const LineTransform<T, Length, true> lines(length, p.columns, shared);

  const int64_t group = p.order.begin / p.order.members + blockIdx.x / p.parts;
  const int part = blockIdx.x % p.parts, first_column = blockIdx.y * p.columns;
  const int64_t end = p.order.begin + p.count;
  const auto larger = [](T a, T b) { return a > b || a != a ? a : b; };
  // Members before the chunk have had their turn.
  const int64_t passed = p.order.begin - group * p.order.members;
  const int64_t first = passed > part ? (passed - part + p.parts - 1) / p.parts * p.parts + part : part;
  for (int64_t member = first; member < p.order.members; member += p.parts) {
    const int64_t order = group * p.order.members + member;
    if (order >= end) break;
    const int64_t slot = order - p.order.begin, plane = p.order.plane(order);
    const int64_t entries = int64_t{n} * half;
    Complex<T>* work = p.work + slot * entries;
    const Complex<T>* from = p.task == Staged::image ? p.other + slot * entries : work;
    const int64_t weight_plane = plane / p.channels * p.weight_sample + plane % p.channels * p.weight_channel;

    T largest = 0;
    if (p.task == Staged::focal) {
      for (int i = 0; i < p.blocks(); ++i) largest = larger(largest, p.maxima[slot * p.blocks() + i]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n * p.columns; i += kLineThreads) {
      const int row = i / p.columns, local = i % p.columns, column = first_column + local;
      const Complex<T> x = column < half ? from[row * half + column] : Complex<T>{};
      // Without a forward transform the rows are frequencies.
      (p.forward ? lines.element(local, row) : lines.frequency(local, row)) = x;
    }
    __syncthreads();
    if (p.forward) lines.forward();

    double energy = 0;
    T maximum = 0;
    for (int i = threadIdx.x; i < n * p.columns; i += kLineThreads) {
      const int f = i / p.columns, local = i % p.columns, column = first_column + local;
      if (column >= half) continue;
      Complex<T>& z = lines.frequency(local, f);
      const Complex<T> x = z;
      const int64_t at = int64_t{f} * half + column;
      const T m = column == 0 || 2 * column == p.width ? T(1) : T(2);
      const Complex<T> y = p.unit * x;
      const T square = y.re * y.re + y.im * y.im;
      const auto accumulate = [&](T* sum, T value) { *sum = member == part ? value : *sum + value; };
      const int64_t sums_at = (group * p.parts + part) * entries + at;
      switch (p.task) {
        case Staged::spectrum:
          p.out[slot * entries + at] = p.scale * x;
          break;
        case Staged::image:
          break;
        case Staged::filter:
          z = p.weight[weight_plane * entries + at] * x;
          break;
        case Staged::filter_complex:
          z = reinterpret_cast<const Complex<T>*>(p.weight)[weight_plane * entries + at] * x;
          break;
        case Staged::loss: {
          const T w = p.weight[weight_plane * entries + at];
          energy += static_cast<double>(m * w * square);
          if (p.sums) accumulate(p.sums + sums_at, p.sum_scale * m * square);
          z = w * x;
          break;
        }
        case Staged::cross:
        case Staged::cross_real: {
          const Complex<T> product = (p.sum_scale * m) * (conj(p.unit * p.other[slot * entries + at]) * y);
          if (p.task == Staged::cross_real) {
            accumulate(p.sums + sums_at, product.re);
          } else {
            accumulate(p.sums + 2 * sums_at, product.re);
            accumulate(p.sums + 2 * sums_at + 1, product.im);
          }
          break;
        }
        case Staged::focal_maximum:
          maximum = larger(square, maximum);
          break;
        case Staged::focal: {
          const T w = p.matrix(square, largest);
          energy += static_cast<double>(m * w * square);
          z = w * x;
          break;
        }
      }
    }
    if (p.energy) {
      energy = staged_reduce(energy, [](double a, double b) { return a + b; });
      if (threadIdx.x == 0) {
        p.energy[plane * p.blocks() + blockIdx.y] = static_cast<T>(static_cast<double>(p.sum_scale) * energy);
      }
    }
    if (p.task == Staged::focal_maximum) {
      maximum = staged_reduce(maximum, larger);
      if (threadIdx.x == 0) p.maxima[slot * p.blocks() + blockIdx.y] = maximum;
    }
    __syncthreads();
    if (p.inverse) lines.inverse();
    if (!p.inverse && p.task != Staged::focal_maximum) continue;
    for (int i = threadIdx.x; i < n * p.columns; i += kLineThreads) {
      const int row = i / p.columns, local = i % p.columns, column = first_column + local;
      if (column < half) {
        work[row * half + column] = p.inverse ? lines.element(local, row) : lines.frequency(local, row);
      }
    }
  }
}

// Launches, for Length = Line in staged_lines.cu and PrimeLine<T> in staged_primes.cu.
template <class T, class Length>
cudaError_t launch_staged_rows(const StagedRowsParams<T>& params, const Length& length, bool inverse,
                               const LaunchConfig& config);
template <class T, class Length>
cudaError_t launch_staged_columns(const StagedColumnsParams<T>& params, const Length& length,
                                  const LaunchConfig& config);
template <class T>
cudaError_t launch_prime_tables(const PrimeLine<T>& line, cudaStream_t stream);

}  // namespace blurfft::cuda
