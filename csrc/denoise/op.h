// denoise: the last operator of a step. LayerNorm, scale and shift, projection to 2x2 patches of velocity,
// unpatchify, and one Euler step to the clean latent: x0 = noisy - t velocity.
#pragma once

#include "core/dispatch.h"
#include "core/packed_weight.h"

namespace aapt::denoise {

struct Problem {
  DType dtype;
  Device device;
  void* stream;
  int batch, channels, height, width;  // of the latent
  int model_width;                     // D
  const void* x;                       // [B, L, D]
  const void* scale;                   // [B, D]
  const void* shift;                   // [B, D]
  Weight weight;                       // [4 C, D]; output (2 y + x) C + c is channel c of pixel (y, x) of the patch
  const void* bias;                    // [4 C] or null
  const void* noisy;                   // [B, C, H, W]: the noise, where t = 1
  double timestep, eps;
  void* out;  // [B, C, H, W]
};

// `bias` may be null. Throws ArgumentError.
Problem make_problem(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& weight,
                     const Tensor* bias, const Tensor& noisy, double timestep, double eps, const Tensor& out,
                     void* stream);

void run(const Problem& problem);

}  // namespace aapt::denoise
