// What csrc/cuda/kernels.h declares, as C functions for tests/test_cuda.py: memory is lent to the emulator, and each
// function returns its complaint or null.
#include "kernels.h"

#include <memory>

#include "harness.h"

namespace {

using namespace blurfft::cuda;
using simt::Memory;

// Tensors as Python passes them: contiguous, of T or of pairs of T.
template <class T>
const T* input(const char* name, const void* data, int64_t count) {
  simt::lend(name, data, count * sizeof(T), sizeof(T), Memory::input);
  return static_cast<const T*>(data);
}
template <class T>
T* output(const char* name, void* data, int64_t count) {
  simt::lend(name, data, count * sizeof(T), sizeof(T), Memory::output);
  return static_cast<T*>(data);
}

class Scratch {
 public:
  Context context() {
    return {nullptr, [this](size_t bytes) -> void* {
              blocks_.push_back(std::make_unique<Block[]>(bytes / sizeof(Block) + 2));
              void* data = blocks_.back().get();
              simt::lend("scratch", data, bytes, 4, Memory::scratch);
              return data;
            }};
  }

 private:
  struct alignas(256) Block {
    char bytes[256];
  };
  std::vector<std::unique_ptr<Block[]>> blocks_;
};

// f<T>() with T float or double.
template <typename F>
const char* run(bool is_double, uint64_t seed, F f) {
  return simt::report([&] {
    simt::seed(seed);
    Scratch scratch;
    if (is_double) {
      f(double(), scratch.context());
    } else {
      f(float(), scratch.context());
    }
    simt::finish();
  });
}

}  // namespace

SIMT_EXPORT const char* emulated_otf(bool is_double, uint64_t seed, const void* kernel, int64_t count, int64_t kh,
                                     int64_t kw, int64_t height, int64_t width, void* out) {
  return run(is_double, seed, [&]<class T>(T, const Context& context) {
    otf(input<T>("kernel", kernel, count * kh * kw), count, {kh, kw}, {height, width},
        output<T>("out", out, 2 * count * height * (width / 2 + 1)), context);
  });
}

SIMT_EXPORT const char* emulated_otf_backward(bool is_double, uint64_t seed, const void* grad, int64_t count,
                                              int64_t kh, int64_t kw, int64_t height, int64_t width, void* out) {
  return run(is_double, seed, [&]<class T>(T, const Context& context) {
    otf_backward(input<T>("grad", grad, 2 * count * height * (width / 2 + 1)), count, {kh, kw}, {height, width},
                 output<T>("out", out, count * kh * kw), context);
  });
}
