// Short vectors over the compiler's vector extension: one source for every instruction set.
//
// Everything here lives in an anonymous namespace: the including file is compiled several times with different
// instruction sets, and a merged inline function would carry one set's instructions into another's build.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__) || defined(__F16C__)
#include <immintrin.h>
#endif

#define BLURFFT_INLINE inline __attribute__((always_inline))
#define BLURFFT_LAMBDA_INLINE __attribute__((always_inline))

namespace blurfft {
namespace {

// Any width compiles for any instruction set, so that the layout for the widest can be tested where it is missing.
#if defined(BLURFFT_VECTOR_BYTES)
constexpr int kVectorBytes = BLURFFT_VECTOR_BYTES;
#elif defined(__AVX512F__)
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

// A sum of many vectors: as one of parts, for rounding errors grow with the length of a chain of additions.
template <class T>
class VecSum {
 public:
  BLURFFT_INLINE void add(Vec<T> v) {
    part_ += v;
    if (++count_ < kPart) return;
    total_ += part_;
    part_ = Vec<T>{};
    count_ = 0;
  }
  Vec<T> total() const { return total_ + part_; }

 private:
  static constexpr int kPart = 32;
  Vec<T> total_ = {}, part_ = {};
  int count_ = 0;
};

// Writes past the caches where the instruction set can and the address is aligned: a gradient larger than the
// cache is not read before it is overwritten. Who uses it fences once, when all is written.
template <class T>
BLURFFT_INLINE void store_streaming(T* p, Vec<T> v) {
#if defined(__AVX512F__) && !defined(BLURFFT_VECTOR_BYTES)
  __m512i bits;
  std::memcpy(&bits, &v, sizeof bits);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bits);
#elif defined(__AVX2__) && !defined(BLURFFT_VECTOR_BYTES)
  __m256i bits;
  std::memcpy(&bits, &v, sizeof bits);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), bits);
#else
  store(p, v);
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

// Keeps the compiler from loading a value again for every use instead of holding it: loads are what butterflies wait
// for, where they fit the registers.
template <class T>
BLURFFT_INLINE Cpx<T> in_registers(Cpx<T> a) {
#if defined(__x86_64__) && !defined(BLURFFT_VECTOR_BYTES)
  asm("" : "+v"(a.re), "+v"(a.im));
#endif
  return a;
}

// Transposes go by 128-bit lanes, a quad of elements each. On the way from memory a vector is put together from one
// lane of each of several rows, so that no shuffle needs to cross lanes; back to memory whole vectors are cheaper.
template <class T>
constexpr int kQuad = 16 / static_cast<int>(sizeof(T));
template <class T>
struct ChunkOf {
  typedef T type __attribute__((vector_size(16)));
  typedef T unaligned __attribute__((vector_size(16), aligned(alignof(T)), may_alias));
};
template <class T>
using Chunk = typename ChunkOf<T>::type;
template <class T>
BLURFFT_INLINE Chunk<T> load_chunk(const T* p) {
  return *reinterpret_cast<const typename ChunkOf<T>::unaligned*>(p);
}
template <class T>
BLURFFT_INLINE void store_chunk(T* p, Chunk<T> v) {
  *reinterpret_cast<typename ChunkOf<T>::unaligned*>(p) = v;
}
// 128-bit lane `Lane` of a vector.
template <int Lane, class T>
BLURFFT_INLINE Chunk<T> chunk(Vec<T> v) {
  return [&]<int... K>(std::integer_sequence<int, K...>) BLURFFT_LAMBDA_INLINE {
    return __builtin_shufflevector(v, v, Lane * kQuad<T> + K...);
  }(std::make_integer_sequence<int, kQuad<T>>{});
}
// Index of element k of a shuffle of two vectors that takes elements `from` (kQuad and up: of the second) in every
// lane.
template <class T>
constexpr int lane_index(int k, int from) {
  constexpr int q = kQuad<T>;
  return k / q * q + (from < q ? from : kLanes<T> + from - q);
}
template <class T, int A, int B, int C, int D>
BLURFFT_INLINE Vec<T> shuffle_lanes(Vec<T> a, Vec<T> b) {
  constexpr int from[4] = {A, B, C, D};
  return [&]<int... K>(std::integer_sequence<int, K...>) BLURFFT_LAMBDA_INLINE {
    return __builtin_shufflevector(a, b, lane_index<T>(K, from[K % kQuad<T>])...);
  }(std::make_integer_sequence<int, kLanes<T>>{});
}
BLURFFT_INLINE void transpose_lanes(Vec<float> (&x)[4]) {
  const auto a = shuffle_lanes<float, 0, 4, 1, 5>(x[0], x[1]), b = shuffle_lanes<float, 2, 6, 3, 7>(x[0], x[1]);
  const auto c = shuffle_lanes<float, 0, 4, 1, 5>(x[2], x[3]), d = shuffle_lanes<float, 2, 6, 3, 7>(x[2], x[3]);
  x[0] = shuffle_lanes<float, 0, 1, 4, 5>(a, c);
  x[1] = shuffle_lanes<float, 2, 3, 6, 7>(a, c);
  x[2] = shuffle_lanes<float, 0, 1, 4, 5>(b, d);
  x[3] = shuffle_lanes<float, 2, 3, 6, 7>(b, d);
}
BLURFFT_INLINE void transpose_lanes(Vec<double> (&x)[2]) {
  const auto a = shuffle_lanes<double, 0, 2, 0, 0>(x[0], x[1]);
  x[1] = shuffle_lanes<double, 1, 3, 0, 0>(x[0], x[1]);
  x[0] = a;
}

template <class T, class Half>
BLURFFT_INLINE auto join(Half a, Half b) {
  return [&]<int... K>(std::integer_sequence<int, K...>) BLURFFT_LAMBDA_INLINE {
    return __builtin_shufflevector(a, b, K...);
  }(std::make_integer_sequence<int, 2 * static_cast<int>(sizeof(Half) / sizeof(T))>{});
}

// x[c][r] = row(r)[c] for c < kQuad and all lanes r.
template <class T, class Row>
BLURFFT_INLINE void load_transposed(Row row, Vec<T> (&x)[kQuad<T>]) {
  constexpr int q = kQuad<T>;
#pragma GCC unroll 4
  for (int i = 0; i < q; ++i) {
    if constexpr (kVectorBytes == 64) {
      x[i] = join<T>(join<T>(load_chunk(row(i)), load_chunk(row(i + q))),
                     join<T>(load_chunk(row(i + 2 * q)), load_chunk(row(i + 3 * q))));
    } else if constexpr (kVectorBytes == 32) {
      x[i] = join<T>(load_chunk(row(i)), load_chunk(row(i + q)));
    } else {
      x[i] = load_chunk(row(i));
    }
  }
  transpose_lanes(x);
}
// row(r)[c] = x[c][r] for c < kQuad and all lanes r.
template <class T, class Row>
BLURFFT_INLINE void store_transposed(Row row, Vec<T> (&x)[kQuad<T>]) {
  constexpr int q = kQuad<T>;
  transpose_lanes(x);
#pragma GCC unroll 4
  for (int i = 0; i < q; ++i) {
    [&]<int... K>(std::integer_sequence<int, K...>) BLURFFT_LAMBDA_INLINE {
      (store_chunk(row(i + K * q), chunk<K, T>(x[i])), ...);
    }(std::make_integer_sequence<int, kLanes<T> / q>{});
  }
}
// The even (odd) 128-bit lanes of a, then those of b.
template <int Odd, class T>
BLURFFT_INLINE Vec<T> every_other_lane(Vec<T> a, Vec<T> b) {
  return [&]<int... K>(std::integer_sequence<int, K...>) BLURFFT_LAMBDA_INLINE {
    return __builtin_shufflevector(a, b, (2 * (K / kQuad<T>)+Odd) * kQuad<T> + K % kQuad<T>...);
  }(std::make_integer_sequence<int, kLanes<T>>{});
}

template <class T>
BLURFFT_INLINE void transpose(Vec<T> (&x)[kLanes<T>]) {
  constexpr int q = kQuad<T>, lanes = kLanes<T> / q;
#pragma GCC unroll 4
  for (int lane = 0; lane < lanes; ++lane) {
    Vec<T> quad[q];
#pragma GCC unroll 4
    for (int i = 0; i < q; ++i) quad[i] = x[lane * q + i];
    transpose_lanes(quad);
#pragma GCC unroll 4
    for (int i = 0; i < q; ++i) x[lane * q + i] = quad[i];
  }
  // Lane l of quad k belongs into lane k of quad l.
#pragma GCC unroll 2
  for (int step = 1; step < lanes; step *= 2) {
    Vec<T> y[kLanes<T>];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T> / 2; ++i) {
      const int pair = i / q, r = i % q;
      y[pair * q + r] = every_other_lane<0, T>(x[2 * pair * q + r], x[(2 * pair + 1) * q + r]);
      y[(lanes / 2 + pair) * q + r] = every_other_lane<1, T>(x[2 * pair * q + r], x[(2 * pair + 1) * q + r]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) x[i] = y[i];
  }
}

}  // namespace
}  // namespace blurfft
