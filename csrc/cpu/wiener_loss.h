// Precision spectrum and log-determinant of the Wiener loss, and their gradients.
#pragma once

#include <math.h>

#include "otf.h"

namespace blurfft::cpu {
namespace {

template <class T>
struct FloatBits;
template <>
struct FloatBits<float> {
  typedef int32_t Int;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float smallest = 0x1p-126f, largest = 0x1.fffffep127f;
};
template <>
struct FloatBits<double> {
  typedef int64_t Int;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double smallest = 0x1p-1022, largest = 0x1.fffffffffffffp1023;
};

// Sum of logarithms as the logarithm of a product, lane by lane: exponents are added as integers, mantissas in [1, 2)
// multiplied until they might overflow. As accurate as a sum of accurate logs at a few operations a value.
template <class T>
struct LogSum {
  typedef typename FloatBits<T>::Int Int;
  typedef Int IntVec __attribute__((vector_size(kVectorBytes)));
  static constexpr int kBurst = FloatBits<T>::bias - 1;

  Vec<T> product = splat(static_cast<T>(1)), once = product, twice = product;
  IntVec exponent = {}, exponents = {};
  int count = 0;

  // Takes the exponents of x into the sum and leaves the mantissas.
  BLURFFT_INLINE Vec<T> take_exponents(Vec<T> x) {
    constexpr Int one = static_cast<Int>(FloatBits<T>::bias) << FloatBits<T>::mantissa;
    constexpr Int fraction = (static_cast<Int>(1) << FloatBits<T>::mantissa) - 1;
    IntVec bits;
    std::memcpy(&bits, &x, sizeof bits);
    exponent += (bits >> FloatBits<T>::mantissa) - FloatBits<T>::bias;
    bits = (bits & fraction) | one;
    Vec<T> mantissa;
    std::memcpy(&mantissa, &bits, sizeof mantissa);
    return mantissa;
  }
  BLURFFT_INLINE void add(Vec<T> x) {
    product *= take_exponents(x);
    if (++count == kBurst) {
      product = take_exponents(product);
      count = 1;
    }
  }
  // The end of values that count as often as their lane's multiplicity says: 0, 1 or 2.
  BLURFFT_INLINE void close(Vec<T> multiplicity) {
    const Vec<T> one = splat(static_cast<T>(1));
    product = take_exponents(product);
    once *= multiplicity == 1 ? product : one;
    twice *= multiplicity == 2 ? product : one;
    exponents += exponent * __builtin_convertvector(multiplicity, IntVec);
    product = one;
    exponent = IntVec{};
    count = 0;
  }
  double total() const {
    constexpr double log_2 = 0.69314718055994530942;
    double ones = 1, twos = 1, powers = 0;
    for (int l = 0; l < kLanes<T>; ++l) {
      ones *= static_cast<double>(once[l]);
      twos *= static_cast<double>(twice[l]);
      powers += static_cast<double>(exponents[l]);
    }
    return log(ones) + 2 * log(twos) + log_2 * powers;
  }
};

// |K|^2, the largest number where it is out of range: 1 / |K|^2 then is 0 as it should be, but |K|^2 / |K|^4 no number.
template <class T>
BLURFFT_INLINE Vec<T> limited_square(Cpx<T> k) {
  const Vec<T> s = squared_modulus(k), largest = splat(FloatBits<T>::largest);
  return s > largest ? largest : s;
}
template <class T>
BLURFFT_INLINE Vec<T> precision(const T* transfer, const WienerArgs<T>& args) {
  const Vec<T> s = limited_square(load_cpx(transfer)), inverse = 1 / (s + args.nsr);
  return s * inverse * inverse + args.eps;
}

// Zero and subnormal, infinite and NaN values have no exponent to add: one plain logarithm each.
template <class T>
double plain_log_determinant(const Geometry<T>& g, const WienerArgs<T>& args) {
  constexpr int L = kLanes<T>;
  double total = 0;
  const T* in = args.transfer;
  for (const Run<T>& run : Runs<T>(g)) {
    for (int i = 0; i < run.groups * run.vectors; ++i, in += 2 * L) {
      const Vec<T> omega = precision(in, args);
      for (int l = 0; l < L; ++l) {
        const double multiplicity = run.multiplicity[l];
        if (multiplicity != 0) total += multiplicity * log(static_cast<double>(omega[l]));
      }
    }
  }
  return total;
}

template <class T>
void wiener(const Geometry<T>& g, const TapGeometry<T>& t, const WienerArgs<T>& args, T* work) {
  constexpr int L = kLanes<T>;
  transfer(g, t, args.kernel, args.transfer, work);
  const Vec<T> one = splat(static_cast<T>(1));
  LogSum<T> logs;
  Vec<T> low = one, high = one;
  bool all_numbers = true;
  const T* in = args.transfer;
  T* out = args.table;
  for (const Run<T>& run : Runs<T>(g)) {
    const Vec<T> multiplicity = run.multiplicity;
    const int vectors = run.groups * run.vectors;
    Vec<T> check = {};
    const auto each = [&](auto all_used) BLURFFT_LAMBDA_INLINE {
      for (int i = 0; i < vectors; ++i, in += 2 * L, out += L) {
        Vec<T> omega = precision(in, args), counted = omega;
        if constexpr (!all_used.value) {
          // Unused lanes would be 0 / 0 where nsr is 0.
          omega = select<T>(multiplicity, omega, Vec<T>{});
          counted = select<T>(multiplicity, omega, one);
        }
        store(out, args.table_scale * omega);
        if (!args.log_determinant) continue;
        low = counted < low ? counted : low;
        high = counted > high ? counted : high;
        check += counted;
        logs.add(counted);
      }
    };
    run.all_lanes ? each(Constant<true>()) : each(Constant<false>());
    for (int l = 0; l < L; ++l) all_numbers = all_numbers && check[l] == check[l];
    if (args.log_determinant) logs.close(multiplicity);
  }
  if (args.log_determinant) {
    bool regular = all_numbers;
    for (int l = 0; l < L; ++l) {
      regular = regular && low[l] >= FloatBits<T>::smallest && high[l] <= FloatBits<T>::largest;
    }
    *args.log_determinant = regular ? logs.total() : plain_log_determinant(g, args);
  }
}

template <class T>
void wiener_grad(const Geometry<T>& g, const TapGeometry<T>& t, const WienerGradArgs<T>& args, T* cotangent, T* work) {
  constexpr int L = kLanes<T>;
  const T quadratic_scale = static_cast<T>(args.quadratic_scale), log_scale = static_cast<T>(args.log_scale);
  double nsr_grad = 0, eps_grad = 0;
  const T *in = args.transfer, *power = args.power;
  T* out = cotangent;
  for (const Run<T>& run : Runs<T>(g)) {
    const Vec<T> multiplicity = run.multiplicity;
    const int vectors = run.vectors;
    VecSum<T> nsr_sum, eps_sum;
    const auto each = [&](auto all_used, auto with_log) BLURFFT_LAMBDA_INLINE {
      for (int i = 0; i < vectors; ++i, in += 2 * L, power += L, out += 2 * L) {
        const Cpx<T> k = load_cpx(in);
        const Vec<T> s = limited_square(k);
        Vec<T> inverse = 1 / (s + args.nsr);
        if constexpr (!all_used.value) inverse = select<T>(multiplicity, inverse, Vec<T>{});
        const Vec<T> gain = s * inverse;  // at most 1, where powers of the inverse may be out of range
        Vec<T> grad = quadratic_scale * load(power);
        if constexpr (with_log.value) grad += log_scale / (gain * inverse + args.eps);
        grad *= multiplicity;
        if constexpr (!all_used.value) grad = select<T>(multiplicity, grad, Vec<T>{});
        eps_sum.add(grad);
        grad += grad;
        nsr_sum.add(-grad * (gain * inverse) * inverse);
        // In this order no step is out of range where the loss and the result are not.
        const Vec<T> along = grad * ((args.nsr - s) * inverse);
        store_cpx(out, Cpx<T>{along * (k.re * inverse) * inverse, along * (k.im * inverse) * inverse});
      }
    };
    const auto each_lane = [&](auto with_log) BLURFFT_LAMBDA_INLINE {
      run.all_lanes ? each(Constant<true>(), with_log) : each(Constant<false>(), with_log);
    };
    for (int group = 0; group < run.groups; ++group) {
      log_scale != 0 ? each_lane(Constant<true>()) : each_lane(Constant<false>());
      nsr_grad += sum<T>(nsr_sum.total());
      eps_grad += sum<T>(eps_sum.total());
      nsr_sum = eps_sum = VecSum<T>();
    }
  }
  *args.nsr_grad = nsr_grad;
  *args.eps_grad = eps_grad;
  transfer_grad(g, t, cotangent, args.kernel, work);
}

}  // namespace
}  // namespace blurfft::cpu
