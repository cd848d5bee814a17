// The operators of namespace blurfft_cpu.
#pragma once

#include "../operators.h"

namespace blurfft::cpu {

BLURFFT_OPERATORS(BLURFFT_DECLARE)

}  // namespace blurfft::cpu
