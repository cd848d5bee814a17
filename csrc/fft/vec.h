// Short vectors over the compiler's vector extension: one source for every instruction set.
//
// Everything here lives in an anonymous namespace: the including file is compiled several times with different
// instruction sets, and a merged inline function would carry one set's instructions into another's build.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__AVX2__) || defined(__F16C__)
#include <immintrin.h>
#endif

#define BLURFFT_INLINE inline __attribute__((always_inline))

namespace blurfft {
namespace {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
  typedef T unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
BLURFFT_INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename VecOf<T>::unaligned*>(p);
}
template <class T>
BLURFFT_INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename VecOf<T>::unaligned*>(p) = v;
}
template <class T>
BLURFFT_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};
}
template <class T>
BLURFFT_INLINE double sum(Vec<T> v) {
  double total = 0;
  for (int l = 0; l < kLanes<T>; ++l) total += static_cast<double>(v[l]);
  return total;
}

// Writes past the caches where the instruction set can and the address is aligned: a gradient larger than the
// cache is not read before it is overwritten.
template <class T>
BLURFFT_INLINE void store_streaming(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  __m512i bits;
  std::memcpy(&bits, &v, sizeof bits);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bits);
#elif defined(__AVX2__)
  __m256i bits;
  std::memcpy(&bits, &v, sizeof bits);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), bits);
#else
  store(p, v);
#endif
}

BLURFFT_INLINE void fence_streaming() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

template <class T>
struct Cpx {
  Vec<T> re, im;
};
template <class T>
BLURFFT_INLINE Cpx<T> operator+(Cpx<T> a, Cpx<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T>
BLURFFT_INLINE Cpx<T> operator-(Cpx<T> a, Cpx<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T>
BLURFFT_INLINE Cpx<T> load_cpx(const T* p) {
  return {load(p), load(p + kLanes<T>)};
}
template <class T>
BLURFFT_INLINE void store_cpx(T* p, Cpx<T> v) {
  store(p, v.re);
  store(p + kLanes<T>, v.im);
}

// In-register transpose of kLanes x kLanes: 4x4 (2x2) inside each 128-bit lane, then the lanes as blocks.
template <class T, int... I>
BLURFFT_INLINE Vec<T> shuffle(Vec<T> a, Vec<T> b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, I...);
#else
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index __attribute__((vector_size(kVectorBytes)));
  return __builtin_shuffle(a, b, Index{I...});
#endif
}

#if defined(__AVX512F__)
BLURFFT_INLINE void transpose(Vec<float> (&x)[16]) {
  Vec<float> t[16];
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4) {
    auto a = shuffle<float, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29>(x[g], x[g + 1]);
    auto b = shuffle<float, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31>(x[g], x[g + 1]);
    auto c = shuffle<float, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29>(x[g + 2], x[g + 3]);
    auto d = shuffle<float, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31>(x[g + 2], x[g + 3]);
    t[g] = shuffle<float, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29>(a, c);
    t[g + 1] = shuffle<float, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31>(a, c);
    t[g + 2] = shuffle<float, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29>(b, d);
    t[g + 3] = shuffle<float, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31>(b, d);
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    auto a = shuffle<float, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27>(t[r], t[4 + r]);
    auto b = shuffle<float, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31>(t[r], t[4 + r]);
    auto c = shuffle<float, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27>(t[8 + r], t[12 + r]);
    auto d = shuffle<float, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31>(t[8 + r], t[12 + r]);
    x[r] = shuffle<float, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27>(a, c);
    x[4 + r] = shuffle<float, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27>(b, d);
    x[8 + r] = shuffle<float, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31>(a, c);
    x[12 + r] = shuffle<float, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31>(b, d);
  }
}
BLURFFT_INLINE void transpose(Vec<double> (&x)[8]) {
  Vec<double> t[8];
#pragma GCC unroll 4
  for (int g = 0; g < 8; g += 2) {
    t[g] = shuffle<double, 0, 8, 2, 10, 4, 12, 6, 14>(x[g], x[g + 1]);
    t[g + 1] = shuffle<double, 1, 9, 3, 11, 5, 13, 7, 15>(x[g], x[g + 1]);
  }
#pragma GCC unroll 2
  for (int r = 0; r < 2; ++r) {
    auto a = shuffle<double, 0, 1, 4, 5, 8, 9, 12, 13>(t[r], t[2 + r]);
    auto b = shuffle<double, 2, 3, 6, 7, 10, 11, 14, 15>(t[r], t[2 + r]);
    auto c = shuffle<double, 0, 1, 4, 5, 8, 9, 12, 13>(t[4 + r], t[6 + r]);
    auto d = shuffle<double, 2, 3, 6, 7, 10, 11, 14, 15>(t[4 + r], t[6 + r]);
    x[r] = shuffle<double, 0, 1, 4, 5, 8, 9, 12, 13>(a, c);
    x[2 + r] = shuffle<double, 0, 1, 4, 5, 8, 9, 12, 13>(b, d);
    x[4 + r] = shuffle<double, 2, 3, 6, 7, 10, 11, 14, 15>(a, c);
    x[6 + r] = shuffle<double, 2, 3, 6, 7, 10, 11, 14, 15>(b, d);
  }
}
#elif defined(__AVX2__)
BLURFFT_INLINE void transpose(Vec<float> (&x)[8]) {
  Vec<float> t[8];
#pragma GCC unroll 2
  for (int g = 0; g < 8; g += 4) {
    auto a = shuffle<float, 0, 8, 1, 9, 4, 12, 5, 13>(x[g], x[g + 1]);
    auto b = shuffle<float, 2, 10, 3, 11, 6, 14, 7, 15>(x[g], x[g + 1]);
    auto c = shuffle<float, 0, 8, 1, 9, 4, 12, 5, 13>(x[g + 2], x[g + 3]);
    auto d = shuffle<float, 2, 10, 3, 11, 6, 14, 7, 15>(x[g + 2], x[g + 3]);
    t[g] = shuffle<float, 0, 1, 8, 9, 4, 5, 12, 13>(a, c);
    t[g + 1] = shuffle<float, 2, 3, 10, 11, 6, 7, 14, 15>(a, c);
    t[g + 2] = shuffle<float, 0, 1, 8, 9, 4, 5, 12, 13>(b, d);
    t[g + 3] = shuffle<float, 2, 3, 10, 11, 6, 7, 14, 15>(b, d);
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    x[r] = shuffle<float, 0, 1, 2, 3, 8, 9, 10, 11>(t[r], t[4 + r]);
    x[4 + r] = shuffle<float, 4, 5, 6, 7, 12, 13, 14, 15>(t[r], t[4 + r]);
  }
}
BLURFFT_INLINE void transpose(Vec<double> (&x)[4]) {
  auto a = shuffle<double, 0, 4, 2, 6>(x[0], x[1]);
  auto b = shuffle<double, 1, 5, 3, 7>(x[0], x[1]);
  auto c = shuffle<double, 0, 4, 2, 6>(x[2], x[3]);
  auto d = shuffle<double, 1, 5, 3, 7>(x[2], x[3]);
  x[0] = shuffle<double, 0, 1, 4, 5>(a, c);
  x[1] = shuffle<double, 0, 1, 4, 5>(b, d);
  x[2] = shuffle<double, 2, 3, 6, 7>(a, c);
  x[3] = shuffle<double, 2, 3, 6, 7>(b, d);
}
#else
BLURFFT_INLINE void transpose(Vec<float> (&x)[4]) {
  auto a = shuffle<float, 0, 4, 1, 5>(x[0], x[1]);
  auto b = shuffle<float, 2, 6, 3, 7>(x[0], x[1]);
  auto c = shuffle<float, 0, 4, 1, 5>(x[2], x[3]);
  auto d = shuffle<float, 2, 6, 3, 7>(x[2], x[3]);
  x[0] = shuffle<float, 0, 1, 4, 5>(a, c);
  x[1] = shuffle<float, 2, 3, 6, 7>(a, c);
  x[2] = shuffle<float, 0, 1, 4, 5>(b, d);
  x[3] = shuffle<float, 2, 3, 6, 7>(b, d);
}
BLURFFT_INLINE void transpose(Vec<double> (&x)[2]) {
  auto a = shuffle<double, 0, 2>(x[0], x[1]);
  x[1] = shuffle<double, 1, 3>(x[0], x[1]);
  x[0] = a;
}
#endif

// Lane l of the result is the sum over the lanes of x[l].
template <class T>
BLURFFT_INLINE Vec<T> sums_of_lanes(Vec<T> (&x)[kLanes<T>]) {
  transpose(x);
  Vec<T> total = x[0];
#pragma GCC unroll 16
  for (int l = 1; l < kLanes<T>; ++l) total += x[l];
  return total;
}

}  // namespace
}  // namespace blurfft
