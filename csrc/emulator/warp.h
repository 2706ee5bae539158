// The meaning of ptx/warp.cuh.
#pragma once

#include <cstdint>

namespace aapt::emulator {

// The float that the 16 bits of a bf16 stand for.
inline float widen(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, sizeof value);
  return value;
}

void wait_copies(int groups_left);

}  // namespace aapt::emulator

namespace aapt::ptx {

float exp2_approx(float x);
uint32_t pack_bf16(float low, float high);
uint16_t pack_e4m3(float low, float high);

// Destroys the destination at once and copies when the group is waited for.
void copy_async_16(void* to, const void* from, bool valid);
void copy_async_commit();
template <int N>
void copy_async_wait() {
  emulator::wait_copies(N);
}

void ldmatrix_x4(uint32_t (&r)[4], const void* row);
void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row);
void stmatrix_x4(void* row, const uint32_t (&r)[4]);
void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

}  // namespace aapt::ptx
