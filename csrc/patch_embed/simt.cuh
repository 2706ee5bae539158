// patch_embed without tensor cores: float32, and shapes that 16-byte accesses do not fit. One block per token, whose
// patch lies in shared memory; a warp per output. Plain and not tuned.
#pragma once

#include "core/device.cuh"
#include "patch_embed/op.h"

namespace aapt::patch_embed::simt {

constexpr int kThreads = 128, kMaxInputs = 12000;

template <class T>
struct Parameters {
  const T* source[kMaxSources];
  int channels[kMaxSources];
  const T *weight, *bias;
  T* out;
  int sources, height, width, inputs, outputs;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) patch_embed(const Parameters<T> p) {
  DYN_SMEM(raw);
  auto* patch = reinterpret_cast<float*>(raw);
  const int across = p.width / 2, tokens = p.height / 2 * across;
  const int b = blockIdx.x / tokens, token = blockIdx.x % tokens;
  const int top = token / across * 2, left = token % across * 2;
  int first = 0;
  AAPT_UNROLL
  for (int s = 0; s < kMaxSources; ++s) {
    if (s >= p.sources) break;
    for (int i = threadIdx.x; i < 4 * p.channels[s]; i += kThreads) {
      const int64_t row = (static_cast<int64_t>(b) * p.channels[s] + i / 4) * p.height + top + i / 2 % 2;
      patch[first + i] = to_wide(p.source[s][row * p.width + left + i % 2]);
    }
    first += 4 * p.channels[s];
  }
  __syncthreads();
  T* out = p.out + static_cast<int64_t>(blockIdx.x) * p.outputs;
  for (int n = threadIdx.x / kWarp; n < p.outputs; n += kThreads / kWarp) {
    const float sum = warp_dot(patch, p.weight + static_cast<int64_t>(n) * p.inputs, p.inputs);
    if (threadIdx.x % kWarp == 0) store(out + n, p.bias ? sum + to_wide(p.bias[n]) : sum);
  }
}

template <class T>
void run_dtype(const Problem& problem) {
  Parameters<T> p{};
  for (int s = 0; s < problem.sources; ++s) {
    p.source[s] = static_cast<const T*>(problem.source[s]);
    p.channels[s] = problem.channels[s];
  }
  p.weight = static_cast<const T*>(problem.weight.data);
  p.bias = static_cast<const T*>(problem.bias);
  p.out = static_cast<T*>(problem.out);
  p.sources = problem.sources, p.height = problem.height, p.width = problem.width;
  p.inputs = problem.weight.inputs, p.outputs = problem.weight.outputs;
  if (p.inputs > kMaxInputs) {
    Check("patch_embed").fail("weight", "has " + std::to_string(p.inputs) + " inputs", "at most 12000 on a GPU");
  }
  const int tokens = problem.batch * (problem.height / 2) * (problem.width / 2);
  launch(patch_embed<T>, dim3(tokens), dim3(kThreads), p.inputs * sizeof(float), problem.stream, p);
}

// The problem must be float32 or bfloat16 with a plain weight.
inline void run(const Problem& problem) {
  problem.dtype == DType::bf16 ? run_dtype<bf16>(problem) : run_dtype<float>(problem);
}

}  // namespace aapt::patch_embed::simt
