// The sizes of planes that a warp, a block or a cluster transforms, and which planes it works on.
#pragma once

#include "cluster_plane.cuh"
#include "plane.cuh"

namespace blurfft::cuda {

// Threads, planes of a block and blocks of a multiprocessor are chosen for an H100: see README.md. Each op lists those
// that it is compiled for.
using Plane16 = FixedPlane<float, TwoPass<4, 4>, TwoPass<4, 4>, 32, 4, 8>;
using Plane28 = FixedPlane<float, TwoPass<7, 4>, TwoPass<4, 7>, 32, 4, 8>;
using Plane32 = FixedPlane<float, TwoPass<8, 4>, TwoPass<4, 8>, 32, 4, 5>;
using Plane64 = FixedPlane<float, TwoPass<8, 8>, TwoPass<8, 8>, 128, 1, 5>;
using Plane96 = FixedPlane<float, TwoPass<8, 12>, TwoPass<8, 12>, 192, 1, 4>;
using Plane96WithPower = FixedPlane<float, TwoPass<8, 12>, TwoPass<8, 12>, 192, 1, 3>;  // three blocks would spill
using Plane128 = FixedPlane<float, TwoPass<8, 16>, TwoPass<16, 8>, 192, 1, 3>;
using Plane160 = FixedPlane<float, TwoPass<10, 16>, TwoPass<16, 10>, 320, 1, 2>;
using Plane192 = FixedPlane<float, TwoPass<12, 16>, TwoPass<16, 12>, 768, 1, 1>;
using Plane224 = FixedPlane<float, TwoPass<14, 16>, TwoPass<16, 14>, 448, 1, 1>;
using Plane256 = ClusterPlane<float, TwoPass<16, 16>, 192, 3>;
// Height x width.
using Plane32x64 = FixedPlane<float, TwoPass<8, 4>, TwoPass<8, 8>, 64, 1, 10>;
using Plane64x32 = FixedPlane<float, TwoPass<8, 8>, TwoPass<4, 8>, 64, 1, 10>;
using Plane64x128 = FixedPlane<float, TwoPass<8, 8>, TwoPass<16, 8>, 128, 1, 5>;
using Plane128x64 = FixedPlane<float, TwoPass<8, 16>, TwoPass<8, 8>, 128, 1, 5>;
using Plane96x128 = FixedPlane<float, TwoPass<8, 12>, TwoPass<16, 8>, 192, 1, 3>;
using Plane128x96 = FixedPlane<float, TwoPass<8, 16>, TwoPass<8, 12>, 192, 1, 4>;

template <class... Planes>
struct PlaneList {};

struct PlaneIndex {
  int index, n, c;
};

// Planes that share something whose gradient is a sum over them (a weight, say) form a group; a group is cut into
// chunks, and an item, a chunk of a group, is one block's work (one warp's, where planes are small), plane after plane.
// Member k of group g is plane g * group_step + k * member_step.
struct Schedule {
  int channels, groups, members, chunks;  // members: planes of a group; chunks: of each group
  int group_step, member_step;

  BLURFFT_HD int items() const { return groups * chunks; }
  BLURFFT_HD int begin(int item) const {
    return static_cast<int>(static_cast<long long>(members) * (item % chunks) / chunks);
  }
  BLURFFT_HD int end(int item) const {
    return static_cast<int>(static_cast<long long>(members) * (item % chunks + 1) / chunks);
  }
  BLURFFT_HD PlaneIndex plane(int item, int member) const {
    const int index = item / chunks * group_step + member * member_step;
    return {index, index / channels, index % channels};
  }
};

// Every plane for itself.
inline Schedule plane_schedule(int samples, int channels) { return {channels, samples * channels, 1, 1, 1, 0}; }

// Groups of planes that share one of (n, c) planes, n = 1 or `samples`, c = 1 or `channels`, cut into about `items`.
inline Schedule sharing_schedule(int samples, int channels, int n, int c, int items) {
  Schedule s{channels, n * c, samples / n * (channels / c), 1, 1, 0};
  if (c < channels) {
    s.member_step = 1;
    s.group_step = n < samples ? 0 : channels;
  } else {
    s.member_step = n < samples ? channels : 0;
  }
  const int chunks = items / s.groups;
  s.chunks = chunks < 1 ? 1 : chunks < s.members ? chunks : s.members;
  return s;
}

// Blocks of a multiprocessor, of which registers follow. From 10.0 on two floats are computed as one pair of registers,
// which takes more of them.
constexpr int resident(int blocks) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  return (blocks * 3 + 2) / 4;
#else
  return blocks;
#endif
}

// A kernel for a cluster is empty where there are none.
template <class Plane>
constexpr bool kRunsHere = Plane::kCluster == 1 || kHasClusters;
template <class Plane>
constexpr int block_threads() {
  return Plane::kThreads * Plane::kPlanes;
}
template <class Plane>
__device__ __forceinline__ int first_item() {
  return blockIdx.x / Plane::kCluster * Plane::kPlanes + threadIdx.x / Plane::kThreads;
}
template <class Plane>
LaunchConfig plane_launch(int items, cudaStream_t stream) {
  return {.grid = dim3((items + Plane::kPlanes - 1) / Plane::kPlanes * Plane::kCluster),
          .block = dim3(block_threads<Plane>()),
          .shared_bytes = Plane::kSharedBytes,
          .cluster = Plane::kCluster,
          .stream = stream};
}

// out[g * size + i] = sum over k < count of in[(g * count + k) * size + i], always in the same order: a warp adds up
// every kSumWarps-th slab of 32 neighbouring entries, then the first warp what they have.
constexpr int kSumWarps = 8;

template <class Value>
__global__ void __launch_bounds__(32 * kSumWarps)
    sum_slabs_kernel(const Value* in, Value* out, int groups, int count, int size) {
  __shared__ Value sums[kSumWarps][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const long long total = static_cast<long long>(groups) * size;
  for (long long begin = blockIdx.x * 32LL; begin < total; begin += gridDim.x * 32LL) {
    const long long at = begin + lane;
    Value sum = 0;
    if (at < total) {
      const Value* from = in + (at / size * count) * size + at % size;
#pragma unroll 4
      for (int k = warp; k < count; k += kSumWarps) sum += from[static_cast<long long>(k) * size];
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && at < total) {
      for (int k = 1; k < kSumWarps; ++k) sum += sums[k][lane];
      out[at] = sum;
    }
    __syncthreads();
  }
}

template <class Value>
cudaError_t sum_slabs(const Value* in, Value* out, int groups, int count, int size, cudaStream_t stream) {
  const long long blocks = (static_cast<long long>(groups) * size + 31) / 32;
  const LaunchConfig config{.grid = dim3(blocks < 65536 ? static_cast<unsigned>(blocks) : 65536u),
                            .block = dim3(32 * kSumWarps),
                            .shared_bytes = 0,
                            .cluster = 1,
                            .stream = stream};
  return launch(sum_slabs_kernel<Value>, config, in, out, groups, count, size);
}

}  // namespace blurfft::cuda
