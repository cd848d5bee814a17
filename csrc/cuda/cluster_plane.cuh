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
#else
constexpr bool kHasClusters = false;  // kernels are empty there
#endif

struct Cluster;  // what the blocks do together: cluster.cuh, for the files that compile kernels of this plane

// Whether the kernels of clusters are there for the current device: clusters.cu.
bool clusters_serve();

template <class T_, class Line, int Threads, int Blocks, class Cluster = cuda::Cluster>
struct ClusterPlane {
  using T = T_;
  using Rows = PackedRows<Line>;
  static constexpr int R = Line::first;
  static_assert(Line::first == 16 && Line::second == 16, "the lanes of visit() and the swizzle are for 16 x 16");
  static constexpr int kHeight = Line::n, kWidth = Line::n;
  static constexpr int kThreads = Threads, kPlanes = 1, kBlocks = Blocks, kFilterBlocks = 2, kCluster = 4;
  static constexpr int kHalf = kWidth / 2, kLines = kHeight / 2, kColumns = kHalf / kCluster;
  static constexpr int kElements = kHeight * kColumns;
  // Behind the plane: what becomes of the first line, whose values others still read, twice, and the blocks' sums.
  static constexpr int kFirstLine = 2 * kColumns;
  static constexpr size_t kSharedBytes = sizeof(Complex<T>) * (kElements + 2 * kFirstLine) + sizeof(T) * kCluster;
  static bool fits(size_t shared_limit) { return kSharedBytes <= shared_limit && clusters_serve(); }

  // Conflict-free along columns and, R columns apart, along rows: as FixedPlane's.
  BLURFFT_HD static constexpr int at(int row, int column) {
    return row * kColumns + (column ^ (column / R | (row & 1) << 3 | (row & 2) << 1 | (row & 4) >> 1));
  }
  Complex<T>* z;
  int thread;

  __device__ __forceinline__ explicit ClusterPlane(void* shared)
      : z(static_cast<Complex<T>*>(shared)), thread(threadIdx.x) {}

  __device__ __forceinline__ static constexpr SpectrumSize size() { return {kHeight, kWidth}; }
  __device__ __forceinline__ static void sync() { Cluster::sync(); }
  // After a visit() that no inverse() follows: what a block is to do before it exits.
  __device__ __forceinline__ static void finish() { Cluster::sync(); }

  template <class Source, class Loaded = Nothing>
  __device__ __forceinline__ void forward(const Source& source, const Loaded& loaded = {}) {
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += Threads) {
      const int t = i / kColumns, j = i % kColumns;
      Complex<T> x[1][R];
      source.template load<R, kHalf>(x, t, Cluster::rank() * kColumns + j);
      dft<R, false>(x[0]);
      apply_twiddles<false>(x, kTwiddles<T, R, R>.entries + t, R);
#pragma unroll
      for (int q = 0; q < R; ++q) z[at(q * R + t, j)] = x[0][q];
    }
    loaded();
    __syncthreads();
    second_columns<false>();
    sync();
    first_rows<false>();
    sync();
  }

  template <class Sink>
  __device__ __forceinline__ void inverse(const Sink& sink) {
    sync();
    first_rows<true>();
    sync();
    second_columns<true>();
    __syncthreads();
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += Threads) {
      const int t = i / kColumns, j = i % kColumns;
      Complex<T> x[1][R];
#pragma unroll
      for (int q = 0; q < R; ++q) x[0][q] = z[at(q * R + t, j)];
      apply_twiddles<true>(x, kTwiddles<T, R, R>.entries + t, R);
      dft<R, true>(x[0]);
      sink.template store<R, kHalf>(x, t, Cluster::rank() * kColumns + j);
    }
  }

  // As FixedPlane's; the spectrum is looked at once. Others may still read what the first line was: before a block
  // exits or writes again, sync().
  template <bool Forward, bool Inverse, class Visitor>
  __device__ __forceinline__ void visit(Visitor& visitor, bool back = true) {
    static_assert(Forward);
    constexpr int half = R / 2;
#pragma unroll 1
    for (int i = thread; i < kSpectrumThreads; i += Threads) {
      const Place at_i(i);
      const int line = at_i.line, block = at_i.block, q = at_i.q, packed = at_i.packed, f1 = Rows::frequency(line);
      Complex<T> x[R];
      Complex<T>* to = z + packed * kColumns;
      if (line == 0) {
        // The partner's values are another block's; its transform is done here once more, so as not to wait for it.
        // Both go through shared memory, which this thread alone sees until its result is there: fewer registers.
        to = z + kElements + at_i.mirrored * kColumns;
        Complex<T>* own = to + kFirstLine;
        const int other = (R - q) % R, theirs = other % half;
        const Complex<T>* from = Cluster::shared_of(z, theirs / kBlocksOfLine);
        const int partner = other < half ? Rows::row(0) : Rows::mirror(0);
#pragma unroll
        for (int s = 0; s < R; ++s) x[s] = from[at(partner, theirs % kBlocksOfLine * R + s)];
        dft<R, false>(x);
#pragma unroll
        for (int s = 0; s < R; ++s) to[at(0, block * R + s)] = x[s];
#pragma unroll
        for (int s = 0; s < R; ++s) x[s] = z[at(packed, block * R + s)];
        dft<R, false>(x);
#pragma unroll
        for (int s = 0; s < R; ++s) own[at(0, block * R + s)] = x[s];
#pragma unroll 1
        for (int p = 0; p < R; ++p) {
          const int f2 = q + R * p, slot = at(0, block * R + p);
          const Complex<T> a = own[slot], b = conj(to[at(0, block * R + (q == 0 ? (R - p) % R : R - 1 - p))]);
          const Complex<T> zero =
              visitor.visit(true, 0, f2, half_of(a + b), visitor.load(true, 0, f2), static_cast<T>(1));
          const Complex<T> difference = half_of(a - b);
          const Complex<T> nyquist = visitor.visit(true, kLines, f2, {difference.im, -difference.re},
                                                   visitor.load(true, kLines, f2), static_cast<T>(1));
          own[slot] = {zero.re - nyquist.im, zero.im + nyquist.re};
        }
#pragma unroll
        for (int s = 0; s < R; ++s) x[s] = own[at(0, block * R + s)];
      } else {
        typename Visitor::Loaded loaded[R];
#pragma unroll
        for (int p = 0; p < R; ++p) loaded[p] = visitor.load(is_edge(p), f1, q + R * p);
#pragma unroll
        for (int s = 0; s < R; ++s) x[s] = z[at(packed, block * R + s)];
        dft<R, false>(x);
#pragma unroll
        for (int p = 0; p < R; ++p) x[p] = visitor.visit(is_edge(p), f1, q + R * p, x[p], loaded[p], static_cast<T>(2));
      }
      if constexpr (Inverse) {
        if (back) {
          dft<R, true>(x);
          put_line(x, at_i);
        }
      }
    }
  }

  // As FixedPlane's.
  template <class Reader>
  __device__ __forceinline__ void fill(const Reader& reader) {
#pragma unroll 1
    for (int i = thread; i < kSpectrumThreads; i += Threads) {
      const Place at_i(i);
      const int f1 = Rows::frequency(at_i.line);
      Complex<T> x[R];
#pragma unroll
      for (int p = 0; p < R; ++p) x[p] = reader.load(is_edge(p), f1, at_i.q + R * p);
      if (at_i.line == 0) {
#pragma unroll
        for (int p = 0; p < R; ++p) {
          const Complex<T> last = reader.load(is_edge(p), kLines, at_i.q + R * p);
          x[p] = {x[p].re - last.im, x[p].im + last.re};
        }
      }
      dft<R, true>(x);
      put_line(x, at_i);
    }
  }

  // The sum over the plane, in the thread that leads(). A barrier of the cluster.
  __device__ __forceinline__ T sum(T value) {
    value = reduce<Threads>(value, thread, Add{});
    T* sums = reinterpret_cast<T*>(z + kElements + 2 * kFirstLine);
    if (thread == 0) Cluster::shared_of(sums, 0)[Cluster::rank()] = value;
    sync();
    return leads() ? sums[0] + sums[1] + sums[2] + sums[3] : value;
  }
  __device__ __forceinline__ bool leads() const { return thread == 0 && Cluster::rank() == 0; }

 private:
  static constexpr int kBlocksOfLine = kColumns / R, kSpectrumThreads = kLines * 2 * kBlocksOfLine;
  // 16 threads share a bank cycle: 8 rows, 2 blocks of columns; first rows of f1, then mirror rows.
  struct Place {
    int line, block, q, packed, mirrored;

    __device__ __forceinline__ explicit Place(int i) {
      const int lane = i % 32;
      line = i / 32 * 8 + lane % 16 / kBlocksOfLine;
      block = lane % kBlocksOfLine;
      mirrored = lane / 16;
      q = Cluster::rank() * kBlocksOfLine + block + mirrored * (R / 2);
      packed = mirrored ? Rows::mirror(line) : Rows::row(line);
    }
  };
  // What becomes of a line's block of columns; the first line's has a place of its own.
  __device__ __forceinline__ void put_line(const Complex<T> (&x)[R], const Place& to) const {
    Complex<T>* row = to.line == 0 ? z + kElements + to.mirrored * kColumns : z + to.packed * kColumns;
    const int key = to.line == 0 ? 0 : to.packed;
#pragma unroll
    for (int s = 0; s < R; ++s) row[at(key, to.block * R + s) - key * kColumns] = x[s];
  }

  BLURFFT_HD static constexpr bool is_edge(int p) { return p == 0 || p == R / 2; }

  template <bool Inverse>
  __device__ __forceinline__ void second_columns() {
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += Threads) {
      const int q = i / kColumns, j = i % kColumns;
      Complex<T> x[R];
#pragma unroll
      for (int s = 0; s < R; ++s) x[s] = z[at(q * R + s, j)];
      dft<R, Inverse>(x);
#pragma unroll
      for (int s = 0; s < R; ++s) z[at(q * R + s, j)] = x[s];
    }
  }

  template <bool Inverse>
  __device__ __forceinline__ void first_rows() {
    constexpr int half = R / 2, blocks = kBlocksOfLine;
#pragma unroll 1
    for (int i = thread; i < kLines / kCluster * R; i += Threads) {
      const int line = Cluster::rank() * (kLines / kCluster) + i / R, t = i % R;
      const int upper = Rows::row(line), lower = Rows::mirror(line);
      const bool first = Inverse && line == 0;
      Complex<T> x[R];
#pragma unroll
      for (int k = 0; k < half; ++k) {
        const int column = t + k % blocks * R;
        const Complex<T>* from = Cluster::shared_of(z, k / blocks);
        x[k] = from[first ? kElements + at(0, column) : at(upper, column)];
        x[k + half] = from[first ? kElements + kColumns + at(0, column) : at(lower, column)];
      }
      transform_rows<R, Inverse>(x, t, line == 0);
#pragma unroll
      for (int k = 0; k < half; ++k) {
        const int column = t + k % blocks * R;
        Complex<T>* to = Cluster::shared_of(z, k / blocks);
        to[at(upper, column)] = x[k];
        to[at(lower, column)] = x[k + half];
      }
    }
  }
};

}  // namespace blurfft::cuda
