// Which instruction set serves: the best that was compiled in and that this machine has, or BLURFFT_CPU.
#pragma once

#include <string>
#include <vector>

#include "routines.h"

namespace blurfft::cpu {

// Usable here, best first.
const std::vector<const Capability*>& capabilities();

// The one in force. Throws std::runtime_error where BLURFFT_CPU names none of capabilities().
const Capability& capability();
void set_capability(const std::string& name);

template <class T>
const Routines<T>& routines() {
  if constexpr (sizeof(T) == 8) {
    return *capability().f64;
  } else {
    return *capability().f32;
  }
}

}  // namespace blurfft::cpu
