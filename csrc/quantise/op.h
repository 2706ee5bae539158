// quantise: rows of activation(x) in e4m3, each with a scale of its own (core/e4m3.h): what a product in fp8 takes.
#pragma once

#include "core/dispatch.h"

namespace aapt::quantise {

enum class Activation : uint8_t { none, gelu_tanh };

struct Problem {
  DType dtype;
  Device device;
  void* stream;
  int64_t rows;
  int width;
  const void* x;  // [rows, K]
  Activation activation;
  void* out;         // [rows, K], e4m3
  float* row_scale;  // [rows]
};

// `activation` is "none" or "gelu_tanh". Throws ArgumentError.
Problem make_problem(const Tensor& x, const std::string& activation, const Tensor& out, const Tensor& row_scale,
                     void* stream);

void run(const Problem& problem);

}  // namespace aapt::quantise
