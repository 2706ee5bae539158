// The meaning of ptx/mbarrier.cuh.
#pragma once

#include <cstdint>

namespace aapt::emulator {

// The 64 bits of an mbarrier. Poisoned memory (all ones) and zeroed memory are both not a barrier.
struct Mbarrier {
  static constexpr uint32_t kMaxCount = (1u << 20) - 1;

  uint64_t pending : 20;   // arrivals that this phase still expects
  int64_t bytes : 22;      // announced and not landed
  uint64_t expected : 20;  // arrivals of every phase
  uint64_t parity : 1;     // of the phase under way
  uint64_t poison : 1;     // 0 in a barrier

  bool initialised() const { return !poison && expected > 0; }
  void end_phase_if_complete();
  void land(uint32_t count);
};
static_assert(sizeof(Mbarrier) == 8);

// The barrier at `at`; fails where there is none.
Mbarrier& mbarrier(void* at, const char* what);

}  // namespace aapt::emulator

namespace aapt::ptx {

void mbarrier_init(uint64_t* barrier, uint32_t count);
void fence_mbarrier_init();
void mbarrier_arrive(uint64_t* barrier);
void mbarrier_arrive_cluster(uint64_t* barrier, uint32_t rank);
void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes);

// Never answers no: the thread sleeps until the phase has ended, so that a phase that never ends is seen as a
// deadlock.
bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity);

}  // namespace aapt::ptx
