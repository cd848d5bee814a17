// What every kernel header includes first. Under nvcc it is CUDA itself; under a host compiler it is the emulator of
// the tests (tests/simt), which offers the same names. Two things differ between them and have one spelling here:
// dynamic shared memory and launches.
#pragma once

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>
#include <utility>

// Declares `name`, a pointer to the block's dynamic shared memory, aligned to 16 bytes.
#define BLURFFT_DYNAMIC_SHARED(type, name)                              \
  extern __shared__ __align__(16) unsigned char blurfft_shared_bytes[]; \
  type* const name = reinterpret_cast<type*>(blurfft_shared_bytes)

#else

#include <simt.h>

#define BLURFFT_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(simt::dynamic_shared())

#endif

namespace blurfft::cuda {

struct LaunchConfig {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  unsigned cluster = 1;  // blocks along x in a thread-block cluster; grid.x is a multiple of it
  cudaStream_t stream = nullptr;
  bool overlapping = false;  // may begin when every block of the kernel before has called let_next_begin()
};

// In an overlapping kernel: until then it may read only what is older than the kernel before, from there on everything.
// Nothing in others. Every kernel that begins early calls it, so that whatever follows finds all of them done.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDACC__) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_begin() {
#if defined(__CUDACC__) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

#ifdef __CUDACC__
// Lets a kernel have all the shared memory there is: the limit is the function's, and a launch in another thread may
// need more than this one. Unless asked, a block has 48 KB with what the kernel declares itself.
cudaError_t allow_all_shared_memory(const void* kernel);
// Whether launches overlap where they may: a variant, BLURFFT_CUDA_OVERLAP=1, until it has been measured.
bool overlaps(const void* kernel);
#endif

// kernel<<<...>>>(args...) for any amount of dynamic shared memory and any cluster size. No synchronisation; may be
// captured in a graph.
template <typename... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), const LaunchConfig& config,
                   std::type_identity_t<Parameters>... args) {
#ifdef __CUDACC__
  if (config.shared_bytes > 0) {
    const cudaError_t error = allow_all_shared_memory(reinterpret_cast<const void*>(kernel));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (config.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {config.cluster, 1, 1};
  }
  if (config.overlapping && overlaps(reinterpret_cast<const void*>(kernel))) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  cudaLaunchConfig_t launch_config{};
  launch_config.gridDim = config.grid;
  launch_config.blockDim = config.block;
  launch_config.dynamicSmemBytes = config.shared_bytes;
  launch_config.stream = config.stream;
  launch_config.attrs = attributes;
  launch_config.numAttrs = count;
  return cudaLaunchKernelEx(&launch_config, kernel, args...);
#else
  simt::launch(kernel, config.grid, config.block, config.shared_bytes, config.cluster, args...);
  return cudaSuccess;
#endif
}

}  // namespace blurfft::cuda
