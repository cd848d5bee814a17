// CUDA as the emulator offers it to kernels: what <cuda_runtime.h>, <cuda_fp16.h>, <cuda_bf16.h> and
// <cooperative_groups.h> declare, as far as kernels need it (README.md has the list), and how tests launch kernels and
// lend them memory.
#pragma once

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __CUDA_ARCH__ 900
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// The thread-local segment of the shared object holds the static shared memory of the block that is running.
#define __shared__ static thread_local
#define __builtin_assume(condition) ((void)0)
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF_F __builtin_inff()

// Where a call stands in the source, as default arguments of the functions that wait.
#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SIMT_NOT_CHECKED __attribute__((no_sanitize("thread")))

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
inline const char* cudaGetErrorString(cudaError_t) { return "an error of the emulator"; }
constexpr int warpSize = 32;

using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;

// Vector types -------------------------------------------------------------------------------------------------------

#define SIMT_VECTOR(type, name, alignment2, alignment4)                                \
  struct alignas(alignment2) name##2 { type x, y; };                                   \
  struct name##3 { type x, y, z; };                                                    \
  struct alignas(alignment4) name##4 { type x, y, z, w; };                             \
  __forceinline__ name##2 make_##name##2(type x, type y) { return {x, y}; }            \
  __forceinline__ name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
  __forceinline__ name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

SIMT_VECTOR(signed char, char, 2, 4)
SIMT_VECTOR(unsigned char, uchar, 2, 4)
SIMT_VECTOR(short, short, 4, 8)
SIMT_VECTOR(unsigned short, ushort, 4, 8)
SIMT_VECTOR(int, int, 8, 16)
SIMT_VECTOR(unsigned, uint, 8, 16)
SIMT_VECTOR(long long, longlong, 16, 16)
SIMT_VECTOR(unsigned long long, ulonglong, 16, 16)
SIMT_VECTOR(float, float, 8, 16)
SIMT_VECTOR(double, double, 16, 16)
#undef SIMT_VECTOR

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Constant as a thread sees them; the emulator sets them whenever it resumes a thread.
extern const uint3 threadIdx __asm__("simt_thread_index");
extern const uint3 blockIdx __asm__("simt_block_index");
extern const dim3 blockDim __asm__("simt_block_size");
extern const dim3 gridDim __asm__("simt_grid_size");

// Launches and memory ------------------------------------------------------------------------------------------------

namespace simt {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What the following launches draw the order of blocks and threads from.
void seed(uint64_t value);

enum class Memory {
  input,    // never written
  output,   // NaN at first; every word must be written by the time of finish()
  scratch,  // NaN at first; may stay unwritten, but must not be read before it is written
  inout,    // has values; may be read and written
};
// Lends memory to kernels until finish() or release(). `element` is the size of an element: threads may write
// neighbouring elements freely.
void lend(const char* name, const void* data, size_t bytes, size_t element, Memory kind);
void release(const void* data);
// Takes all memory back. Throws Error if an output has words that nobody wrote.
void finish();
// Takes all memory back, whatever it holds.
void forget();

// Memory that is lent for as long as the buffer lives.
template <typename T>
class Buffer {
 public:
  Buffer(const char* name, size_t count, Memory kind, T value = T()) : values_(count + 2 * margin, value) {
    lend(name, data(), count * sizeof(T), sizeof(T), kind);
  }
  ~Buffer() { release(data()); }
  Buffer(const Buffer&) = delete;
  T* data() { return values_.data() + margin; }
  T& operator[](size_t i) { return data()[i]; }

 private:
  static constexpr size_t margin = 256 / sizeof(T);  // so that buffers are not neighbours
  std::vector<T> values_;
};

struct Launch {
  const void* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  unsigned cluster;
  void (*thread)(void* call);
  void* call;
};
void run(const Launch& launch);

template <typename... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  std::tuple<Parameters...> arguments;
  SIMT_NOT_CHECKED static void thread(void* self) {
    static_cast<Call*>(self)->apply(std::index_sequence_for<Parameters...>());
  }
  template <size_t... I>
  SIMT_NOT_CHECKED void apply(std::index_sequence<I...>) {
    kernel(std::get<I>(arguments)...);
  }
};

// Runs the kernel to its end. Throws Error with everything that was found wrong.
template <typename... Parameters>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, unsigned cluster,
            std::type_identity_t<Parameters>... arguments) {
  Call<Parameters...> call{kernel, {arguments...}};
  run({reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, cluster, Call<Parameters...>::thread, &call});
}

// What the functions below call.
void* dynamic_shared();
enum class Reduction { none, any, all, count };
int block_barrier(Reduction reduction, int predicate, const char* file, int line);
void cluster_barrier(const char* file, int line);
unsigned cluster_rank();
unsigned cluster_size();
void* map_shared(const void* address, unsigned rank, const char* file, int line);
void warp_barrier(unsigned mask, const char* file, int line);
enum class Shuffle { index, up, down, exclusive_or };
uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int argument, int width, const char* file, int line);
unsigned ballot(unsigned mask, int predicate, const char* file, int line);
void before_atomic(const void* address, size_t bytes, const void* return_address);
void fence();

template <typename T>
T shuffle(Shuffle kind, unsigned mask, T value, int argument, int width, const char* file, int line) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "shuffles move 4 or 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const uint64_t bits = shuffle(kind, mask, uint64_t(std::bit_cast<Bits>(value)), argument, width, file, line);
  return std::bit_cast<T>(static_cast<Bits>(bits));
}

template <typename T, typename F>
SIMT_NOT_CHECKED __attribute__((noinline)) T atomic(T* address, F update) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "atomics are on integers: floating-point ones are not deterministic");
  before_atomic(address, sizeof(T), __builtin_return_address(0));
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace simt

// Barriers, warps, atomics -------------------------------------------------------------------------------------------

inline void __syncthreads(SIMT_SITE) { simt::block_barrier(simt::Reduction::none, 0, file, line); }
inline int __syncthreads_or(int p, SIMT_SITE) { return simt::block_barrier(simt::Reduction::any, p, file, line); }
inline int __syncthreads_and(int p, SIMT_SITE) { return simt::block_barrier(simt::Reduction::all, p, file, line); }
inline int __syncthreads_count(int p, SIMT_SITE) { return simt::block_barrier(simt::Reduction::count, p, file, line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) { simt::warp_barrier(mask, file, line); }
inline unsigned __ballot_sync(unsigned mask, int p, SIMT_SITE) { return simt::ballot(mask, p, file, line); }
inline int __any_sync(unsigned mask, int p, SIMT_SITE) { return simt::ballot(mask, p, file, line) != 0; }
inline int __all_sync(unsigned mask, int p, SIMT_SITE) { return simt::ballot(mask, p, file, line) == mask; }

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, SIMT_SITE) {
  return simt::shuffle(simt::Shuffle::index, mask, value, lane, width, file, line);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
  return simt::shuffle(simt::Shuffle::up, mask, value, int(delta), width, file, line);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
  return simt::shuffle(simt::Shuffle::down, mask, value, int(delta), width, file, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, SIMT_SITE) {
  return simt::shuffle(simt::Shuffle::exclusive_or, mask, value, lanes, width, file, line);
}

inline void __threadfence() { simt::fence(); }
inline void __threadfence_block() {}

#define SIMT_ATOMIC(name, expression)                                                \
  template <typename T>                                                              \
  __forceinline__ T name(T* address, std::type_identity_t<T> value) {                \
    return simt::atomic(address, [=](T old) { return static_cast<T>(expression); }); \
  }
SIMT_ATOMIC(atomicAdd, old + value)
SIMT_ATOMIC(atomicSub, old - value)
SIMT_ATOMIC(atomicMax, old > value ? old : value)
SIMT_ATOMIC(atomicMin, old < value ? old : value)
SIMT_ATOMIC(atomicAnd, old& value)
SIMT_ATOMIC(atomicOr, old | value)
SIMT_ATOMIC(atomicXor, old ^ value)
SIMT_ATOMIC(atomicExch, value)
SIMT_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef SIMT_ATOMIC
template <typename T>
__forceinline__ T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return simt::atomic(address, [=](T old) { return old == expected ? value : old; });
}

namespace cooperative_groups {

class cluster_group {
 public:
  static void sync(SIMT_SITE) { simt::cluster_barrier(file, line); }
  static unsigned block_rank() { return simt::cluster_rank(); }
  static unsigned num_blocks() { return simt::cluster_size(); }
  static unsigned num_threads() { return num_blocks() * blockDim.x * blockDim.y * blockDim.z; }
  static unsigned thread_rank() {
    return ((simt::cluster_rank() * blockDim.z + threadIdx.z) * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  }
  template <typename T>
  static T* map_shared_rank(T* address, unsigned rank, SIMT_SITE) {
    return static_cast<T*>(simt::map_shared(address, rank, file, line));
  }
};
inline cluster_group this_cluster() { return {}; }

class thread_block {
 public:
  static void sync(SIMT_SITE) { __syncthreads(file, line); }
  static unsigned size() { return blockDim.x * blockDim.y * blockDim.z; }
  static unsigned thread_rank() { return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x; }
};
inline thread_block this_thread_block() { return {}; }

}  // namespace cooperative_groups

// Loads and stores with cache hints ----------------------------------------------------------------------------------

#define SIMT_LOAD(name)                \
  template <typename T>                \
  __forceinline__ T name(const T* p) { \
    return *p;                         \
  }
SIMT_LOAD(__ldg)
SIMT_LOAD(__ldcg)
SIMT_LOAD(__ldca)
SIMT_LOAD(__ldcs)
SIMT_LOAD(__ldlu)
SIMT_LOAD(__ldcv)
#undef SIMT_LOAD
#define SIMT_STORE(name)                                           \
  template <typename T>                                            \
  __forceinline__ void name(T* p, std::type_identity_t<T> value) { \
    *p = value;                                                    \
  }
SIMT_STORE(__stwb)
SIMT_STORE(__stcg)
SIMT_STORE(__stcs)
SIMT_STORE(__stwt)
#undef SIMT_STORE

// Arithmetic ---------------------------------------------------------------------------------------------------------

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float cospif(float x) { return float(cos(M_PI * double(x))); }
inline float sinpif(float x) { return float(sin(M_PI * double(x))); }
inline double cospi(double x) { return double(cosl(M_PIl * x)); }
inline double sinpi(double x) { return double(sinl(M_PIl * x)); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
inline void sincospi(double x, double* s, double* c) { *s = sinpi(x), *c = cospi(x); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }  // NaN becomes 0
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1 / a; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __expf(float a) { return expf(a); }
inline float __logf(float a) { return logf(a); }
inline float __powf(float a, float b) { return powf(a, b); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1) << (31 - i);
  return y;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __mul24(int a, int b) { return a * b; }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }

// Half precision -----------------------------------------------------------------------------------------------------

namespace simt {
uint16_t half_bits(float value);  // rounds to nearest, ties to even
float half_value(uint16_t bits);
inline uint16_t bfloat16_bits(float value) {
  const uint32_t x = std::bit_cast<uint32_t>(value);
  if (value != value) return 0x7fff;
  return uint16_t((x + 0x7fff + (x >> 16 & 1)) >> 16);
}
inline float bfloat16_value(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }
}  // namespace simt

#define SIMT_SIXTEEN_BIT(type, type2, prefix, short_name, pair_name)                      \
  struct type {                                                                           \
    uint16_t bits;                                                                        \
    type() = default;                                                                     \
    type(float value) : bits(simt::prefix##_bits(value)) {}                               \
    operator float() const { return simt::prefix##_value(bits); }                         \
  };                                                                                      \
  struct alignas(4) type2 {                                                               \
    type x, y;                                                                            \
  };                                                                                      \
  inline float __##short_name##2float(type a) { return a; }                               \
  inline type __float2##short_name(float a) { return a; }                                 \
  inline type __float2##short_name##_rn(float a) { return a; }                            \
  inline type __double2##short_name(double a) { return float(a); }                        \
  inline float2 __##pair_name##2float2(type2 a) { return {a.x, a.y}; }                    \
  inline float __low2float(type2 a) { return a.x; }                                       \
  inline float __high2float(type2 a) { return a.y; }                                      \
  inline type2 __floats2##pair_name##_rn(float a, float b) { return {type(a), type(b)}; } \
  inline type2 __float22##pair_name##_rn(float2 a) { return {type(a.x), type(a.y)}; }     \
  inline unsigned short __##short_name##_as_ushort(type a) { return a.bits; }             \
  inline type __ushort_as_##short_name(unsigned short a) { return std::bit_cast<type>(a); }

SIMT_SIXTEEN_BIT(__half, __half2, half, half, half2)
SIMT_SIXTEEN_BIT(__nv_bfloat16, __nv_bfloat162, bfloat16, bfloat16, bfloat162)
#undef SIMT_SIXTEEN_BIT
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) { return {a, b}; }
