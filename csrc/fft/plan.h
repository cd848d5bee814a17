// Factorisation, twiddle factors and index maps of one transform length. Built once a length in double precision.
#pragma once

#include <cstdint>
#include <vector>

namespace blurfft {

constexpr int kMaxStages = 16;
constexpr int64_t kMaxLength = 4096;

// A stage splits each of `blocks` blocks of radix * m elements; twiddle holds radix - 1 (re, im) pairs for each j < m.
template <class T>
struct Stage {
  int radix, m, blocks;
  const T* twiddle;
};

template <class T>
struct Line {
  int n = 0;
  int stage_count = 0;
  Stage<T> stages[kMaxStages] = {};
  const int32_t* position = nullptr;  // frequency -> where the forward transform leaves it
  const T* cosine = nullptr;          // of 2 pi k / n, k < n
  const T* sine = nullptr;
};

// Radices of n, largest powers of two first; empty for n = 1 or where another prime than 2, 3, 5, 7 divides n.
std::vector<int> radices(int64_t n);
bool supports_length(int64_t n);

// Never freed, safe from any thread.
template <class T>
const Line<T>& line(int64_t n);

}  // namespace blurfft
