// Barriers by number, proxy fences, register reallocation, clusters.
#pragma once

#include "ptx/platform.cuh"

#if defined(AAPT_EMULATED)
#include "emulator/sync.h"
#else

#include "ptx/mbarrier.cuh"

namespace aapt::ptx {

// Waits until `threads` threads have come to barrier `id` (1 to 15; __syncthreads owns 0), by sync or by
// arrive.
AAPT_DEVICE void barrier_sync(int id, int threads) {
  asm volatile("barrier.sync.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Counts at barrier `id` without waiting.
AAPT_DEVICE void barrier_arrive(int id, int threads) {
  asm volatile("barrier.arrive.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Orders this thread's ordinary accesses to shared memory before later ones of TMA and wgmma.
AAPT_DEVICE void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// st.shared.v4 into memory that TMA or wgmma reads next: needs fence_proxy_async before anyone is told. (The
// emulator lets it take effect no earlier.)
AAPT_DEVICE void store_for_async(void* to, uint4 value) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(to)), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

// The warpgroup gives registers back, down to N per thread (a multiple of 8, 24 to 256).
template <int N>
AAPT_DEVICE void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// The warpgroup takes registers, up to N per thread, and waits until the block has as many to give.
template <int N>
AAPT_DEVICE void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}

// This block's number within its cluster.
AAPT_DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// The two halves of a barrier over all threads of the cluster.
AAPT_DEVICE void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
AAPT_DEVICE void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

}  // namespace aapt::ptx

#endif
