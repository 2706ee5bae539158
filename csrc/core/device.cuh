// What kernels that work on rows share: several elements in one access, and sums over a block.
#pragma once

#include "core/e4m3.h"
#include "ptx/platform.cuh"
#include "ptx/warp.cuh"

namespace aapt {

constexpr int kWarp = 32;

template <int bytes>
struct Words;
template <>
struct Words<16> {
  using type = uint4;
};
template <>
struct Words<8> {
  using type = uint2;
};
template <>
struct Words<4> {
  using type = uint32_t;
};
template <>
struct Words<2> {
  using type = uint16_t;
};

// The type that moves N elements of T in one access; addresses are multiples of its size.
template <class T, int N>
using words = typename Words<N * sizeof(T)>::type;

template <int N, class T>
AAPT_DEVICE words<T, N> load_words(const T* from) {
#if defined(AAPT_EMULATED)
  words<T, N> value;  // the host compiler may assume that differently typed accesses do not meet
  memcpy(&value, from, sizeof value);
  return value;
#else
  return *reinterpret_cast<const words<T, N>*>(from);
#endif
}

template <int N, class T>
AAPT_DEVICE void store_words(T* to, words<T, N> value) {
#if defined(AAPT_EMULATED)
  memcpy(to, &value, sizeof value);
#else
  *reinterpret_cast<words<T, N>*>(to) = value;
#endif
}

// N neighbouring elements as floats.
template <int N, class T>
AAPT_DEVICE void load_vector(float (&to)[N], const T* from) {
  const auto packed = load_words<N>(from);
  T element[N];
  memcpy(element, &packed, sizeof packed);
  AAPT_UNROLL
  for (int i = 0; i < N; ++i) to[i] = to_wide(element[i]);
}

// The inverse, rounded to T.
template <int N>
AAPT_DEVICE void store_vector(float* to, const float (&value)[N]) {
  words<float, N> packed;
  memcpy(&packed, value, sizeof packed);
  store_words<N>(to, packed);
}

template <int N>
AAPT_DEVICE void store_vector(bf16* to, const float (&value)[N]) {
  if constexpr (N == 1) {
    store(to, value[0]);
  } else {
    uint32_t pairs[N / 2];
    AAPT_UNROLL
    for (int i = 0; i < N / 2; ++i) pairs[i] = ptx::pack_bf16(value[2 * i], value[2 * i + 1]);
    words<bf16, N> packed;
    memcpy(&packed, pairs, sizeof packed);
    store_words<N>(to, packed);
  }
}

// The largest magnitude of a vector; NaN counts as nothing.
template <int N>
AAPT_DEVICE float largest_of(const float (&value)[N]) {
  float largest = 0.f;
  AAPT_UNROLL
  for (int i = 0; i < N; ++i) largest = fmaxf(largest, fabsf(value[i]));
  return largest;
}

// A vector of a row in e4m3, `inverse` being one over the row's scale.
template <int N>
AAPT_DEVICE void store_quantised(e4m3* to, const float (&value)[N], float inverse) {
  if constexpr (N == 1) {
    store(to, value[0] * inverse);
  } else {
    uint16_t pairs[N / 2];
    AAPT_UNROLL
    for (int i = 0; i < N / 2; ++i) pairs[i] = ptx::pack_e4m3(value[2 * i] * inverse, value[2 * i + 1] * inverse);
    words<e4m3, N> packed;
    memcpy(&packed, pairs, sizeof packed);
    store_words<N>(to, packed);
  }
}

AAPT_DEVICE float warp_sum(float value) {
  AAPT_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  return value;
}

AAPT_DEVICE float warp_max(float value) {
  AAPT_UNROLL
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(~0u, value, distance));
  }
  return value;
}

// The sum over all threads of the block, the same bits in each. `scratch` holds 32 floats that nobody else uses until
// the block meets again.
AAPT_DEVICE float block_sum(float value, float* scratch) {
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  float all = 0.f;
  for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarp; ++warp) all += scratch[warp];
  return all;
}

// The same for the largest; values are at least zero.
AAPT_DEVICE float block_max(float value, float* scratch) {
  value = warp_max(value);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  float top = 0.f;
  for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarp; ++warp) top = fmaxf(top, scratch[warp]);
  return top;
}

// The product of a row in shared memory with a row of a weight, `width` elements each, the same bits in every lane.
template <class T>
AAPT_DEVICE float warp_dot(const float* row, const T* weight, int width) {
  float sum = 0.f;
  for (int i = threadIdx.x % kWarp; i < width; i += kWarp) sum += row[i] * to_wide(weight[i]);
  return warp_sum(sum);
}

// Whether addresses allow accesses of `bytes`. Null counts as aligned.
template <class... Pointers>
bool aligned(size_t bytes, Pointers... pointer) {
  return ((reinterpret_cast<uintptr_t>(pointer) % bytes == 0) && ...);
}

// The way that a row of `width` elements is spread over a block: `per_thread` vectors of `vector` elements each.
struct RowShape {
  int vector, per_thread, threads;
};

// `vector` elements per access where `aligned`, one vector per thread; else `narrow` elements and several. per_thread 0
// where the row is too long.
inline RowShape row_shape(int width, bool aligned, int vector, int narrow) {
  constexpr int kMaxThreads = 1024, kNarrowPerThread = 8;
  const auto rounded = [](int threads) { return (threads + kWarp - 1) / kWarp * kWarp; };
  if (aligned && width % vector == 0 && width / vector <= kMaxThreads) return {vector, 1, rounded(width / vector)};
  const int vectors = (width + narrow - 1) / narrow, per_thread = kNarrowPerThread / narrow;
  if (vectors > kMaxThreads * per_thread) return {narrow, 0, 0};
  return {narrow, per_thread, rounded((vectors + per_thread - 1) / per_thread)};
}

}  // namespace aapt
