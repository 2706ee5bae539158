// Paged attention on Hopper, bf16.
//
// A block holds 128 queries of one head and walks keys in steps of 176. One thread fetches: it copies K and V tiles
// straight from their pages into a ring of two stages. A tensor map's row extent is the page's number of rows, so a
// tile that sticks out of its page is filled with zeros by the copy engine: pages need no padding, and their size need
// not be a multiple of the tile. Two warpgroups of 64 queries multiply: scores = q k^T into registers, softmax there,
// then out += p v with p still in registers. A warpgroup starts the scores of a step before the output of the step
// before, and does its softmax while that product runs; and the two take turns to issue.
//
// Exponentials are powers of two (the factor log2 e goes into the scale). Scores of keys that are not there are
// replaced by -inf, by selection, since what lies beyond the last valid key may be NaN; V's rows there are set to zero
// in shared memory, since 0 * NaN is NaN.
//
// Which steps of which head a block takes is plan.h's; the results of heads that were cut are merged by merge_partials.
#pragma once

#include "attention/sm90_rows.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/sync.cuh"
#include "ptx/tma.cuh"

namespace aapt::attention::sm90 {

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
  for (int s = 0; s < kStages; ++s) {
    ptx::mbarrier_init(&shared.k_full[s], 1);
    ptx::mbarrier_init(&shared.v_full[s], 1);
    ptx::mbarrier_init(&shared.v_landed[s], 1);
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
AAPT_DEVICE void produce(Shared<d>& shared, const Parameters& p, int rank, int gang) {
  constexpr uint32_t kQueryBytes = kRows * d * 2, kTileBytes = kKeys * d * 2;
  Ring ring;
  uint32_t q_parity = 0;
  Pieces& pieces = shared.pieces;
  Steps& steps = shared.steps;
  Piece& piece = shared.piece;
  pieces.begin(p.lengths, p.gangs, gang);
  while (pieces.next(p.lengths, &piece)) {
    const int query_tile = piece.group * p.gang_tiles + rank;
    if (query_tile >= p.query_tiles) continue;  // the last group may have fewer tiles than the gang has blocks
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
        shared.query_tile = query_tile;
        shared.partial_row = piece.whole() ? -1 : p.partial_row(piece.slot(gang), rank);
        ptx::mbarrier_arrive_expect_tx(&shared.q_full, kQueryBytes);
        ptx::tma_load_5d(shared.q, &p.q[query], &shared.q_full, 0, query_tile * kRows, 0, piece.head, piece.batch);
        q_parity ^= 1;
      }
      ptx::mbarrier_wait(&shared.k_empty[ring.stage], ring.parity ^ 1);
      shared.note[ring.stage] = note;
      ptx::mbarrier_arrive_expect_tx(&shared.k_full[ring.stage], kTileBytes);
      ptx::tma_load_5d(shared.k[ring.stage], &p.k[segment], &shared.k_full[ring.stage], 0, row, 0, piece.head, page);

      ptx::mbarrier_wait(&shared.v_empty[ring.stage], ring.parity ^ 1);
      uint64_t* landed = note & kStaleTail ? &shared.v_landed[ring.stage] : &shared.v_full[ring.stage];
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
  uint32_t landed_parity[kStages] = {};
  while (true) {
    ptx::mbarrier_wait(&shared.k_full[ring.stage], ring.parity);
    const int note = shared.note[ring.stage], keys = note & kKeysMask;
    if (keys == 0) break;
    __syncwarp();
    if (lane == 0) ptx::mbarrier_arrive(&shared.k_empty[ring.stage]);
    if (note & kStaleTail) {
      AAPT_UNROLL
      for (int s = 0; s < kStages; ++s) {  // an unrolled search, so that the parities stay in registers
        if (s != ring.stage) continue;
        ptx::mbarrier_wait(&shared.v_landed[s], landed_parity[s]);
        landed_parity[s] ^= 1;
      }
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

// One warpgroup's side of the pipeline: it waits for tiles, and gives them back.
template <int d>
struct Consumer {
  Shared<d>& shared;
  Ring ring;     // of the K tile that comes next
  Ring v_ring;   // of the V tile that comes next
  int note = 0;  // of the K tile that came last
  uint32_t q_parity = 0;

  AAPT_DEVICE bool leader() const { return threadIdx.x % 32 == 0; }
  AAPT_DEVICE int keys() const { return note & kKeysMask; }
  AAPT_DEVICE const uint16_t* k() const { return shared.k[ring.stage]; }
  AAPT_DEVICE const uint16_t* v() const { return shared.v[v_ring.stage]; }

  // False where there are no more steps.
  AAPT_DEVICE bool wait_k() {
    ptx::mbarrier_wait(&shared.k_full[ring.stage], ring.parity);
    note = shared.note[ring.stage];
    if (note & kFirstOfQuery) {
      ptx::mbarrier_wait(&shared.q_full, q_parity);
      q_parity ^= 1;
    }
    return keys() > 0;
  }

  AAPT_DEVICE void release_k() {
    if (leader()) ptx::mbarrier_arrive(&shared.k_empty[ring.stage]);
    if (leader() && (note & (kLastOfQuery | kLastOfPiece)) == kLastOfQuery) ptx::mbarrier_arrive(&shared.q_empty);
    ring.advance();
  }

  AAPT_DEVICE void wait_v() { ptx::mbarrier_wait(&shared.v_full[v_ring.stage], v_ring.parity); }

  AAPT_DEVICE void release_v() {
    if (leader()) ptx::mbarrier_arrive(&shared.v_empty[v_ring.stage]);
    v_ring.advance();
  }
};

// The two warpgroups take turns to issue: while one's products run, the other has its softmax.
AAPT_DEVICE void take_turn(int warpgroup) {
  ptx::barrier_sync(kTurnBarrier + warpgroup, 128 * kWarpgroups);
}
AAPT_DEVICE void end_turn(int warpgroup) {
  ptx::barrier_arrive(kTurnBarrier + 1 - warpgroup, 128 * kWarpgroups);
}

// One warpgroup: every step that the producer announces, for 64 of the block's queries. The scores of a step are
// started before the output of the step before, so that the tensor cores are busy during the softmax.
template <int d>
AAPT_DEVICE void consume(Shared<d>& shared, const Parameters& p, int warpgroup) {
  const int warp_row = warpgroup * 64 + threadIdx.x / 32 % 4 * 16;
  const uint16_t* q = shared.q + warpgroup * 64 * kLine;
  Consumer<d> pipeline{shared, {}, {}};
  Rows<d> rows;
  float scores[kKeys / 2];
  uint32_t weights[kKeys / 16][4];
  if (warpgroup == 1) end_turn(1);
  while (pipeline.wait_k()) {
    rows.clear();
    start_scores<d>(scores, q, pipeline.k());
    ptx::wgmma_wait<0>();
    if (pipeline.keys() < kKeys) mask_tail(scores, pipeline.keys());
    pipeline.release_k();
    softmax<d>(scores, rows, p.scale_log2);
    pack(scores, weights);
    while (!(pipeline.note & kLastOfPiece)) {
      pipeline.wait_k();
      take_turn(warpgroup);
      start_scores<d>(scores, q, pipeline.k());
      pipeline.wait_v();
      start_output<d>(rows.out, weights, pipeline.v());
      end_turn(warpgroup);
      ptx::wgmma_wait<1>();
      if (pipeline.keys() < kKeys) mask_tail(scores, pipeline.keys());
      const float2 shrink = softmax<d>(scores, rows, p.scale_log2);
      // K could be given back before the softmax; here, its branch keeps the assembler from moving the next wait up
      // before the softmax, which is there to run beside the product.
      pipeline.release_k();
      ptx::wgmma_wait<0>();
      pipeline.release_v();
      scale_down<d>(rows.out, shrink);
      pack(scores, weights);
    }
    pipeline.wait_v();
    start_output<d>(rows.out, weights, pipeline.v());
    ptx::wgmma_wait<0>();
    pipeline.release_v();
    const int batch = shared.batch, head = shared.head;
    const int query_tile = shared.query_tile, partial_row = shared.partial_row;
    __syncwarp();
    if (pipeline.leader()) ptx::mbarrier_arrive(&shared.q_empty);
    write<d>(p, rows, batch, head, query_tile, partial_row, warp_row);
  }
}

// Grid: the blocks of gang 0, of gang 1, ...
template <int d>
__global__ void __launch_bounds__(kThreads, 1) attend(const __grid_constant__ Parameters p) {
#if defined(AAPT_SM90)
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<Shared<d>*>(raw);
  const int rank = blockIdx.x % p.gang_tiles, gang = blockIdx.x / p.gang_tiles;
  if (threadIdx.x == 0) initialise(shared);
  __syncthreads();
  const int warpgroup = threadIdx.x / 128;
  if (warpgroup == kWarpgroups) {
    ptx::registers_decrease<kRegistersProducer>();
    if (threadIdx.x == kWarps * 32) produce<d>(shared, p, rank, gang);
    if (threadIdx.x / 32 == kWarps + 1) zero_stale_tails<d>(shared);
  } else {
    ptx::registers_increase<kRegistersConsumer>();
    consume<d>(shared, p, warpgroup);
  }
#endif
}

}  // namespace aapt::attention::sm90
