// cache_write: from the merged projection of one latent frame to its page. RMSNorm of q and k, 3-D RoPE, k
// and v into the page, q out; and q once more, rotated to another time, where the pinned position is looked
// at from a capped distance.
//
// The first pairs of a head turn with time, the rest with the place in the picture; a pair is two
// neighbouring elements.
#pragma once

#include "core/check.h"
#include "core/dispatch.h"

namespace aapt::cache_write {

enum class Norm : uint8_t { none, head, all_heads };

struct Problem {
  DType dtype;
  Device device;
  void* stream;
  int batch, rows, heads, head_dim;
  int time_pairs;   // of d / 2
  const void* qkv;  // [B, L, 3, h, d]
  Norm norm;
  const void* q_weight;  // [d] (head), [h d] (all heads)
  const void* k_weight;
  double eps;
  DType rotation_dtype;         // float32; float64 where dtype is
  const void* time_rotation;    // [B, time_pairs, 2]: cos, sin
  const void* pinned_rotation;  // [B, time_pairs, 2] or null
  const void* space_rotation;   // [L, d / 2 - time_pairs, 2]
  const int32_t* page;          // [B]
  int pages;
  bool tiled;  // layout of the pages: core/geometry.h
  void* k;     // pages of one layer
  void* v;
  int64_t k_page_stride, k_head_stride, k_row_stride;
  int64_t v_page_stride, v_head_stride, v_row_stride;
  void* q;         // [B, L, h, d]
  void* q_pinned;  // [B, L, h, d]; null exactly where pinned_rotation is
};

// q_weight and k_weight, pinned_rotation and q_pinned may be null. Page numbers on the CPU are checked.
// Throws ArgumentError.
Problem make_problem(const Tensor& qkv, const Tensor* q_weight, const Tensor* k_weight, double eps,
                     const Tensor& time_rotation, const Tensor& space_rotation, const Tensor* pinned_rotation,
                     const Tensor& page, const Tensor& k_pages, const Tensor& v_pages, const Tensor& q,
                     const Tensor* q_pinned, void* stream);

void run(const Problem& problem);

}  // namespace aapt::cache_write
