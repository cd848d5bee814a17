// The operators on torch's stable ABI: shapes and memory are here, kernels behind kernels.h.
#include "ops.h"

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <cmath>
#include <numbers>

#include "../tensor.h"
#include "kernels.h"
#include "runtime.h"
#ifdef BLURFFT_HAVE_CUDA_VARIANTS
#include "variants/variants.h"
#endif

namespace blurfft::cuda {
namespace {

Type type_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return Type::f32;
    case ScalarType::Double:
      return Type::f64;
    case ScalarType::BFloat16:
      return Type::bf16;
    case ScalarType::Half:
      return Type::f16;
    default:
      STD_TORCH_CHECK(false, "blurfft: images must be float32, float64, bfloat16 or float16");
  }
}
template <class T>
const T* values(const Tensor& contiguous) {
  return static_cast<const T*>(data_of(contiguous));
}
template <class T>
T* written(const Tensor& output) {
  return static_cast<T*>(output.data_ptr());
}

// Device, stream and scratch memory of one call of an operator.
class Call {
 public:
  explicit Call(const Tensor& tensor, bool overlapping = false)
      : guard_(tensor),
        context{current_stream(tensor),
                [this, tensor](size_t bytes) {
                  scratch_.push_back(new_scratch(tensor, bytes));
                  return scratch_.back().data_ptr();
                },
                overlapping} {}

 private:
  DeviceGuard guard_;
  // Freed when the launches are queued and not yet done: torch's allocator reuses memory in the order of the stream.
  std::vector<Tensor> scratch_;

 public:
  const Context context;
};

Batch batch_of(const Tensor& images) { return {images.size(0), images.size(1), {images.size(2), images.size(3)}}; }
Planes planes_at(void* data, const Tensor& images) {
  return {data, type_of(images), images.stride(0), images.stride(1), images.stride(2), images.stride(3)};
}
// An argument whose planes the kernels can address; others, of which few can exist, are copied.
Tensor as_addressable(const Tensor& images) {
  const bool fits = addressable(planes_at(nullptr, images), batch_of(images).plane);
  return fits ? images : torch::stable::contiguous(images);
}
Planes input_planes(const Tensor& images) { return planes_at(data_of(images), images); }
Planes output_planes(const Tensor& images) {
  const Planes planes = planes_at(images.data_ptr(), images);
  STD_TORCH_CHECK(addressable(planes, batch_of(images).plane),
                  "blurfft: the cuda kernels count within a plane in 32 bits, which its result with the layout of the "
                  "input exceeds; make the input contiguous");
  return planes;
}

Extent extent_of(const Tensor& parameter) { return {parameter.size(0), parameter.size(1)}; }
template <class T>
Parameter<T> parameter_of(const Tensor& contiguous) {
  const Extent extent = extent_of(contiguous);
  if (on_host(contiguous)) return {extent, nullptr, *static_cast<const T*>(contiguous.data_ptr())};
  return {extent, values<T>(contiguous), 0};
}

Tensor images_of(const Tensor& t) {
  return torch::stable::reshape(t, std::vector<int64_t>{1, -1, t.size(t.dim() - 2), t.size(t.dim() - 1)});
}

std::vector<int64_t> sizes_with_width(const Tensor& t, int64_t width) {
  std::vector<int64_t> sizes(t.sizes().begin(), t.sizes().end());
  sizes.back() = width;
  return sizes;
}

}  // namespace

Tensor rfft2(const Tensor& input, double scale) {
  const Call call(input);
  const Tensor images = as_addressable(images_of(input));
  Tensor out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    out = new_output(input, sizes_with_width(input, images.size(3) / 2 + 1), complex_type<T>);
    rfft2(batch_of(images), input_planes(images), scale, written<T>(out), call.context);
  });
  return out;
}

Tensor irfft2(const Tensor& input, int64_t width, double scale) {
  const Call call(input);
  const Tensor half = as_contiguous(input);
  Tensor out;
  for_type(input.scalar_type(), [&]<class T>(T) {
    out = new_output(input, sizes_with_width(input, width), real_type<T>);
    const Tensor images = images_of(out);
    irfft2(batch_of(images), values<T>(half), scale, output_planes(images), call.context);
  });
  return out;
}

Tensor otf(const Tensor& kernel, int64_t height, int64_t width) {
  const Call call(kernel);
  const Tensor taps = as_contiguous(kernel);
  const int64_t n = kernel.size(0), c = kernel.size(1);
  Tensor out;
  for_type(kernel.scalar_type(), [&]<class T>(T) {
    out = new_output(kernel, {n, c, height, width / 2 + 1}, complex_type<T>);
    otf(values<T>(taps), n * c, {kernel.size(2), kernel.size(3)}, {height, width}, written<T>(out), call.context);
  });
  return out;
}

Tensor otf_backward(const Tensor& grad, int64_t width, int64_t kh, int64_t kw) {
  const Call call(grad);
  const Tensor half = as_contiguous(grad);
  const int64_t n = grad.size(0), c = grad.size(1);
  Tensor out;
  for_type(grad.scalar_type(), [&]<class T>(T) {
    out = new_output(grad, {n, c, kh, kw}, real_type<T>);
    otf_backward(values<T>(half), n * c, {kh, kw}, {grad.size(2), width}, written<T>(out), call.context);
  });
  return out;
}

Tensor spectral_filter(const Tensor& input, const Tensor& transfer) {
  const Call call(input);
  const Tensor images = as_addressable(input), half = as_contiguous(transfer);
  const Tensor out = new_output_like(input, input.scalar_type());
  for_type(input.scalar_type(), [&]<class T>(T) {
    spectral_filter(batch_of(images), input_planes(images), values<T>(half), extent_of(half), is_complex(half),
                    output_planes(out), call.context);
  });
  return out;
}

Tensor cross_spectrum(const Tensor& a, const Tensor& b, int64_t n, int64_t c, bool complex) {
  const Call call(a);
  const Tensor images_a = as_addressable(a), images_b = as_addressable(b);
  Tensor out;
  for_type(a.scalar_type(), [&]<class T>(T) {
    out = new_output(a, {n, c, a.size(2), a.size(3) / 2 + 1}, complex ? complex_type<T> : real_type<T>);
    cross_spectrum(batch_of(a), input_planes(images_a), input_planes(images_b), {n, c}, complex, written<T>(out),
                   call.context);
  });
  return out;
}

namespace {

// What the losses have in common.
struct Loss {
  const Call& call;
  Tensor input, target;
  Gradient grad;
  Tensor loss;

  Loss(const Call& call, const Tensor& input, const Tensor& target, bool per_sample, bool input_grad, ScalarType type)
      : call(call),
        input(as_addressable(input)),
        target(as_addressable(target)),
        grad(input_grad ? Gradient(new_output_like(input, gradient_type(input.scalar_type()))) : std::nullopt),
        loss(new_output(input, per_sample ? std::vector<int64_t>{input.size(0)} : std::vector<int64_t>{}, type)),
        per_sample_(per_sample) {}

  Planes grad_planes() const { return grad ? output_planes(*grad) : Planes{}; }

  template <class T>
  Energies<T> weighted(const T* weight, Extent weights, double scale, T* weight_grad) const {
    return spectral_loss(batch_of(input), input_planes(input), input_planes(target), weight, weights, scale,
                         grad_planes(), weight_grad, call.context);
  }

  template <class T>
  void sum(const Energies<T>& energies, Extent spectra = {1, 1}, const LogDeterminant& log_determinant = {},
           double constant = 0, double scale = 0) const {
    loss_sum(batch_of(input), energies, spectra, log_determinant, constant, scale, per_sample_, written<T>(loss),
             call.context);
  }

 private:
  bool per_sample_;
};

template <class T>
Gradient parameter_grad(const Tensor& parameter, bool wanted) {
  if (!wanted) return std::nullopt;
  return new_output(parameter, {parameter.sizes().begin(), parameter.sizes().end()}, real_type<T>);
}

}  // namespace

std::tuple<Tensor, Gradient, Gradient> spectral_loss(const Tensor& input, const Tensor& target, const Tensor& weight,
                                                     double scale, bool per_sample, bool input_grad, bool weight_grad) {
  const Call call(input);
  const Tensor half = as_contiguous(weight);
  Tensor loss;
  Gradient grad, power;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Loss work(call, input, target, per_sample, input_grad, real_type<T>);
    power = parameter_grad<T>(half, weight_grad);
    const ParameterShape shape(half);
    work.sum(work.weighted(values<T>(half), {shape.n, shape.c}, scale, power ? written<T>(*power) : nullptr));
    loss = work.loss;
    grad = work.grad;
  });
  return {loss, grad, power};
}

std::tuple<Tensor, Gradient, Gradient, Gradient, Gradient> wiener_loss(const Tensor& input, const Tensor& target,
                                                                       const Tensor& kernel, const Tensor& nsr,
                                                                       const Tensor& eps, double scale, bool nll,
                                                                       bool per_sample, bool input_grad,
                                                                       bool kernel_grad) {
  STD_TORCH_CHECK(kernel.numel() > 0 && nsr.numel() > 0 && eps.numel() > 0,
                  "blurfft_cuda::wiener_loss: kernel, nsr and eps must not be empty");
  const Call call(input, true);
  const Tensor kernels = as_contiguous(kernel), nsrs = as_contiguous(nsr), epss = as_contiguous(eps);
  const Batch batch = batch_of(input);
  const Size plane = batch.plane;
  if (nll) scale /= 2;
  const ParameterShape taps(kernel);
  Tensor loss;
  Gradient grad, grads[3];
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Loss work(call, input, target, per_sample, input_grad, real_type<T>);
    const Wiener<T> wiener = {plane,
                              {taps.rows, taps.columns},
                              {taps.n, taps.c},
                              values<T>(kernels),
                              parameter_of<T>(nsrs),
                              parameter_of<T>(epss)};
    const Extent spectra = wiener.spectra();
    const int64_t entries = spectra.count() * plane.height * (plane.width / 2 + 1);
    const auto new_spectra = [&] { return static_cast<T*>(call.context.scratch(sizeof(T) * entries)); };
    T* weight = new_spectra();
    T* weight_grad = kernel_grad ? new_spectra() : nullptr;
    const LogDeterminant log_determinant = precision_spectrum(wiener, nll, weight, call.context);
    const Energies<T> energies = work.weighted(weight, spectra, scale, weight_grad);
    const double constant =
        static_cast<double>(plane.height) * static_cast<double>(plane.width) * std::log(2 * std::numbers::pi);
    work.sum(energies, spectra, log_determinant, constant, scale);
    loss = work.loss;
    grad = work.grad;
    const Tensor* parameters[] = {&kernel, &nsr, &eps};
    for (int i = 0; i < 3; ++i) grads[i] = parameter_grad<T>(*parameters[i], kernel_grad && !on_host(*parameters[i]));
    if (kernel_grad) {
      // Planes that share a spectrum, each with its own log-determinant.
      const double sharing = static_cast<double>(batch.planes() / spectra.count());
      const auto out = [&](const Gradient& grad) { return grad ? written<T>(*grad) : nullptr; };
      precision_spectrum_backward(wiener, weight_grad, nll ? scale * sharing : 0, out(grads[0]), out(grads[1]),
                                  out(grads[2]), call.context);
    }
  });
  return {loss, grad, grads[0], grads[1], grads[2]};
}

std::tuple<Tensor, Gradient> focal_frequency_loss(const Tensor& input, const Tensor& target, double alpha,
                                                  bool log_matrix, double scale, bool per_sample, bool input_grad) {
  const Call call(input);
  Tensor loss;
  Gradient grad;
  for_type(input.scalar_type(), [&]<class T>(T) {
    const Loss work(call, input, target, per_sample, input_grad, real_type<T>);
    work.sum(focal_frequency_loss<T>(batch_of(work.input), input_planes(work.input), input_planes(work.target), alpha,
                                     log_matrix, scale, work.grad_planes(), call.context));
    loss = work.loss;
    grad = work.grad;
  });
  return {loss, grad};
}

void scale_(const std::vector<Tensor>& tensors, const Tensor& factor) {
  const Call call(factor);
  std::vector<Dense> dense;
  for (const Tensor& tensor : tensors) {
    int64_t last = 0;
    for (int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
    STD_TORCH_CHECK(last == tensor.numel() - 1, "blurfft_cuda::scale_: the tensors must not have gaps or overlap");
    dense.push_back({updated_data_of(tensor), type_of(tensor), tensor.numel()});
  }
  for_type(factor.scalar_type(),
           [&]<class T>(T) { scale(dense.data(), static_cast<int>(dense.size()), values<T>(factor), call.context); });
}

#ifdef BLURFFT_HAVE_CUDA_VARIANTS
std::tuple<Tensor, Tensor> spectral_loss_variant(std::string name, const Tensor& input, const Tensor& target,
                                                 const Tensor& weight, double scale) {
  const Call call(input);
  const Tensor half = as_contiguous(weight);
  const Loss work(call, input, target, false, true, ScalarType::Float);
  const Batch batch = batch_of(input);
  const ParameterShape shape(half);
  const Energies<float> energies =
      variants::spectral_loss(name, batch, input_planes(input), input_planes(target), values<float>(half),
                              {shape.n, shape.c}, scale, work.grad_planes(), call.context);
  STD_TORCH_CHECK(energies.data != nullptr, "blurfft_cuda: there is no variant ", name, " for these images");
  work.sum(energies);
  return {work.loss, *work.grad};
}

std::string variant_names(int64_t height, int64_t width) { return variants::names({height, width}); }
#endif

}  // namespace blurfft::cuda
