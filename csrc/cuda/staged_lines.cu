// The staged kernels of lengths without large prime factors.
#include "staged_launch.cuh"

namespace blurfft::cuda {

BLURFFT_INSTANTIATE(float, Line)
BLURFFT_INSTANTIATE(double, Line)

}  // namespace blurfft::cuda
