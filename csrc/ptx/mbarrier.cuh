// mbarrier: a barrier in shared memory that counts arrivals of threads and bytes of asynchronous copies.
//
// A phase ends when the expected arrivals have come and every announced byte has landed; the barrier then
// starts the next phase by itself. Phases are told apart by their parity: the first has parity 0, and a fresh
// barrier answers a wait for parity 1 at once, as if a phase before the first had ended.
#pragma once

#include "ptx/platform.cuh"

#if defined(AAPT_EMULATED)
#include "emulator/mbarrier.h"
#else

namespace aapt::ptx {

// The 32-bit address of `pointer`, which must point into shared memory.
AAPT_DEVICE uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Starts phase 0, which ends after `count` arrivals. Visible to others after fence_mbarrier_init and a block
// barrier.
AAPT_DEVICE void mbarrier_init(uint64_t* barrier, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}

// Makes initialised barriers visible to the copy engine and to the other blocks of the cluster.
AAPT_DEVICE void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// One arrival. Releases what this thread wrote before.
AAPT_DEVICE void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// One arrival at the barrier at the same place in block `rank` of the cluster.
AAPT_DEVICE void mbarrier_arrive_cluster(uint64_t* barrier, uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}

// One arrival that announces `bytes` of asynchronous copies for this phase.
AAPT_DEVICE void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}

// Whether the phase of `parity` has ended; may sleep for a while before it answers no.
AAPT_DEVICE bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%1], %2;\n"
      "selp.b32 %0, 1, 0, done;\n"
      "}"
      : "=r"(done)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return done != 0;
}

}  // namespace aapt::ptx

#endif

namespace aapt::ptx {

// Waits until the phase of `parity` has ended, and acquires what was released into it.
AAPT_DEVICE void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}

}  // namespace aapt::ptx
