// Compiled once for each instruction set, with BLURFFT_CPU_CAPABILITY naming it. No torch header and nothing of the
// standard library that emits shared inline functions: see vec.h.
#include "routines.h"

#include "blur_mse.h"
#include "cross_spectrum.h"
#include "focal_frequency_loss.h"
#include "otf.h"
#include "packing.h"
#include "rfft2.h"
#include "spectral_filter.h"
#include "wiener_loss.h"

#define BLURFFT_STRING_(x) #x
#define BLURFFT_STRING(x) BLURFFT_STRING_(x)
#define BLURFFT_JOIN_(a, b) a##b
#define BLURFFT_JOIN(a, b) BLURFFT_JOIN_(a, b)

namespace blurfft::cpu {
namespace {

template <class T>
constexpr Routines<T> kRoutines = {
    kLanes<T>,
    workspace_elements<T>,
    tap_workspace_elements<T>,
    filter<T>,
    cross<T>,
    blur_mse<T>,
    forward<T>,
    inverse<T>,
    pack<T>,
    unpack<T>,
    tap_table_elements<T>,
    fill_taps<T>,
    transfer<T>,
    transfer_grad<T>,
    pack_cotangent<T>,
    focal_weight<T>,
    wiener<T>,
    wiener_grad<T>,
};

}  // namespace

extern const Capability BLURFFT_JOIN(capability_, BLURFFT_CPU_CAPABILITY);
const Capability BLURFFT_JOIN(capability_, BLURFFT_CPU_CAPABILITY) = {BLURFFT_STRING(BLURFFT_CPU_CAPABILITY),
                                                                      &kRoutines<float>, &kRoutines<double>};

}  // namespace blurfft::cpu
