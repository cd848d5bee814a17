// Kernels of the variants, each size in a file of its own. README.md says what they are.
#pragma once

#include <string>

#include "../fused.cuh"
#include "../spectral_loss.cuh"
#include "spread_plane.cuh"
#include "variants.h"

namespace blurfft::cuda::variants {

// A value of 2, 4 or 8 bytes past the first-level cache.
template <class Value>
__device__ __forceinline__ Value load_streamed(const Value* at) {
#ifdef __CUDACC__
  const size_t address = __cvta_generic_to_global(at);
  Value value;
  if constexpr (sizeof(Value) == 8) {
    uint2 bits;
    asm("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(bits.x), "=r"(bits.y) : "l"(address));
    memcpy(&value, &bits, sizeof(Value));
  } else if constexpr (sizeof(Value) == 4) {
    unsigned bits;
    asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(bits) : "l"(address));
    memcpy(&value, &bits, sizeof(Value));
  } else {
    unsigned short bits;
    asm("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(bits) : "l"(address));
    memcpy(&value, &bits, sizeof(Value));
  }
  return value;
#else
  return *at;
#endif
}
template <class Value>
__device__ __forceinline__ void store_streamed(Value value, Value* at) {
#ifdef __CUDACC__
  const size_t address = __cvta_generic_to_global(at);
  if constexpr (sizeof(Value) == 8) {
    uint2 bits;
    memcpy(&bits, &value, sizeof(Value));
    asm volatile("st.global.cs.v2.u32 [%0], {%1, %2};" ::"l"(address), "r"(bits.x), "r"(bits.y) : "memory");
  } else if constexpr (sizeof(Value) == 4) {
    unsigned bits;
    memcpy(&bits, &value, sizeof(Value));
    asm volatile("st.global.cs.u32 [%0], %1;" ::"l"(address), "r"(bits) : "memory");
  } else {
    unsigned short bits;
    memcpy(&bits, &value, sizeof(Value));
    asm volatile("st.global.cs.u16 [%0], %1;" ::"l"(address), "h"(bits) : "memory");
  }
#else
  *at = value;
#endif
}
template <class Element>
struct Elements;
template <>
struct Elements<float> {
  using Two = float2;
};
template <>
struct Elements<__nv_bfloat16> {
  using Two = __nv_bfloat162;
};
template <>
struct Elements<__half> {
  using Two = __half2;
};
__device__ __forceinline__ float2 widen_two(float2 x) { return x; }
__device__ __forceinline__ float2 widen_two(__nv_bfloat162 x) { return __bfloat1622float2(x); }
__device__ __forceinline__ float2 widen_two(__half2 x) { return __half22float2(x); }

struct Streamed : PlainAccess {
  template <class Element>
  __device__ __forceinline__ static float load(const Element* at) {
    return widen(load_streamed(at));
  }
  template <class Element>
  __device__ __forceinline__ static float2 load_two(const Element* at) {
    return widen_two(load_streamed(reinterpret_cast<const typename Elements<Element>::Two*>(at)));
  }
  template <class Element>
  __device__ __forceinline__ static void store(float x, Element* at) {
    Element value;
    narrow(x, &value);
    store_streamed(value, at);
  }
  template <class Element>
  __device__ __forceinline__ static void store_two(float a, float b, Element* at) {
    using Two = typename Elements<Element>::Two;
    Two value;
    store_pair(a, b, reinterpret_cast<Element*>(&value));
    store_streamed(value, reinterpret_cast<Two*>(at));
  }
};

template <class Access, class Value>
struct Typed : Access {
  template <class T, class F>
  __device__ __forceinline__ static void with_type(Element, F&& f) {
    f(static_cast<Value*>(nullptr));
  }
  __device__ __forceinline__ static constexpr bool dense(bool) { return true; }
};

template <class Plane, class Access>
__global__ void __launch_bounds__(block_threads<Plane>(), resident(Plane::kBlocks))
    spectral_loss_variant(const SpectralLossParams<float> p) {
  BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
  const int item = first_item<Plane>();
  if (item >= p.schedule.items()) return;
  Plane plane(shared);
  spectral_loss_of<false, Access>(p, plane, item, {item, item / p.schedule.channels, item % p.schedule.channels}, true);
}

// The part of a dense plane that a block's first thread asks the second-level cache for.
__device__ __forceinline__ void prefetch([[maybe_unused]] const void* at, [[maybe_unused]] unsigned bytes) {
#if defined(__CUDACC__) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(at)), "r"(bytes) : "memory");
#endif
}

// Grid: as many blocks as are resident, or fewer.
template <class Plane, class Access>
__global__ void __launch_bounds__(block_threads<Plane>(), resident(Plane::kBlocks))
    spectral_loss_persistent(const SpectralLossParams<float> p) {
  BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
  Plane plane(shared);
  const int step = gridDim.x * Plane::kPlanes;
  constexpr bool both = Plane::kHeight * Plane::kWidth < 128 * 128;
#pragma unroll 1
  for (int item = first_item<Plane>(); item < p.schedule.items(); item += step) {
    const auto next = [&] {
      const int other = item + step;
      if (plane.thread != 0 || other >= p.schedule.items()) return;
      const int n = other / p.schedule.channels, c = other % p.schedule.channels;
      const int size = p.input.element == Element::f32 ? 4 : 2;
      const unsigned bytes = Plane::kHeight * Plane::kWidth * size;
      prefetch(static_cast<const char*>(p.input.data) + p.input.plane(n, c) * size, bytes);
      if (both) prefetch(static_cast<const char*>(p.target.data) + p.target.plane(n, c) * size, bytes);
    };
    spectral_loss_of<false, Access>(p, plane, item, {item, item / p.schedule.channels, item % p.schedule.channels},
                                    true, next);
    // The next plane's first pass writes what this one's last pass reads.
    plane.sync();
  }
}

inline int multiprocessors() {
#ifdef __CUDACC__
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "(cudaGetDevice)");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "(cudaDeviceGetAttribute)");
  return count;
#else
  return 1;
#endif
}

template <class Plane, class Access, bool Persistent>
void launch_variant(const SpectralLossParams<float>& params, cudaStream_t stream) {
  LaunchConfig config = plane_launch<Plane>(params.schedule.items(), stream);
  if (Persistent) config.grid.x = std::min<unsigned>(config.grid.x, multiprocessors() * Plane::kBlocks);
  auto* const kernel = [] {
    if constexpr (Persistent) {
      return spectral_loss_persistent<Plane, Access>;
    } else {
      return spectral_loss_variant<Plane, Access>;
    }
  }();
#ifdef __CUDACC__
  if (std::is_base_of_v<Streamed, Access>) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
          "(cudaFuncSetAttribute)");
  }
#endif
  check(launch(kernel, config, params), "spectral_loss_variant");
}
template <class Plane, class Access, bool Persistent = false>
void launch_typed(const SpectralLossParams<float>& params, cudaStream_t stream) {
  if (params.input.element == Element::f32) {
    launch_variant<Plane, Typed<Access, float>, Persistent>(params, stream);
  } else {
    launch_variant<Plane, Typed<Access, __nv_bfloat16>, Persistent>(params, stream);
  }
}

// Of all combinations those that single a change out and, with few registers left, do not spill.
constexpr const char* kNames =
    "streamed typed spread typed+spread occupancy+typed occupancy+streamed+typed streamed+persistent "
    "occupancy+streamed+typed+persistent";

// Today's plane, and the same with other threads and blocks.
template <class Plane, class Other>
bool launch_size(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream) {
  if (name == "streamed") {
    launch_variant<Plane, Streamed, false>(params, stream);
  } else if (name == "typed") {
    launch_typed<Plane, PlainAccess>(params, stream);
  } else if (name == "spread") {
    launch_variant<SpreadPlane<Plane>, PlainAccess, false>(params, stream);
  } else if (name == "typed+spread") {
    launch_typed<SpreadPlane<Plane>, PlainAccess>(params, stream);
  } else if (name == "occupancy+typed") {
    launch_typed<Other, PlainAccess>(params, stream);
  } else if (name == "occupancy+streamed+typed") {
    launch_typed<Other, Streamed>(params, stream);
  } else if (name == "streamed+persistent") {
    launch_variant<Plane, Streamed, true>(params, stream);
  } else {
    launch_typed<Other, Streamed, true>(params, stream);
  }
  return true;
}

bool launch_32(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream);
bool launch_64(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream);
bool launch_128(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream);
bool launch_256(const std::string& name, const SpectralLossParams<float>& params, cudaStream_t stream);

}  // namespace blurfft::cuda::variants
