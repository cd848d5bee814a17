// What the launches of the fused kernels, and of the stages, have in common.
#pragma once

#include <algorithm>

#include "check.h"
#include "fused.h"
#include "planes.cuh"

namespace blurfft::cuda {

inline Image image_of(const Planes& p) {
  static_assert(static_cast<int>(Type::f16) == static_cast<int>(Element::f16));
  const uintptr_t bytes = p.type == Type::f64 ? 8 : p.type == Type::f32 ? 4 : 2;
  const bool paired = p.column == 1 && (p.row | p.channel | p.sample) % 2 == 0 &&
                      reinterpret_cast<uintptr_t>(p.data) % (2 * bytes) == 0;
  return {
      p.data, p.sample, p.channel, static_cast<int>(p.row), static_cast<int>(p.column), static_cast<Element>(p.type),
      paired};
}

inline cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream); }

template <class T>
T* new_scratch(const Context& context, int64_t count) {
  return static_cast<T*>(context.scratch(sizeof(T) * count));
}

// In planes of a parameter (N|1, C|1, H, W//2+1): the steps from a sample and from a channel to the next.
inline int sample_step(Extent extent) { return extent.n > 1 ? static_cast<int>(extent.c) : 0; }
inline int channel_step(Extent extent) { return extent.c > 1 ? 1 : 0; }

inline int64_t entries_of(Size plane) { return plane.height * (plane.width / 2 + 1); }

// The most dynamic shared memory that a block of the current device may have.
inline size_t shared_limit() {
#ifdef __CUDACC__
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "(cudaGetDevice)");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), "(cudaDeviceGetAttribute)");
  return static_cast<size_t>(bytes);
#else
  return size_t{227} << 10;
#endif
}

// f<Plane>() of the plane of the batch's size and arithmetic type, on a device that can hold it; false if the list has
// none.
template <class T, class... List, class F>
bool with_plane(PlaneList<List...>, const Batch& batch, F&& f) {
  if (batch.planes() > int64_t{1} << 30) return false;  // they are counted in 32 bits
  const auto serves = [&]<class Plane>() {
    if constexpr (std::is_same_v<T, typename Plane::T>) {
      if (batch.plane.height == Plane::kHeight && batch.plane.width == Plane::kWidth && Plane::fits(shared_limit())) {
        f.template operator()<Plane>();
        return true;
      }
    }
    return false;
  };
  return (serves.template operator()<List>() || ...);
}

inline Schedule every_plane(const Batch& batch) {
  return plane_schedule(static_cast<int>(batch.samples), static_cast<int>(batch.channels));
}
// Enough blocks, of so many planes each, to fill the device, but not so many that their sums would outgrow its cache.
inline Schedule sharing_planes(const Batch& batch, Extent shared, size_t slab_bytes, size_t planes) {
  const size_t items = std::clamp<size_t>((size_t{8} << 20) / slab_bytes, 64, 1056 * planes);
  return sharing_schedule(static_cast<int>(batch.samples), static_cast<int>(batch.channels), static_cast<int>(shared.n),
                          static_cast<int>(shared.c), static_cast<int>(items));
}

}  // namespace blurfft::cuda
