// What a warpgroup does with its registers: scores, softmax, output.
#pragma once

#include "attention/sm90_shape.cuh"
#include "ptx/warp.cuh"
#include "ptx/wgmma.cuh"

namespace aapt::attention::sm90 {

// What one thread of a warpgroup holds: parts of two rows, `lane / 4` and 8 further on, of its warp's 16.
template <int d>
struct Rows {
  float out[d / 2];  // not normalised
  float max[2];      // of the scores so far, not scaled
  float sum[2];      // of this thread's powers of two so far

  AAPT_DEVICE void clear() {
    AAPT_UNROLL
    for (int i = 0; i < d / 2; ++i) out[i] = 0.f;
    max[0] = max[1] = -INFINITY;
    sum[0] = sum[1] = 0.f;
  }
};

// Which of a thread's two rows element `i` of its accumulators belongs to.
AAPT_DEVICE constexpr int row_of(int i) {
  return i / 2 % 2;
}

// The four lanes that share a row agree on a value.
AAPT_DEVICE float max_of_row(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
AAPT_DEVICE float sum_of_row(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// Scores of this thread's keys that are not there become -inf.
AAPT_DEVICE void mask_tail(float (&scores)[kKeys / 2], int keys) {
  const int first = threadIdx.x % 4 * 2;
  AAPT_UNROLL
  for (int i = 0; i < kKeys / 2; ++i) {
    const int key = i / 4 * 8 + first + i % 2;
    scores[i] = key < keys ? scores[i] : -INFINITY;
  }
}

// One step of online softmax: scores become weights 2^(scale (score - max)). Returns by how much what was summed under
// the smaller maximum before is too large, for each row.
template <int d>
AAPT_DEVICE float2 softmax(float (&scores)[kKeys / 2], Rows<d>& rows, float scale_log2) {
  float new_max[2] = {rows.max[0], rows.max[1]};
  AAPT_UNROLL
  for (int i = 0; i < kKeys / 2; ++i) new_max[row_of(i)] = fmaxf(new_max[row_of(i)], scores[i]);
  float shrink[2], offset[2];
  AAPT_UNROLL
  for (int r = 0; r < 2; ++r) {
    new_max[r] = max_of_row(new_max[r]);
    shrink[r] = ptx::exp2_approx((rows.max[r] - new_max[r]) * scale_log2);
    offset[r] = new_max[r] * scale_log2;
    rows.max[r] = new_max[r];
    rows.sum[r] *= shrink[r];
  }
  AAPT_UNROLL
  for (int i = 0; i < kKeys / 2; ++i) {
    scores[i] = ptx::exp2_approx(fmaf(scores[i], scale_log2, -offset[row_of(i)]));
    rows.sum[row_of(i)] += scores[i];
  }
  return make_float2(shrink[0], shrink[1]);
}

// Weights as the A operand of p v.
AAPT_DEVICE void pack(const float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4]) {
  AAPT_UNROLL
  for (int i = 0; i < kKeys / 2; i += 2) weights[i / 8][i % 8 / 2] = ptx::pack_bf16(scores[i], scores[i + 1]);
}

template <int d>
AAPT_DEVICE void scale_down(float (&out)[d / 2], float2 shrink) {
  AAPT_UNROLL
  for (int i = 0; i < d / 2; ++i) out[i] *= row_of(i) == 0 ? shrink.x : shrink.y;
}

// Starts scores = q k^T for the warpgroup's 64 queries, as one group.
template <int d>
AAPT_DEVICE void start_scores(float (&scores)[kKeys / 2], const uint16_t* q, const uint16_t* k) {
  const uint64_t q_start = ptx::wgmma_descriptor(q), k_start = ptx::wgmma_descriptor(k);
  ptx::wgmma_fence();
  AAPT_UNROLL
  for (int j = 0; j < d / 16; ++j) {
    const int half = j * 16 / kLine, column = j * 16 % kLine;
    ptx::wgmma<kKeys, ptx::Major::k>(scores, ptx::wgmma_advance(q_start, (half * kRows * kLine + column) * 2),
                                     ptx::wgmma_advance(k_start, (half * kKeys * kLine + column) * 2), j > 0);
  }
  ptx::wgmma_commit();
}

// Starts out += weights v, as one group.
template <int d>
AAPT_DEVICE void start_output(float (&out)[d / 2], const uint32_t (&weights)[kKeys / 16][4], const uint16_t* v) {
  const uint64_t v_start = ptx::wgmma_descriptor(v, kKeys * kLine * 2);
  ptx::wgmma_fence();
  AAPT_UNROLL
  for (int j = 0; j < kKeys / 16; ++j) {
    ptx::wgmma<d, ptx::Major::mn>(out, weights[j], ptx::wgmma_advance(v_start, j * 16 * kLine * 2), true);
  }
  ptx::wgmma_commit();
}

// Writes the thread's two rows: to the output if the piece is a whole job, else to the partial results.
template <int d>
AAPT_DEVICE void write(const Parameters& p, const Rows<d>& rows, int batch, int head, int query_tile, int partial_row,
                       int warp_row) {
  const int lane = threadIdx.x % 32, column = lane % 4 * 2;
  AAPT_UNROLL
  for (int r = 0; r < 2; ++r) {
    const float sum = sum_of_row(rows.sum[r]), inverse = 1.f / sum;
    const float lse_log2 = rows.max[r] * p.scale_log2 + log2f(sum);
    const int tile_row = warp_row + lane / 4 + 8 * r, row = query_tile * kRows + tile_row;
    if (row >= p.rows) continue;
    if (partial_row < 0) {
      const int token = batch * p.rows + row, head_row = (batch * p.lengths.heads + head) * p.rows + row;
      bf16* out = p.out + static_cast<int64_t>(token * p.lengths.heads + head) * d + column;
      AAPT_UNROLL
      for (int i = r * 2; i < d / 2; i += 4) {
        *reinterpret_cast<uint32_t*>(out + i / 4 * 8) =
            ptx::pack_bf16(rows.out[i] * inverse, rows.out[i + 1] * inverse);
      }
      if (p.lse && column == 0) p.lse[head_row] = lse_log2 * kLog2;
    } else {
      const int place = partial_row + tile_row;
      float* out = p.partial_out + static_cast<int64_t>(place) * d + column;
      AAPT_UNROLL
      for (int i = r * 2; i < d / 2; i += 4) {
        *reinterpret_cast<float2*>(out + i / 4 * 8) = make_float2(rows.out[i] * inverse, rows.out[i + 1] * inverse);
      }
      if (column == 0) p.partial_lse[place] = lse_log2;
    }
  }
}

}  // namespace aapt::attention::sm90
