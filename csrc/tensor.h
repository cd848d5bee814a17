// What the operators of every compiled backend ask of a tensor.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cstdlib>
#include <optional>
#include <stdexcept>

namespace blurfft {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Of a loss; absent where it was not asked for.
using Gradient = std::optional<Tensor>;

// f(double{}) for what is computed in double precision, f(float{}) for all else.
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

inline bool is_complex(const Tensor& t) {
  return t.scalar_type() == ScalarType::ComplexFloat || t.scalar_type() == ScalarType::ComplexDouble;
}

// Of a kernel or weight (n, c, rows, columns), or (rows, columns) for all planes.
struct ParameterShape {
  int64_t n, c, rows, columns;

  explicit ParameterShape(const Tensor& t)
      : n(t.dim() == 2 ? 1 : t.size(0)),
        c(t.dim() == 2 ? 1 : t.size(1)),
        rows(t.size(t.dim() - 2)),
        columns(t.size(t.dim() - 1)) {}
};

// Of the gradient by images. The numbers of a mean's are below what float16 holds, and loss scaling multiplies it by
// its factor only later.
inline ScalarType gradient_type(ScalarType images) { return images == ScalarType::Half ? ScalarType::Float : images; }

inline int64_t bytes_of(ScalarType type) {
  switch (type) {
    case ScalarType::ComplexDouble:
      return 16;
    case ScalarType::Double:
    case ScalarType::ComplexFloat:
      return 8;
    case ScalarType::Float:
      return 4;
    default:
      return 2;
  }
}
// Through the stable ABI torch says that a call has failed, but not why.
[[noreturn]] inline void throw_no_room(int64_t bytes) {
  STD_TORCH_CHECK(false, "blurfft: cannot allocate ", bytes, " bytes for a tensor");
  std::abort();
}
template <class F>
Tensor allocated(int64_t bytes, F f) {
  try {
    return f();
  } catch (const std::runtime_error&) {
    throw_no_room(bytes);
  }
}

// Uninitialised, with the layout that empty_like gives.
inline Tensor empty_like(const Tensor& like, ScalarType type) {
  const int64_t own_bytes = like.numel() * bytes_of(like.scalar_type());
  const Tensor same = allocated(own_bytes, [&] { return torch::stable::empty_like(like); });
  if (type == like.scalar_type()) return same;
  int32_t device = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  AtenTensorHandle handle = nullptr;
  if (aoti_torch_empty_strided(same.dim(), same.sizes().data(), same.strides().data(), static_cast<int32_t>(type),
                               device, like.get_device_index(), &handle) != TORCH_SUCCESS) {
    throw_no_room(like.numel() * bytes_of(type));
  }
  return Tensor(handle);
}

inline Tensor as_contiguous(const Tensor& t) {
  if (t.is_contiguous()) return t;
  return allocated(t.numel() * bytes_of(t.scalar_type()), [&] { return torch::stable::contiguous(t); });
}

}  // namespace blurfft
