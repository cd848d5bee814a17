// Loops on torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <vector>

#include "memory.h"

namespace blurfft::cpu {

// Shared spectra are summed over this many fixed parts, whatever the number of threads.
constexpr int64_t kMaxParts = 64;

// Streaming stores reach other threads in order only after a fence. One a plane would wait for memory each time.
inline void fence_streaming_stores() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

// What is left of a range, taken in portions that shrink, no smaller than `grain`.
class alignas(kAlignment) Portions {
 public:
  void assign(int64_t begin, int64_t end) {
    next_.store(begin, std::memory_order_relaxed);
    end_ = end;
  }
  bool take(int64_t grain, int64_t& begin, int64_t& end) {
    begin = next_.load(std::memory_order_relaxed);
    do {
      if (begin >= end_) return false;
      end = std::min(end_, begin + std::max(grain, (end_ - begin) / 8));
    } while (!next_.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    return true;
  }

 private:
  std::atomic<int64_t> next_;
  int64_t end_;
};

// f(begin, end) over parts of [0, count), of `grain` at least, on torch's own threads. Each begins with an equal share
// of its own, as in any other op: what lies in its caches is its own from call to call. Cores are not equally fast,
// being of two kinds or shared with others, so who is done helps the rest.
template <class F>
void in_parallel(int64_t count, int64_t grain, F f) {
  const int64_t threads = torch::stable::get_num_threads(), shares = std::min(threads, (count + grain - 1) / grain);
  if (shares <= 1) {
    f(0, count);
    return fence_streaming_stores();
  }
  // Looking at everybody's share costs as much as a small one.
  const int64_t helped = count > shares * grain ? shares : 1;
  std::vector<Portions> portions(shares);
  for (int64_t i = 0; i < shares; ++i) portions[i].assign(i * count / shares, (i + 1) * count / shares);
  // Through the stable ABI an exception would lose what it says.
  std::vector<std::exception_ptr> failed(shares);
  torch::stable::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
    int64_t begin, end;
    for (int64_t own = first; own < last; ++own) {
      try {
        for (int64_t i = 0; i < helped; ++i) {
          while (portions[(own + i) % shares].take(grain, begin, end)) f(begin, end);
        }
      } catch (...) {
        failed[own] = std::current_exception();
      }
    }
    fence_streaming_stores();
  });
  for (const std::exception_ptr& reason : failed) {
    if (reason) std::rethrow_exception(reason);
  }
}

// Runs f(part, begin, end) over [0, count) in fixed_parts(count) parts, which depend on count alone.
inline int64_t fixed_parts(int64_t count) { return std::clamp<int64_t>(count, 1, kMaxParts); }
template <class F>
void in_fixed_parts(int64_t count, F f) {
  const int64_t parts = fixed_parts(count);
  in_parallel(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) f(part, part * count / parts, (part + 1) * count / parts);
  });
}
template <class T>
void add_parts(T* parts, int64_t count, size_t elements) {
  for (int64_t part = 1; part < count; ++part) {
    for (size_t i = 0; i < elements; ++i) parts[i] += parts[part * elements + i];
  }
}

}  // namespace blurfft::cpu
