// Transforms in registers, and how a line is cut into passes. Plain C++ and CUDA: nothing of torch.
//
// A line of n = R0 R1 ... elements is transformed in place, one radix after the other, without reordering. In pass i,
// of radix R and leg m = n / (R0 ... Ri), a thread owns the R elements t + k m (k < R) of a block of R m, t < m:
//
//   forward (decimation in frequency)   dft<R, false>(x); x[q] *= twiddle[q m + t - m]
//   inverse (decimation in time)        x[q] *= conj(twiddle[q m + t - m]); dft<R, true>(x)
//
// and writes x[q] back to element t + q m, so that between passes there is one barrier and no second buffer. After the
// forward passes frequency f = q0 + R0 (q1 + R1 (q2 + ...)) lies at position q0 m0 + q1 m1 + ...; the inverse passes,
// in the opposite order, consume exactly that. Nothing is normalised.
//
// Twiddle table of a pass: exp(-2 pi i q t / (R m)) at [(q - 1) m + t], q = 1 .. R - 1, t < m; neighbouring threads, t
// and t + 1, read neighbouring entries. The last pass has none: its factors are ones.
#pragma once

#include <cmath>

#include "device.cuh"

// Host and device: tables and rules are computed on the host by the same code.
#define BLURFFT_HD __host__ __device__ __forceinline__

namespace blurfft::cuda {

template <class T>
struct alignas(2 * sizeof(T)) Complex {
  T re, im;
};

template <class T>
BLURFFT_HD Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class T>
BLURFFT_HD Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class T>
BLURFFT_HD Complex<T> operator*(T a, Complex<T> b) {
  return {a * b.re, a * b.im};
}
template <class T>
BLURFFT_HD Complex<T> operator*(Complex<T> a, Complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.im * b.re + a.re * b.im};
}
template <class T>
BLURFFT_HD Complex<T> conj(Complex<T> a) {
  return {a.re, -a.im};
}

// f(Index<0>{}), ..., f(Index<N - 1>{}): a loop whose counter is a constant, so that arrays stay in registers.
template <int I>
struct Index {
  static constexpr int value = I;
};
template <int N, class F>
BLURFFT_HD void unroll(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) { (f(Index<I>{}), ...); }(std::make_integer_sequence<int, N>{});
}

namespace detail {

// cos(2 pi k / n) and sin(2 pi k / n) at compile time, by their series in the first eighth of a turn.
BLURFFT_HD constexpr double cos_series(double x) {
  double term = 1, sum = 0;
  for (int i = 1; i < 24; i += 2) {
    sum += term;
    term *= -x * x / (i * (i + 1));
  }
  return sum;
}
BLURFFT_HD constexpr double sin_series(double x) {
  double term = x, sum = 0;
  for (int i = 2; i < 24; i += 2) {
    sum += term;
    term *= -x * x / (i * (i + 1));
  }
  return sum;
}
constexpr double kPi = 3.14159265358979323846;
BLURFFT_HD constexpr double cos_turn(int k, int n) {
  k = (k % n + n) % n;
  if (2 * k > n) k = n - k;
  if (4 * k > n) return -cos_turn(n - 2 * k, 2 * n);
  return 8 * k <= n ? cos_series(2 * kPi * k / n) : sin_series(2 * kPi * (n - 4 * k) / (4 * n));
}
BLURFFT_HD constexpr double sin_turn(int k, int n) { return cos_turn(4 * k - n, 4 * n); }

}  // namespace detail

// a exp(-2 pi i K / N), or with the opposite sign.
template <int K, int N, bool Inverse, class T>
BLURFFT_HD Complex<T> rotate(Complex<T> a) {
  constexpr int k = (Inverse ? N - K % N : K) % N;
  constexpr T h = static_cast<T>(0.70710678118654752440);
  if constexpr (k == 0) {
    return a;
  } else if constexpr (4 * k == N) {
    return {a.im, -a.re};
  } else if constexpr (2 * k == N) {
    return {-a.re, -a.im};
  } else if constexpr (4 * k == 3 * N) {
    return {-a.im, a.re};
  } else if constexpr (8 * k == N) {
    return {h * (a.re + a.im), h * (a.im - a.re)};
  } else if constexpr (8 * k == 3 * N) {
    return {h * (a.im - a.re), -h * (a.re + a.im)};
  } else if constexpr (8 * k == 5 * N) {
    return {-h * (a.re + a.im), h * (a.re - a.im)};
  } else if constexpr (8 * k == 7 * N) {
    return {h * (a.re - a.im), h * (a.re + a.im)};
  } else {
    constexpr T c = static_cast<T>(detail::cos_turn(k, N)), s = static_cast<T>(detail::sin_turn(k, N));
    return {a.re * c + a.im * s, a.im * c - a.re * s};
  }
}

// The first factor of a radix that is not a prime; 1 where there is a butterfly of its own.
BLURFFT_HD constexpr int inner_radix(int radix) {
  return radix == 16 || radix == 12 ? 4
         : radix == 15              ? 5
         : radix == 9 || radix == 6 ? 3
         : radix == 14              ? 7
         : radix == 10              ? 5
         : radix == 8               ? 2
                                    : 1;
}

// x[q] = sum_k x[k] exp(-2 pi i k q / R), the sign reversed for the inverse. R = 2 .. 16.
template <int R, bool Inverse, class T>
__device__ __forceinline__ void dft(Complex<T> (&x)[R]) {
  if constexpr (R == 1) {
  } else if constexpr (R == 2) {
    const Complex<T> d = x[0] - x[1];
    x[0] = x[0] + x[1];
    x[1] = d;
  } else if constexpr (R == 4) {
    const Complex<T> s02 = x[0] + x[2], d02 = x[0] - x[2], s13 = x[1] + x[3];
    const Complex<T> d13 = rotate<1, 4, Inverse>(x[1] - x[3]);
    x[0] = s02 + s13;
    x[1] = d02 + d13;
    x[2] = s02 - s13;
    x[3] = d02 - d13;
  } else if constexpr (inner_radix(R) > 1) {
    constexpr int A = inner_radix(R), B = R / A;
    Complex<T> y[R];
    unroll<B>([&](auto k) {
      Complex<T> part[A];
#pragma unroll
      for (int i = 0; i < A; ++i) part[i] = x[k.value + B * i];
      dft<A, Inverse>(part);
      unroll<A>([&](auto q) { y[k.value + B * q.value] = rotate<k.value * q.value, R, Inverse>(part[q.value]); });
    });
#pragma unroll
    for (int q = 0; q < A; ++q) {
      Complex<T> part[B];
#pragma unroll
      for (int k = 0; k < B; ++k) part[k] = y[k + B * q];
      dft<B, Inverse>(part);
#pragma unroll
      for (int p = 0; p < B; ++p) x[q + A * p] = part[p];
    }
  } else {
    static_assert(R == 3 || R == 5 || R == 7 || R == 11 || R == 13, "no butterfly of this radix");
    // Outputs q and R - q: cosines act on sums of x[k] and x[R - k], sines on differences.
    constexpr int half = (R - 1) / 2;
    const Complex<T> first = x[0];
    Complex<T> sum[half], difference[half];
#pragma unroll
    for (int k = 0; k < half; ++k) {
      sum[k] = x[k + 1] + x[R - 1 - k];
      difference[k] = x[k + 1] - x[R - 1 - k];
      x[0] = x[0] + sum[k];
    }
    unroll<half>([&](auto i) {
      constexpr int q = i.value + 1;
      Complex<T> even = first, odd{0, 0};
      unroll<half>([&](auto k) {
        constexpr T c = static_cast<T>(detail::cos_turn(q * (k.value + 1), R));
        constexpr T s = static_cast<T>((Inverse ? -1 : 1) * detail::sin_turn(q * (k.value + 1), R));
        even.re += c * sum[k.value].re;
        even.im += c * sum[k.value].im;
        if constexpr (k.value == 0) {
          odd = {s * difference[0].im, -s * difference[0].re};
        } else {
          odd.re += s * difference[k.value].im;
          odd.im -= s * difference[k.value].re;
        }
      });
      x[q] = even + odd;
      x[R - q] = even - odd;
    });
  }
}

// Through the read-only cache, in one access.
__device__ __forceinline__ Complex<float> load_const(const Complex<float>* at) {
  const float2 v = __ldg(reinterpret_cast<const float2*>(at));
  return {v.x, v.y};
}
__device__ __forceinline__ Complex<double> load_const(const Complex<double>* at) {
  const double2 v = __ldg(reinterpret_cast<const double2*>(at));
  return {v.x, v.y};
}

// The factors between a pass and the next, for lines of the same t: `twiddle` is the pass's part of the table, there.
template <bool Inverse, class T, int Lines, int R>
__device__ __forceinline__ void apply_twiddles(Complex<T> (&x)[Lines][R], const Complex<T>* __restrict__ twiddle,
                                               int leg) {
#pragma unroll
  for (int i = 0; i < R - 1; ++i) {
    const Complex<T> w = load_const(twiddle + i * leg);
#pragma unroll
    for (int line = 0; line < Lines; ++line) {
      Complex<T>& y = x[line][i + 1];
      y = y * (Inverse ? conj(w) : w);
    }
  }
}
template <bool Inverse, class T, int R>
__device__ __forceinline__ void apply_twiddles(Complex<T> (&x)[R], const Complex<T>* __restrict__ twiddle, int leg) {
#pragma unroll
  for (int i = 0; i < R - 1; ++i) {
    const Complex<T> w = load_const(twiddle + i * leg);
    x[i + 1] = x[i + 1] * (Inverse ? conj(w) : w);
  }
}

// A length cut in two at compile time, n = First * Second: how a plane is transformed whose sizes are known to the
// compiler. The first pass has Second threads with First elements each, the second pass First threads with Second.
template <int First, int Second>
struct TwoPass {
  static constexpr int first = First, second = Second, n = First * Second;

  BLURFFT_HD static constexpr int frequency(int position) { return position / Second + First * (position % Second); }
};

template <class T, int First, int Second>
struct TwiddleTable {
  Complex<T> entries[(First - 1) * Second];

  constexpr TwiddleTable() : entries() {
    for (int q = 1; q < First; ++q) {
      for (int t = 0; t < Second; ++t) {
        entries[(q - 1) * Second + t] = {static_cast<T>(detail::cos_turn(q * t, First * Second)),
                                         static_cast<T>(-detail::sin_turn(q * t, First * Second))};
      }
    }
  }
};
// Of the first pass of TwoPass<First, Second>.
template <class T, int First, int Second>
__device__ const TwiddleTable<T, First, Second> kTwiddles;

}  // namespace blurfft::cuda
