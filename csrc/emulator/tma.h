// The meaning of ptx/tma.cuh.
#pragma once

#include <cstdint>

#include "ptx/tensor_map.h"

namespace aapt::emulator {

// Destroys the destination at once; the box lands when the scheduler says so.
void tma_load(void* to, const ptx::TensorMap& map, uint64_t* barrier, int rank, const int (&at)[5], uint32_t blocks);

}  // namespace aapt::emulator

namespace aapt::ptx {

inline void tma_prefetch(const TensorMap*) {}
void tma_load_5d(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1, int c2, int c3, int c4);
void tma_load_2d(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1);
void tma_load_2d_multicast(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1, uint16_t blocks);

}  // namespace aapt::ptx
