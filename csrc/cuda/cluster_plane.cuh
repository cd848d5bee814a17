// FixedPlane's transform by a cluster of four blocks, for planes of 256 x 256: each block has a quarter of the packed
// columns in its own shared memory, and rows are exchanged through the cluster's distributed shared memory.
//
// Columns stay with their block. In the rows' first pass a block has a quarter of the lines and reads and writes, in
// place, the columns of all four; in the second pass, whose R2 elements are neighbouring columns, every block has all
// lines of its own columns. So there is one cluster barrier before and after each of the rows' first passes.
#pragma once

#include "plane.cuh"

namespace blurfft::cuda {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr bool kHasClusters = true;
__device__ __forceinline__ int cluster_rank() { return cg::this_cluster().block_rank(); }
__device__ __forceinline__ void cluster_sync() { cg::this_cluster().sync(); }
template <class Value>
__device__ __forceinline__ Value* shared_of(Value* own, int rank) {
  return cg::this_cluster().map_shared_rank(own, rank);
}
#else
// Never called: kernels are empty there.
constexpr bool kHasClusters = false;
__device__ __forceinline__ int cluster_rank() { return 0; }
__device__ __forceinline__ void cluster_sync() {}
template <class Value>
__device__ __forceinline__ Value* shared_of(Value* own, int) {
  return own;
}
#endif

template <class T_, class Line, int Threads, int Blocks>
struct ClusterPlane {
  using T = T_;
  static constexpr int R = Line::first;
  static_assert(Line::first == 16 && Line::second == 16, "the lanes of visit() and the swizzle are for 16 x 16");
  static constexpr int kHeight = Line::n, kWidth = Line::n;
  static constexpr int kThreads = Threads, kPlanes = 1, kBlocks = Blocks, kCluster = 4;
  static constexpr int kHalf = kWidth / 2, kLines = kHeight / 2, kColumns = kHalf / kCluster;
  static constexpr int kElements = kHeight * kColumns;
  // Behind the plane: what becomes of the first line, whose values others still read, twice, and the blocks' sums.
  static constexpr int kFirstLine = 2 * kColumns;
  static constexpr size_t kSharedBytes = sizeof(Complex<T>) * (kElements + 2 * kFirstLine) + sizeof(T) * kCluster;
  // What a device's blocks can have shows whether it has clusters: of those without them no block has more than 163 KB.
  static constexpr size_t kSharedLimit = size_t{200} << 10;

  // Conflict-free along columns and, R columns apart, along rows: as FixedPlane's.
  BLURFFT_HD static constexpr int at(int row, int column) {
    return row * kColumns + (column ^ (column / R | (row & 1) << 3 | (row & 2) << 1 | (row & 4) >> 1));
  }
  BLURFFT_HD static constexpr int row(int line) { return line < R / 2 ? line : line + R / 2; }
  BLURFFT_HD static constexpr int mirror(int line) {
    const int r = row(line);
    return line == 0 ? R / 2 : r < R ? R - r : kHeight + R - 1 - r;
  }

  Complex<T>* z;
  int thread;

  __device__ __forceinline__ explicit ClusterPlane(void* shared)
      : z(static_cast<Complex<T>*>(shared)), thread(threadIdx.x) {}

  __device__ __forceinline__ static constexpr SpectrumSize size() { return {kHeight, kWidth}; }
  __device__ __forceinline__ static void sync() { cluster_sync(); }

  template <class Source>
  __device__ __forceinline__ void forward(const Source& source) {
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += Threads) {
      const int t = i / kColumns, j = i % kColumns;
      Complex<T> x[R];
      source.template load<R, R, kHalf>(x, t, cluster_rank() * kColumns + j);
      dft<R, false>(x);
      apply_twiddles<R, false>(x, kTwiddles<T, R, R>.entries + t, R);
      unroll<R>([&](auto q) { z[at(q.value * R + t, j)] = x[q.value]; });
    }
    __syncthreads();
    second_columns<false>();
    sync();
    first_rows<false>();
    sync();
  }

  template <class Sink>
  __device__ __forceinline__ void inverse(const Sink& sink) {
    first_rows<true>();
    sync();
    second_columns<true>();
    __syncthreads();
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += Threads) {
      const int t = i / kColumns, j = i % kColumns;
      Complex<T> x[R];
      unroll<R>([&](auto q) { x[q.value] = z[at(q.value * R + t, j)]; });
      apply_twiddles<R, true>(x, kTwiddles<T, R, R>.entries + t, R);
      dft<R, true>(x);
      sink.template store<R, R, kHalf>(x, t, cluster_rank() * kColumns + j);
    }
  }

  // As FixedPlane's. Before inverse() there must be a barrier of the cluster: sum() has one.
  template <bool Forward, bool Inverse, class Visitor>
  __device__ __forceinline__ void visit(Visitor& visitor, bool back = true) {
    static_assert(Forward && Inverse);
    constexpr int half = R / 2, blocks = kColumns / R;
#pragma unroll 1
    for (int i = thread; i < kLines * 2 * blocks; i += Threads) {
      // 16 threads share a bank cycle: 8 rows, 2 blocks of columns; first rows of f1, then mirror rows.
      const int lane = i % 32, line = i / 32 * 8 + lane % 16 / blocks, block = lane % blocks;
      const int q = cluster_rank() * blocks + block + lane / 16 * half;
      const int packed = lane < 16 ? row(line) : mirror(line);
      const int f1 = Line::frequency(row(line));
      Complex<T> x[R];
      Complex<T>* to = z + packed * kColumns;
      if (line == 0) {
        // The partner's values are another block's; its transform is done here once more, so as not to wait for it.
        // Both go through shared memory, which this thread alone sees until its result is there: fewer registers.
        to = z + kElements + lane / 16 * kColumns;
        Complex<T>* own = to + kFirstLine;
        const int other = (R - q) % R, theirs = other % half;
        const Complex<T>* from = shared_of(z, theirs / blocks);
        const int partner = other < half ? row(0) : mirror(0);
        unroll<R>([&](auto s) { x[s.value] = from[at(partner, theirs % blocks * R + s.value)]; });
        dft<R, false>(x);
        unroll<R>([&](auto s) { to[at(0, block * R + s.value)] = x[s.value]; });
        unroll<R>([&](auto s) { x[s.value] = z[at(packed, block * R + s.value)]; });
        dft<R, false>(x);
        unroll<R>([&](auto s) { own[at(0, block * R + s.value)] = x[s.value]; });
#pragma unroll 1
        for (int p = 0; p < R; ++p) {
          const int f2 = q + R * p, slot = at(0, block * R + p);
          const Complex<T> a = own[slot], b = conj(to[at(0, block * R + (q == 0 ? (R - p) % R : R - 1 - p))]);
          const Complex<T> zero = visitor.template visit<true>(0, f2, half_of(a + b),
                                                               visitor.template load<true>(0, f2), static_cast<T>(1));
          const Complex<T> difference = half_of(a - b);
          const Complex<T> nyquist = visitor.template visit<true>(
              kLines, f2, {difference.im, -difference.re}, visitor.template load<true>(kLines, f2), static_cast<T>(1));
          own[slot] = {zero.re - nyquist.im, zero.im + nyquist.re};
        }
        unroll<R>([&](auto s) { x[s.value] = own[at(0, block * R + s.value)]; });
      } else {
        typename Visitor::Loaded loaded[R];
        unroll<R>([&](auto p) { loaded[p.value] = visitor.template load<is_edge(p.value)>(f1, q + R * p.value); });
        unroll<R>([&](auto s) { x[s.value] = z[at(packed, block * R + s.value)]; });
        dft<R, false>(x);
        unroll<R>([&](auto p) {
          x[p.value] = visitor.template visit<is_edge(p.value)>(f1, q + R * p.value, x[p.value], loaded[p.value],
                                                                static_cast<T>(2));
        });
      }
      if (back) {
        dft<R, true>(x);
        const int skip = line == 0 ? 0 : packed;
        unroll<R>([&](auto s) { to[at(skip, block * R + s.value) - skip * kColumns] = x[s.value]; });
      }
    }
  }

  // The sum over the plane, in the thread that leads(). A barrier of the cluster.
  __device__ __forceinline__ T sum(T value) {
    value = reduce<Threads>(value, thread, Add{});
    T* sums = reinterpret_cast<T*>(z + kElements + 2 * kFirstLine);
    if (thread == 0) shared_of(sums, 0)[cluster_rank()] = value;
    sync();
    return leads() ? sums[0] + sums[1] + sums[2] + sums[3] : value;
  }
  __device__ __forceinline__ bool leads() const { return thread == 0 && cluster_rank() == 0; }

 private:
  BLURFFT_HD static constexpr bool is_edge(int p) { return p == 0 || p == R / 2; }

  template <bool Inverse>
  __device__ __forceinline__ void second_columns() {
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += Threads) {
      const int q = i / kColumns, j = i % kColumns;
      Complex<T> x[R];
      unroll<R>([&](auto s) { x[s.value] = z[at(q * R + s.value, j)]; });
      dft<R, Inverse>(x);
      unroll<R>([&](auto s) { z[at(q * R + s.value, j)] = x[s.value]; });
    }
  }

  template <bool Inverse>
  __device__ __forceinline__ void first_rows() {
    constexpr int half = R / 2, blocks = kColumns / R;
#pragma unroll 1
    for (int i = thread; i < kLines / kCluster * R; i += Threads) {
      const int line = cluster_rank() * (kLines / kCluster) + i / R, t = i % R;
      const int upper = row(line), lower = mirror(line);
      const bool first = Inverse && line == 0;
      Complex<T> x[R];
      unroll<half>([&](auto k) {
        const int column = t + k.value % blocks * R;
        const Complex<T>* from = shared_of(z, k.value / blocks);
        x[k.value] = from[first ? kElements + at(0, column) : at(upper, column)];
        x[k.value + half] = from[first ? kElements + kColumns + at(0, column) : at(lower, column)];
      });
      if constexpr (Inverse) {
        apply_twiddles<R, true>(x, kTwiddles<T, R, R>.entries + t, R);
        dft<R, true>(x);
        join_rows(x, line == 0);
      } else {
        separate_rows(x, line == 0);
        dft<R, false>(x);
        apply_twiddles<R, false>(x, kTwiddles<T, R, R>.entries + t, R);
      }
      unroll<half>([&](auto k) {
        const int column = t + k.value % blocks * R;
        Complex<T>* to = shared_of(z, k.value / blocks);
        to[at(upper, column)] = x[k.value];
        to[at(lower, column)] = x[k.value + half];
      });
    }
  }
};

}  // namespace blurfft::cuda
