#include "device.cuh"

#ifdef __CUDACC__  // the emulator launches by itself

#include <cstdlib>
#include <mutex>
#include <set>

namespace blurfft::cuda {

cudaError_t allow_all_shared_memory(const void* kernel) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;  // on which device: asked once on each
  int device = 0, limit = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  const std::lock_guard<std::mutex> lock(mutex);
  if (allowed.count({kernel, device})) return cudaSuccess;
  cudaFuncAttributes attributes{};
  error = cudaFuncGetAttributes(&attributes, kernel);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return error;
  const int dynamic = limit - static_cast<int>(attributes.sharedSizeBytes);
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, dynamic);
  if (error == cudaSuccess) allowed.insert({kernel, device});
  return error;
}

// Only code for compute capability 9.0 waits; where a GPU runs code from older PTX, the kernels must not overlap.
bool overlaps(const void* kernel) {
  static const char* const wish = std::getenv("BLURFFT_CUDA_OVERLAP");
  if (!wish || *wish != '1') return false;
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.ptxVersion >= 90;
}

}  // namespace blurfft::cuda

#endif
