// ClusterPlane with one exchange a direction, which only writes. After the columns' second pass, whose results stay in
// registers, a thread pushes them to the block that owns their row; there both passes of the rows are local, the line
// of f1 = 0 among them; then everything is pushed back. A pixel crosses the cluster's network with 6 bytes instead of
// 12, nothing is read over it, and a block waits for the bytes that arrive instead of for a barrier with its fence.
#pragma once

#include "../cluster.cuh"
#include "../spectral_loss.cuh"

namespace blurfft::cuda::variants {

// 8 bytes to the same place in another block's shared memory, and a barrier there that counts the bytes.
#ifdef __CUDACC__
__device__ __forceinline__ unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
#endif
struct Arrivals {
  unsigned long long* barrier;  // in shared memory

  // By one thread, before a barrier of the cluster.
  __device__ __forceinline__ void expect([[maybe_unused]] unsigned bytes) const {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
#endif
  }
  __device__ __forceinline__ void push(Complex<float>* at, Complex<float> value, int rank) const {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
    unsigned to, counter;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_address(at)), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(counter) : "r"(shared_address(barrier)), "r"(rank));
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(to),
                 "f"(value.re), "f"(value.im), "r"(counter)
                 : "memory");
#else
    *Cluster::shared_of(at, rank) = value;
#endif
  }
  // Until all the bytes are there.
  __device__ __forceinline__ void wait() const {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
    unsigned done = 0;
    while (!done) {
      asm volatile(
          "{\n.reg .pred p;\n"
          "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n"
          "selp.u32 %0, 1, 0, p;\n}"
          : "=r"(done)
          : "r"(shared_address(barrier))
          : "memory");
    }
#elif !defined(__CUDACC__)
    Cluster::sync();
#endif
  }
};

// Every block has read what the others are about to overwrite. What it read is in registers, and used: no fence.
__device__ __forceinline__ void cluster_has_read() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#elif !defined(__CUDACC__)
  Cluster::sync();
#endif
}

// Threads: 256, which have two butterflies each. Three blocks of them would spill, as do two of 512.
template <int Threads>
struct PushPlane {
  using T = float;
  using Line = TwoPass<16, 16>;
  using Rows = PackedRows<Line>;
  static constexpr int R = 16, kHeight = 256, kWidth = 256, kHalf = 128, kLines = 128;
  static constexpr int kThreads = Threads, kPlanes = 1, kBlocks = 2, kCluster = 4;
  static constexpr int kColumns = kHalf / kCluster, kOwnLines = kLines / kCluster, kElements = kHeight * kColumns;
  static constexpr int kItems = R * kColumns / kThreads;
  static_assert(kItems * kThreads == R * kColumns && kColumns == kOwnLines);
  static constexpr size_t kSharedBytes = sizeof(Complex<T>) * kElements + 2 * sizeof(unsigned long long);

  Complex<T>* z;
  int thread, rank;
  Arrivals there, back;

  __device__ __forceinline__ explicit PushPlane(void* shared)
      : z(static_cast<Complex<T>*>(shared)),
        thread(threadIdx.x),
        rank(Cluster::rank()),
        there{reinterpret_cast<unsigned long long*>(z + kElements)},
        back{there.barrier + 1} {}

  __device__ __forceinline__ static constexpr SpectrumSize size() { return {kHeight, kWidth}; }

  // While columns are transformed: all rows of a block's columns.
  __device__ __forceinline__ Complex<T>& in_column(int row, int column) const { return z[row * kColumns + column]; }
  // While rows are: all columns of a block's lines; rows of f1, then mirror rows. Conflict-free along columns and, for
  // 8 blocks of columns and two rows, R columns apart.
  __device__ __forceinline__ Complex<T>& in_row(int row, int column) const {
    return z[row * kHalf + (column ^ (column / R | (row & 1) << 3))];
  }
  // Element s of a butterfly of the columns' second pass is in row R q + s: its line, and whether that is the mirror
  // row.
  struct Row {
    int line, mirrored;
  };
  __device__ __forceinline__ static Row row_of(int q, int s) {
    const int row = R * q + s;
    if (row < R) return {row < R / 2 ? row : row == R / 2 ? 0 : R - row, row >= R / 2};
    return row < kLines + R / 2 ? Row{row - R / 2, 0} : Row{kHeight + R / 2 - 1 - row, 1};
  }

  template <class Source>
  __device__ __forceinline__ void forward(const Source& source) {
    if (thread == 0) {
      there.expect(sizeof(Complex<T>) * kElements);
      back.expect(sizeof(Complex<T>) * kElements);
    }
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += kThreads) {
      const int t = i / kColumns, j = i % kColumns;
      Complex<T> x[1][R];
      source.template load<R, kHalf>(x, t, rank * kColumns + j);
      dft<R, false>(x[0]);
      apply_twiddles<false>(x, kTwiddles<T, R, R>.entries + t, R);
#pragma unroll
      for (int q = 0; q < R; ++q) in_column(q * R + t, j) = x[0][q];
    }
    __syncthreads();
    Complex<T> x[kItems][R];
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      const int i = thread + n * kThreads, q = i / kColumns, j = i % kColumns;
#pragma unroll
      for (int s = 0; s < R; ++s) x[n][s] = in_column(q * R + s, j);
      dft<R, false>(x[n]);
    }
    Cluster::sync();  // with the fence, for the barriers that expect() has made
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      const int i = thread + n * kThreads, q = i / kColumns, column = rank * kColumns + i % kColumns;
#pragma unroll
      for (int s = 0; s < R; ++s) {
        const Row row = row_of(q, s);
        there.push(&in_row(row.mirrored * kOwnLines + row.line % kOwnLines, column), x[n][s], row.line / kOwnLines);
      }
    }
    there.wait();
#pragma unroll 1
    for (int i = thread; i < kOwnLines * R; i += kThreads) {
      Complex<T> y[R];
      legs(i, [&](Complex<T>& at, int k) { y[k] = at; });
      transform_rows<R, false>(y, i % R, rank == 0 && i < R);
      legs(i, [&](Complex<T>& at, int k) { at = y[k]; });
    }
    __syncthreads();
  }

  template <class Sink>
  __device__ __forceinline__ void inverse(const Sink& sink) {
    __syncthreads();
    Complex<T> x[kItems][R];
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      const int i = thread + n * kThreads;
      legs(i, [&](Complex<T>& at, int k) { x[n][k] = at; });
      transform_rows<R, true>(x[n], i % R, rank == 0 && i < R);
    }
    cluster_has_read();
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      const int i = thread + n * kThreads, line = rank * kOwnLines + i / R, t = i % R;
      const int upper = Rows::row(line), lower = Rows::mirror(line);
#pragma unroll
      for (int k = 0; k < R; ++k) {
        const int half = k % (R / 2), row = k < R / 2 ? upper : lower;
        back.push(&in_column(row, t + half % 2 * R), x[n][k], half / 2);
      }
    }
    back.wait();
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += kThreads) {
      const int q = i / kColumns, j = i % kColumns;
      Complex<T> y[R];
#pragma unroll
      for (int s = 0; s < R; ++s) y[s] = in_column(q * R + s, j);
      dft<R, true>(y);
#pragma unroll
      for (int s = 0; s < R; ++s) in_column(q * R + s, j) = y[s];
    }
    __syncthreads();
#pragma unroll 1
    for (int i = thread; i < R * kColumns; i += kThreads) {
      const int t = i / kColumns, j = i % kColumns;
      Complex<T> y[1][R];
#pragma unroll
      for (int q = 0; q < R; ++q) y[0][q] = in_column(q * R + t, j);
      apply_twiddles<true>(y, kTwiddles<T, R, R>.entries + t, R);
      dft<R, true>(y[0]);
      sink.template store<R, kHalf>(y, t, rank * kColumns + j);
    }
  }

  // As FixedPlane's.
  template <class Visitor>
  __device__ __forceinline__ void visit(Visitor& visitor) {
    constexpr int half = R / 2;
#pragma unroll 1
    for (int i = thread; i < kOwnLines * R; i += kThreads) {
      const int lane = i % 32, block = lane % half, mirrored = lane / 16, q = block + mirrored * half;
      const int own = i / 32 * 2 + lane / half % 2, line = rank * kOwnLines + own, f1 = Rows::frequency(line);
      const int row = mirrored * kOwnLines + own;
      Complex<T> x[R];
#pragma unroll
      for (int s = 0; s < R; ++s) x[s] = in_row(row, block * R + s);
      typename Visitor::Loaded loaded[R];
#pragma unroll
      for (int p = 0; p < R; ++p) loaded[p] = visitor.load(is_edge(p), f1, q + R * p);
      dft<R, false>(x);
      if (rank == 0 && i < 32) {
        if (line == 0) {
#pragma unroll
          for (int s = 0; s < R; ++s) in_row(row, block * R + s) = x[s];
        }
        __syncwarp();
        if (line == 0) {
          const int other = (R - q) % R, partner = other < half ? 0 : kOwnLines;
#pragma unroll
          for (int p = 0; p < R; ++p) {
            const bool edge = is_edge(p);
            const int f2 = q + R * p;
            const Complex<T> y = conj(in_row(partner, other % half * R + (q == 0 ? (R - p) % R : R - 1 - p)));
            const auto last = visitor.load(edge, kLines, f2);
            const Complex<T> sum = half_of(x[p] + y), difference = half_of(x[p] - y);
            const Complex<T> zero = visitor.visit(edge, 0, f2, sum, loaded[p], static_cast<T>(1));
            const Complex<T> nyquist =
                visitor.visit(edge, kLines, f2, {difference.im, -difference.re}, last, static_cast<T>(1));
            x[p] = {zero.re - nyquist.im, zero.im + nyquist.re};
          }
        }
        __syncwarp();
      }
      if (line != 0) {
#pragma unroll
        for (int p = 0; p < R; ++p) x[p] = visitor.visit(is_edge(p), f1, q + R * p, x[p], loaded[p], static_cast<T>(2));
      }
      dft<R, true>(x);
#pragma unroll
      for (int s = 0; s < R; ++s) in_row(row, block * R + s) = x[s];
    }
  }

 private:
  BLURFFT_HD static constexpr bool is_edge(int p) { return p == 0 || p == R / 2; }

  // f(place, k) of the legs of element i % R of a block's line i / R, in the rows of f1 and of -f1.
  template <class F>
  __device__ __forceinline__ void legs(int i, F&& f) const {
#pragma unroll
    for (int k = 0; k < R / 2; ++k) {
      f(in_row(i / R, i % R + k * R), k);
      f(in_row(kOwnLines + i / R, i % R + k * R), k + R / 2);
    }
  }
};

// Loss of each block, (planes, kCluster); with the gradient.
template <class Plane>
__global__ void __launch_bounds__(Plane::kThreads, Plane::kBlocks)
    spectral_loss_push(const SpectralLossParams<float> p) {
  if constexpr (kHasClusters) {
    BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
    const int item = blockIdx.x / Plane::kCluster, n = item / p.schedule.channels, c = item % p.schedule.channels;
    Plane plane(shared);
    const SpectrumSize size = plane.size();
    plane.forward(Source<float, Plane::kWidth, true>{p.input, p.target, p.input.plane(n, c), p.target.plane(n, c)});
    const long long weight_plane = n * p.weight_sample + c * p.weight_channel;
    LossVisitor<float, false> visitor(p.weight + weight_plane * size.elements(), size, p.scale, nullptr, true);
    plane.visit(visitor);
    const float sum = reduce<Plane::kThreads>(visitor.sum, plane.thread, Add{});
    if (plane.thread == 0) p.loss[blockIdx.x] = sum;
    plane.inverse(Sink<float, Plane::kWidth>{p.grad, p.grad.plane(n, c)});
  }
}

}  // namespace blurfft::cuda::variants
