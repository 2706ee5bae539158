// Paged attention on Hopper, bf16.
//
// A block holds 192 queries of one head and walks keys in steps of 128. One warp fetches: it copies K and V tiles
// straight from their pages into a ring of two stages. A tensor map's row extent is the page's number of rows, so a
// tile that sticks out of its page is filled with zeros by the copy engine: pages need no padding, and their size need
// not be a multiple of the tile. Three warpgroups of 64 queries multiply: scores = q k^T into registers, softmax there,
// then out += p v with p still in registers. While one warpgroup does its softmax the tensor cores serve the others.
//
// Exponentials are powers of two (the factor log2 e goes into the scale). Scores of keys that are not there are
// replaced by -inf, by selection, since what lies beyond the last valid key may be NaN; V's rows there are set to zero
// in shared memory, since 0 * NaN is NaN.
//
// Which steps of which head a block takes is plan.h's; the results of heads that were cut are merged by merge_partials.
#pragma once

#include <stdexcept>

#include "attention/op.h"
#include "attention/plan.h"
#include "core/dtype.h"
#include "ptx/mbarrier.cuh"
#include "ptx/sync.cuh"
#include "ptx/tma.cuh"
#include "ptx/warp.cuh"
#include "ptx/wgmma.cuh"

namespace aapt::attention::sm90 {

constexpr int kWarpgroups = 3;           // that multiply
constexpr int kRows = 64 * kWarpgroups;  // queries of a block
constexpr int kKeys = 128;               // keys of a step
constexpr int kStages = 2;
constexpr int kLine = 64;  // bf16 of a swizzled line of 128 bytes
constexpr int kThreads = 128 * (kWarpgroups + 1), kMergeThreads = 256;
constexpr int kWarps = 4 * kWarpgroups;      // that multiply
constexpr float kLog2 = 0.693147180559945f;  // natural logarithm of 2
constexpr int kRegistersProducer = 32, kRegistersConsumer = 160;

// What the producer tells about a step, published with its K tile.
enum Note : int {
  kKeysMask = 0xff,       // valid keys; 0: there are no more steps, and no tile
  kFirstOfQuery = 0x100,  // wait for q before the scores
  kLastOfQuery = 0x200,   // give q back afterwards
  kLastOfPiece = 0x400,   // write the result afterwards
  kStaleTail = 0x800,     // V's rows after the valid ones are to be zeroed
};

// Tiles lie as TMA writes them: [d / 64, rows, 64].
template <int d>
struct Shared {
  uint16_t q[kRows * d];
  uint16_t k[kStages][kKeys * d];
  uint16_t v[kStages][kKeys * d];
  uint64_t q_full, q_empty, v_landed;
  uint64_t k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
  int note[kStages];
  // Of the piece under way; published and given back with q.
  int batch, head, slot;  // slot -1 where the piece is a whole job
  // The producer's own, kept here because it has few registers.
  Pieces pieces;
  Piece piece;
  Steps steps;
};

struct Parameters {
  ptx::TensorMap q[kMaxQueries], k[kMaxSegments], v[kMaxSegments];
  KeyLengths lengths;
  struct Pages {
    const int32_t* table;
    int table_stride, count, query;
  } pages[kMaxSegments];
  int rows, gangs, query_tiles;
  float scale_log2;
  bf16* out;           // [B, L, h, d]
  float* lse;          // [B, h, L] or null
  float* partial_out;  // [slots, query tiles, 192, d], each normalised by its own sum
  float* partial_lse;  // [slots, query tiles, 192], base 2
  int* bad_page;       // set to 1 + the largest bad page's number, or to 1 for a negative one

  AAPT_HD int partial_row(int slot, int query_tile, int tile_row) const {
    return (slot * query_tiles + query_tile) * kRows + tile_row;
  }
};

// A position in the ring of stages, and the parity of the phase there.
struct Ring {
  int stage = 0;
  uint32_t parity = 0;

  AAPT_DEVICE void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <int d>
AAPT_DEVICE void initialise(Shared<d>& shared) {
  ptx::mbarrier_init(&shared.q_full, 1);
  ptx::mbarrier_init(&shared.q_empty, kWarps);
  ptx::mbarrier_init(&shared.v_landed, 1);
  for (int s = 0; s < kStages; ++s) {
    ptx::mbarrier_init(&shared.k_full[s], 1);
    ptx::mbarrier_init(&shared.v_full[s], 1);
    ptx::mbarrier_init(&shared.k_empty[s], kWarps + 1);  // and the warp that reads the notes for stale tails
    ptx::mbarrier_init(&shared.v_empty[s], kWarps);
  }
  ptx::fence_mbarrier_init();
}

// The page at `place` of the stream's table. A number beyond the pool is reported and read as page 0.
AAPT_DEVICE int page_number(const Parameters& p, int segment, int batch, int place) {
  const auto& pages = p.pages[segment];
  const int page = pages.table[static_cast<int64_t>(batch) * pages.table_stride + place];
  if (page >= 0 && page < pages.count) return page;
  atomicMax(p.bad_page, page < 0 ? 1 : page + 1);
  return 0;
}

// One thread: fetches q, K and V for every step of the block's pieces.
template <int d>
AAPT_DEVICE void produce(Shared<d>& shared, const Parameters& p, int query_tile, int gang) {
  constexpr uint32_t kQueryBytes = kRows * d * 2, kTileBytes = kKeys * d * 2;
  Ring ring;
  uint32_t q_parity = 0;
  Pieces& pieces = shared.pieces;
  Steps& steps = shared.steps;
  Piece& piece = shared.piece;
  pieces.begin(p.lengths, p.gangs, gang);
  while (pieces.next(p.lengths, &piece)) {
    steps.begin(p.lengths, piece.batch, piece.first);
    int query = -1;  // the one in shared memory
    for (int left = piece.last - piece.first; left > 0; --left) {
      const int segment = steps.segment, row = steps.row, keys = steps.keys(p.lengths);
      const int page = page_number(p, segment, piece.batch, steps.page);
      int note = keys;
      if (keys < p.lengths.segment[segment].rows - row && keys < kKeys) note |= kStaleTail;
      if (p.pages[segment].query != query) {
        query = p.pages[segment].query;
        note |= kFirstOfQuery;
      }
      steps.next(p.lengths);
      if (left == 1) note |= kLastOfPiece | kLastOfQuery;
      if (left > 1 && p.pages[steps.segment].query != query) note |= kLastOfQuery;

      if (note & kFirstOfQuery) {
        ptx::mbarrier_wait(&shared.q_empty, q_parity ^ 1);
        shared.batch = piece.batch;
        shared.head = piece.head;
        shared.slot = piece.whole() ? -1 : piece.slot(gang);
        ptx::mbarrier_arrive_expect_tx(&shared.q_full, kQueryBytes);
        ptx::tma_load_5d(shared.q, &p.q[query], &shared.q_full, 0, query_tile * kRows, 0, piece.head, piece.batch);
        q_parity ^= 1;
      }
      ptx::mbarrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      shared.note[ring.stage] = note;
      ptx::mbarrier_arrive_expect_tx(&shared.k_full[ring.stage], kTileBytes);
      ptx::tma_load_5d(shared.k[ring.stage], &p.k[segment], &shared.k_full[ring.stage], 0, row, 0, piece.head, page);

      ptx::mbarrier_wait(&shared.v_empty[ring.stage], ring.parity ^ 1);
      uint64_t* landed = note & kStaleTail ? &shared.v_landed : &shared.v_full[ring.stage];
      ptx::mbarrier_arrive_expect_tx(landed, kTileBytes);
      ptx::tma_load_5d(shared.v[ring.stage], &p.v[segment], landed, 0, row, 0, piece.head, page);
      ring.advance();
    }
  }
  ptx::mbarrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
  shared.note[ring.stage] = 0;
  ptx::mbarrier_arrive(&shared.k_full[ring.stage]);
}

// One warp: zeroes the rows of V tiles that lie in the page but after the last valid key, where anything may stand.
template <int d>
AAPT_DEVICE void zero_stale_tails(Shared<d>& shared) {
  constexpr int kChunk = 8, kChunksPerRow = kLine / kChunk;
  const int lane = threadIdx.x % 32;
  Ring ring;
  uint32_t landed_parity = 0;
  while (true) {
    ptx::mbarrier_wait(&shared.k_full[ring.stage], ring.parity);
    const int note = shared.note[ring.stage], keys = note & kKeysMask;
    if (keys == 0) break;
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(&shared.k_empty[ring.stage]);
    if (note & kStaleTail) {
      ptx::mbarrier_wait(&shared.v_landed, landed_parity);
      landed_parity ^= 1;
      for (int half = 0; half < d / kLine; ++half) {
        uint16_t* tail = shared.v[ring.stage] + (half * kKeys + keys) * kLine;
        for (int i = lane; i < (kKeys - keys) * kChunksPerRow; i += 32) {
          ptx::store_for_async(tail + i * kChunk, make_uint4(0, 0, 0, 0));
        }
      }
      ptx::fence_proxy_async();
      __syncwarp();
      if (lane == 0) ptx::mbarrier_arrive(&shared.v_full[ring.stage]);
    }
    ring.advance();
  }
}

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

// One step of online softmax: scores become weights 2^(scale (score - max)), packed as the A operand of p v; what was
// summed under a smaller maximum is scaled down.
template <int d>
AAPT_DEVICE void softmax(float (&scores)[kKeys / 2], uint32_t (&weights)[kKeys / 16][4], Rows<d>& rows,
                         float scale_log2) {
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
  for (int i = 0; i < kKeys / 2; i += 2) {
    const int r = row_of(i);
    const float low = ptx::exp2_approx(fmaf(scores[i], scale_log2, -offset[r]));
    const float high = ptx::exp2_approx(fmaf(scores[i + 1], scale_log2, -offset[r]));
    rows.sum[r] += low + high;
    weights[i / 8][i % 8 / 2] = ptx::pack_bf16(low, high);
  }
  AAPT_UNROLL
  for (int i = 0; i < d / 2; ++i) rows.out[i] *= shrink[row_of(i)];
}

// scores = q k^T for the warpgroup's 64 queries.
template <int d>
AAPT_DEVICE void multiply_k(float (&scores)[kKeys / 2], const uint16_t* q, const uint16_t* k) {
  const uint64_t q_start = ptx::wgmma_descriptor(q), k_start = ptx::wgmma_descriptor(k);
  ptx::wgmma_fence();
  AAPT_UNROLL
  for (int j = 0; j < d / 16; ++j) {
    const int half = j * 16 / kLine, column = j * 16 % kLine;
    ptx::wgmma<kKeys, ptx::Major::k>(scores, ptx::wgmma_advance(q_start, (half * kRows * kLine + column) * 2),
                                     ptx::wgmma_advance(k_start, (half * kKeys * kLine + column) * 2), j > 0);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
}

// out += weights v.
template <int d>
AAPT_DEVICE void multiply_v(float (&out)[d / 2], const uint32_t (&weights)[kKeys / 16][4], const uint16_t* v) {
  const uint64_t v_start = ptx::wgmma_descriptor(v, kKeys * kLine * 2);
  ptx::wgmma_fence();
  AAPT_UNROLL
  for (int j = 0; j < kKeys / 16; ++j) {
    ptx::wgmma<d, ptx::Major::mn>(out, weights[j], ptx::wgmma_advance(v_start, j * 16 * kLine * 2), true);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
}

// Writes the thread's two rows: to the output if the piece is a whole job, else to its slot.
template <int d>
AAPT_DEVICE void write(const Parameters& p, const Rows<d>& rows, int batch, int head, int slot, int query_tile,
                       int warp_row) {
  const int lane = threadIdx.x % 32, column = lane % 4 * 2;
  AAPT_UNROLL
  for (int r = 0; r < 2; ++r) {
    const float sum = sum_of_row(rows.sum[r]), inverse = 1.f / sum;
    const float lse_log2 = rows.max[r] * p.scale_log2 + log2f(sum);
    const int tile_row = warp_row + lane / 4 + 8 * r, row = query_tile * kRows + tile_row;
    if (row >= p.rows) continue;
    if (slot < 0) {
      const int token = batch * p.rows + row, head_row = (batch * p.lengths.heads + head) * p.rows + row;
      bf16* out = p.out + static_cast<int64_t>(token * p.lengths.heads + head) * d + column;
      AAPT_UNROLL
      for (int i = r * 2; i < d / 2; i += 4) {
        *reinterpret_cast<uint32_t*>(out + i / 4 * 8) =
            ptx::pack_bf16(rows.out[i] * inverse, rows.out[i + 1] * inverse);
      }
      if (p.lse && column == 0) p.lse[head_row] = lse_log2 * kLog2;
    } else {
      const int place = p.partial_row(slot, query_tile, tile_row);
      float* out = p.partial_out + static_cast<int64_t>(place) * d + column;
      AAPT_UNROLL
      for (int i = r * 2; i < d / 2; i += 4) {
        *reinterpret_cast<float2*>(out + i / 4 * 8) = make_float2(rows.out[i] * inverse, rows.out[i + 1] * inverse);
      }
      if (column == 0) p.partial_lse[place] = lse_log2;
    }
  }
}

// One warpgroup: every step that the producer announces, for 64 of the block's queries.
template <int d>
AAPT_DEVICE void consume(Shared<d>& shared, const Parameters& p, int query_tile, int warpgroup) {
  const bool leader = threadIdx.x % 32 == 0;
  const int warp_row = warpgroup * 64 + threadIdx.x / 32 % 4 * 16;
  const uint16_t* q = shared.q + warpgroup * 64 * kLine;
  Ring ring;
  uint32_t q_parity = 0;
  Rows<d> rows;
  float scores[kKeys / 2];
  uint32_t weights[kKeys / 16][4];
  while (true) {
    rows.clear();
    int note;
    do {
      ptx::mbarrier_wait(&shared.k_full[ring.stage], ring.parity);
      note = shared.note[ring.stage];
      const int keys = note & kKeysMask;
      if (keys == 0) return;
      if (note & kFirstOfQuery) {
        ptx::mbarrier_wait(&shared.q_full, q_parity);
        q_parity ^= 1;
      }
      multiply_k<d>(scores, q, shared.k[ring.stage]);
      if (leader) ptx::mbarrier_arrive(&shared.k_empty[ring.stage]);
      if (leader && (note & kLastOfQuery) && !(note & kLastOfPiece)) ptx::mbarrier_arrive(&shared.q_empty);

      if (keys < kKeys) mask_tail(scores, keys);
      softmax<d>(scores, weights, rows, p.scale_log2);

      ptx::mbarrier_wait(&shared.v_full[ring.stage], ring.parity);
      multiply_v<d>(rows.out, weights, shared.v[ring.stage]);
      if (leader) ptx::mbarrier_arrive(&shared.v_empty[ring.stage]);
      ring.advance();
    } while (!(note & kLastOfPiece));
    const int batch = shared.batch, head = shared.head, slot = shared.slot;
    __syncwarp();
    if (leader) ptx::mbarrier_arrive(&shared.q_empty);
    write<d>(p, rows, batch, head, slot, query_tile, warp_row);
  }
}

// Grid: the blocks of gang 0, of gang 1, ...; a gang's blocks are its query tiles.
template <int d>
__global__ void __launch_bounds__(kThreads, 1) attend(const __grid_constant__ Parameters p) {
#if defined(AAPT_SM90)
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<Shared<d>*>(raw);
  const int query_tile = blockIdx.x % p.query_tiles, gang = blockIdx.x / p.query_tiles;
  if (threadIdx.x == 0) initialise(shared);
  __syncthreads();
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == kWarpgroups) {
    ptx::registers_decrease<kRegistersProducer>();
    if (threadIdx.x == kWarps * 32) produce<d>(shared, p, query_tile, gang);
    if (threadIdx.x / 32 == kWarps + 1) zero_stale_tails<d>(shared);
  } else {
    ptx::registers_increase<kRegistersConsumer>();
    consume<d>(shared, p, query_tile, warpgroup);
  }
#endif
}

// Merges the partial results of heads that were cut, and writes 0 and -inf for streams without any key. Grid: query
// tiles x heads x streams; a warp per row.
template <int d>
__global__ void __launch_bounds__(kMergeThreads) merge_partials(const __grid_constant__ Parameters p) {
  constexpr int kPerLane = d / 32;
  const int query_tile = blockIdx.x, head = blockIdx.y, batch = blockIdx.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bool no_keys = p.lengths.steps(batch) == 0;
  const Partials partials = partials_of(p.lengths, p.gangs, batch, head);
  if (!partials.any() && !no_keys) return;
  const int rows = min(kRows, p.rows - query_tile * kRows);
  for (int tile_row = warp; tile_row < rows; tile_row += kMergeThreads / 32) {
    float max = -INFINITY, sum = 0.f, out[kPerLane] = {};
    if (!no_keys) {
      for (int g = partials.first_gang; g <= partials.last_gang; ++g) {
        max = fmaxf(max, p.partial_lse[p.partial_row(partials.slot(g), query_tile, tile_row)]);
      }
      for (int g = partials.first_gang; g <= partials.last_gang; ++g) {
        const int64_t place = p.partial_row(partials.slot(g), query_tile, tile_row);
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
  const size_t rows = static_cast<size_t>(kSlotsPerGang) * plan.gangs * plan.query_tiles * kRows;
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
  p.lengths = key_lengths(problem, kKeys);
  p.rows = problem.rows;
  p.gangs = plan.gangs;
  p.query_tiles = plan.query_tiles;
  p.scale_log2 = problem.scale * 1.44269504088896f;
  p.out = static_cast<bf16*>(problem.out);
  p.lse = problem.lse;
  p.partial_out = workspace;
  p.partial_lse = workspace + static_cast<int64_t>(kSlotsPerGang) * plan.gangs * plan.query_tiles * kRows * d;
  p.bad_page = bad_page;
  launch(attend<d>, dim3(plan.gangs * plan.query_tiles), dim3(kThreads), sizeof(Shared<d>), problem.stream, p);
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
