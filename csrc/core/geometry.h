// Where the elements of one head of one page lie.
//
// plain  K and V [rows, d]: one head of one latent frame is a contiguous run. What CUDA uses, and callers with
//        arrays of their own.
// tiled  what the CPU's kernels multiply without repacking. Keys come in blocks of 16; elements are grouped to four
//        bytes (g = 2 for bf16, 1 for float32 and float64), along d for K and along the keys for V:
//          K [blocks, d / g, 16, g]      V [blocks * 16 / g, d, g]      blocks = ceil(rows / 16)
//        Rows past the page's end are storage without meaning.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace aapt {

constexpr int kKeyBlock = 16;

AAPT_HD int key_blocks(int rows) {
  return (rows + kKeyBlock - 1) / kKeyBlock;
}

AAPT_HD int group_of(int element_bytes) {
  return element_bytes == 2 ? 2 : 1;
}

AAPT_HD int64_t tiled_k_offset(int row, int dim, int head_dim, int group) {
  const int block = row / kKeyBlock, key = row % kKeyBlock;
  return (static_cast<int64_t>(block) * (head_dim / group) + dim / group) * (kKeyBlock * group) + key * group +
         dim % group;
}

AAPT_HD int64_t tiled_v_offset(int row, int dim, int head_dim, int group) {
  return (static_cast<int64_t>(row / group) * head_dim + dim) * group + row % group;
}

}  // namespace aapt
