// What the CUDA kernels offer to the rest of the extension: launches on a stream, free of torch and of CUDA's headers.
// Arrays are contiguous and on the stream's device; T is float or double, complex numbers are pairs of T.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace blurfft::cuda {

struct Context {
  void* stream;  // cudaStream_t
  // Uninitialised memory of the device, ordered with the stream and kept until the call returns.
  std::function<void*(size_t bytes)> scratch;
};

// How many (n, c) a parameter has of its own: (N|1, C|1).
struct Extent {
  int64_t n, c;
  int64_t count() const { return n * c; }
};

struct Size {
  int64_t height, width;
};

// kernel (count, taps) -> out (count, H, W//2+1), complex
template <class T>
void otf(const T* kernel, int64_t count, Size taps, Size plane, T* out, const Context& context);

// grad (count, H, W//2+1), complex -> out (count, taps)
template <class T>
void otf_backward(const T* grad, int64_t count, Size taps, Size plane, T* out, const Context& context);

}  // namespace blurfft::cuda
