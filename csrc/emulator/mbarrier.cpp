#include "emulator/mbarrier.h"

#include "emulator/machine.h"

namespace aapt::emulator {
namespace {

void arrive(Mbarrier& barrier) {
  if (barrier.pending == 0) fail("arrives at an mbarrier more often than its count");
  barrier.pending = barrier.pending - 1;
  barrier.end_phase_if_complete();
}

}  // namespace

void Mbarrier::end_phase_if_complete() {
  if (pending != 0 || bytes != 0) return;
  pending = expected;
  parity = parity ^ 1u;
}

void Mbarrier::land(uint32_t count) {
  bytes = bytes - static_cast<int64_t>(count);
  end_phase_if_complete();
}

Mbarrier& mbarrier(void* at, const char* what) {
  auto* barrier = static_cast<Mbarrier*>(at);
  if (reinterpret_cast<uintptr_t>(at) % 8) fail(std::string(what) + ": the mbarrier is not 8-byte aligned");
  if (!barrier->initialised()) fail(std::string(what) + ": no mbarrier was initialised here");
  return *barrier;
}

}  // namespace aapt::emulator

namespace aapt::ptx {

using namespace emulator;

void mbarrier_init(uint64_t* barrier, uint32_t count) {
  shared_offset(barrier, 8, "mbarrier_init");
  if (count == 0 || count > Mbarrier::kMaxCount) fail("mbarrier_init: count " + std::to_string(count));
  *reinterpret_cast<Mbarrier*>(barrier) = {count, 0, count, 0, 0};
  this_thread().block->unfenced_mbarriers.push_back(barrier);
}

void fence_mbarrier_init() {
  this_thread().block->unfenced_mbarriers.clear();
}

void mbarrier_arrive(uint64_t* barrier) {
  shared_offset(barrier, 8, "mbarrier_arrive");
  arrive(mbarrier(barrier, "mbarrier_arrive"));
}

void mbarrier_arrive_cluster(uint64_t* barrier, uint32_t rank) {
  shared_offset(barrier, 8, "mbarrier_arrive_cluster");
  arrive(mbarrier(in_block(barrier, rank), "mbarrier_arrive_cluster"));
}

void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes) {
  shared_offset(barrier, 8, "mbarrier_arrive_expect_tx");
  if (bytes > Mbarrier::kMaxCount) fail("mbarrier_arrive_expect_tx: " + std::to_string(bytes) + " bytes");
  Mbarrier& b = mbarrier(barrier, "mbarrier_arrive_expect_tx");
  b.bytes = b.bytes + static_cast<int64_t>(bytes);
  arrive(b);
}

bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
  const uint32_t offset = shared_offset(barrier, 8, "mbarrier_try_wait");
  const Mbarrier& b = mbarrier(barrier, "mbarrier_try_wait");
  wait_until([&b, parity] { return b.parity != parity; },
             [&b, offset, parity] {
               return "phase of parity " + std::to_string(parity) + " of the mbarrier at offset " +
                      std::to_string(offset) + " (" + std::to_string(b.pending) + " of " + std::to_string(b.expected) +
                      " arrivals and " + std::to_string(b.bytes) + " bytes missing)";
             });
  return true;
}

}  // namespace aapt::ptx
