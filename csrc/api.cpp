#include "api.h"

#include "cpu/capability.h"
#include "cpu/fft/plan.h"

namespace blurfft::api {

std::vector<std::string> cpu_capabilities() {
  std::vector<std::string> names;
  for (const cpu::Capability* c : cpu::capabilities()) names.emplace_back(c->name);
  return names;
}
std::string cpu_capability() { return cpu::capability().name; }
void set_cpu_capability(const std::string& name) { cpu::set_capability(name); }

int64_t max_length() { return kMaxLength; }
bool supports_length(int64_t length) { return blurfft::supports_length(length); }
std::vector<int> radices(int64_t length) { return blurfft::radices(length); }
int64_t convolution_length(int64_t prime, bool fp64) {
  return fp64 ? blurfft::convolution_length<double>(prime) : blurfft::convolution_length<float>(prime);
}

}  // namespace blurfft::api
