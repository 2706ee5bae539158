// patch_embed on tensor cores, bf16: [tokens, 4 C] x [4 C, D] in tiles of 64 tokens x 128 outputs. The left matrix is
// gathered from the sources while it is loaded: a pair of neighbouring pixels of one channel is one 4-byte access, and
// neighbouring lanes take neighbouring tokens. The weight comes by cp.async. Two stages: the next inputs are on their
// way while the present ones are multiplied.
#pragma once

#include "core/device.cuh"
#include "patch_embed/op.h"

namespace aapt::patch_embed::sm80 {

constexpr int kTokens = 64, kOutputs = 128, kInputs = 64;      // of a tile; inputs of one stage
constexpr int kWarps = 8, kThreads = kWarps * kWarp;           // 2 x 4 warps of 32 tokens x 32 outputs
constexpr int kPitch = kInputs + 8, kOutPitch = kOutputs + 8;  // in elements; 8 more against bank conflicts
constexpr int kPairs = kTokens * kInputs / 2 / kThreads;       // pixel pairs that one thread gathers per stage

struct Parameters {
  const bf16* source[kMaxSources];
  int channels[kMaxSources];
  const bf16 *weight, *bias;
  bf16* out;
  int sources, height, width, inputs, outputs, tokens;  // tokens: of all streams
};

union Shared {
  struct {
    uint16_t token[2][kTokens][kPitch], weight[2][kOutputs][kPitch];
  } in;
  uint16_t out[kTokens][kOutPitch];
};

// The pixels of one channel of one stream.
AAPT_DEVICE const bf16* plane_of(const Parameters& p, int stream, int channel) {
  const bf16* found = nullptr;
  int left = channel;
  AAPT_UNROLL
  for (int s = 0; s < kMaxSources; ++s) {
    if (s >= p.sources) break;
    if (left >= 0 && left < p.channels[s]) {
      found = p.source[s] + (static_cast<int64_t>(stream) * p.channels[s] + left) * p.height * p.width;
    }
    left -= p.channels[s];
  }
  return found;
}

// Where the two tokens of a lane lie: lane and lane + 32 of the tile.
struct Place {
  int stream, pixel;  // stream -1: there is no such token
};

AAPT_DEVICE Place place_of(const Parameters& p, int token) {
  if (token >= p.tokens) return {-1, 0};
  const int across = p.width / 2, per_stream = p.height / 2 * across, inside = token % per_stream;
  return {token / per_stream, inside / across * 2 * p.width + inside % across * 2};
}

// Pair 2 i + j of the thread: row `y` of channel `first / 4 + ...` of the lane's token j. Inputs past the end are zero.
AAPT_DEVICE void gather(uint32_t (&pair)[kPairs], const Parameters& p, const Place (&place)[2], int first) {
  AAPT_UNROLL
  for (int i = 0; i < kPairs / 2; ++i) {
    const int row = threadIdx.x / kWarp + i * kWarps, channel = first / 4 + row / 2, y = row % 2;
    AAPT_UNROLL
    for (int j = 0; j < 2; ++j) {
      pair[2 * i + j] = 0;
      if (place[j].stream < 0 || 4 * channel >= p.inputs) continue;
      pair[2 * i + j] = load_words<2>(plane_of(p, place[j].stream, channel) + place[j].pixel + y * p.width);
    }
  }
}

AAPT_DEVICE void put(uint16_t (&to)[kTokens][kPitch], const uint32_t (&pair)[kPairs]) {
  AAPT_UNROLL
  for (int i = 0; i < kPairs / 2; ++i) {
    const int row = threadIdx.x / kWarp + i * kWarps;
    AAPT_UNROLL
    for (int j = 0; j < 2; ++j) {
      store_words<2>(&to[threadIdx.x % kWarp + j * kWarp][2 * row], pair[2 * i + j]);
    }
  }
}

AAPT_DEVICE void fetch_weight(uint16_t (&to)[kOutputs][kPitch], const Parameters& p, int first_output, int first) {
  constexpr int kChunks = kInputs / 8;
  AAPT_UNROLL
  for (int i = 0; i < kOutputs * kChunks / kThreads; ++i) {
    const int chunk = threadIdx.x + i * kThreads, row = chunk / kChunks, input = first + chunk % kChunks * 8;
    const bool valid = first_output + row < p.outputs && input < p.inputs;
    const int64_t at = valid ? static_cast<int64_t>(first_output + row) * p.inputs + input : 0;
    ptx::copy_async_16(&to[row][chunk % kChunks * 8], p.weight + at, valid);
  }
  ptx::copy_async_commit();
}

// Grid: tiles of tokens x tiles of outputs.
__global__ void __launch_bounds__(kThreads) patch_embed(const __grid_constant__ Parameters p) {
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<Shared*>(raw);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int first_token = blockIdx.x * kTokens, first_output = blockIdx.y * kOutputs;
  const int token_row = warp % 2 * 32, output_row = warp / 2 * 32;
  const Place place[2] = {place_of(p, first_token + lane), place_of(p, first_token + lane + kWarp)};
  uint32_t pair[kPairs];
  float sum[2][4][4] = {};  // [16 tokens][8 outputs][fragment]

  fetch_weight(shared.in.weight[0], p, first_output, 0);
  gather(pair, p, place, 0);
  put(shared.in.token[0], pair);
  for (int first = 0, stage = 0; first < p.inputs; first += kInputs, stage ^= 1) {
    ptx::copy_async_wait<0>();
    __syncthreads();
    const bool more = first + kInputs < p.inputs;
    if (more) {
      fetch_weight(shared.in.weight[stage ^ 1], p, first_output, first + kInputs);
      gather(pair, p, place, first + kInputs);
    }
    AAPT_UNROLL
    for (int k = 0; k < kInputs; k += 16) {
      uint32_t a[2][4], b[2][4];
      AAPT_UNROLL
      for (int i = 0; i < 2; ++i) {
        const int row = i * 16 + lane % 16, column = k + lane / 16 * 8;
        ptx::ldmatrix_x4(a[i], &shared.in.token[stage][token_row + row][column]);
        ptx::ldmatrix_x4(b[i], &shared.in.weight[stage][output_row + row][column]);
      }
      AAPT_UNROLL
      for (int i = 0; i < 2; ++i) {
        AAPT_UNROLL
        for (int j = 0; j < 4; ++j) ptx::mma_m16n8k16(sum[i][j], a[i], b[j / 2][j % 2], b[j / 2][j % 2 + 2]);
      }
    }
    if (more) put(shared.in.token[stage ^ 1], pair);
  }
  __syncthreads();

  AAPT_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int column = output_row + j * 8 + lane % 4 * 2;
    float bias[2] = {0.f, 0.f};
    if (p.bias && first_output + column < p.outputs) {
      bias[0] = to_wide(p.bias[first_output + column]), bias[1] = to_wide(p.bias[first_output + column + 1]);
    }
    AAPT_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = token_row + i * 8 + lane / 4;
      const float* c = sum[i / 2][j] + i % 2 * 2;
      store_words<2>(&shared.out[row][column], ptx::pack_bf16(c[0] + bias[0], c[1] + bias[1]));
    }
  }
  __syncthreads();
  constexpr int kChunks = kOutputs / 8;
  for (int chunk = threadIdx.x; chunk < kTokens * kChunks; chunk += kThreads) {
    const int token = first_token + chunk / kChunks, output = first_output + chunk % kChunks * 8;
    if (token >= p.tokens || output >= p.outputs) continue;
    store_words<8>(p.out + static_cast<int64_t>(token) * p.outputs + output,
                   load_words<8>(&shared.out[chunk / kChunks][chunk % kChunks * 8]));
  }
}

// Whether 16-byte accesses fit the weight and the output, and 4-byte accesses the sources.
inline bool serves(const Problem& problem) {
  bool pairs = true;
  for (int s = 0; s < problem.sources; ++s) pairs = pairs && aligned(4, problem.source[s]);
  return problem.dtype == DType::bf16 && problem.weight.inputs % 8 == 0 && problem.weight.outputs % 8 == 0 && pairs &&
         aligned(16, problem.weight.data, problem.out);
}

// The problem must be one that this path serves.
inline void run(const Problem& problem) {
  Parameters p{};
  for (int s = 0; s < problem.sources; ++s) {
    p.source[s] = static_cast<const bf16*>(problem.source[s]);
    p.channels[s] = problem.channels[s];
  }
  p.weight = static_cast<const bf16*>(problem.weight.data);
  p.bias = static_cast<const bf16*>(problem.bias);
  p.out = static_cast<bf16*>(problem.out);
  p.sources = problem.sources, p.height = problem.height, p.width = problem.width;
  p.inputs = problem.weight.inputs, p.outputs = problem.weight.outputs;
  p.tokens = problem.batch * (problem.height / 2) * (problem.width / 2);
  const dim3 grid((p.tokens + kTokens - 1) / kTokens, (p.outputs + kOutputs - 1) / kOutputs);
  launch(patch_embed, grid, dim3(kThreads), sizeof(Shared), problem.stream, p);
}

}  // namespace aapt::patch_embed::sm80
