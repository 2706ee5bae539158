// TMA: the copy engine that moves a box of a tensor into shared memory.
//
// One thread asks; the box arrives some time later, swizzled, with zeros for whatever lies outside of the
// tensor, and its bytes (those of the whole box) are counted at an mbarrier.
#pragma once

#include "ptx/tensor_map.h"

#if defined(AAPT_EMULATED)
#include "emulator/tma.h"
#else

#include "ptx/mbarrier.cuh"

namespace aapt::ptx {

// Fetches the 128 bytes of `map` ahead of their first use.
AAPT_DEVICE void tma_prefetch(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Copies the box at (c0, ..., c4), c0 innermost, to `to` (1024-byte aligned where swizzled).
AAPT_DEVICE void tma_load_5d(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1, int c2, int c3,
                             int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

// The same for a tensor of two dimensions.
AAPT_DEVICE void tma_load_2d(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1)
      : "memory");
}

// The same box into every block of the cluster whose bit is set in `blocks`: to the same place, counted at
// the same barrier of each.
AAPT_DEVICE void tma_load_2d_multicast(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1,
                                       uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "h"(blocks)
      : "memory");
}

}  // namespace aapt::ptx

#endif
