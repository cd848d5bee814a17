// Factorisation, twiddle factors and index maps of one transform length. Built once a length, in more than double
// precision.
#pragma once

#include <cstdint>
#include <vector>

namespace blurfft {

constexpr int kMaxStages = 16;
constexpr int64_t kMaxLength = 4096;
// The largest prime radix that is transformed by the definition; larger ones are convolutions. From here on those are
// as accurate as what MKL does, which takes the definition further in double precision.
template <class T>
constexpr int kLargestDirect = sizeof(T) == 4 ? 47 : 89;
constexpr int kRootOutputs = 3;  // outputs that it has in registers at a time, and as many of their mirror images

template <class T>
struct Line;

// A transform of prime length p as a cyclic convolution (Rader). With a generator g of the numbers modulo p,
//   X[g^-r] = x[0] - c + sum over q of (x[g^q] - c) w^(g^(q-r)) for any c,
// and the inverse has the same form. The mean for c keeps the digits of what lies on it; a spectrum needs none. Where
// the line is longer than p - 1, zeros follow the values. It takes its elements in an order that saves twiddle factors.
template <class T>
struct Convolution {
  const Line<T>* line;      // of length p - 1, or 2p - 3 and more
  const T* spectrum;        // of w^(g^-r), by the line's length and gain: (re, im) in the order of Line::position
  const int32_t* powers;    // g^q where the line takes its element q < p - 1, 0 elsewhere
  const int32_t* ordinals;  // 1 + q likewise
};

// A stage splits each of `blocks` blocks of radix * m elements; twiddle holds radix - 1 (re, im) pairs for each j < m,
// and is null where all would be ones. A radix above 13 has roots or a convolution.
//
// The roots of a prime p are cos(2 pi q k / p) and the same sines, q and k from 1 to (p - 1) / 2: for kRootOutputs (at
// the end, for fewer) outputs q together, by k, the cosines of all those q and then the sines.
// Of the outputs of a convolution 1 + r is frequency g^-r, and its twiddle factors, `radix` pairs for each j < m, are
// in this order.
template <class T>
struct Stage {
  int radix, m, blocks;
  int batch;  // blocks that follow each other and together make good use of the first-level cache
  const T* twiddle;
  const T* roots;
  const Convolution<T>* convolution;
};

template <class T>
struct Line {
  int n = 0;
  int stage_count = 0;
  int scratch = 0;  // vectors of complex numbers that its convolutions need
  // What there and back make of a number, but for the length. The few constants of a stage have rounding errors, the
  // same everywhere, which would add up; convolutions make up for theirs.
  double gain = 1;
  Stage<T> stages[kMaxStages] = {};
  const int32_t* position = nullptr;  // frequency -> where the forward transform leaves it
  const double* cosine = nullptr;     // of 2 pi k / n, k < n
  const double* sine = nullptr;
};

constexpr bool supports_length(int64_t n) { return n >= 1 && n <= kMaxLength; }

// Radices of n, largest powers of two first; none for n = 1.
std::vector<int> radices(int64_t n);
// The length of the line that a transform of this prime length is convolved by; 0 where it is none.
template <class T>
int64_t convolution_length(int64_t prime);

// Never freed, safe from any thread and after a fork.
template <class T>
const Line<T>& line(int64_t n);

}  // namespace blurfft
