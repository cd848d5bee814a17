// What the CUDA kernels offer to the rest of the extension: launches on a stream, free of torch and of CUDA's headers.
// Arrays are contiguous and on the stream's device; T is float or double, complex numbers are pairs of T.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace blurfft::cuda {

struct Context {
  void* stream;  // cudaStream_t
  // Uninitialised memory of the device, ordered with the stream and kept until the call returns.
  std::function<void*(size_t bytes)> scratch;
  // Whether the kernel before is one of ours that lets the next one begin early: see LaunchConfig::overlapping.
  bool overlapping = false;
};

// How many (n, c) a parameter has of its own: (N|1, C|1).
struct Extent {
  int64_t n, c;
  int64_t count() const { return n * c; }
};

struct Size {
  int64_t height, width;
};

// An image tensor of any strides (in elements); bfloat16 and float16 are computed with in float.
enum class Type : int { f32, f64, bf16, f16 };
struct Planes {
  void* data;  // null for none
  Type type;
  int64_t sample, channel, row, column;
};
struct Batch {
  int64_t samples, channels;
  Size plane;
  int64_t planes() const { return samples * channels; }
};

// The longest line that the kernels transform.
constexpr int64_t kMaxLength = 2048;
// Whether the kernels can address the tensor: offsets within a plane are 32 bits.
bool addressable(const Planes& planes, Size plane);

// Energies of a batch's planes, in so many parts each.
template <class T>
struct Energies {
  T* data;  // (planes, parts)
  int64_t parts;
};

// out (planes, H, W//2+1), complex; input of one channel
template <class T>
void rfft2(const Batch& batch, const Planes& input, double scale, T* out, const Context& context);
// input (planes, H, W//2+1), complex
template <class T>
void irfft2(const Batch& batch, const T* input, double scale, const Planes& out, const Context& context);

// kernel (count, taps) -> out (count, H, W//2+1), complex
template <class T>
void otf(const T* kernel, int64_t count, Size taps, Size plane, T* out, const Context& context);

// grad (count, H, W//2+1), complex -> out (count, taps)
template <class T>
void otf_backward(const T* grad, int64_t count, Size taps, Size plane, T* out, const Context& context);

// transfer (N|1, C|1, H, W//2+1), real or complex
template <class T>
void spectral_filter(const Batch& batch, const Planes& input, const T* transfer, Extent transfers, bool complex,
                     const Planes& out, const Context& context);

// out (N|1, C|1, H, W//2+1), complex or real
template <class T>
void cross_spectrum(const Batch& batch, const Planes& a, const Planes& b, Extent outs, bool complex, T* out,
                    const Context& context);

// scale * sum m w |F e|^2 of each plane. weight_grad like weight; it and the data of grad may be null.
template <class T>
Energies<T> spectral_loss(const Batch& batch, const Planes& input, const Planes& target, const T* weight,
                          Extent weights, double scale, const Planes& grad, T* weight_grad, const Context& context);

template <class T>
Energies<T> focal_frequency_loss(const Batch& batch, const Planes& input, const Planes& target, double alpha,
                                 bool log_matrix, double scale, const Planes& grad, const Context& context);

// nsr or eps: on the device or, where all planes have the same, a number that the host knows, without gradient.
template <class T>
struct Parameter {
  Extent extent;
  const T* data;  // or null for the value
  T value;
};
template <class T>
struct Wiener {
  Size plane, taps;
  Extent kernels;
  const T* kernel;
  Parameter<T> nsr, eps;

  Extent spectra() const {
    return {std::max({kernels.n, nsr.extent.n, eps.extent.n}), std::max({kernels.c, nsr.extent.c, eps.extent.c})};
  }
};

// A precision spectrum for each of wiener.spectra(); log_determinant likewise, in so many parts each.
struct LogDeterminant {
  double* data;  // (spectra, parts), or null
  int64_t parts;
};
template <class T>
LogDeterminant precision_spectrum(const Wiener<T>& wiener, bool log_determinant, T* weight, const Context& context);

// Gradients by kernel, nsr and eps: weight_grad is that of the quadratic term, -log_scale m / w that of the
// log-determinant. nsr_grad and eps_grad may be null.
template <class T>
void precision_spectrum_backward(const Wiener<T>& wiener, const T* weight_grad, double log_scale, T* kernel_grad,
                                 T* nsr_grad, T* eps_grad, const Context& context);

// loss (N) or (): the energies, and scale * (constant - log-determinant) of each plane.
template <class T>
void loss_sum(const Batch& batch, const Energies<T>& energies, Extent spectra, const LogDeterminant& log_determinant,
              double constant, double scale, bool per_sample, T* loss, const Context& context);

// Tensors of any shape without gaps, in place, times *factor, a number on the device. If it is 1 they are not touched.
struct Dense {
  void* data;
  Type type;
  int64_t count;
};
template <class T>
void scale(const Dense* tensors, int count, const T* factor, const Context& context);

}  // namespace blurfft::cuda
