// Rows of images to and from the arithmetic type: any element type, any stride.
#pragma once

#include "vec.h"

namespace blurfft {
namespace {

inline float float_of_bits(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}
inline uint32_t bits_of_float(float f) {
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bits;
}

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

BLURFFT_INLINE float widen(float x) { return x; }
BLURFFT_INLINE double widen(double x) { return x; }
BLURFFT_INLINE float widen(BFloat16 x) { return float_of_bits(static_cast<uint32_t>(x.bits) << 16); }
BLURFFT_INLINE float widen(Half x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  // Shifted into place the exponent is too small by 112; the product also normalises subnormals.
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  uint32_t bits = bits_of_float(float_of_bits(magnitude) * 0x1p112f);
  if (magnitude >= 0x0f800000u) bits = magnitude | 0x7f800000u;
  return float_of_bits(bits | sign);
#endif
}

BLURFFT_INLINE void narrow(float x, float* out) { *out = x; }
BLURFFT_INLINE void narrow(double x, double* out) { *out = x; }
BLURFFT_INLINE void narrow(float x, BFloat16* out) {
  const uint32_t bits = bits_of_float(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out->bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}
BLURFFT_INLINE void narrow(float x, Half* out) {
#if defined(__F16C__)
  out->bits = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
#else
  const uint32_t bits = bits_of_float(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;
  } else if (magnitude < 0x38800000u) {
    // Adding 0.5 lines a subnormal half's last bit up with the float's, and rounds to nearest even.
    half = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  }
  out->bits = static_cast<uint16_t>(sign | half);
#endif
}

// A unit's row is `count` pixels of `planes` channels; in the destination channels are innermost.
template <class E, class T>
void widen_row(const E* in, int64_t column, int64_t channel, int count, int planes, T* out) {
  if (channel == 1 && column == planes) {
    for (int i = 0; i < count * planes; ++i) out[i] = widen(in[i]);
  } else if (planes == 1 && column == 1) {
    for (int i = 0; i < count; ++i) out[i] = widen(in[i]);
  } else {
    for (int w = 0; w < count; ++w) {
      for (int c = 0; c < planes; ++c) out[w * planes + c] = widen(in[w * column + c * channel]);
    }
  }
}
template <class E, class T>
void narrow_row(const T* in, int count, int planes, E* out, int64_t column, int64_t channel) {
  if (channel == 1 && column == planes) {
    for (int i = 0; i < count * planes; ++i) narrow(in[i], out + i);
  } else if (planes == 1 && column == 1) {
    for (int i = 0; i < count; ++i) narrow(in[i], out + i);
  } else {
    for (int w = 0; w < count; ++w) {
      for (int c = 0; c < planes; ++c) narrow(in[w * planes + c], out + w * column + c * channel);
    }
  }
}

}  // namespace
}  // namespace blurfft
