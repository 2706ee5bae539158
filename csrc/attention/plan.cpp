#include "attention/plan.h"

#include <algorithm>

namespace aapt::attention {

Plan make_plan(int rows, int tile_rows, int multiprocessors) {
  const int query_tiles = (rows + tile_rows - 1) / tile_rows;
  return {query_tiles, std::max(1, multiprocessors / std::max(1, query_tiles))};
}

KeyLengths key_lengths(const Problem& problem, int tile_keys) {
  KeyLengths lengths{problem.batch, problem.heads, tile_keys, problem.segment_count, {}};
  for (int s = 0; s < problem.segment_count; ++s) {
    const Segment& segment = problem.segment[s];
    lengths.segment[s] = {segment.rows, segment.page_count, segment.last_rows};
  }
  return lengths;
}

}  // namespace aapt::attention
