// Stands in for libtorch_cpu: those functions of its stable ABI that the operators of csrc/cpu call, on memory of its
// own and on std::thread. With it the operators run where there is no torch: on a processor under emulation, and under
// sanitizers that must see every thread being made and joined.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/c/shim.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct AtenTensorOpaque {
  std::shared_ptr<char> storage;
  std::vector<int64_t> sizes, strides;
  int32_t dtype;

  // Its memory is all ones, NaN in every dtype: what an operator forgets to write shows. `bytes` of it.
  AtenTensorOpaque(std::vector<int64_t> sizes, std::vector<int64_t> strides, int32_t dtype);
  int64_t numel() const;
  size_t bytes() const;  // from its first element to its last
};

namespace standalone {

struct Operator {
  void (*boxed)(StableIValue* stack, uint64_t arguments, uint64_t results);
  std::vector<bool> optional;  // of each result
};
// By name, whatever the namespace.
std::map<std::string, Operator>& operators();

void set_num_threads(int count);

}  // namespace standalone
