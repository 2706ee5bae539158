// patch_embed: 2x2 patches of several channel groups (noise, condition, previous clean latent) times one
// weight, plus bias. The concatenated tensor never exists.
#pragma once

#include "core/dispatch.h"
#include "core/packed_weight.h"

namespace aapt::patch_embed {

constexpr int kMaxSources = 4;

struct Problem {
  DType dtype;
  Device device;
  void* stream;
  int batch, height, width;  // of the latent
  int sources;
  const void* source[kMaxSources];  // [B, C_i, H, W]
  int channels[kMaxSources];
  Weight weight;     // [D, sum C_i, 2, 2]
  const void* bias;  // [D] or null
  void* out;         // [B, L, D], L = (H/2)(W/2) row by row
};

// `bias` may be null. Throws ArgumentError.
Problem make_problem(const Tensor* sources, int count, const Tensor& weight, const Tensor* bias, const Tensor& out,
                     void* stream);

void run(const Problem& problem);

}  // namespace aapt::patch_embed
