// The meaning of ptx/sync.cuh.
#pragma once

#include "emulator/language.h"

namespace aapt::emulator {

void set_registers(int count, bool increase);

}  // namespace aapt::emulator

namespace aapt::ptx {

void barrier_sync(int id, int threads);
void barrier_arrive(int id, int threads);

// Lands this thread's store_for_async.
void fence_proxy_async();
void store_for_async(void* to, uint4 value);

template <int N>
void registers_decrease() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256);
  emulator::set_registers(N, false);
}
template <int N>
void registers_increase() {
  static_assert(N % 8 == 0 && N >= 24 && N <= 256);
  emulator::set_registers(N, true);
}

uint32_t cluster_rank();
void cluster_arrive();
void cluster_wait();

}  // namespace aapt::ptx
