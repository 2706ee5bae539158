// Paged attention without tensor cores: float32, and bf16 rows that 16-byte accesses do not fit. A warp per query: each
// lane takes the score of one of 32 keys, then they add up the values together. Plain and not tuned.
#pragma once

#include "attention/pointers.cuh"

namespace aapt::attention::simt {

constexpr int kWarps = 4, kThreads = kWarps * kWarp, kMaxHeadDim = 256, kPerLane = kMaxHeadDim / kWarp;

// Grid: queries / 4 x heads x streams.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) attend(const __grid_constant__ Pointers<T> p) {
  DYN_SMEM(raw);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int row = blockIdx.x * kWarps + warp, head = blockIdx.y, batch = blockIdx.z;
  if (row >= p.rows) return;
  float* query = reinterpret_cast<float*>(raw) + warp * kMaxHeadDim;
  float out[kPerLane] = {}, top = -INFINITY, sum = 0.f;
  const int all = p.lengths.steps(batch);
  Steps steps;
  if (all > 0) steps.begin(p.lengths, batch, 0);
  for (int step = 0, loaded = -1; step < all; ++step, steps.next(p.lengths)) {
    const Tile<T> tile = tile_at(p, steps, head);
    if (tile.query != loaded) {
      __syncwarp();
      const T* from = p.query[tile.query] + p.token(batch, row, head);
      for (int i = lane; i < p.head_dim; i += kWarp) query[i] = to_wide(from[i]);
      loaded = tile.query;
      __syncwarp();
    }
    float score = -INFINITY;
    if (lane < tile.keys) {
      score = 0.f;
      for (int i = 0; i < p.head_dim; ++i) score += query[i] * to_wide(tile.k[lane * tile.k_row + i]);
      score *= p.scale_log2;
    }
    const float new_top = fmaxf(top, warp_max(score));
    const float base = new_top == -INFINITY ? 0.f : new_top, fade = exp2f(top - base);
    const float weight = exp2f(score - base);
    top = new_top;
    sum = sum * fade + warp_sum(weight);
    AAPT_UNROLL
    for (int i = 0; i < kPerLane; ++i) out[i] *= fade;
    for (int key = 0; key < tile.keys; ++key) {
      const float factor = __shfl_sync(~0u, weight, key);
      AAPT_UNROLL
      for (int i = 0; i < kPerLane; ++i) {
        const int dim = lane + i * kWarp;
        if (dim < p.head_dim) out[i] += factor * to_wide(tile.v[key * tile.v_row + dim]);
      }
    }
  }
  T* to = p.out + p.token(batch, row, head);
  AAPT_UNROLL
  for (int i = 0; i < kPerLane; ++i) {
    if (lane + i * kWarp < p.head_dim) store(to + lane + i * kWarp, sum > 0.f ? out[i] / sum : 0.f);
  }
  if (p.lse && lane == 0) p.lse[p.lse_at(batch, row, head)] = sum > 0.f ? (top + log2f(sum)) * kLog2 : -INFINITY;
}

template <class T>
void run_dtype(const Problem& problem, int* bad_page) {
  const dim3 grid((problem.rows + kWarps - 1) / kWarps, problem.heads, problem.batch);
  launch(attend<T>, grid, dim3(kThreads), kWarps * kMaxHeadDim * sizeof(float), problem.stream,
         make_pointers<T>(problem, kWarp, bad_page));
}

// The problem must be float32 or bfloat16 with plain pages.
inline void run(const Problem& problem, int* bad_page) {
  problem.dtype == DType::bf16 ? run_dtype<bf16>(problem, bad_page) : run_dtype<float>(problem, bad_page);
}

}  // namespace aapt::attention::simt
