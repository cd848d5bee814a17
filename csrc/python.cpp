// The Python module beside the library: what faces Python directly and not through the dispatcher.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "api.h"
#include "build_config.h"  // written by setup.py: what only the build knows
#include "schemas.h"       // likewise

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

}  // namespace

PYBIND11_MODULE(_C, m) {
  namespace api = blurfft::api;
  m.doc() = "What libblurfft was built from and how it transforms lengths.";
  m.def("build_info", &build_info, "What this extension was built from, with and for.");
  m.def("cpu_capabilities", &api::cpu_capabilities,
        "Instruction sets compiled in and present on this machine, best first.");
  m.def("cpu_capability", &api::cpu_capability,
        "The instruction set in force. Raises RuntimeError where BLURFFT_CPU names none of cpu_capabilities().");
  m.def("set_cpu_capability", &api::set_cpu_capability, py::arg("name"), "Force one of cpu_capabilities().");
  m.def("radices", &api::radices, py::arg("length"), "Stages of a transform of this length, by their radices.");
  m.def("convolution_length", &api::convolution_length, py::arg("prime"), py::arg("fp64") = false,
        "Length of the line that a stage of this radix is convolved by; 0 where it is none.");
  m.def("supports_length", &api::supports_length, py::arg("length"), "Whether the CPU kernels transform this length.");
  py::dict schemas;
#define BLURFFT_SCHEMA(name, schema) schemas[#name] = schema;
  BLURFFT_SCHEMAS(BLURFFT_SCHEMA)
  m.attr("schemas") = schemas;
  m.attr("max_length") = api::max_length();
}
