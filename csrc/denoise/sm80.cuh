// denoise on tensor cores, bf16. A block takes 16 tokens of one stream: their rows come to shared memory once, are
// normed, scaled and shifted there, and are multiplied with 64 outputs of the weight. The product is 16 x 64 and the
// rows are long, so the eight warps share the inputs out among themselves, and their sums are added in a fixed order.
//
// The order in which a product runs through its inputs is free as long as both sides keep to it. So a lane reads eight
// neighbouring inputs of a row at once, and they serve as the lane's share of two instructions: the fragments of both
// sides need neither ldmatrix nor a transposed weight.
#pragma once

#include "core/device.cuh"
#include "denoise/op.h"

namespace aapt::denoise::sm80 {

constexpr int kTokens = 16, kOutputs = 64, kStep = 32;  // inputs of a step: two instructions
constexpr int kWarps = 8, kThreads = kWarps * kWarp, kTiles = kOutputs / 8;
constexpr int kSumPitch = 20;  // floats; the 16 tokens of an output, and 4 more against bank conflicts

// Elements between rows in shared memory: 64 bytes past a multiple of 128, so that two rows fill all banks.
AAPT_HD int row_pitch(int model_width) {
  return (model_width + 63) / 64 * 64 + 32;
}

inline size_t shared_bytes(int model_width) {
  const size_t rows = kTokens * row_pitch(model_width) * sizeof(bf16);
  const size_t sums = kWarps * kOutputs * kSumPitch * sizeof(float);
  return rows > sums ? rows : sums;
}

struct Parameters {
  const bf16 *x, *scale, *shift, *weight, *bias, *noisy;
  bf16* out;
  int channels, height, width, model_width, tokens, tiles;  // tokens and tiles of one stream
  float timestep, eps;
};

// Rows of the tile; tokens and columns past the end are zero.
AAPT_DEVICE void fetch_rows(bf16* rows, const Parameters& p, int stream, int first_token) {
  const int pitch = row_pitch(p.model_width), chunks = pitch / 8;
  for (int i = threadIdx.x; i < kTokens * chunks; i += kThreads) {
    const int row = i / chunks, column = i % chunks * 8;
    const bool valid = first_token + row < p.tokens && column < p.model_width;
    const int64_t token = static_cast<int64_t>(stream) * p.tokens + first_token + row;
    ptx::copy_async_16(rows + row * pitch + column, p.x + (valid ? token * p.model_width + column : 0), valid);
  }
  ptx::copy_async_commit();
}

// Norm, scale and shift of one row, by one warp, in place.
AAPT_DEVICE void norm_row(bf16* row, const bf16* scale, const bf16* shift, const Parameters& p) {
  constexpr int kVector = 8;
  const int first = threadIdx.x % kWarp * kVector, step = kWarp * kVector;
  float value[kVector], factor[kVector], sum = 0.f, squares = 0.f;
  for (int i = first; i < p.model_width; i += step) {
    load_vector(value, row + i);
    AAPT_UNROLL
    for (int e = 0; e < kVector; ++e) sum += value[e];
  }
  const float mean = warp_sum(sum) / p.model_width;
  for (int i = first; i < p.model_width; i += step) {
    load_vector(value, row + i);
    AAPT_UNROLL
    for (int e = 0; e < kVector; ++e) squares += (value[e] - mean) * (value[e] - mean);
  }
  const float inverse = 1.f / sqrtf(warp_sum(squares) / p.model_width + p.eps);
  for (int i = first; i < p.model_width; i += step) {
    load_vector(value, row + i);
    load_vector(factor, scale + i);
    AAPT_UNROLL
    for (int e = 0; e < kVector; ++e) value[e] = (value[e] - mean) * inverse * (1.f + factor[e]);
    load_vector(factor, shift + i);
    AAPT_UNROLL
    for (int e = 0; e < kVector; ++e) value[e] += factor[e];
    store_vector(row + i, value);
  }
}

// The lane's eight inputs of each of the 64 outputs: output lane / 4 of every tile, inputs `input` and the next seven.
AAPT_DEVICE void load_weight(uint4 (&to)[kTiles], const Parameters& p, int first_output, int input) {
  AAPT_UNROLL
  for (int j = 0; j < kTiles; ++j) {
    const int output = first_output + j * 8 + threadIdx.x % kWarp / 4;
    const bool valid = output < 4 * p.channels && input < p.model_width;
    to[j] =
        valid ? load_words<8>(p.weight + static_cast<int64_t>(output) * p.model_width + input) : make_uint4(0, 0, 0, 0);
  }
}

// The velocity is n = (2 y + x) C + c of its token: channel c of pixel (y, x) of the patch.
AAPT_DEVICE void step_pixel(const Parameters& p, int stream, int token, int n, float velocity) {
  const int across = p.width / 2, patch = n / p.channels;
  const int y = token / across * 2 + patch / 2, x = token % across * 2 + patch % 2;
  const int64_t plane = static_cast<int64_t>(stream) * p.channels + n % p.channels;
  const int64_t at = (plane * p.height + y) * p.width + x;
  if (p.bias) velocity += to_wide(p.bias[n]);
  store(p.out + at, to_wide(p.noisy[at]) - p.timestep * velocity);
}

// Grid: tiles of tokens of all streams x tiles of outputs.
__global__ void __launch_bounds__(kThreads, 1) denoise(const Parameters p) {
  DYN_SMEM(raw);
  auto* rows = reinterpret_cast<bf16*>(raw);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int stream = blockIdx.x / p.tiles, first_token = blockIdx.x % p.tiles * kTokens;
  const int first_output = blockIdx.y * kOutputs, pitch = row_pitch(p.model_width);
  const int64_t vectors = static_cast<int64_t>(stream) * p.model_width;

  fetch_rows(rows, p, stream, first_token);
  int input = warp * kStep + lane % 4 * 8;
  uint4 weight[kTiles], next[kTiles];
  load_weight(weight, p, first_output, input);  // on its way while the rows are normed
  ptx::copy_async_wait<0>();
  __syncthreads();
  for (int row = warp; row < kTokens; row += kWarps) {
    norm_row(rows + row * pitch, p.scale + vectors, p.shift + vectors, p);
  }
  __syncthreads();

  float sum[kTiles][4] = {};
  for (; input - lane % 4 * 8 < p.model_width; input += kWarps * kStep) {
    load_weight(next, p, first_output, input + kWarps * kStep);
    const uint4 low = load_words<8>(rows + lane / 4 * pitch + input);
    const uint4 high = load_words<8>(rows + (lane / 4 + 8) * pitch + input);
    const uint32_t a[2][4] = {{low.x, high.x, low.y, high.y}, {low.z, high.z, low.w, high.w}};
    AAPT_UNROLL
    for (int j = 0; j < kTiles; ++j) {
      ptx::mma_m16n8k16(sum[j], a[0], weight[j].x, weight[j].y);
      ptx::mma_m16n8k16(sum[j], a[1], weight[j].z, weight[j].w);
      weight[j] = next[j];
    }
  }

  __syncthreads();  // the rows are no longer needed; the warps' sums take their place
  auto* sums = reinterpret_cast<float*>(raw);
  AAPT_UNROLL
  for (int j = 0; j < kTiles; ++j) {
    AAPT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int output = j * 8 + lane % 4 * 2 + i % 2, token = lane / 4 + i / 2 * 8;
      sums[(warp * kOutputs + output) * kSumPitch + token] = sum[j][i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTokens * kOutputs; i += kThreads) {
    const int token = i % kTokens, output = i / kTokens;
    if (first_token + token >= p.tokens || first_output + output >= 4 * p.channels) continue;
    float velocity = 0.f;
    for (int w = 0; w < kWarps; ++w) velocity += sums[(w * kOutputs + output) * kSumPitch + token];
    step_pixel(p, stream, first_token + token, first_output + output, velocity);
  }
}

// Whether 16-byte accesses fit, and 16 rows fit into `shared` bytes, what one block may have on this GPU.
inline bool serves(const Problem& problem, int shared) {
  return problem.dtype == DType::bf16 && problem.model_width % 8 == 0 &&
         aligned(16, problem.x, problem.scale, problem.shift, problem.weight.data) &&
         shared_bytes(problem.model_width) <= static_cast<size_t>(shared);
}

// The problem must be one that this path serves.
inline void run(const Problem& problem) {
  const auto in = [](const void* data) { return static_cast<const bf16*>(data); };
  const int tokens = problem.height / 2 * (problem.width / 2), tiles = (tokens + kTokens - 1) / kTokens;
  const Parameters p{in(problem.x),
                     in(problem.scale),
                     in(problem.shift),
                     in(problem.weight.data),
                     in(problem.bias),
                     in(problem.noisy),
                     static_cast<bf16*>(problem.out),
                     problem.channels,
                     problem.height,
                     problem.width,
                     problem.model_width,
                     tokens,
                     tiles,
                     static_cast<float>(problem.timestep),
                     static_cast<float>(problem.eps)};
  const dim3 grid(problem.batch * tiles, (4 * p.channels + kOutputs - 1) / kOutputs);
  launch(denoise, grid, dim3(kThreads), shared_bytes(p.model_width), problem.stream, p);
}

}  // namespace aapt::denoise::sm80
