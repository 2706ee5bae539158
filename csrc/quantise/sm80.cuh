// quantise on any GPU since sm_80: one block per row, which stays in registers, 16 elements a thread, while its largest
// magnitude is found. Every element is read once and written once, in a half or a quarter of the bytes.
#pragma once

#include "core/device.cuh"
#include "quantise/op.h"

namespace aapt::quantise::sm80 {

constexpr int kHeld = 16, kMaxThreads = 1024;

template <class T>
struct Parameters {
  const T* x;
  e4m3* out;
  float* row_scale;
  int width;
  bool gelu;
};

// The tanh form, as x / (1 + e^-2u): 1 + tanh(u) is 2 / (1 + e^-2u).
AAPT_DEVICE float gelu(float x) {
  constexpr float kScale = -2.f * 0.7978845608028654f * 1.4426950408889634f;
  return x / (1.f + ptx::exp2_approx(kScale * (x + 0.044715f * x * x * x)));
}

// Thread i holds vectors i, i + threads, ... of kVector elements each.
template <class T, int kVector>
__global__ void __launch_bounds__(kMaxThreads, 1) quantise(const Parameters<T> p) {
  constexpr int kPerThread = kHeld / kVector;
  DYN_SMEM(raw);
  const int64_t row = static_cast<int64_t>(blockIdx.x) * p.width;
  float value[kPerThread][kVector];
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    const int i = (threadIdx.x + j * blockDim.x) * kVector;
    if (i < p.width) {
      load_vector(value[j], p.x + row + i);
    } else {
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) value[j][e] = 0.f;
    }
  }
  if (p.gelu) {
    AAPT_UNROLL
    for (int j = 0; j < kPerThread; ++j) {
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) value[j][e] = gelu(value[j][e]);
    }
  }
  float largest = 0.f;
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) largest = fmaxf(largest, largest_of(value[j]));
  const float scale = scale_of_row(block_max(largest, reinterpret_cast<float*>(raw)));
  if (threadIdx.x == 0) p.row_scale[blockIdx.x] = scale;
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    const int i = (threadIdx.x + j * blockDim.x) * kVector;
    if (i < p.width) store_quantised(p.out + row + i, value[j], 1.f / scale);
  }
}

template <class T>
void run_dtype(const Problem& problem) {
  constexpr int kVector = 16 / sizeof(T);
  const Parameters<T> p{static_cast<const T*>(problem.x), static_cast<e4m3*>(problem.out), problem.row_scale,
                        problem.width, problem.activation == Activation::gelu_tanh};
  if (p.width > kHeld * kMaxThreads) {
    Check("quantise")
        .fail("x", "has width K = " + std::to_string(p.width),
              "at most " + std::to_string(kHeld * kMaxThreads) + " on a GPU");
  }
  const int threads = ((p.width + kHeld - 1) / kHeld + kWarp - 1) / kWarp * kWarp;
  const bool vectors = p.width % kVector == 0 && aligned(16, p.x) && aligned(kVector, p.out);
  const auto kernel = vectors ? quantise<T, kVector> : quantise<T, 1>;
  launch(kernel, dim3(static_cast<unsigned>(problem.rows)), dim3(threads), kWarp * sizeof(float), problem.stream, p);
}

// The problem must be float32 or bfloat16.
inline void run(const Problem& problem) {
  problem.dtype == DType::bf16 ? run_dtype<bf16>(problem) : run_dtype<float>(problem);
}

}  // namespace aapt::quantise::sm80
