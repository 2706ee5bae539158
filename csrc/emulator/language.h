// CUDA C++ as our kernels use it, for the host compiler. Included by ptx/platform.cuh.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "emulator/launch.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

#define threadIdx (::aapt::emulator::this_thread().index)
#define blockIdx (::aapt::emulator::this_thread().block->index)
#define blockDim (::aapt::emulator::this_thread().block->size)
#define gridDim (::aapt::emulator::this_thread().block->grid)

#define DYN_SMEM(name)                                                                                   \
  unsigned char* name = reinterpret_cast<unsigned char*>(::aapt::emulator::this_thread().block->shared + \
                                                         ::aapt::emulator::kReservedShared)

namespace aapt {

struct uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  return {x, y, z, w};
}
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}

void __syncthreads();

inline void __syncwarp(uint32_t mask = ~0u) {
  emulator::meet(mask, 0, "__syncwarp");
}

// What lane `lane` of the `width` lanes around the caller brings.
template <class T>
T __shfl_sync(uint32_t mask, T value, int lane, int width = 32) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const int base = emulator::this_thread().lane & -width;
  const int from = base + (lane & (width - 1));
  const uint64_t* all = emulator::meet(mask, bits, "__shfl_sync");
  if (!(mask >> from & 1)) emulator::fail("__shfl_sync reads a lane that the mask does not name");
  T result;
  std::memcpy(&result, &all[from], sizeof result);
  return result;
}

template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int distance, int width = 32) {
  return __shfl_sync(mask, value, (emulator::this_thread().lane & (width - 1)) ^ distance, width);
}

template <class T>
T __shfl_down_sync(uint32_t mask, T value, int distance, int width = 32) {
  const int lane = emulator::this_thread().lane & (width - 1);
  return __shfl_sync(mask, value, lane + distance < width ? lane + distance : lane, width);
}

inline uint32_t __ballot_sync(uint32_t mask, bool predicate) {
  const uint64_t* all = emulator::meet(mask, predicate, "__ballot_sync");
  uint32_t result = 0;
  for (int i = 0; i < 32; ++i) result |= uint32_t{(mask >> i & 1) && all[i]} << i;
  return result;
}

inline bool __any_sync(uint32_t mask, bool predicate) {
  return __ballot_sync(mask, predicate) != 0;
}

template <class T>
T __ldg(const T* from) {
  return *from;
}

inline int min(int a, int b) {
  return a < b ? a : b;
}
inline int max(int a, int b) {
  return a > b ? a : b;
}

inline int atomicMax(int* at, int value) {
  int old = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(at, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

}  // namespace aapt
