// The extension's Python module: what faces Python directly and not through the dispatcher.
// Importing it also runs the static registrations of library.cpp, which is linked into the same shared object.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "build_config.h"  // written by setup.py: what only the build knows
#include "cpu/capability.h"
#include "cpu/fft/plan.h"

namespace py = pybind11;

namespace {

#if defined(__clang__)
constexpr const char* kCompiler = __VERSION__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "gcc " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

py::dict build_info() {
  py::list capabilities;
  capabilities.append("baseline");
#ifdef BLURFFT_HAVE_AVX2
  capabilities.append("avx2");
#endif
#ifdef BLURFFT_HAVE_AVX512
  capabilities.append("avx512");
#endif

  constexpr unsigned long long target = TORCH_TARGET_VERSION;
  py::dict info;
  info["version"] = BLURFFT_VERSION;
  info["torch"] = BLURFFT_TORCH_VERSION;
  info["torch_abi"] = std::to_string(target >> 56) + "." + std::to_string((target >> 48) & 0xff);
  info["compiler"] = kCompiler;
  info["cxx_standard"] = __cplusplus;
  info["flags"] = BLURFFT_FLAGS;
  info["cpu_capabilities"] = capabilities;
  info["cuda"] = static_cast<bool>(BLURFFT_CUDA);
  info["cuda_reason"] = BLURFFT_CUDA_REASON;
  info["cuda_codes"] = BLURFFT_CUDA_CODES;
  return info;
}

std::vector<std::string> capabilities() {
  std::vector<std::string> names;
  for (const blurfft::cpu::Capability* c : blurfft::cpu::capabilities()) names.emplace_back(c->name);
  return names;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of blurfft; importing it registers torch.ops.blurfft_cpu.";
  m.def("build_info", &build_info, "What this extension was built from, with and for.");
  m.def("cpu_capabilities", &capabilities, "Instruction sets compiled in and present on this machine, best first.");
  m.def(
      "cpu_capability", [] { return std::string(blurfft::cpu::capability().name); },
      "The instruction set in force. Raises RuntimeError where BLURFFT_CPU names none of cpu_capabilities().");
  m.def("set_cpu_capability", &blurfft::cpu::set_capability, py::arg("name"), "Force one of cpu_capabilities().");
  m.def("radices", &blurfft::radices, py::arg("length"), "Stages of a transform of this length, by their radices.");
  m.def(
      "convolution_length",
      [](int64_t prime, bool fp64) {
        return fp64 ? blurfft::convolution_length<double>(prime) : blurfft::convolution_length<float>(prime);
      },
      py::arg("prime"), py::arg("fp64") = false,
      "Length of the line that a stage of this radix is convolved by; 0 where it is none.");
  m.def("supports_length", &blurfft::supports_length, py::arg("length"),
        "Whether the CPU kernels transform this length.");
  m.attr("max_length") = blurfft::kMaxLength;
}
