// Kernels with one mistake each, and the same kernels without it: the emulator must tell them apart.
#include <device.cuh>
#include <map>

#include "harness.h"

namespace {

namespace cg = cooperative_groups;
using simt::Memory;
constexpr int threads = 64;
constexpr unsigned everyone = 0xffffffffu;

// Every thread leaves a value for another one.
template <bool broken>
__global__ void missing_barrier(const float* input, float* output) {
  __shared__ float values[threads];
  const int i = threadIdx.x;
  values[i] = input[i];
  if (!broken) __syncthreads();
  output[i] = values[threads - 1 - i];
}

// The same in dynamic shared memory, which is used a second time.
template <bool broken>
__global__ void overwritten_too_early(const float* input, float* output) {
  BLURFFT_DYNAMIC_SHARED(float2, values);
  const int i = threadIdx.x;
  values[i] = make_float2(input[i], 0);
  __syncthreads();
  const float a = values[threads - 1 - i].x;
  if (!broken) __syncthreads();
  values[i] = make_float2(2 * a, 1);
  __syncthreads();
  output[i] = values[(i + 1) % threads].x;
}

// Lanes of a warp exchange through shared memory; shuffles do not order memory.
template <bool broken>
__global__ void warp_exchange(const float* input, float* output) {
  __shared__ float values[threads];
  const int i = threadIdx.x;
  for (int round = 0; round < 3; ++round) {
    values[i] = input[i] + round;
    if (broken) {
      __shfl_xor_sync(everyone, 1, 1);
    } else {
      __syncwarp();
    }
    const float other = values[i ^ 1];
    __syncwarp();
    output[i] = other;
  }
}

template <bool broken>
__global__ void read_past_the_end(const float* input, float* output) {
  const int i = threadIdx.x;
  output[i] = input[broken ? i + 1 : i];
}

template <bool broken>
__global__ void write_before_the_beginning(const float* input, float* output) {
  const int i = threadIdx.x;
  output[broken ? i - 1 : i] = input[i];
}

template <bool broken>
__global__ void write_to_input(const float* input, float* output) {
  const int i = threadIdx.x;
  output[i] = input[i];
  if (broken) const_cast<float*>(input)[i] = 0;
}

template <bool broken>
__global__ void past_dynamic_shared(const float* input, float* output) {
  BLURFFT_DYNAMIC_SHARED(float, values);
  const int i = threadIdx.x;
  values[2 * threads - (broken ? 0 : 1) - i] = input[i];
  output[i] = input[i];
}

template <bool broken>
__global__ void past_static_shared(const float* input, float* output) {
  __shared__ float values[threads];
  __shared__ float more[threads];
  const int i = threadIdx.x;
  values[i] = more[i] = input[i];
  output[i] = values[broken ? i + 1 : i] + more[i];
}

template <bool broken>
__global__ void unwritten_output(const float* input, float* output) {
  const int i = threadIdx.x;
  if (!broken || i != 5) output[i] = input[i];
}

template <bool broken>
__global__ void read_unwritten_output(const float* input, float* output) {
  const int i = threadIdx.x;
  if (!broken) output[i] = 0;
  output[i] += input[i];
}

// Two blocks write the same words.
template <bool broken>
__global__ void race_between_blocks(const float* input, float* output) {
  const int i = threadIdx.x;
  if (!broken || i >= threads / 2) output[blockIdx.x * threads + i] = input[i];
  if (broken && i < threads / 2) output[i] = output[threads + i] = input[i];
}

// Neighbouring 16-bit elements of a word belong to two threads.
template <bool broken>
__global__ void race_between_halves(const float* input, __nv_bfloat16* output) {
  const int i = threadIdx.x;
  output[i] = input[i];
  if (broken) output[i ^ 1] = input[i];
}

template <bool broken>
__global__ void divergent_barrier(const float* input, float* output) {
  const int i = threadIdx.x;
  output[i] = input[i];
  if (!broken || i < 32) __syncthreads();
}

template <bool broken>
__global__ void two_barriers(const float* input, float* output) {
  const int i = threadIdx.x;
  output[i] = input[i];
  if (broken && i < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  if (!broken) __syncthreads();
}

template <bool broken>
__global__ void uninitialised_shared(const float* input, float* output) {
  __shared__ float values[threads];
  const int i = threadIdx.x;
  if (!broken || i) values[i] = input[i];
  __syncthreads();
  output[i] = values[threads - 1 - i];
}

template <bool broken>
__global__ void shuffle_outside_mask(const float* input, float* output) {
  const int i = threadIdx.x;
  float sum = input[i];
  if (i % 32 < 16) {
    for (int lanes = broken ? 16 : 8; lanes; lanes /= 2) sum += __shfl_xor_sync(0xffffu, sum, lanes);
  }
  output[i] = sum;
}

template <bool broken>
__global__ void shuffle_without_lanes(const float* input, float* output) {
  const int i = threadIdx.x;
  float sum = input[i];
  if (!broken || i % 32 < 31) sum += __shfl_down_sync(everyone, sum, 1);
  output[i] = sum;
}

template <bool broken>
__global__ void vote_without_caller(const float* input, float* output) {
  const int i = threadIdx.x;
  output[i] = input[i] + __any_sync(broken ? 0xfffffffeu : everyone, input[i] > 0);
}

template <bool broken>
__global__ void misaligned_vector(const float* input, float* output) {
  const int i = threadIdx.x;
  const float2 pair = *reinterpret_cast<const float2*>(input + (broken ? i % 2 : i % 2 * 2));
  output[i] = pair.x + pair.y;
}

template <bool broken>
__global__ void cluster_without_start(const float* input, float* output) {
  __shared__ float value;
  const auto cluster = cg::this_cluster();
  const int i = threadIdx.x;
  if (i == 0) value = input[blockIdx.x];
  if (!broken) {
    cluster.sync();
  } else {
    __syncthreads();
  }
  output[blockIdx.x * threads + i] = *cluster.map_shared_rank(&value, cluster.block_rank() ^ 1);
  cluster.sync();
}

template <bool broken>
__global__ void cluster_access_after_exit(const float* input, float* output) {
  BLURFFT_DYNAMIC_SHARED(float, values);
  const auto cluster = cg::this_cluster();
  const int i = threadIdx.x;
  values[i] = input[i];
  cluster.sync();
  output[blockIdx.x * threads + i] = cluster.map_shared_rank(values, cluster.block_rank() ^ 1)[threads - 1 - i];
  if (!broken) cluster.sync();
}

// Block 0 writes into the memory of block 1, which reads it.
template <bool broken>
__global__ void cluster_race(const float* input, float* output) {
  BLURFFT_DYNAMIC_SHARED(float, values);
  const auto cluster = cg::this_cluster();
  const int i = threadIdx.x;
  cluster.sync();
  if (cluster.block_rank() == 0) {
    cluster.map_shared_rank(values, 0)[i] = input[i];
    cluster.map_shared_rank(values, 1)[i] = input[i];
  }
  if (broken) {
    __syncthreads();
  } else {
    cluster.sync();
  }
  output[blockIdx.x * threads + i] = values[i];
  cluster.sync();
}

// The last block to finish adds up what all blocks wrote.
template <bool broken>
__global__ void last_block(const float* input, float* partial, unsigned* done, float* output) {
  __shared__ bool last;
  const int i = threadIdx.x;
  partial[blockIdx.x * threads + i] = input[i];
  __syncthreads();
  if (i == 0) {
    if (!broken) __threadfence();
    last = atomicAdd(done, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  float sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) sum += partial[block * threads + i];
  output[i] = sum;
}

// Reductions of every kind agree with plain sums.
template <bool broken>
__global__ void reductions(const float* input, float* output) {
  __shared__ int total, count;
  __shared__ float sums[threads / 32];
  const int i = threadIdx.x, warp = i / 32, lane = i % 32;
  if (i == 0) total = count = 0;
  __syncthreads();
  atomicAdd(&total, i);
  if (!broken || i % 2) atomicMax(&count, i);
  float sum = input[i];
  for (int lanes = 16; lanes; lanes /= 2) sum += __shfl_xor_sync(everyone, sum, lanes);
  if (lane == 0) sums[warp] = sum;
  if (broken && i == 0) count = 1;
  __syncthreads();
  bool right = total == threads * (threads - 1) / 2 && count == threads - 1;
  float expected = 0;
  for (int j = 0; j < threads; ++j) expected += input[j];
  right &= fabsf(sums[0] + sums[1] - expected) < 1e-3f;
  right &= __syncthreads_count(i % 3 == 0) == 22 && __syncthreads_or(i == 7) == 1 && __syncthreads_and(i != 7) == 0;
  right &=
      __ballot_sync(everyone, lane < 5) == 31u && __all_sync(everyone, lane < 32) && !__any_sync(everyone, lane > 31);
  right &= __shfl_sync(everyone, lane, 3, 8) == lane / 8 * 8 + 3;
  right &= __shfl_up_sync(everyone, double(lane), 2) == (lane < 2 ? lane : lane - 2);
  right &= __shfl_down_sync(everyone, lane, 4, 16) == (lane % 16 + 4 > 15 ? lane : lane + 4);
  right &= cg::this_thread_block().thread_rank() == threadIdx.x;
  output[i] = right;
}

struct Case {
  const char* name;
  void (*run)(bool broken);
};

template <typename Output = float>
void launch_pair(void (*good)(const float*, Output*), void (*bad)(const float*, Output*), bool broken,
                 unsigned blocks = 1, unsigned cluster = 1, size_t shared_bytes = 0) {
  simt::Buffer<float> input("input", threads, Memory::input);
  simt::Buffer<Output> output("output", threads * blocks, Memory::output);
  for (int i = 0; i < threads; ++i) input[i] = float(i + 1);
  blurfft::cuda::launch(broken ? bad : good,
                        {.grid = blocks, .block = threads, .shared_bytes = shared_bytes, .cluster = cluster},
                        input.data(), output.data());
  simt::finish();
  for (size_t i = 0; i < threads * blocks; ++i) {
    if (!(float(output[i]) > 0)) throw std::runtime_error("wrong result");
  }
}

#define PAIR(name, ...) {#name, [](bool broken) { launch_pair(name<false>, name<true>, broken, ##__VA_ARGS__); }}

const Case cases[] = {
    PAIR(missing_barrier),
    PAIR(overwritten_too_early, 1, 1, threads * sizeof(float2)),
    PAIR(warp_exchange),
    PAIR(read_past_the_end),
    PAIR(write_before_the_beginning),
    PAIR(write_to_input),
    PAIR(past_dynamic_shared, 1, 1, 2 * threads * sizeof(float)),
    PAIR(past_static_shared),
    PAIR(unwritten_output),
    PAIR(read_unwritten_output),
    PAIR(divergent_barrier),
    PAIR(two_barriers),
    PAIR(uninitialised_shared),
    PAIR(shuffle_outside_mask),
    PAIR(shuffle_without_lanes),
    PAIR(vote_without_caller),
    PAIR(misaligned_vector),
    PAIR(race_between_halves),
    PAIR(cluster_without_start, 4, 2),
    PAIR(cluster_access_after_exit, 4, 2, threads * sizeof(float)),
    PAIR(cluster_race, 2, 2, threads * sizeof(float)),
    PAIR(reductions),
    {"race_between_blocks",
     [](bool broken) {
       simt::Buffer<float> input("input", threads, Memory::input, 1), output("output", 2 * threads, Memory::scratch);
       simt::launch(broken ? race_between_blocks<true> : race_between_blocks<false>, 2, threads, 0, 1, input.data(),
                    output.data());
     }},
    {"last_block",
     [](bool broken) {
       constexpr unsigned blocks = 5;
       simt::Buffer<float> input("input", threads, Memory::input, 1),
           partial("partial", threads * blocks, Memory::scratch);
       simt::Buffer<float> output("output", threads, Memory::output);
       simt::Buffer<unsigned> done("done", 1, Memory::inout);
       simt::launch(broken ? last_block<true> : last_block<false>, blocks, threads, 0, 1, input.data(), partial.data(),
                    done.data(), output.data());
       simt::finish();
       if (output[0] != blocks) throw std::runtime_error("wrong result");
     }},
};

}  // namespace

// The name of case `index`, or null past the last one.
SIMT_EXPORT const char* case_name(size_t index) { return index < std::size(cases) ? cases[index].name : nullptr; }

SIMT_EXPORT const char* run_case(size_t index, bool broken, uint64_t seed) {
  return simt::report([&] {
    simt::seed(seed);
    cases[index].run(broken);
  });
}
