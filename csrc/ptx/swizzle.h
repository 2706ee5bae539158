// The 128-byte swizzle of shared memory, common to TMA and wgmma.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace aapt::ptx {

// Where the byte at `address` of shared memory is kept: of each line of 128 bytes, the number of the 16-byte
// chunk is exclusive-ored with the line's number modulo 8, so that eight rows' chunks of one column lie in
// different banks.
AAPT_HD uint32_t swizzle_128(uint32_t address) {
  return address ^ (address >> 3 & 0x70);
}

}  // namespace aapt::ptx
