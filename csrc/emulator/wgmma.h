// The meaning of ptx/wgmma.cuh.
//
// From its issue until it has been waited for, a wgmma owns its accumulators: they read as NaN, and the true
// values are kept aside. It reads shared memory and the registers of A only when it is waited for.
#pragma once

#include <cstdint>
#include <limits>

#include "emulator/machine.h"

namespace aapt::emulator {

void issue_wgmma(const PendingWgmma& wgmma);
void wait_wgmma(int groups_left);

}  // namespace aapt::emulator

namespace aapt::ptx {

uint64_t wgmma_descriptor(const void* start, uint32_t column_stride = 0);

void wgmma_fence();
void wgmma_commit();

template <int N>
void wgmma_wait() {
  emulator::wait_wgmma(N);
}

template <int N, Major B>
void wgmma(float (&c)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256);
  emulator::issue_wgmma({c, N, nullptr, a, b, B == Major::mn, accumulate});
}

template <int N, Major B>
void wgmma(float (&c)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256);
  emulator::issue_wgmma({c, N, a, 0, b, B == Major::mn, accumulate});
}

}  // namespace aapt::ptx
