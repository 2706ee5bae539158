// Sizes, shared memory and parameters of the Hopper kernel.
#pragma once

#include "attention/op.h"
#include "attention/plan.h"
#include "core/dtype.h"
#include "ptx/tensor_map.h"

namespace aapt::attention::sm90 {

constexpr int kWarpgroups = 2;           // that multiply
constexpr int kRows = 64 * kWarpgroups;  // queries of a block
constexpr int kKeys = 176;               // keys of a step
constexpr int kStages = 2;
constexpr int kTurnBarrier = 1;  // and the next: each warpgroup's turn to issue
constexpr int kLine = 64;        // bf16 of a swizzled line of 128 bytes
constexpr int kThreads = 128 * (kWarpgroups + 1), kMergeThreads = 256;
constexpr int kWarps = 4 * kWarpgroups;                           // that multiply
constexpr float kLog2 = 0.693147180559945f;                       // natural logarithm of 2
constexpr int kRegistersProducer = 40, kRegistersConsumer = 232;  // 128 x 40 + 256 x 232 = 384 x 168

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
  uint64_t q_full, q_empty;
  uint64_t k_full[kStages], k_empty[kStages], v_full[kStages], v_empty[kStages];
  uint64_t v_landed[kStages];  // instead of v_full, where a stale tail comes first
  int note[kStages];
  // Of the piece under way; published and given back with q.
  int batch, head, query_tile;
  int partial_row;  // the first of its rows among the partial results, -1 where the piece is a whole job
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
  int rows, gangs, gang_tiles, query_tiles;
  float scale_log2;
  bf16* out;           // [B, L, h, d]
  float* lse;          // [B, h, L] or null
  float* partial_out;  // [slots, gang_tiles, 128, d], each normalised by its own sum
  float* partial_lse;  // [slots, gang_tiles, 128], base 2
  int* bad_page;       // becomes 1 + the largest number beyond the pool, or 1 for a negative one

  // First row among the partial results of the tile that is number `rank` of its group.
  AAPT_HD int partial_row(int slot, int rank) const { return (slot * gang_tiles + rank) * kRows; }
};

}  // namespace aapt::attention::sm90
