// The staged kernels of lengths with prime factors above 7; those in double are in a file of their own, for compiling.
#include <algorithm>

#include "staged_launch.cuh"

namespace blurfft::cuda {

template <class T>
cudaError_t launch_prime_tables(const PrimeLine<T>& line, cudaStream_t stream) {
  // A warp for each entry of the spectrum; without one, the other tables are one block's.
  constexpr int warps = kLineThreads / 32;
  const LaunchConfig config{.grid = dim3(std::max(1, (line.stage.convolution.n + warps - 1) / warps)),
                            .block = dim3(kLineThreads),
                            .shared_bytes = 2 * line.stage.prime * sizeof(int),
                            .stream = stream};
  return launch(prime_tables_kernel<T>, config, line);
}
template cudaError_t launch_prime_tables(const PrimeLine<float>&, cudaStream_t);
template cudaError_t launch_prime_tables(const PrimeLine<double>&, cudaStream_t);

BLURFFT_INSTANTIATE(float, PrimeLine<float>)

}  // namespace blurfft::cuda
