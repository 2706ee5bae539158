// The host's side of the Hopper kernel: tensor maps and launches; and the small kernel that merges partial results.
#pragma once

#include "attention/sm90.cuh"

namespace aapt::attention::sm90 {

// Merges the partial results of heads that were cut, and writes 0 and -inf for streams without any key. Grid: query
// tiles x heads x streams; a warp per row.
template <int d>
__global__ void __launch_bounds__(kMergeThreads) merge_partials(const __grid_constant__ Parameters p) {
  constexpr int kPerLane = d / 32;
  const int query_tile = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bool no_keys = p.lengths.steps(batch) == 0;
  const int group = query_tile / p.gang_tiles, rank = query_tile % p.gang_tiles;
  const Partials partials = partials_of(p.lengths, p.gangs, batch, head, group);
  if (!partials.any() && !no_keys) return;
  const int rows = min(kRows, p.rows - query_tile * kRows);
  for (int tile_row = warp; tile_row < rows; tile_row += kMergeThreads / 32) {
    float max = -INFINITY, sum = 0.f, out[kPerLane] = {};
    if (!no_keys) {
      for (int g = partials.first_gang; g <= partials.last_gang; ++g) {
        max = fmaxf(max, p.partial_lse[p.partial_row(partials.slot(g), rank) + tile_row]);
      }
      for (int g = partials.first_gang; g <= partials.last_gang; ++g) {
        const int64_t place = p.partial_row(partials.slot(g), rank) + tile_row;
        const float weight = exp2f(p.partial_lse[place] - max);
        sum += weight;
        AAPT_UNROLL
        for (int i = 0; i < kPerLane; ++i) out[i] += weight * p.partial_out[place * d + lane + 32 * i];
      }
    }
    const int row = query_tile * kRows + tile_row, token = batch * p.rows + row;
    bf16* to = p.out + static_cast<int64_t>(token * p.lengths.heads + head) * d + lane;
    AAPT_UNROLL
    for (int i = 0; i < kPerLane; ++i) store(to + 32 * i, no_keys ? 0.f : out[i] / sum);
    if (p.lse && lane == 0) {
      p.lse[(batch * p.lengths.heads + head) * p.rows + row] = no_keys ? -INFINITY : (max + log2f(sum)) * kLog2;
    }
  }
}

// Bytes of workspace that `run` needs: partial results of every slot.
inline size_t workspace_bytes(const Plan& plan, int head_dim) {
  const size_t rows = static_cast<size_t>(kSlotsPerGang) * plan.blocks() * kRows;
  return rows * (head_dim + 1) * sizeof(float);
}

inline ptx::TensorMap map_queries(const Problem& problem, const void* base) {
  const uint64_t d = problem.head_dim, token = problem.heads * d * 2;
  ptx::TensorMapSpec spec;
  spec.base = base;
  spec.rank = 5;
  const uint64_t size[5] = {kLine, static_cast<uint64_t>(problem.rows), d / kLine, static_cast<uint64_t>(problem.heads),
                            static_cast<uint64_t>(problem.batch)};
  const uint64_t stride[4] = {token, kLine * 2, d * 2, problem.rows * token};
  for (int i = 0; i < 5; ++i) spec.size[i] = size[i];
  for (int i = 0; i < 4; ++i) spec.byte_stride[i] = stride[i];
  spec.box[0] = kLine, spec.box[1] = kRows, spec.box[2] = d / kLine, spec.box[3] = spec.box[4] = 1;
  return ptx::encode_tensor_map(spec);
}

inline ptx::TensorMap map_pages(const Problem& problem, const Segment& segment, const void* base, int64_t row_stride,
                                int64_t head_stride, int64_t page_stride) {
  const uint64_t d = problem.head_dim;
  ptx::TensorMapSpec spec;
  spec.base = base;
  spec.rank = 5;
  const uint64_t size[5] = {kLine, static_cast<uint64_t>(segment.rows), d / kLine, static_cast<uint64_t>(problem.heads),
                            static_cast<uint64_t>(segment.pages)};
  const int64_t stride[4] = {row_stride, kLine, head_stride, page_stride};
  for (int i = 0; i < 5; ++i) spec.size[i] = size[i];
  for (int i = 0; i < 4; ++i) spec.byte_stride[i] = static_cast<uint64_t>(stride[i]) * 2;
  spec.box[0] = kLine, spec.box[1] = kKeys, spec.box[2] = d / kLine, spec.box[3] = spec.box[4] = 1;
  return ptx::encode_tensor_map(spec);
}

template <int d>
void run_head_dim(const Problem& problem, const Plan& plan, float* workspace, int* bad_page) {
  Parameters p{};
  for (int i = 0; i < problem.query_count; ++i) p.q[i] = map_queries(problem, problem.query[i]);
  for (int s = 0; s < problem.segment_count; ++s) {
    const Segment& segment = problem.segment[s];
    p.pages[s] = {segment.page_table, segment.table_stride, segment.pages, segment.query};
    if (segment.pages == 0) continue;  // no stream can list one
    p.k[s] = map_pages(problem, segment, segment.k, segment.k_row_stride, segment.k_head_stride, segment.k_page_stride);
    p.v[s] = map_pages(problem, segment, segment.v, segment.v_row_stride, segment.v_head_stride, segment.v_page_stride);
  }
  p.lengths = key_lengths(problem, kKeys, plan.groups());
  p.rows = problem.rows;
  p.gangs = plan.gangs;
  p.gang_tiles = plan.gang_tiles;
  p.query_tiles = plan.query_tiles;
  p.scale_log2 = problem.scale * 1.44269504088896f;
  p.out = static_cast<bf16*>(problem.out);
  p.lse = problem.lse;
  p.partial_out = workspace;
  p.partial_lse = workspace + static_cast<int64_t>(kSlotsPerGang) * plan.blocks() * kRows * d;
  p.bad_page = bad_page;
  launch(attend<d>, dim3(plan.blocks()), dim3(kThreads), sizeof(Shared<d>), problem.stream, p);
  launch(merge_partials<d>, dim3(plan.query_tiles, problem.heads, problem.batch), dim3(kMergeThreads), 0,
         problem.stream, p);
}

// The problem must be bf16 with plain pages and head size 64 or 128. `workspace` holds workspace_bytes, 8-byte aligned;
// `bad_page` is a sticky flag on the device.
inline void run(const Problem& problem, const Plan& plan, float* workspace, int* bad_page) {
  if (problem.head_dim == 64) {
    run_head_dim<64>(problem, plan, workspace, bad_page);
  } else {
    run_head_dim<128>(problem, plan, workspace, bad_page);
  }
}

}  // namespace aapt::attention::sm90
