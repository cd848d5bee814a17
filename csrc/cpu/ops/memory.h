// Workspaces and results.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "../../tensor.h"

namespace blurfft::cpu {

constexpr size_t kAlignment = 64;
// Gradients that fill the caches anyway are written past them.
constexpr int64_t kStreamingBytes = int64_t{4} << 20;

// Uninitialised, of at least so many elements.
template <class T>
T* allocate(size_t count) {
  const size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  T* data = static_cast<T*>(std::aligned_alloc(kAlignment, bytes));
  STD_TORCH_CHECK(data != nullptr, "blurfft: cannot allocate ", bytes, " bytes of workspace");
  return data;
}

// What grows with the images, so that it says how large it would have been where there is no room.
template <class T>
struct Allocator {
  typedef T value_type;
  T* allocate(size_t count) { return cpu::allocate<T>(count); }
  void deallocate(T* data, size_t) { std::free(data); }
  bool operator==(const Allocator&) const { return true; }
};
template <class T>
using Array = std::vector<T, Allocator<T>>;

template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count) { reserve(count); }
  Buffer() = default;
  T* get() const { return data_.get(); }
  void reserve(size_t count) {
    if (count <= size_) return;
    data_.reset(allocate<T>(count));
    size_ = count;
  }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

// Kept from call to call: a fresh allocation of this size is returned to the system and faulted in again each time.
template <class T>
T* scratch(size_t count) {
  static thread_local Buffer<T> buffer;
  buffer.reserve(count);
  return buffer.get();
}

// As torch::stable::new_empty, which looks its operator up by name each time, at the cost of a small transform.
inline Tensor empty(const Tensor& like, torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType type) {
  int32_t dtype = static_cast<int32_t>(type);
  AtenTensorHandle handle = nullptr;
  if (aoti_torch_aten_new_empty(like.get(), sizes.data(), static_cast<int64_t>(sizes.size()), &dtype, nullptr, nullptr,
                                0, nullptr, &handle) != TORCH_SUCCESS) {
    int64_t count = 1;
    for (const int64_t size : sizes) count *= size;
    throw_no_room(count * bytes_of(type));
  }
  return Tensor(handle);
}
inline Tensor empty_as(const Tensor& t, ScalarType type) {
  return t.is_contiguous() ? empty(t, t.sizes(), type) : empty_like(t, type);
}
inline Gradient gradient_by(const Tensor& input, bool wanted) {
  return wanted ? Gradient(empty_as(input, gradient_type(input.scalar_type()))) : std::nullopt;
}

inline bool fills_the_caches(const Tensor& t) {
  return t.numel() * static_cast<int64_t>(t.element_size()) >= kStreamingBytes;
}

template <class T>
T* values(const Tensor& t) {
  return static_cast<T*>(t.data_ptr());
}

}  // namespace blurfft::cpu
