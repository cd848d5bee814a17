#include "../ops.h"

#include <algorithm>

#include "parallel.h"
#include "taps.h"
#include "units.h"

namespace blurfft::cpu {

Tensor otf(const Tensor& kernel, int64_t height, int64_t width) {
  const Tensor taps_in = as_contiguous(kernel);
  const int64_t kernels_count = kernel.size(0) * kernel.size(1), kh = kernel.size(2), kw = kernel.size(3);
  Tensor out;
  for_type(kernel.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    out = empty(kernel, {kernel.size(0), kernel.size(1), height, width / 2 + 1}, complex_type<T>);
    const Geometry<T> g = geometry<T>(height, width, 1);
    const TapTables<T> tables(g, kh, kw);
    const size_t packed = packed_elements(g, call.lanes, true);
    in_parallel(kernels_count, 1, [&](int64_t begin, int64_t end) {
      T* work = scratch<T>(packed + call.tap_workspace_elements(g, tables.taps));
      for (int64_t i = begin; i < end; ++i) {
        call.transfer(g, tables.taps, values<T>(taps_in) + i * kh * kw, work, work + packed);
        call.unpack(g, work, true, 1, false, values<T>(out) + i * height * (width / 2 + 1) * 2);
      }
    });
  });
  return out;
}

Tensor otf_backward(const Tensor& grad, int64_t width, int64_t kh, int64_t kw) {
  const Tensor half = as_contiguous(grad);
  const int64_t count = grad.size(0) * grad.size(1), height = grad.size(2), entries = height * (width / 2 + 1);
  Tensor out;
  for_type(grad.scalar_type(), [&]<class T>(T) {
    const Routines<T>& call = routines<T>();
    out = empty(grad, {grad.size(0), grad.size(1), kh, kw}, real_type<T>);
    const Geometry<T> g = geometry<T>(height, width, 1);
    const TapTables<T> tables(g, kh, kw);
    const size_t packed = packed_elements(g, call.lanes, true);
    in_parallel(count, 1, [&](int64_t begin, int64_t end) {
      T* work = scratch<T>(packed + call.tap_workspace_elements(g, tables.taps));
      Array<double> sums(kh * kw);
      for (int64_t i = begin; i < end; ++i) {
        call.pack_cotangent(g, values<T>(half) + i * entries * 2, work);
        call.transfer_grad(g, tables.taps, work, sums.data(), work + packed);
        std::copy(sums.begin(), sums.end(), values<T>(out) + i * kh * kw);
      }
    });
  });
  return out;
}

}  // namespace blurfft::cpu
