// modulate on any GPU since sm_80: one block per token, whose row stays in registers between the residual, the two
// passes of LayerNorm (mean, then squared distances from it) and the result. Every element is read once and written
// once; the vectors of a stream come from the caches after the first row. A result in fp8 takes one more meeting of the
// block, for the row's largest magnitude.
#pragma once

#include "core/device.cuh"
#include "modulate/op.h"

namespace aapt::modulate::sm80 {

template <class T>
struct Parameters {
  const T *x, *y, *gate, *scale, *shift, *weight, *bias;
  T *residual, *out;  // out or quantised is null
  e4m3* quantised;
  float* row_scale;
  int rows, width;
  float eps;
};

// Thread i holds vectors i, i + threads, ... of kVector elements each.
template <class T, int kVector, int kPerThread>
__global__ void __launch_bounds__(1024, 1) modulate(const Parameters<T> p) {
  DYN_SMEM(raw);
  auto* scratch = reinterpret_cast<float*>(raw);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * p.width;
  const int64_t stream = static_cast<int64_t>(blockIdx.x / p.rows) * p.width;
  float value[kPerThread][kVector];
  float sum = 0.f;
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    const int i = (threadIdx.x + j * blockDim.x) * kVector;
    if (i >= p.width) continue;
    load_vector(value[j], p.x + row + i);
    if (p.y) {
      float y[kVector], gate[kVector];
      load_vector(y, p.y + row + i);
      if (p.gate) load_vector(gate, p.gate + stream + i);
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) value[j][e] += p.gate ? gate[e] * y[e] : y[e];
      store_vector(p.residual + row + i, value[j]);
    }
    AAPT_UNROLL
    for (int e = 0; e < kVector; ++e) sum += value[j][e];
  }
  const float mean = block_sum(sum, scratch) / p.width;
  float squares = 0.f;
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    if (static_cast<int>(threadIdx.x + j * blockDim.x) * kVector >= p.width) continue;
    AAPT_UNROLL
    for (int e = 0; e < kVector; ++e) squares += (value[j][e] - mean) * (value[j][e] - mean);
  }
  const float inverse = 1.f / sqrtf(block_sum(squares, scratch + kWarp) / p.width + p.eps);
  float largest = 0.f;
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    const int i = (threadIdx.x + j * blockDim.x) * kVector;
    if (i >= p.width) continue;
    AAPT_UNROLL
    for (int e = 0; e < kVector; ++e) value[j][e] = (value[j][e] - mean) * inverse;
    float factor[kVector];
    if (p.weight) {
      load_vector(factor, p.weight + i);
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) value[j][e] *= factor[e];
    }
    if (p.bias) {
      load_vector(factor, p.bias + i);
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) value[j][e] += factor[e];
    }
    if (p.scale) {
      load_vector(factor, p.scale + stream + i);
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) value[j][e] *= 1.f + factor[e];
    }
    if (p.shift) {
      load_vector(factor, p.shift + stream + i);
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) value[j][e] += factor[e];
    }
    if (p.out) store_vector(p.out + row + i, value[j]);
    largest = fmaxf(largest, largest_of(value[j]));
  }
  if (p.out) return;
  const float row_scale = scale_of_row(block_max(largest, scratch + 2 * kWarp));
  if (threadIdx.x == 0) p.row_scale[blockIdx.x] = row_scale;
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    const int i = (threadIdx.x + j * blockDim.x) * kVector;
    if (i < p.width) store_quantised(p.quantised + row + i, value[j], 1.f / row_scale);
  }
}

template <class T>
void run_dtype(const Problem& problem) {
  constexpr int kVector = 16 / sizeof(T);
  const auto in = [](const void* data) { return static_cast<const T*>(data); };
  const Parameters<T> p{in(problem.x),
                        in(problem.y),
                        in(problem.gate),
                        in(problem.scale),
                        in(problem.shift),
                        in(problem.weight),
                        in(problem.bias),
                        static_cast<T*>(problem.residual),
                        problem.row_scale ? nullptr : static_cast<T*>(problem.out),
                        problem.row_scale ? static_cast<e4m3*>(problem.out) : nullptr,
                        problem.row_scale,
                        problem.rows,
                        problem.width,
                        static_cast<float>(problem.eps)};
  const RowShape shape = row_shape(
      p.width, aligned(16, p.x, p.y, p.gate, p.scale, p.shift, p.weight, p.bias, p.residual, problem.out), kVector, 1);
  if (shape.per_thread == 0) {
    Check("modulate").fail("x", "has width D = " + std::to_string(p.width), "at most 8192 on a GPU");
  }
  const auto kernel = shape.vector == 1 ? modulate<T, 1, 8> : modulate<T, kVector, 1>;
  launch(kernel, dim3(problem.batch * problem.rows), dim3(shape.threads), 3 * kWarp * sizeof(float), problem.stream, p);
}

// The problem must be float32 or bfloat16.
inline void run(const Problem& problem) {
  problem.dtype == DType::bf16 ? run_dtype<bf16>(problem) : run_dtype<float>(problem);
}

}  // namespace aapt::modulate::sm80
