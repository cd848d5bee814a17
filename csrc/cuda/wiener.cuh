// The precision spectrum of a blur kernel, w = s / (s + C)^2 + eps with s = |K|^2, its log-determinant, and the
// gradients by kernel, C (nsr) and eps of what has a gradient by w.
#pragma once

#include "kernels.h"
#include "otf.cuh"

namespace blurfft::cuda {

// The entry of a parameter (N|1, C|1) that a plane uses.
__host__ __device__ inline int64_t entry(const Extent& extent, int64_t sample, int64_t channel) {
  return (extent.n > 1 ? sample : 0) * extent.c + (extent.c > 1 ? channel : 0);
}

template <class T>
__device__ inline T value_of(const Parameter<T>& parameter, int64_t sample, int64_t channel) {
  return parameter.data ? parameter.data[entry(parameter.extent, sample, channel)] : parameter.value;
}

template <class T>
struct WienerParams {
  OtfGeometry geometry;
  Extent spectra, kernels;
  const T* kernel;  // (kernels, kh, kw)
  Parameter<T> nsr, eps;
  T* weight;                // (spectra, H, W//2+1)
  double* log_determinant;  // (spectra, blocks) or null
};

constexpr int kWarps = kOtfThreads / 32;

// The sum over the block, in a fixed order, in thread 0. `warps` holds kWarps elements.
__device__ inline double block_sum(double value, double* warps) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffffu, value, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  value = 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kWarps; ++i) value += warps[i];
  }
  return value;
}

// K in a unit in which s = |K|^2 is in range; it is 1 unless K is out of the ordinary.
template <class T>
struct WienerEntry {
  T unit;
  Complex<T> K;
  T s, C, inverse;  // of s + C

  __device__ __forceinline__ WienerEntry(Complex<T> response, T nsr)
      : unit(fmax(fabs(response.re), fabs(response.im)) > static_cast<T>(0x1p60) ? static_cast<T>(0x1p-80) : 1),
        K(unit * response),
        s(K.re * K.re + K.im * K.im),
        C(nsr * unit * unit),
        inverse(1 / (s + C)) {}
  __device__ __forceinline__ T weight(T eps) const { return s * inverse * inverse * unit * unit + eps; }
};

struct WienerShared {
  Complex<double> transfer[OtfGeometry::kSharedElements];
  double warps[kWarps];
};

// Grid: (spectra, column blocks, row blocks).
template <class T>
__global__ void __launch_bounds__(kOtfThreads, 1) precision_spectrum_kernel(WienerParams<T> p) {
  let_next_begin();
  const OtfGeometry& g = p.geometry;
  const OtfThread thread(g);
  const int64_t sample = blockIdx.x / p.spectra.c, channel = blockIdx.x % p.spectra.c;
  BLURFFT_DYNAMIC_SHARED(WienerShared, shared);
  Complex<T> K[kOtfPairs][2];
  const int64_t taps = int64_t{g.kh} * g.kw;
  transfer_function(g, thread, p.kernel + entry(p.kernels, sample, channel) * taps, shared->transfer, K);

  const T C = value_of(p.nsr, sample, channel), eps = value_of(p.eps, sample, channel);
  const T m = multiplicity<T>(thread.column, g.width);
  T* weight = p.weight + blockIdx.x * g.entries();
  double log_determinant = 0;
  thread.for_each(g, [&](int row, int i, int side) {
    const T w = WienerEntry<T>(K[i][side], C).weight(eps);
    weight[int64_t{row} * g.half() + thread.column] = w;
    if (p.log_determinant) log_determinant += static_cast<double>(m * log(w));
  });
  if (!p.log_determinant) return;
  log_determinant = block_sum(log_determinant, shared->warps);
  if (threadIdx.x == 0) {
    const int64_t blocks = int64_t{gridDim.y} * gridDim.z;
    p.log_determinant[blockIdx.x * blocks + blockIdx.z * gridDim.y + blockIdx.y] = log_determinant;
  }
}

template <class T>
struct WienerGradParams {
  WienerParams<T> forward;
  const T* weight_grad;       // (spectra, H, W//2+1), of the quadratic term
  T log_scale;                // the gradient by w of the log-determinant is -log_scale m / w
  Complex<T>* transfer_grad;  // (kernels, H, W//2+1), by K
  double* nsr_grad;           // (spectra, blocks) or null
  double* eps_grad;           // likewise
};

// Grid: (kernels, column blocks, row blocks). Spectra that share a kernel share its transform and add up here.
template <class T>
__global__ void __launch_bounds__(kOtfThreads, 1) precision_spectrum_backward_kernel(WienerGradParams<T> p) {
  const WienerParams<T>& f = p.forward;
  const OtfGeometry& g = f.geometry;
  const OtfThread thread(g);
  BLURFFT_DYNAMIC_SHARED(WienerShared, shared);
  Complex<T> K[kOtfPairs][2];
  transfer_function(g, thread, f.kernel + int64_t{blockIdx.x} * g.kh * g.kw, shared->transfer, K);

  const int64_t blocks = int64_t{gridDim.y} * gridDim.z, block = blockIdx.z * gridDim.y + blockIdx.y;
  const int kernel_n = blockIdx.x / f.kernels.c, kernel_c = blockIdx.x % f.kernels.c;
  const int first_n = f.kernels.n > 1 ? kernel_n : 0, last_n = f.kernels.n > 1 ? kernel_n + 1 : f.spectra.n;
  const int first_c = f.kernels.c > 1 ? kernel_c : 0, last_c = f.kernels.c > 1 ? kernel_c + 1 : f.spectra.c;
  const T m = multiplicity<T>(thread.column, g.width);
  Complex<T> dK[kOtfPairs][2] = {};  // half of it
  for (int n = first_n; n < last_n; ++n) {
    for (int c = first_c; c < last_c; ++c) {
      const int64_t spectrum = int64_t{n} * f.spectra.c + c;
      const T C = value_of(f.nsr, n, c), eps = value_of(f.eps, n, c);
      const T* weight_grad = p.weight_grad + spectrum * g.entries();
      double dC = 0, deps = 0;
      thread.for_each(g, [&](int row, int i, int side) {
        const WienerEntry<T> e(K[i][side], C);
        T dw = weight_grad[int64_t{row} * g.half() + thread.column];
        if (p.log_scale != 0) dw -= p.log_scale * m / e.weight(eps);
        // Powers of the inverse are out of range long before these products.
        const T inverse = e.inverse * e.unit * e.unit, along = dw * ((e.C - e.s) * e.inverse);
        dK[i][side] = dK[i][side] + inverse * (along * (inverse * K[i][side]));
        dC += static_cast<double>(-2 * dw * (e.s * e.inverse) * inverse * inverse);
        deps += static_cast<double>(dw);
      });
      const auto leave = [&](double* grad, double value) {
        if (!grad) return;
        value = block_sum(value, shared->warps);
        if (threadIdx.x == 0) grad[spectrum * blocks + block] = value;
      };
      leave(p.nsr_grad, dC);
      leave(p.eps_grad, deps);
    }
  }
  Complex<T>* out = p.transfer_grad + blockIdx.x * g.entries();
  thread.for_each(g, [&](int row, int i, int side) {
    out[int64_t{row} * g.half() + thread.column] = static_cast<T>(2) * dK[i][side];
  });
}

// Adds up what the blocks of all spectra that share a parameter have of its gradient.
template <class T>
struct ParameterSumParams {
  Extent spectra, parameters;
  int64_t blocks;
  const double* parts;  // (spectra, blocks)
  T* out;               // (parameters)
};

// Grid: (parameters).
template <class T>
__global__ void __launch_bounds__(kOtfThreads, 1) parameter_sum_kernel(ParameterSumParams<T> p) {
  const int n = blockIdx.x / p.parameters.c, c = blockIdx.x % p.parameters.c;
  const int samples = p.parameters.n > 1 ? 1 : p.spectra.n, channels = p.parameters.c > 1 ? 1 : p.spectra.c;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < samples * channels * p.blocks; i += kOtfThreads) {
    const int64_t shared_n = i / p.blocks / channels, shared_c = i / p.blocks % channels;
    const int64_t spectrum = (p.parameters.n > 1 ? n : shared_n) * p.spectra.c + (p.parameters.c > 1 ? c : shared_c);
    sum += p.parts[spectrum * p.blocks + i % p.blocks];
  }
  BLURFFT_DYNAMIC_SHARED(double, warps);
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) p.out[blockIdx.x] = static_cast<T>(sum);
}

// loss = sum of the planes' energies + scale (constant of a plane - its log-determinant), of a sample or of all.
template <class T>
struct LossSumParams {
  int64_t samples, channels;  // of a loss
  int64_t parts;              // of the energy of a plane
  const T* energy;            // (losses, samples, channels, parts)
  Extent spectra;
  int64_t blocks;
  const double* log_determinant;  // (spectra, blocks) or null
  double constant, scale;
  T* loss;
};

// Grid: (losses): either each of one sample, or one of all.
template <class T>
__global__ void __launch_bounds__(kOtfThreads, 1) loss_sum_kernel(LossSumParams<T> p) {
  wait_for_previous();
  BLURFFT_DYNAMIC_SHARED(double, warps);
  const int64_t planes = p.samples * p.channels;
  const T* energy = p.energy + blockIdx.x * planes * p.parts;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < planes * p.parts; i += kOtfThreads) sum += static_cast<double>(energy[i]);
  sum = block_sum(sum, warps);
  if (p.log_determinant) {
    const int64_t spectra_n = p.spectra.n > 1 ? p.samples : 1, count = spectra_n * p.spectra.c * p.blocks;
    const double* own = p.log_determinant + (p.spectra.n > 1 ? blockIdx.x : 0) * count;
    double total = 0;
    for (int64_t i = threadIdx.x; i < count; i += kOtfThreads) total += own[i];
    total = block_sum(total, warps);
    const double shares = static_cast<double>(planes / (spectra_n * p.spectra.c));
    sum += p.scale * (p.constant * static_cast<double>(planes) - shares * total);
  }
  if (threadIdx.x == 0) p.loss[blockIdx.x] = static_cast<T>(sum);
}

}  // namespace blurfft::cuda
