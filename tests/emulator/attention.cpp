// C functions by which the tests reach paged attention for Hopper: its plan, and its kernels in the emulator.
#include "attention/sm90_launch.cuh"
#include "exports.h"

using namespace aapt;
using namespace aapt::attention;

// One segment for every stream, as attention/op.h has it.
struct SegmentArrays {
  const uint16_t *k, *v;
  const int32_t *table, *count, *last;
  int pages, rows, listed, query;
};

namespace {

Problem make_problem(const SegmentArrays* segments, int segment_count, int batch, int rows, int heads, int head_dim) {
  Problem p{};
  p.dtype = DType::bf16;
  p.batch = batch;
  p.rows = rows;
  p.heads = heads;
  p.head_dim = head_dim;
  p.segment_count = segment_count;
  for (int i = 0; i < segment_count; ++i) {
    const SegmentArrays& s = segments[i];
    const int64_t head = static_cast<int64_t>(s.rows) * head_dim, page = head * heads;
    p.segment[i] = {s.k,  s.v,  false,    s.pages, s.rows,   page,    head,   head_dim,
                    page, head, head_dim, s.table, s.listed, s.count, s.last, s.query};
  }
  return p;
}

// `gang_tiles` 0: all tiles in one group.
Plan plan_of(int rows, int gang_tiles, int gangs) {
  const int query_tiles = (rows + sm90::kRows - 1) / sm90::kRows;
  return {query_tiles, gang_tiles > 0 ? gang_tiles : query_tiles, gangs};
}

}  // namespace

// (query_tiles, gang_tiles, gangs)
EXPORT void plan_shape(int rows, int tile_rows, int multiprocessors, int32_t* out) {
  const Plan plan = make_plan(rows, tile_rows, multiprocessors);
  out[0] = plan.query_tiles, out[1] = plan.gang_tiles, out[2] = plan.gangs;
}

// Pieces in the order of the gangs: (gang, batch, head, group, first, last, steps, slot), slot -1 where whole. Returns
// how many.
EXPORT int plan_pieces(const SegmentArrays* segments, int segment_count, int batch, int heads, int groups,
                       int tile_keys, int gangs, int32_t* out) {
  const auto lengths = key_lengths(make_problem(segments, segment_count, batch, 1, heads, 64), tile_keys, groups);
  int count = 0;
  for (int gang = 0; gang < gangs; ++gang) {
    Pieces pieces;
    pieces.begin(lengths, gangs, gang);
    for (Piece p; pieces.next(lengths, &p); ++count) {
      const int32_t row[] = {gang, p.batch, p.head, p.group, p.first, p.last, p.steps, p.whole() ? -1 : p.slot(gang)};
      std::memcpy(out + count * 8, row, sizeof row);
    }
  }
  return count;
}

// Steps of one job from `first` on, `count` of them: (segment, page, row, keys).
EXPORT void plan_steps(const SegmentArrays* segments, int segment_count, int batch, int tile_keys, int stream,
                       int first, int count, int32_t* out) {
  const auto lengths = key_lengths(make_problem(segments, segment_count, batch, 1, 1, 64), tile_keys);
  Steps steps;
  steps.begin(lengths, stream, first);
  for (int i = 0; i < count; ++i, steps.next(lengths)) {
    const int32_t row[] = {steps.segment, steps.page, steps.row, steps.keys(lengths)};
    std::memcpy(out + i * 4, row, sizeof row);
  }
}

// The slots that the merge of one job reads, in order. Returns how many.
EXPORT int plan_partials(const SegmentArrays* segments, int segment_count, int batch, int heads, int groups,
                         int tile_keys, int gangs, int stream, int head, int group, int32_t* out) {
  const auto lengths = key_lengths(make_problem(segments, segment_count, batch, 1, heads, 64), tile_keys, groups);
  const Partials partials = partials_of(lengths, gangs, stream, head, group);
  if (!partials.any()) return 0;
  for (int g = partials.first_gang; g <= partials.last_gang; ++g) *out++ = partials.slot(g);
  return partials.last_gang - partials.first_gang + 1;
}

EXPORT int sm90_workspace_floats(int rows, int head_dim, int gang_tiles, int gangs) {
  return static_cast<int>(sm90::workspace_bytes(plan_of(rows, gang_tiles, gangs), head_dim) / sizeof(float));
}

EXPORT const char* paged_attention(const uint16_t* q, const uint16_t* q_pinned, const SegmentArrays* segments,
                                   int segment_count, int batch, int rows, int heads, int head_dim, int gang_tiles,
                                   int gangs, float scale, uint16_t* out, float* lse, float* workspace, int* bad_page) {
  return guarded([=] {
    Problem p = make_problem(segments, segment_count, batch, rows, heads, head_dim);
    p.query[0] = q;
    p.query[1] = q_pinned;
    p.query_count = q_pinned ? 2 : 1;
    p.scale = scale;
    p.out = out;
    p.lse = lse;
    sm90::run(p, plan_of(rows, gang_tiles, gangs), workspace, bad_page);
  });
}
