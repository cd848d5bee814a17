// In place of libFuzzer, which only clang has: random inputs from a seed. `plan SEED COUNT`
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int count, char** arguments) {
  if (count != 3) return std::fputs("usage: plan SEED COUNT\n", stderr), 2;
  std::mt19937 random(std::atoi(arguments[1]));
  for (int i = 0; i < std::atoi(arguments[2]); ++i) {
    std::vector<uint8_t> data(4 * (1 + random() % 4));
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random());
    // Of lengths above 4096 there are few, which are passed over.
    for (size_t at = 1; at < data.size(); at += 4) data[at] %= 17;
    LLVMFuzzerTestOneInput(data.data(), data.size());
  }
}
