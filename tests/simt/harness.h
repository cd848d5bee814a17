// What a test library exports to Python: C functions that return the emulator's complaint, or null.
#pragma once

#include <simt.h>

namespace simt {

template <typename F>
const char* report(F body) {
  static std::string message;
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    forget();
    message = error.what();
    return message.c_str();
  }
}

}  // namespace simt

#define SIMT_EXPORT extern "C" __attribute__((visibility("default")))
