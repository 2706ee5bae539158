// The order of threads and copies in the launches that follow; part of every library of kernels.
#include "exports.h"

EXPORT void emulator_seed(unsigned seed) {
  aapt::emulator::set_seed(seed);
}
