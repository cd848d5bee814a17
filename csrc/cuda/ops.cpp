// The operators on torch's stable ABI: memory, device and stream are torch's, the rest is in kernels.h.
#include "ops.h"

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <vector>

#include "kernels.h"
#include "stream.h"

namespace blurfft::cuda {
namespace {

using torch::headeronly::ScalarType;

template <class F>
void for_type(ScalarType type, F f) {
  if (type == ScalarType::Double || type == ScalarType::ComplexDouble) {
    f(double{});
  } else {
    f(float{});
  }
}
template <class T>
constexpr ScalarType real_type = sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;
template <class T>
constexpr ScalarType complex_type = sizeof(T) == 8 ? ScalarType::ComplexDouble : ScalarType::ComplexFloat;

Tensor empty(const Tensor& like, const std::vector<int64_t>& sizes, ScalarType type) {
  return torch::stable::new_empty(like, sizes, type);
}
Tensor as_contiguous(const Tensor& t) { return t.is_contiguous() ? t : torch::stable::contiguous(t); }

template <class T>
T* values(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

// Device, stream and scratch memory of one call of an operator.
class Call {
 public:
  explicit Call(const Tensor& tensor)
      : guard_(tensor), context{current_stream(tensor), [this, tensor](size_t bytes) {
                                  scratch_.push_back(empty(tensor, {static_cast<int64_t>(bytes)}, ScalarType::Byte));
                                  return scratch_.back().data_ptr();
                                }} {}

 private:
  DeviceGuard guard_;
  // Torch's allocator gives memory back to the stream it was taken on, so that it may be freed before it is used.
  std::vector<Tensor> scratch_;

 public:
  const Context context;
};

}  // namespace

Tensor otf(const Tensor& kernel, int64_t height, int64_t width) {
  const Call call(kernel);
  const Tensor taps = as_contiguous(kernel);
  const int64_t n = kernel.size(0), c = kernel.size(1);
  Tensor out;
  for_type(kernel.scalar_type(), [&]<class T>(T) {
    out = empty(kernel, {n, c, height, width / 2 + 1}, complex_type<T>);
    otf(values<T>(taps), n * c, {kernel.size(2), kernel.size(3)}, {height, width}, values<T>(out), call.context);
  });
  return out;
}

Tensor otf_backward(const Tensor& grad, int64_t width, int64_t kh, int64_t kw) {
  const Call call(grad);
  const Tensor half = as_contiguous(grad);
  const int64_t n = grad.size(0), c = grad.size(1);
  Tensor out;
  for_type(grad.scalar_type(), [&]<class T>(T) {
    out = empty(grad, {n, c, kh, kw}, real_type<T>);
    otf_backward(values<T>(half), n * c, {kh, kw}, {grad.size(2), width}, values<T>(out), call.context);
  });
  return out;
}

}  // namespace blurfft::cuda
