// cache_write on any GPU since sm_80: one block per token. q and k stay in registers between norm and rotation; v is
// copied as it is. A token's heads go to h contiguous runs of d elements in its page.
#pragma once

#include "cache_write/op.h"
#include "core/bad_page.cuh"
#include "core/device.cuh"

namespace aapt::cache_write::sm80 {

template <class T>
struct Parameters {
  const T* qkv;                                                   // [B, L, 3, h, d]
  const T *q_weight, *k_weight;                                   // null without norm
  const float *time_rotation, *pinned_rotation, *space_rotation;  // (cos, sin) pairs
  const int32_t* page;                                            // [B]
  T *k, *v, *q, *q_pinned;
  int64_t k_page_stride, k_head_stride, k_row_stride, v_page_stride, v_head_stride, v_row_stride;
  int rows, heads, head_dim, time_pairs, pages;
  float eps;
  bool per_head;
  int* bad_page;
};

// kVector elements of one head, `dim` being the first, turned by the token's rotation at one time.
template <int kVector, class T>
AAPT_DEVICE void rotate(float (&to)[kVector], const float (&value)[kVector], int dim, const Parameters<T>& p,
                        const float* time, const float* space) {
  AAPT_UNROLL
  for (int e = 0; e < kVector; e += 2) {
    const int pair = (dim + e) / 2;
    float turn[2];
    load_vector(turn, pair < p.time_pairs ? time + 2 * pair : space + 2 * (pair - p.time_pairs));
    to[e] = value[e] * turn[0] - value[e + 1] * turn[1];
    to[e + 1] = value[e] * turn[1] + value[e + 1] * turn[0];
  }
}

// 1 / rms of the head or the row that vector `i` belongs to. `squares` holds the sum of squares of every vector.
AAPT_DEVICE float inverse_rms(const float* squares, int i, int vectors_per_group, int width, float eps) {
  const int first = i / vectors_per_group * vectors_per_group;
  float sum = 0.f;
  for (int j = 0; j < vectors_per_group; ++j) sum += squares[first + j];
  return 1.f / sqrtf(sum / width + eps);
}

// Thread i holds vectors i, i + threads, ... of q and of k. Shared memory: two reductions over the block, or the sums
// of squares of every vector of q and k.
template <class T, int kVector, int kPerThread>
__global__ void __launch_bounds__(1024, 1) cache_write(const Parameters<T> p) {
  DYN_SMEM(raw);
  auto* scratch = reinterpret_cast<float*>(raw);
  const int width = p.heads * p.head_dim, vectors = width / kVector;
  const int b = blockIdx.x / p.rows, row = blockIdx.x % p.rows;
  const int64_t token = blockIdx.x;
  const T* qkv = p.qkv + token * 3 * width;
  const int page = p.page[b];
  const bool has_page = page_exists(page, p.pages, p.bad_page);

  float value[2][kPerThread][kVector];  // of q and k
  words<T, kVector> v[kPerThread] = {};
  float squares[2] = {0.f, 0.f};
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    const int i = threadIdx.x + j * blockDim.x;
    if (i >= vectors) continue;
    v[j] = load_words<kVector>(qkv + 2 * width + i * kVector);
    AAPT_UNROLL
    for (int which = 0; which < 2; ++which) {
      load_vector(value[which][j], qkv + which * width + i * kVector);
      if (!p.q_weight) continue;
      float sum = 0.f;
      AAPT_UNROLL
      for (int e = 0; e < kVector; ++e) sum += value[which][j][e] * value[which][j][e];
      squares[which] += sum;
      if (p.per_head) scratch[which * vectors + i] = sum;
    }
  }
  float inverse[2] = {1.f, 1.f};
  if (p.q_weight && p.per_head) __syncthreads();
  if (p.q_weight && !p.per_head) {
    AAPT_UNROLL
    for (int which = 0; which < 2; ++which) {
      inverse[which] = 1.f / sqrtf(block_sum(squares[which], scratch + which * kWarp) / width + p.eps);
    }
  }

  const int space_pairs = p.head_dim / 2 - p.time_pairs;
  const float* space = p.space_rotation + static_cast<int64_t>(row) * space_pairs * 2;
  const float* time = p.time_rotation + static_cast<int64_t>(b) * p.time_pairs * 2;
  const float* pinned = p.pinned_rotation + static_cast<int64_t>(b) * p.time_pairs * 2;
  AAPT_UNROLL
  for (int j = 0; j < kPerThread; ++j) {
    const int i = threadIdx.x + j * blockDim.x;
    if (i >= vectors) continue;
    const int head = i * kVector / p.head_dim, dim = i * kVector % p.head_dim;
    if (p.q_weight) {
      AAPT_UNROLL
      for (int which = 0; which < 2; ++which) {
        if (p.per_head) {
          inverse[which] = inverse_rms(scratch + which * vectors, i, p.head_dim / kVector, p.head_dim, p.eps);
        }
        float weight[kVector];
        load_vector(weight, (which ? p.k_weight : p.q_weight) + (p.per_head ? dim : i * kVector));
        AAPT_UNROLL
        for (int e = 0; e < kVector; ++e) value[which][j][e] *= inverse[which] * weight[e];
      }
    }
    float turned[kVector];
    rotate(turned, value[0][j], dim, p, time, space);
    store_vector(p.q + token * width + i * kVector, turned);
    if (p.q_pinned) {
      rotate(turned, value[0][j], dim, p, pinned, space);
      store_vector(p.q_pinned + token * width + i * kVector, turned);
    }
    if (!has_page) continue;
    rotate(turned, value[1][j], dim, p, time, space);
    store_vector(p.k + page * p.k_page_stride + head * p.k_head_stride + row * p.k_row_stride + dim, turned);
    store_words<kVector>(p.v + page * p.v_page_stride + head * p.v_head_stride + row * p.v_row_stride + dim, v[j]);
  }
}

template <class T>
void run_dtype(const Problem& problem, int* bad_page) {
  constexpr int kVector = 16 / sizeof(T);
  const auto floats = [](const void* data) { return static_cast<const float*>(data); };
  Parameters<T> p{};
  p.qkv = static_cast<const T*>(problem.qkv);
  p.q_weight = static_cast<const T*>(problem.q_weight);
  p.k_weight = static_cast<const T*>(problem.k_weight);
  p.time_rotation = floats(problem.time_rotation);
  p.pinned_rotation = floats(problem.pinned_rotation);
  p.space_rotation = floats(problem.space_rotation);
  p.page = problem.page;
  p.k = static_cast<T*>(problem.k);
  p.v = static_cast<T*>(problem.v);
  p.q = static_cast<T*>(problem.q);
  p.q_pinned = static_cast<T*>(problem.q_pinned);
  p.k_page_stride = problem.k_page_stride, p.k_head_stride = problem.k_head_stride;
  p.k_row_stride = problem.k_row_stride;
  p.v_page_stride = problem.v_page_stride, p.v_head_stride = problem.v_head_stride;
  p.v_row_stride = problem.v_row_stride;
  p.rows = problem.rows, p.heads = problem.heads, p.head_dim = problem.head_dim;
  p.time_pairs = problem.time_pairs, p.pages = problem.pages;
  p.eps = static_cast<float>(problem.eps);
  p.per_head = problem.norm == Norm::head;
  p.bad_page = bad_page;

  const auto divides = [](int64_t number, auto... rest) { return ((rest % number == 0) && ...); };
  const bool wide_enough = divides(kVector, p.head_dim, p.k_page_stride, p.k_head_stride, p.k_row_stride,
                                   p.v_page_stride, p.v_head_stride, p.v_row_stride) &&
                           aligned(16, p.qkv, p.q_weight, p.k_weight, p.k, p.v, p.q, p.q_pinned);
  const int width = p.heads * p.head_dim;
  const RowShape shape = row_shape(width, wide_enough, kVector, 2);
  const bool pairs =
      divides(2, p.k_page_stride, p.k_head_stride, p.k_row_stride, p.v_page_stride, p.v_head_stride, p.v_row_stride) &&
      aligned(2 * sizeof(T), p.qkv, p.q_weight, p.k_weight, p.k, p.v, p.q, p.q_pinned);
  const Check check("cache_write");
  if (!pairs) check.fail("k_pages", "or another array begins or steps at an odd element", "aligned to pairs on a GPU");
  if (!aligned(8, p.time_rotation, p.pinned_rotation, p.space_rotation)) {
    check.fail("time_rotation", "or another rotation is not aligned to 8 bytes", "so on a GPU");
  }
  if (shape.per_thread == 0) {
    check.fail("qkv", "has width h d = " + std::to_string(width), "at most 8192 on a GPU");
  }
  const size_t shared = p.per_head ? 2 * width / shape.vector : 2 * kWarp;
  const auto kernel = shape.vector == 2 ? cache_write<T, 2, 4> : cache_write<T, kVector, 1>;
  launch(kernel, dim3(problem.batch * problem.rows), dim3(shape.threads), shared * sizeof(float), problem.stream, p);
}

// The problem must be float32 or bfloat16 with plain pages.
inline void run(const Problem& problem, int* bad_page) {
  problem.dtype == DType::bf16 ? run_dtype<bf16>(problem, bad_page) : run_dtype<float>(problem, bad_page);
}

}  // namespace aapt::cache_write::sm80
