// linear: out = activation(x W^T + bias), for the few rows of one latent frame. On a CPU only: on a GPU
// cuBLASLt does it.
#pragma once

#include "core/dispatch.h"
#include "core/packed_weight.h"

namespace aapt::linear {

enum class Activation : uint8_t { none, gelu_tanh, silu };

struct Problem {
  DType dtype;
  int64_t rows;
  int64_t x_stride;  // elements from one row of x to the next
  const void* x;     // [rows, K]
  Weight weight;     // [N, K]
  const void* bias;  // [N] or null
  Activation activation;
  void* out;  // [rows, N]
};

// `bias` may be null. `activation` is "none", "gelu_tanh" or "silu". Throws ArgumentError.
Problem make_problem(const Tensor& x, const Tensor& weight, const Tensor* bias, const std::string& activation,
                     const Tensor& out);

void run(const Problem& problem);

}  // namespace aapt::linear
