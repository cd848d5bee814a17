// What the kernels of every compiled backend rely on to stay within their tensors. The public functions of Python have
// seen to it; graphs that hold the sizes of an example, and callers of the ops, may not have.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <string>
#include <utility>

#include "tensor.h"

namespace blurfft {
namespace arguments {

// A tensor's name, type and sizes, each asked of torch once.
struct Facts {
  const char* name;
  ScalarType type;
  decltype(std::declval<Tensor>().sizes()) sizes;

  Facts(const char* name, const Tensor& t) : name(name), type(t.scalar_type()), sizes(t.sizes()) {}

  int64_t dimensions() const { return static_cast<int64_t>(sizes.size()); }
  int64_t from_end(size_t i) const { return sizes[sizes.size() - i]; }
  bool is_complex() const { return type == ScalarType::ComplexFloat || type == ScalarType::ComplexDouble; }
  // Of images.
  ScalarType compute_type() const { return type == ScalarType::Double ? type : ScalarType::Float; }

  std::string shape() const {
    std::string text = "(";
    for (int64_t side : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(side);
    return text + ")";
  }

  const Facts& of_type(ScalarType expected) const {
    STD_TORCH_CHECK(type == expected, "blurfft: ", name, " must have scalar type ", static_cast<int>(expected),
                    ", got ", static_cast<int>(type));
    return *this;
  }
  const Facts& complex() const {
    STD_TORCH_CHECK(is_complex(), "blurfft: ", name, " must be complex, got scalar type ", static_cast<int>(type));
    return *this;
  }
  const Facts& of_planes() const {
    STD_TORCH_CHECK(dimensions() >= 2, "blurfft: ", name, " must have at least 2 dimensions, got shape ", shape());
    return *this;
  }
  const Facts& of_dimensions(int64_t expected) const {
    STD_TORCH_CHECK(dimensions() == expected, "blurfft: ", name, " must have ", expected, " dimensions, got shape ",
                    shape());
    return *this;
  }
  const Facts& not_empty() const {
    STD_TORCH_CHECK(std::find(sizes.begin(), sizes.end(), 0) == sizes.end(), "blurfft: ", name,
                    " must not be empty, got shape ", shape());
    return *this;
  }
  const Facts& like(const Facts& other) const {
    of_type(other.type);
    STD_TORCH_CHECK(std::equal(sizes.begin(), sizes.end(), other.sizes.begin(), other.sizes.end()),
                    "blurfft: ", other.name, " and ", name, " must have the same shape, got ", other.shape(), " and ",
                    shape());
    return *this;
  }
  // (N|1, C|1, ...) beside images (N, C, H, W).
  const Facts& shared_by(const Facts& images) const {
    const auto fits = [&](size_t dim) { return sizes[dim] == 1 || sizes[dim] == images.sizes[dim]; };
    STD_TORCH_CHECK(fits(0) && fits(1), "blurfft: ", name, " must be of 1 or N samples and 1 or C channels of images ",
                    images.shape(), ", got shape ", shape());
    return *this;
  }
  const Facts& on_half_spectrum(int64_t height, int64_t width) const {
    STD_TORCH_CHECK(from_end(2) == height && from_end(1) == width / 2 + 1, "blurfft: ", name,
                    " must lie on the half spectrum of planes of ", height, "x", width, ", got shape ", shape());
    return *this;
  }
  // Of a kernel or weight (N|1, C|1, ...), or of two dimensions for all planes.
  const Facts& parameter_of(const Facts& images) const {
    of_type(images.compute_type()).not_empty();
    return dimensions() == 2 ? *this : of_dimensions(4).shared_by(images);
  }
  void per_plane_of(const Facts& images) const {
    of_type(images.compute_type()).of_dimensions(2).not_empty().shared_by(images);
  }
};

inline void check_taps(int64_t kh, int64_t kw, int64_t height, int64_t width) {
  STD_TORCH_CHECK(kh <= height && kw <= width, "blurfft: kernel must be no larger than planes of ", height, "x", width,
                  ", got ", kh, "x", kw);
}
inline Facts check_images(const Tensor& input, const Tensor& target) {
  const Facts images("input", input);
  Facts("target", target).like(images.of_dimensions(4));
  return images;
}
inline void check_kernel(const Tensor& kernel, const Facts& images) {
  const Facts taps = Facts("kernel", kernel).parameter_of(images);
  check_taps(taps.from_end(2), taps.from_end(1), images.sizes[2], images.sizes[3]);
}

// One for each of BLURFFT_OPERATORS, of the same parameters.

inline void rfft2(const Tensor& input, double) { Facts("input", input).of_planes(); }

inline void irfft2(const Tensor& input, int64_t width, double) {
  const Facts spectrum = Facts("input", input).complex().of_planes();
  spectrum.on_half_spectrum(spectrum.from_end(2), width);
}

inline void otf(const Tensor& kernel, int64_t height, int64_t width) {
  const Facts taps("kernel", kernel);
  taps.of_type(taps.compute_type()).of_dimensions(4);
  check_taps(taps.sizes[2], taps.sizes[3], height, width);
}

inline void otf_backward(const Tensor& grad, int64_t width, int64_t kh, int64_t kw) {
  const Facts spectrum = Facts("grad", grad).complex().of_dimensions(4);
  spectrum.on_half_spectrum(spectrum.sizes[2], width);
  check_taps(kh, kw, spectrum.sizes[2], width);
}

inline void spectral_filter(const Tensor& input, const Tensor& transfer) {
  const Facts images = Facts("input", input).of_dimensions(4), table("transfer", transfer);
  const bool fp64 = images.compute_type() == ScalarType::Double;
  const ScalarType complex = fp64 ? ScalarType::ComplexDouble : ScalarType::ComplexFloat;
  table.of_type(table.is_complex() ? complex : images.compute_type()).of_dimensions(4);
  table.shared_by(images).on_half_spectrum(images.sizes[2], images.sizes[3]);
}

inline void cross_spectrum(const Tensor& a, const Tensor& b, int64_t n, int64_t c, bool) {
  const Facts first = Facts("a", a).of_dimensions(4);
  Facts("b", b).like(first);
  STD_TORCH_CHECK((n == 1 || n == first.sizes[0]) && (c == 1 || c == first.sizes[1]),
                  "blurfft: n and c must be 1 or those of images ", first.shape(), ", got ", n, " and ", c);
}

inline void spectral_loss(const Tensor& input, const Tensor& target, const Tensor& weight, double, bool, bool, bool) {
  const Facts images = check_images(input, target);
  Facts("weight", weight).parameter_of(images).on_half_spectrum(images.sizes[2], images.sizes[3]);
}

inline void wiener_loss(const Tensor& input, const Tensor& target, const Tensor& kernel, const Tensor& nsr,
                        const Tensor& eps, double, bool, bool, bool, bool) {
  const Facts images = check_images(input, target);
  check_kernel(kernel, images);
  Facts("nsr", nsr).per_plane_of(images);
  Facts("eps", eps).per_plane_of(images);
}

inline void blur_mse(const Tensor& input, const Tensor& target, const Tensor& kernel, double, bool, bool, bool) {
  check_kernel(kernel, check_images(input, target));
}

inline void focal_frequency_loss(const Tensor& input, const Tensor& target, double, bool, double, bool, bool) {
  check_images(input, target);
}

}  // namespace arguments

// An operator that checks its arguments first.
template <auto op, auto check>
struct Checked;
template <class Result, class... Args, Result (*op)(Args...), void (*check)(Args...)>
struct Checked<op, check> {
  static Result call(Args... args) {
    check(args...);
    return op(args...);
  }
};

}  // namespace blurfft
