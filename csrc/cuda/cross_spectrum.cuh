// The cross-power spectrum: multiplicity * conj(F a) F b or its real part, summed over planes.
#pragma once

#include "planes.cuh"

namespace blurfft::cuda {

using CrossSpectrumPlanes = PlaneList<Plane32, Plane64, Plane128, Plane256>;

template <class T>
struct CrossSpectrumParams {
  Image a, b;
  Complex<T>* scratch;  // (items, H, W/2 + 1)
  T* out;               // (items, H, W/2 + 1), pairs of T if complex_values: a sum for each item of the schedule
  bool complex_values;
  Schedule schedule;  // sharing_schedule()
};

// F a waits in global memory, most of it in the cache: the thread that reads a frequency is the one that wrote it.
template <class T>
struct CrossVisitor {
  using Loaded = Complex<T>;
  const Complex<T>* spectrum;
  SpectrumSize size;
  T unit, factor;  // of both spectra, and of their product
  T* out;
  bool complex_values, first;

  __device__ __forceinline__ Loaded load(bool, int f1, int f2) const {
    // Not through the read-only cache: this kernel has written it.
    const bool right = 2 * f2 > size.width;
    const Complex<T> value =
        spectrum[right ? size.mirror(f1) * size.columns() + (size.width - f2) : f1 * size.columns() + f2];
    return right ? conj(value) : value;
  }
  __device__ __forceinline__ Complex<T> visit(bool edge, int f1, int f2, Complex<T> x, Loaded a, T) const {
    const T scale = size.self_mirrored(f2) ? factor : 2 * factor;
    const Complex<T> product = scale * (conj(a) * (unit * x));
    if (complex_values) {
      store_half(edge, reinterpret_cast<Complex<T>*>(out), size, f1, f2, product, first);
    } else {
      store_half(edge, out, size, f1, f2, product.re, first);
    }
    return x;
  }
};

template <class Plane>
__global__ void __launch_bounds__(block_threads<Plane>(), resident(Plane::kFilterBlocks))
    cross_spectrum_kernel(const CrossSpectrumParams<typename Plane::T> p) {
  if constexpr (kRunsHere<Plane>) {
    using T = typename Plane::T;
    BLURFFT_DYNAMIC_SHARED(unsigned char, shared);
    const int item = first_item<Plane>();
    if (item >= p.schedule.items()) return;
    Plane plane(shared);
    const SpectrumSize size = plane.size();
    const long long slab = static_cast<long long>(item) * size.elements();
    const T unit = square_unit<T>(4 * size.height * size.width);
    HalfSpectrumWriter<T> writer{p.scratch + slab, size, unit};
    const int begin = p.schedule.begin(item), end = p.schedule.end(item);
#pragma unroll 1
    for (int member = begin; member < end; ++member) {
      const PlaneIndex at = p.schedule.plane(item, member);
      plane.forward(Source<T, Plane::kWidth, false>{p.a, {}, p.a.plane(at.n, at.c), 0});
      plane.template visit<true, false>(writer, false);
      plane.sync();
      plane.forward(Source<T, Plane::kWidth, false>{p.b, {}, p.b.plane(at.n, at.c), 0});
      CrossVisitor<T> visitor{p.scratch + slab,
                              size,
                              unit,
                              1 / (4 * size.height * size.width * unit * unit),
                              p.out + slab * (p.complex_values ? 2 : 1),
                              p.complex_values,
                              member == begin};
      plane.template visit<true, false>(visitor, false);
      plane.sync();
    }
  }
}

template <class Plane>
cudaError_t launch_cross_spectrum(const CrossSpectrumParams<typename Plane::T>& params, cudaStream_t stream) {
  return launch(cross_spectrum_kernel<Plane>, plane_launch<Plane>(params.schedule.items(), stream), params);
}
template <>
cudaError_t launch_cross_spectrum<Plane256>(const CrossSpectrumParams<float>&, cudaStream_t);

}  // namespace blurfft::cuda
