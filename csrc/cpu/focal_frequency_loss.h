// Weight of the focal frequency loss.
#pragma once

#include <math.h>

#include "spectrum.h"

namespace blurfft::cpu {
namespace {

template <class T>
BLURFFT_INLINE T square_root(T x) {
  return static_cast<T>(sizeof(T) == 8 ? sqrt(x) : sqrtf(x));
}
// |F e|^alpha, or the logarithm of that plus 1, relative to that of the largest power: in range whatever alpha is.
template <class T>
struct FocalMatrix {
  double alpha, largest, largest_logarithm;
  T largest_root;
  bool log_matrix;

  FocalMatrix(double exponent, bool log, T power)
      : alpha(exponent),
        largest(power),
        largest_logarithm(logarithm(power)),
        largest_root(square_root(power)),
        log_matrix(log) {}
  double logarithm(double power) const {
    const double root = sqrt(power), m = alpha == 1 ? root : pow(root, alpha);
    return m < 1e300 ? log1p(m) : alpha * log(root);
  }
  BLURFFT_INLINE Vec<T> operator()(Vec<T> power) const {
    Vec<T> m = {};
    if (log_matrix) {
      for (int l = 0; l < kLanes<T>; ++l) m[l] = static_cast<T>(logarithm(power[l]) / largest_logarithm);
    } else if (alpha == 1) {
      for (int l = 0; l < kLanes<T>; ++l) m[l] = square_root(power[l]);
      m /= largest_root;
    } else {
      for (int l = 0; l < kLanes<T>; ++l) m[l] = static_cast<T>(pow(sqrt(power[l] / largest), alpha));
    }
    return m;
  }
};

template <class T>
void focal_weight(const Geometry<T>& g, const FocalArgs<T>& args) {
  constexpr int L = kLanes<T>;
  const Vec<T> zero = {}, one = splat(static_cast<T>(1));
  T* at = args.table;
  Vec<T> high = zero, all = zero;
  for (const Run<T>& run : Runs<T>(g)) {
    for (int i = 0; i < run.groups * run.vectors; ++i, at += L) {
      const Vec<T> power = select<T>(run.multiplicity, load(at) * args.power_scale, zero);
      high = power > high ? power : high;
      all += power;
    }
  }
  T largest = 0;
  bool all_numbers = true;
  for (int l = 0; l < L; ++l) {
    largest = high[l] > largest ? high[l] : largest;
    all_numbers = all_numbers && all[l] == all[l];
  }
  // NaN if it is infinite: squares out of range have no weights, and weights of 0 would make nothing of the largest
  // errors. Only a loss that counts for nothing needs none.
  const Vec<T> valid = splat(args.table_scale == 0 ? 0 : largest - largest);
  const FocalMatrix<T> matrix(args.alpha, args.log_matrix, largest);
  at = args.table;
  for (const Run<T>& run : Runs<T>(g)) {
    for (int i = 0; i < run.groups * run.vectors; ++i, at += L) {
      // NaN, as of 0 / 0 in a plane without an error, counts as 0.
      const Vec<T> m = matrix(load(at) * args.power_scale), within = m >= one ? one : m > zero ? m : zero;
      store(at, args.table_scale * ((all_numbers ? select<T>(run.multiplicity, within, zero) : zero) + valid));
    }
  }
}

}  // namespace
}  // namespace blurfft::cpu
