// denoise without tensor cores: float32, and shapes that 16-byte accesses or shared memory do not fit. One block per
// token, whose normed row lies in shared memory; a warp per output. Plain and not tuned.
#pragma once

#include "core/device.cuh"
#include "denoise/op.h"

namespace aapt::denoise::simt {

constexpr int kThreads = 128, kMaxWidth = 12000;

template <class T>
struct Parameters {
  const T *x, *scale, *shift, *weight, *bias, *noisy;
  T* out;
  int channels, height, width, model_width;
  float timestep, eps;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) denoise(const Parameters<T> p) {
  DYN_SMEM(raw);
  auto* scratch = reinterpret_cast<float*>(raw);
  float* row = scratch + 2 * kWarp;
  const int across = p.width / 2, tokens = p.height / 2 * across;
  const int b = blockIdx.x / tokens, token = blockIdx.x % tokens;
  const T* x = p.x + static_cast<int64_t>(blockIdx.x) * p.model_width;
  const int64_t stream = static_cast<int64_t>(b) * p.model_width;
  // A thread meets only its own elements until the row is normed.
  float sum = 0.f, squares = 0.f;
  for (int i = threadIdx.x; i < p.model_width; i += kThreads) sum += row[i] = to_wide(x[i]);
  const float mean = block_sum(sum, scratch) / p.model_width;
  for (int i = threadIdx.x; i < p.model_width; i += kThreads) squares += (row[i] - mean) * (row[i] - mean);
  const float inverse = 1.f / sqrtf(block_sum(squares, scratch + kWarp) / p.model_width + p.eps);
  for (int i = threadIdx.x; i < p.model_width; i += kThreads) {
    row[i] = (row[i] - mean) * inverse * (1.f + to_wide(p.scale[stream + i])) + to_wide(p.shift[stream + i]);
  }
  __syncthreads();
  for (int n = threadIdx.x / kWarp; n < 4 * p.channels; n += kThreads / kWarp) {
    float velocity = warp_dot(row, p.weight + static_cast<int64_t>(n) * p.model_width, p.model_width);
    if (threadIdx.x % kWarp) continue;
    if (p.bias) velocity += to_wide(p.bias[n]);
    const int y = token / across * 2 + n / p.channels / 2, left = token % across * 2 + n / p.channels % 2;
    const int64_t plane = static_cast<int64_t>(b) * p.channels + n % p.channels;
    const int64_t at = (plane * p.height + y) * p.width + left;
    store(p.out + at, to_wide(p.noisy[at]) - p.timestep * velocity);
  }
}

template <class T>
void run_dtype(const Problem& problem) {
  const auto in = [](const void* data) { return static_cast<const T*>(data); };
  const Parameters<T> p{in(problem.x),
                        in(problem.scale),
                        in(problem.shift),
                        in(problem.weight.data),
                        in(problem.bias),
                        in(problem.noisy),
                        static_cast<T*>(problem.out),
                        problem.channels,
                        problem.height,
                        problem.width,
                        problem.model_width,
                        static_cast<float>(problem.timestep),
                        static_cast<float>(problem.eps)};
  if (p.model_width > kMaxWidth) {
    Check("denoise").fail("x", "has width D = " + std::to_string(p.model_width), "at most 12000 on a GPU");
  }
  const int tokens = problem.batch * (p.height / 2) * (p.width / 2);
  launch(denoise<T>, dim3(tokens), dim3(kThreads), (2 * kWarp + p.model_width) * sizeof(float), problem.stream, p);
}

// The problem must be float32 or bfloat16 with a plain weight.
inline void run(const Problem& problem) {
  problem.dtype == DType::bf16 ? run_dtype<bf16>(problem) : run_dtype<float>(problem);
}

}  // namespace aapt::denoise::simt
