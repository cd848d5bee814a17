// The staged kernels of lengths with prime factors above 7, in double.
#include "staged_launch.cuh"

namespace blurfft::cuda {

BLURFFT_INSTANTIATE(double, PrimeLine<double>)

}  // namespace blurfft::cuda
