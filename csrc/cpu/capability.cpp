#include "capability.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace blurfft::cpu {

extern const Capability capability_baseline;
#ifdef BLURFFT_HAVE_AVX2
extern const Capability capability_avx2;
#endif
#ifdef BLURFFT_HAVE_AVX512
extern const Capability capability_avx512;
#endif

namespace {

std::atomic<const Capability*> chosen{nullptr};

const Capability* find(const std::string& name, const char* who) {
  std::string known;
  for (const Capability* c : capabilities()) {
    if (name == c->name) return c;
    known += std::string(known.empty() ? "" : ", ") + c->name;
  }
  throw std::runtime_error(std::string(who) + " is '" + name + "', but this build on this machine has: " + known + ".");
}

}  // namespace

const std::vector<const Capability*>& capabilities() {
  static const std::vector<const Capability*> usable = [] {
    std::vector<const Capability*> result;
#ifdef BLURFFT_HAVE_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma")) {
      result.push_back(&capability_avx512);
    }
#endif
#ifdef BLURFFT_HAVE_AVX2
    // clang 14 cannot ask for f16c; no processor has avx2 without it.
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      result.push_back(&capability_avx2);
    }
#endif
    result.push_back(&capability_baseline);
    return result;
  }();
  return usable;
}

const Capability& capability() {
  const Capability* c = chosen.load(std::memory_order_acquire);
  if (!c) {
    const char* forced = std::getenv("BLURFFT_CPU");
    c = forced && *forced ? find(forced, "BLURFFT_CPU") : capabilities().front();
    chosen.store(c, std::memory_order_release);
  }
  return *c;
}

void set_capability(const std::string& name) {
  chosen.store(find(name, "The instruction set"), std::memory_order_release);
}

}  // namespace blurfft::cpu
