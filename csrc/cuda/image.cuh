// Planes of an image in global memory, of any strides and element type, as values of the arithmetic type.
#pragma once

#include <type_traits>

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
  bool paired;  // columns 2j and 2j + 1 can be accessed at once: they are neighbours, and aligned everywhere

  BLURFFT_HD long long plane(int n, int c) const { return n * sample + c * channel; }
  // Whether the strides are those of a dense plane, and groups of Columns columns are one access.
  template <int Width, int Columns>
  BLURFFT_HD bool dense() const {
    return row == Width && column == 1 && (Columns == 1 || paired);
  }
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

// Two neighbouring elements in one access.
__device__ __forceinline__ float2 load_pair(const float* at) { return *reinterpret_cast<const float2*>(at); }
__device__ __forceinline__ double2 load_pair(const double* at) { return *reinterpret_cast<const double2*>(at); }
__device__ __forceinline__ float2 load_pair(const __nv_bfloat16* at) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(at));
}
__device__ __forceinline__ float2 load_pair(const __half* at) {
  return __half22float2(*reinterpret_cast<const __half2*>(at));
}
__device__ __forceinline__ void store_pair(float a, float b, float* out) {
  *reinterpret_cast<float2*>(out) = make_float2(a, b);
}
__device__ __forceinline__ void store_pair(double a, double b, double* out) {
  *reinterpret_cast<double2*>(out) = make_double2(a, b);
}
__device__ __forceinline__ void store_pair(float a, float b, __nv_bfloat16* out) {
  *reinterpret_cast<__nv_bfloat162*>(out) = __floats2bfloat162_rn(a, b);
}
__device__ __forceinline__ void store_pair(float a, float b, __half* out) {
  *reinterpret_cast<__half2*>(out) = __floats2half2_rn(a, b);
}

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

// How kernels access images: by plain loads and stores, whatever the element type and the strides are. The variants
// (variants/) have others.
struct PlainAccess {
  template <class Element>
  __device__ __forceinline__ static auto load(const Element* at) {
    return widen(*at);
  }
  template <class Element>
  __device__ __forceinline__ static auto load_two(const Element* at) {
    return load_pair(at);
  }
  template <class T, class Element>
  __device__ __forceinline__ static void store(T x, Element* at) {
    narrow(x, at);
  }
  template <class T, class Element>
  __device__ __forceinline__ static void store_two(T a, T b, Element* at) {
    store_pair(a, b, at);
  }
  template <class T, class F>
  __device__ __forceinline__ static void with_type(Element element, F&& f) {
    cuda::with_type<T>(element, f);
  }
  __device__ __forceinline__ static bool dense(bool found) { return found; }
};

// N neighbouring columns of a row; Paired: in one access.
template <class Access, bool Paired, int N, class T, class Value>
__device__ __forceinline__ void load_columns(T (&x)[N], const Value* from, int column) {
  if constexpr (Paired) {
    const auto pair = Access::load_two(from);
    x[0] = pair.x;
    x[1] = pair.y;
  } else {
#pragma unroll
    for (int n = 0; n < N; ++n) x[n] = Access::load(from + n * column);
  }
}
template <class Access, bool Paired, int N, class T, class Value>
__device__ __forceinline__ void store_columns(const T (&x)[N], Value* to, int column) {
  if constexpr (Paired) {
    Access::store_two(x[0], x[1], to);
  } else {
#pragma unroll
    for (int n = 0; n < N; ++n) Access::store(x[n], to + n * column);
  }
}

// A stride that only the launch knows; Index<N> is one that the compiler knows.
struct Stride {
  int value;
};

// f(row stride, column stride, whether pairs of columns are one access). The strides of a dense plane of Width columns
// are constants, which removes the address arithmetic from the loads and stores of a plane whose size the compiler
// knows.
template <int Width, int Columns, class F>
__device__ __forceinline__ void with_strides(bool dense, int row, int column, F&& f) {
  if (dense) return f(Index<Width>{}, Index<1>{}, std::bool_constant<Columns == 2>{});
  f(Stride{row}, Stride{column}, std::false_type{});
}

// Packed columns of a plane of a, or of a - b, in registers: x[n][k] is row h + k Step (k < R), column j + n in the
// real part and column j + n + Half in the imaginary one; an even j for two columns. Nothing is used before everything
// is on its way.
template <class T, int Width, bool HasB, class Access = PlainAccess>
struct Source {
  Image a, b;
  long long at_a, at_b;

  template <int Step, int Half, int Columns, int R>
  __device__ __forceinline__ void load(Complex<T> (&x)[Columns][R], int h, int j) const {
    bool dense = a.dense<Width, Columns>();
    if constexpr (HasB) dense = dense && b.dense<Width, Columns>();
    dense = Access::dense(dense);
    Access::template with_type<T>(a.element, [&](auto* type) {
      using Value = std::remove_reference_t<decltype(*type)>;
      with_strides<Width, Columns>(dense, a.row, a.column, [&](auto row, auto column, auto paired) {
        const Value* at = static_cast<const Value*>(a.data) + at_a + (h * row.value + j * column.value);
#pragma unroll
        for (int k = 0; k < R; ++k) {
          const Value* from = at + k * Step * row.value;
          T left[Columns], right[Columns];
          load_columns<Access, paired.value>(left, from, column.value);
          load_columns<Access, paired.value>(right, from + Half * column.value, column.value);
#pragma unroll
          for (int n = 0; n < Columns; ++n) x[n][k] = {left[n], right[n]};
        }
        if constexpr (HasB) {
          const int row_b = dense ? row.value : b.row, column_b = dense ? column.value : b.column;
          const Value* at_other = static_cast<const Value*>(b.data) + at_b + (h * row_b + j * column_b);
#pragma unroll
          for (int k = 0; k < R; ++k) {
            const Value* from = at_other + k * Step * row_b;
            T left[Columns], right[Columns];
            load_columns<Access, paired.value>(left, from, column_b);
            load_columns<Access, paired.value>(right, from + Half * column_b, column_b);
#pragma unroll
            for (int n = 0; n < Columns; ++n) {
              x[n][k].re -= left[n];
              x[n][k].im -= right[n];
            }
          }
        }
      });
    });
  }
};

// The same way back.
template <class T, int Width, class Access = PlainAccess>
struct Sink {
  Image out;
  long long at_out;

  template <int Step, int Half, int Columns, int R>
  __device__ __forceinline__ void store(const Complex<T> (&x)[Columns][R], int h, int j) const {
    Access::template with_type<T>(out.element, [&](auto* type) {
      using Value = std::remove_reference_t<decltype(*type)>;
      with_strides<Width, Columns>(
          Access::dense(out.dense<Width, Columns>()), out.row, out.column, [&](auto row, auto column, auto paired) {
            Value* at = static_cast<Value*>(out.data) + at_out + (h * row.value + j * column.value);
#pragma unroll
            for (int k = 0; k < R; ++k) {
              Value* to = at + k * Step * row.value;
              T left[Columns], right[Columns];
#pragma unroll
              for (int n = 0; n < Columns; ++n) {
                left[n] = x[n][k].re;
                right[n] = x[n][k].im;
              }
              store_columns<Access, paired.value>(left, to, column.value);
              store_columns<Access, paired.value>(right, to + Half * column.value, column.value);
            }
          });
    });
  }
};

}  // namespace blurfft::cuda
