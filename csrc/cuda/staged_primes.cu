// The staged kernels of lengths with prime factors above 7; those in double are in a file of their own, for compiling.
#include <algorithm>

#include "staged_launch.cuh"

namespace blurfft::cuda {

template <class T>
cudaError_t launch_prime_tables(const PrimeLine<T>& line, cudaStream_t stream) {
  int entries = 0, shared = 0;
  for (int s = 0; s < line.stages; ++s) {
    entries += line.stage[s].convolution.n;
    shared += 2 * line.stage[s].prime * static_cast<int>(sizeof(int));
  }
  // A warp for each entry of a spectrum; without any, the other tables are one block's.
  const LaunchConfig config{.grid = dim3(std::max(1, (entries + kLineThreads / 32 - 1) / (kLineThreads / 32))),
                            .block = dim3(kLineThreads),
                            .shared_bytes = static_cast<size_t>(shared),
                            .stream = stream};
  return launch(prime_tables_kernel<T>, config, line);
}
template cudaError_t launch_prime_tables(const PrimeLine<float>&, cudaStream_t);
template cudaError_t launch_prime_tables(const PrimeLine<double>&, cudaStream_t);

BLURFFT_INSTANTIATE(float, PrimeLine<float>)

}  // namespace blurfft::cuda
