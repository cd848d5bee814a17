// The staged kernels of lengths whose prime factors are at most 7.
#include "staged_launch.cuh"

namespace blurfft::cuda {

BLURFFT_INSTANTIATE(float, Line)
BLURFFT_INSTANTIATE(double, Line)

}  // namespace blurfft::cuda
