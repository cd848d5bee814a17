// What the blocks of a cluster do together, by cooperative groups, whose header takes seconds to compile.
#pragma once

#ifdef __CUDACC__
#include <cooperative_groups.h>
#endif

#include "cluster_plane.cuh"

namespace blurfft::cuda {

struct Cluster {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  __device__ __forceinline__ static int rank() { return cooperative_groups::this_cluster().block_rank(); }
  __device__ __forceinline__ static void sync() { cooperative_groups::this_cluster().sync(); }
  // Where `own` is in the shared memory of the block of this rank.
  template <class Value>
  __device__ __forceinline__ static Value* shared_of(Value* own, int rank) {
    return cooperative_groups::this_cluster().map_shared_rank(own, rank);
  }
#else
  // Never called: kHasClusters.
  __device__ __forceinline__ static int rank() { return 0; }
  __device__ __forceinline__ static void sync() {}
  template <class Value>
  __device__ __forceinline__ static Value* shared_of(Value* own, int) {
    return own;
  }
#endif
};

}  // namespace blurfft::cuda
