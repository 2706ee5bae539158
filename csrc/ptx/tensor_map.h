// The descriptor that TMA reads: which tensor, which box. Made on the host, passed to the kernel by value as
// `const __grid_constant__`.
#pragma once

#include "ptx/platform.cuh"

#if defined(AAPT_EMULATED)
#include "emulator/tensor_map.h"
#else
#include <cuda.h>
#endif

namespace aapt::ptx {

#if defined(AAPT_EMULATED)
using TensorMap = emulator::TensorMap;
#else
using TensorMap = CUtensorMap;
#endif

// A bf16 tensor of up to five dimensions, innermost first, and the box of one copy. The innermost side of the
// box is 64 elements, 128 bytes, one swizzled line of shared memory.
struct TensorMapSpec {
  const void* base = nullptr;  // 16-byte aligned
  int rank = 0;
  uint64_t size[5] = {};         // elements; reads beyond it give zero
  uint64_t byte_stride[4] = {};  // of dimensions 1 to rank - 1; multiples of 16
  uint32_t box[5] = {};          // elements; at most 256 a side
};

// Throws std::runtime_error where the driver refuses the spec or is absent.
TensorMap encode_tensor_map(const TensorMapSpec& spec);

}  // namespace aapt::ptx
