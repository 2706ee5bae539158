// Plain matrices into the blocks that core/gemm.h reads (core/geometry.h), for operands that do not lie there yet.
#pragma once

#include "core/gemm.h"

namespace aapt::gemm::AAPT_ISA {

// `rows` rows of `groups` groups of four bytes each, as one block [groups, 16, g]; rows past `rows` become zero.
template <class T>
inline void pack_block(const T* from, int64_t row_stride, int rows, int groups, T* to) {
  for (int row = 0; row < kKeyBlock; ++row) {
    for (int k = 0; k < groups; ++k) {
      uint32_t group = 0;
      if (row < rows) memcpy(&group, from + row * row_stride + k * kGroup<T>, sizeof(group));
      memcpy(to + (static_cast<int64_t>(k) * kKeyBlock + row) * kGroup<T>, &group, sizeof(group));
    }
  }
}

// 16 plain rows of values as [16 / g, to_width, g]; rows past `rows` become zero, whatever they hold.
template <class T>
inline void pack_values(const T* from, int64_t row_stride, int rows, int width, int to_width, T* to) {
  for (int row = 0; row < kKeyBlock; ++row) {
    T* lane = to + row / kGroup<T> * to_width * kGroup<T> + row % kGroup<T>;
    for (int dim = 0; dim < width; ++dim) lane[dim * kGroup<T>] = row < rows ? from[row * row_stride + dim] : T{};
  }
}

// The same from values that are grouped already, [16 / g, width, g].
template <class T>
inline void mask_values(const T* from, int rows, int width, int to_width, T* to) {
  for (int first = 0; first < kKeyBlock; first += kGroup<T>) {
    T* group = to + static_cast<int64_t>(first) * to_width;
    const size_t bytes = sizeof(T) * kGroup<T> * static_cast<size_t>(width);
    if (first < rows) {
      memcpy(group, from + static_cast<int64_t>(first) * width, bytes);
    } else {
      memset(group, 0, bytes);
    }
    if (kGroup<T> == 2 && first + 1 == rows) {
      for (int dim = 0; dim < width; ++dim) group[dim * kGroup<T> + 1] = T{};
    }
  }
}

}  // namespace aapt::gemm::AAPT_ISA
