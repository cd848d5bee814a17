// What the library offers to C++ beside its operators: which instruction set serves, and how lengths are transformed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#define BLURFFT_API __attribute__((visibility("default")))

namespace blurfft::api {

// Instruction sets compiled in and present on this machine, best first.
BLURFFT_API std::vector<std::string> cpu_capabilities();
// The one in force. Throws std::runtime_error where BLURFFT_CPU names none of them.
BLURFFT_API std::string cpu_capability();
BLURFFT_API void set_cpu_capability(const std::string& name);

BLURFFT_API int64_t max_length();
BLURFFT_API bool supports_length(int64_t length);
BLURFFT_API std::vector<int> radices(int64_t length);
BLURFFT_API int64_t convolution_length(int64_t prime, bool fp64);

}  // namespace blurfft::api
