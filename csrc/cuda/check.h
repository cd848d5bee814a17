// Errors of CUDA as exceptions.
#pragma once

#include <stdexcept>
#include <string>

#include "device.cuh"

namespace blurfft::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("blurfft: launching the CUDA kernel ") + what +
                             " failed: " + cudaGetErrorString(error));
  }
}

}  // namespace blurfft::cuda
