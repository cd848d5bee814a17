// Planes of an image in global memory, of any strides and element type, as values of the arithmetic type.
#pragma once

#include "fft.cuh"

namespace blurfft::cuda {

enum class Element : int { f32, f64, bf16, f16 };

// Element (n, c, h, w) lies at data + n * sample + c * channel + h * row + w * column, in elements. Offsets within a
// plane fit into 32 bits: see plane_fits().
struct Image {
  void* data;
  long long sample, channel;
  int row, column;
  Element element;

  BLURFFT_HD long long plane(int n, int c) const { return n * sample + c * channel; }
};

inline bool plane_fits(long long row, long long column, int height, int width) {
  constexpr long long limit = 0x7fffffff;
  return row >= 0 && column >= 0 && row <= limit && column <= limit &&
         row * (height - 1) + column * (width - 1) <= limit;
}

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }

__device__ __forceinline__ void narrow(float x, float* out) { *out = x; }
__device__ __forceinline__ void narrow(double x, double* out) { *out = x; }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16* out) { *out = __float2bfloat16_rn(x); }
__device__ __forceinline__ void narrow(float x, __half* out) { *out = __float2half_rn(x); }

// A stride that only the launch knows; Index<N> is one that the compiler knows.
struct Stride {
  int value;
};

// f(pointer) with the pointer to `data` of its true type. The branches are uniform over the grid.
template <class T, class F>
__device__ __forceinline__ void with_type(Element element, F&& f) {
  if constexpr (sizeof(T) == 8) {
    f(static_cast<double*>(nullptr));
  } else if (element == Element::f32) {
    f(static_cast<float*>(nullptr));
  } else if (element == Element::bf16) {
    f(static_cast<__nv_bfloat16*>(nullptr));
  } else {
    f(static_cast<__half*>(nullptr));
  }
}

// f(row stride, column stride). Those of a dense plane of Width columns are constants, which removes the address
// arithmetic from the loads and stores of a plane whose size the compiler knows; Width = 0 if it does not.
template <int Width, class F>
__device__ __forceinline__ void with_strides(bool dense, int row, int column, F&& f) {
  if constexpr (Width > 0) {
    if (dense) return f(Index<Width>{}, Index<1>{});
  }
  f(Stride{row}, Stride{column});
}

// Packed columns of a plane of a, or of a - b, in registers: rows h + k Step (k < R), column j in the real part and
// column j + Half in the imaginary one. Nothing is used before everything is on its way.
template <class T, int Width, bool HasB>
struct Source {
  Image a, b;
  long long at_a, at_b;

  __device__ __forceinline__ T element(int h, int w) const {
    T value = 0;
    with_type<T>(a.element, [&](auto* type) {
      using Value = std::remove_reference_t<decltype(*type)>;
      value = widen(static_cast<const Value*>(a.data)[at_a + (h * a.row + w * a.column)]);
      if constexpr (HasB) value -= widen(static_cast<const Value*>(b.data)[at_b + (h * b.row + w * b.column)]);
    });
    return value;
  }

  template <int R, int Step, int Half>
  __device__ __forceinline__ void load(Complex<T> (&x)[R], int h, int j) const {
    bool dense = a.row == Width && a.column == 1;
    if constexpr (HasB) dense = dense && b.row == Width && b.column == 1;
    with_type<T>(a.element, [&](auto* type) {
      using Value = std::remove_reference_t<decltype(*type)>;
      with_strides<Width>(dense, a.row, a.column, [&](auto row, auto column) {
        const Value* at = static_cast<const Value*>(a.data) + at_a + (h * row.value + j * column.value);
        unroll<R>([&](auto k) {
          const Value* from = at + k.value * Step * row.value;
          x[k.value] = {widen(from[0]), widen(from[Half * column.value])};
        });
        if constexpr (HasB) {
          const int row_b = dense ? row.value : b.row, column_b = dense ? column.value : b.column;
          const Value* at_other = static_cast<const Value*>(b.data) + at_b + (h * row_b + j * column_b);
          unroll<R>([&](auto k) {
            const Value* from = at_other + k.value * Step * row_b;
            x[k.value].re -= widen(from[0]);
            x[k.value].im -= widen(from[Half * column_b]);
          });
        }
      });
    });
  }
};

// The same way back.
template <class T, int Width>
struct Sink {
  Image out;
  long long at_out;

  __device__ __forceinline__ void element(int h, int w, T value) const {
    with_type<T>(out.element, [&](auto* type) {
      using Value = std::remove_reference_t<decltype(*type)>;
      narrow(value, static_cast<Value*>(out.data) + at_out + (h * out.row + w * out.column));
    });
  }

  template <int R, int Step, int Half>
  __device__ __forceinline__ void store(const Complex<T> (&x)[R], int h, int j) const {
    with_type<T>(out.element, [&](auto* type) {
      using Value = std::remove_reference_t<decltype(*type)>;
      const bool dense = out.row == Width && out.column == 1;
      with_strides<Width>(dense, out.row, out.column, [&](auto row, auto column) {
        Value* at = static_cast<Value*>(out.data) + at_out + (h * row.value + j * column.value);
        unroll<R>([&](auto k) {
          Value* to = at + k.value * Step * row.value;
          narrow(x[k.value].re, to);
          narrow(x[k.value].im, to + Half * column.value);
        });
      });
    });
  }
};

}  // namespace blurfft::cuda
