// A tensor map of the emulator: what the driver would encode in 128 bytes.
#pragma once

#include <cstdint>

namespace aapt::emulator {

struct alignas(64) TensorMap {
  const char* base;
  int rank;
  uint64_t size[5];
  uint64_t byte_stride[5];
  uint32_t box[5];
};

}  // namespace aapt::emulator
