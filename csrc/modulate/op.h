// modulate: residual = x + gate y, then LayerNorm of it, affine and/or with a scale and shift per stream:
//   out = (norm(residual) * weight + bias) * (1 + scale) + shift
// in the inputs' dtype, or as rows of e4m3 with a scale each (core/e4m3.h) for a product in fp8.
#pragma once

#include "core/check.h"
#include "core/dispatch.h"

namespace aapt::modulate {

struct Problem {
  DType dtype;
  Device device;
  void* stream;
  int batch, rows, width;
  const void* x;       // [B, L, D]
  const void* y;       // [B, L, D] or null: no residual is added
  const void* gate;    // [B, D] or null: one
  const void* scale;   // [B, D] or null: zero
  const void* shift;   // [B, D] or null: zero
  const void* weight;  // [D] or null: one
  const void* bias;    // [D] or null: zero
  void* residual;      // [B, L, D]; null exactly where y is
  void* out;           // [B, L, D], e4m3 where row_scale is given
  float* row_scale;    // [B, L] or null
  double eps;
};

// Optional tensors may be null. Throws ArgumentError.
Problem make_problem(const Tensor& x, const Tensor* y, const Tensor* gate, const Tensor* scale, const Tensor* shift,
                     const Tensor* weight, const Tensor* bias, double eps, const Tensor* residual, const Tensor& out,
                     const Tensor* row_scale, void* stream);

void run(const Problem& problem);

}  // namespace aapt::modulate
