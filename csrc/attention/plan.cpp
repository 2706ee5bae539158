#include "attention/plan.h"

#include <algorithm>

namespace aapt::attention {

Plan make_plan(int rows, int tile_rows, int multiprocessors) {
  const int tiles = std::max(1, (rows + tile_rows - 1) / tile_rows);
  const auto plan_of = [=](int gang_tiles) { return Plan{tiles, gang_tiles, multiprocessors / gang_tiles}; };
  // The share of the multiprocessors' time that goes into tiles that exist.
  const auto use = [=](const Plan& plan) {
    return static_cast<double>(plan.blocks()) / multiprocessors * tiles / (plan.groups() * plan.gang_tiles);
  };
  constexpr double kNearlyBest = 0.95;
  double best = 0;
  for (int size = 1; size <= std::min(tiles, multiprocessors); ++size) best = std::max(best, use(plan_of(size)));
  int size = std::min(tiles, multiprocessors);
  while (use(plan_of(size)) < kNearlyBest * best) --size;
  return plan_of(size);
}

KeyLengths key_lengths(const Problem& problem, int tile_keys, int groups) {
  KeyLengths lengths{problem.batch, problem.heads, groups, tile_keys, problem.segment_count, {}};
  for (int s = 0; s < problem.segment_count; ++s) {
    const Segment& segment = problem.segment[s];
    lengths.segment[s] = {segment.rows, segment.page_count, segment.last_rows};
  }
  return lengths;
}

}  // namespace aapt::attention
