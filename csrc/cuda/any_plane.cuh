// FixedPlane's transform for every size without prime factors above 7, odd ones included, cut into passes at run time.
// One exchange for each radix rather than two for each line, so slower, but the same packing, the same visitors.
#pragma once

#include "plane.cuh"

namespace blurfft::cuda {

template <class T_>
struct AnyPlane {
  using T = T_;
  static constexpr int kThreads = 256, kPlanes = 1, kBlocks = 2, kFilterBlocks = 2, kWidth = 0;

  BLURFFT_HD static constexpr int pitch(int width) { return (width + 1) / 2 | 1; }
  // Row 0 of an odd height has no other to share its line with: a row of zeros takes that place.
  BLURFFT_HD static constexpr int rows(int height) { return height + height % 2; }
  static constexpr size_t shared_bytes(int height, int width) {
    return sizeof(Complex<T>) * rows(height) * pitch(width) + sizeof(short) * (height + width);
  }

  const PlaneTables<T>& tables;
  int height, width, half, step, lines;
  Complex<T>* z;
  short *row_of, *column_of;  // positions of frequencies
  int thread;

  __device__ __forceinline__ AnyPlane(void* shared, const PlaneTables<T>& plane_tables)
      : tables(plane_tables),
        height(tables.vertical.n),
        width(tables.horizontal.n),
        half((width + 1) / 2),
        step(pitch(width)),
        lines((height + 1) / 2),
        z(static_cast<Complex<T>*>(shared)),
        row_of(reinterpret_cast<short*>(z + rows(height) * step)),
        column_of(row_of + height),
        thread(threadIdx.x) {
    for (int f = thread; f < height; f += kThreads) row_of[f] = static_cast<short>(tables.vertical.position(f));
    for (int f = thread; f < width; f += kThreads) column_of[f] = static_cast<short>(tables.horizontal.position(f));
  }

  __device__ __forceinline__ static void sync() { __syncthreads(); }
  __device__ __forceinline__ SpectrumSize size() const { return {height, width}; }

  template <class Source>
  __device__ __forceinline__ void forward(const Source& source) {
    for (int i = thread; i < height * half; i += kThreads) {
      const int h = i / half, j = i % half;
      z[h * step + j] = {source.element(h, j), j + half < width ? source.element(h, j + half) : 0};
    }
    if (height % 2) {
      for (int j = thread; j < half; j += kThreads) z[height * step + j] = {0, 0};
    }
    sync();
#pragma unroll 1
    for (int along_rows = 0; along_rows < 2; ++along_rows) {
      passes<false>(along_rows);
      if (along_rows) break;
      for (int i = thread; i < lines * half; i += kThreads) {
        const int line = i / half, j = i % half;
        Complex<T>&a = z[upper(line) * step + j], &b = z[lower(line) * step + j];
        const Complex<T> x = a, y = b;
        a = line == 0 ? Complex<T>{2 * x.re, 2 * y.re} : Complex<T>{x.re + y.re, x.im - y.im};
        b = line == 0 ? Complex<T>{2 * x.im, 2 * y.im} : Complex<T>{x.im + y.im, y.re - x.re};
      }
      sync();
    }
  }

  template <class Sink>
  __device__ __forceinline__ void inverse(const Sink& sink) {
    sync();
#pragma unroll 1
    for (int along_rows = 1; along_rows >= 0; --along_rows) {
      passes<true>(along_rows);
      if (!along_rows) break;
      for (int i = thread; i < lines * half; i += kThreads) {
        const int line = i / half, j = i % half;
        Complex<T>&a = z[upper(line) * step + j], &b = z[lower(line) * step + j];
        const Complex<T> x = a, y = b;
        a = line == 0 ? Complex<T>{x.re, y.re} : Complex<T>{x.re - y.im, x.im + y.re};
        b = line == 0 ? Complex<T>{x.im, y.im} : Complex<T>{x.re + y.im, y.re - x.im};
      }
      sync();
    }
    for (int i = thread; i < height * half; i += kThreads) {
      const int h = i / half, j = i % half;
      sink.element(h, j, z[h * step + j].re);
      if (j + half < width) sink.element(h, j + half, z[h * step + j].im);
    }
    sync();
  }

  // As FixedPlane's, but a thread has f2 and -f2 of the first line, and counts them together.
  template <bool Forward, bool Inverse, class Visitor>
  __device__ __forceinline__ void visit(Visitor& visitor, bool back = true) {
    for (int i = thread; i < lines * width; i += kThreads) {
      const int line = i / width, f2 = i % width;
      Complex<T>& x = line_element(line, column_of[f2]);
      if (line > 0) {
        const Complex<T> value = visitor.template visit<true>(line, f2, x, visitor.template load<true>(line, f2), 2);
        if (back) x = value;
      } else if (2 * f2 <= width) {
        const bool alone = size().self_mirrored(f2);
        const T count = alone ? 1 : 2;
        Complex<T>& y = line_element(0, column_of[alone ? f2 : width - f2]);
        const Complex<T> sum = x + conj(y), difference = x - conj(y);
        const Complex<T> zero =
            visitor.template visit<true>(0, f2, half_of(sum), visitor.template load<true>(0, f2), count);
        Complex<T> nyquist{0, 0};
        if (height % 2 == 0) {
          nyquist = visitor.template visit<true>(height / 2, f2, half_of(Complex<T>{difference.im, -difference.re}),
                                                 visitor.template load<true>(height / 2, f2), count);
        }
        if (back) {
          x = {zero.re - nyquist.im, zero.im + nyquist.re};
          if (!alone) y = {zero.re + nyquist.im, nyquist.re - zero.im};
        }
      }
    }
  }

 private:
  __device__ __forceinline__ int upper(int line) const { return row_of[line]; }
  __device__ __forceinline__ int lower(int line) const {
    return line ? row_of[height - line] : height % 2 ? height : row_of[height / 2];
  }
  __device__ __forceinline__ Complex<T>& line_element(int line, int n) const {
    return n < half ? z[upper(line) * step + n] : z[lower(line) * step + n - half];
  }

  // All passes along the packed columns or along the lines.
  template <bool Inverse>
  __device__ __forceinline__ void passes(bool along_rows) {
    const Line& line = along_rows ? tables.horizontal : tables.vertical;
    int leg = Inverse ? 1 : line.n, offset = Inverse ? twiddle_count(line) : 0;
#pragma unroll 1
    for (int k = 0; k < line.passes; ++k) {
      const int radix = line.radix[Inverse ? line.passes - 1 - k : k];
      if (!Inverse) leg /= radix;
      if (Inverse && k > 0) offset -= (radix - 1) * leg;
      const Complex<T>* twiddle =
          leg == 1 ? nullptr : (along_rows ? tables.horizontal_twiddles : tables.vertical_twiddles) + offset;
      switch (radix) {
        case 2:
          pass<2, Inverse>(along_rows, line.n, leg, twiddle);
          break;
        case 3:
          pass<3, Inverse>(along_rows, line.n, leg, twiddle);
          break;
        case 4:
          pass<4, Inverse>(along_rows, line.n, leg, twiddle);
          break;
        case 5:
          pass<5, Inverse>(along_rows, line.n, leg, twiddle);
          break;
        case 7:
          pass<7, Inverse>(along_rows, line.n, leg, twiddle);
          break;
        default:
          pass<8, Inverse>(along_rows, line.n, leg, twiddle);
      }
      if (Inverse) leg *= radix;
      if (!Inverse) offset += (radix - 1) * leg;
      sync();
    }
  }

  template <int R, bool Inverse>
  __device__ __forceinline__ void pass(bool along_rows, int n, int leg, const Complex<T>* twiddle) {
    const int tasks = n / R, count = tasks * (along_rows ? lines : half);
#pragma unroll 1
    for (int i = thread; i < count; i += kThreads) {
      // Neighbouring threads have neighbouring columns, or neighbouring elements of a line.
      const int task = along_rows ? i % tasks : i / half, across = along_rows ? i / tasks : i % half;
      const int t = task % leg, first = task / leg * (R * leg) + t;
      const int top = along_rows ? upper(across) * step : across;
      const int bottom = along_rows ? lower(across) * step - half : 0;
      const auto at = [&](int e) { return along_rows ? (e < half ? top : bottom) + e : e * step + top; };
      Complex<T> x[R];
      unroll<R>([&](auto k) { x[k.value] = z[at(first + k.value * leg)]; });
      if constexpr (Inverse) {
        if (twiddle) apply_twiddles<R, true>(x, twiddle + t, leg);
        dft<R, true>(x);
      } else {
        dft<R, false>(x);
        if (twiddle) apply_twiddles<R, false>(x, twiddle + t, leg);
      }
      unroll<R>([&](auto k) { z[at(first + k.value * leg)] = x[k.value]; });
    }
  }
};

}  // namespace blurfft::cuda
