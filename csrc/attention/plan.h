// The schedule of paged attention on a GPU: which block multiplies which queries with which keys.
//
// A job is one head of one stream for one group of query tiles; its keys are walked in steps of `tile_keys` rows of one
// page. Laid end to end, the jobs' steps form one sequence, which is cut into `gangs` equal pieces. A gang is one block
// per tile of a group: its blocks walk the same keys at the same time, so that each key comes from memory once for all
// of them, and all gangs finish together, whatever the number of heads. Mostly all tiles form one group.
//
// A job that a cut falls into leaves partial results in slots; they are merged in the order of the gangs, so equal
// inputs give equal bits. Every function here is arithmetic on lengths: blocks evaluate it on the device from the
// counts in memory, so one captured launch stays balanced while windows fill and prompts change.
#pragma once

#include <cstdint>

#include "attention/op.h"
#include "core/host_device.h"

namespace aapt::attention {

// Shape of a launch: fixed by the queries and the GPU, not by the keys.
struct Plan {
  int query_tiles;
  int gang_tiles;  // tiles of a group, blocks of a gang; the last group may have fewer tiles
  int gangs;

  int groups() const { return (query_tiles + gang_tiles - 1) / gang_tiles; }
  int blocks() const { return gangs * gang_tiles; }
};

// As many gangs as fit onto `multiprocessors` at one block each. Of the sizes of a gang that keep nearly as many
// multiprocessors busy as the best one does, the largest, since its blocks share what they read.
Plan make_plan(int rows, int tile_rows, int multiprocessors);

// Partial results of a gang: one job at its start may have begun before, one at its end may go on after.
constexpr int kSlotsPerGang = 2;

// The lengths of all keys, as the kernel sees them.
struct KeyLengths {
  int batch, heads, groups, tile_keys, segments;
  struct Segment {
    int rows;
    const int32_t* page_count;  // [B]
    const int32_t* last_rows;   // [B]
  } segment[kMaxSegments];

  AAPT_HD int tiles(int rows) const { return (rows + tile_keys - 1) / tile_keys; }

  // Steps of one job of stream `b` within segment `s`.
  AAPT_HD int steps(int s, int b) const {
    const int pages = segment[s].page_count[b];
    return pages > 0 ? (pages - 1) * tiles(segment[s].rows) + tiles(segment[s].last_rows[b]) : 0;
  }

  // Steps of one job of stream `b`.
  AAPT_HD int steps(int b) const {
    int all = 0;
    for (int s = 0; s < segments; ++s) all += steps(s, b);
    return all;
  }

  // Steps of all jobs of the streams before `b`.
  AAPT_HD int steps_before(int b) const {
    int all = 0;
    for (int i = 0; i < b; ++i) all += heads * groups * steps(i);
    return all;
  }
};

KeyLengths key_lengths(const Problem& problem, int tile_keys, int groups = 1);

// The cuts of the sequence: gang `g` takes steps [at(g), at(g + 1)), at least one; gangs beyond `gangs` take none.
struct Cuts {
  int steps, gangs;

  AAPT_HD Cuts(const KeyLengths& lengths, int gangs_of_plan) : steps(lengths.steps_before(lengths.batch)) {
    gangs = gangs_of_plan < steps ? gangs_of_plan : steps;
  }

  AAPT_HD int at(int gang) const {
    return gang < gangs ? static_cast<int>(static_cast<int64_t>(steps) * gang / gangs) : steps;
  }

  AAPT_HD int gang_of(int step) const {
    return static_cast<int>(((static_cast<int64_t>(step) + 1) * gangs - 1) / steps);
  }
};

// What one gang does of one job: its steps [first, last) of `steps`.
struct Piece {
  int batch, head, group, first, last, steps;

  AAPT_HD bool whole() const { return first == 0 && last == steps; }
  // Where the partial result goes if the piece is not the whole job.
  AAPT_HD int slot(int gang) const { return kSlotsPerGang * gang + (first == 0 ? 1 : 0); }
};

// The pieces of one gang, in order.
struct Pieces {
  int position, end;                      // in the sequence of all steps
  int batch, stream_begin, stream_steps;  // the stream that `position` is in, or an earlier one; steps of one job

  AAPT_HD void begin(const KeyLengths& lengths, int gangs, int gang) {
    const Cuts cuts(lengths, gangs);
    position = cuts.at(gang);
    end = cuts.at(gang + 1);
    batch = stream_begin = 0;
    stream_steps = lengths.steps(0);
  }

  AAPT_HD bool next(const KeyLengths& lengths, Piece* piece) {
    if (position >= end) return false;
    const int jobs = lengths.heads * lengths.groups;
    while (position >= stream_begin + jobs * stream_steps) {
      stream_begin += jobs * stream_steps;
      stream_steps = lengths.steps(++batch);
    }
    const int place = position - stream_begin, left = end - position;
    piece->batch = batch;
    piece->head = place / stream_steps / lengths.groups;
    piece->group = place / stream_steps % lengths.groups;
    piece->first = place % stream_steps;
    piece->steps = stream_steps;
    piece->last = stream_steps - piece->first < left ? stream_steps : piece->first + left;
    position += piece->last - piece->first;
    return true;
  }
};

// The partial results of one job, in the order in which they are merged.
struct Partials {
  int first_gang, last_gang;  // none where the job has no steps or belongs to one gang

  AAPT_HD bool any() const { return first_gang < last_gang; }
  AAPT_HD int slot(int gang) const { return kSlotsPerGang * gang + (gang == first_gang ? 1 : 0); }
};

AAPT_HD Partials partials_of(const KeyLengths& lengths, int gangs, int batch, int head, int group) {
  const int steps = lengths.steps(batch);
  if (steps == 0) return {0, 0};
  const Cuts cuts(lengths, gangs);
  const int begin = lengths.steps_before(batch) + (head * lengths.groups + group) * steps;
  return {cuts.gang_of(begin), cuts.gang_of(begin + steps - 1)};
}

// The steps of a job from some step on: which keys each one multiplies.
struct Steps {
  int batch, segment;
  int page, pages;  // place in the stream's row of the page table; how many are listed there
  int row;          // first key within the page

  AAPT_HD void begin(const KeyLengths& lengths, int of_batch, int first) {
    batch = of_batch;
    enter(lengths, 0);
    for (int here; first >= (here = lengths.steps(segment, batch)); first -= here) enter(lengths, segment + 1);
    const int per_page = lengths.tiles(lengths.segment[segment].rows);
    page = first / per_page;
    row = first % per_page * lengths.tile_keys;
  }

  // Valid keys of the tile.
  AAPT_HD int keys(const KeyLengths& lengths) const {
    const int left = rows(lengths) - row;
    return left < lengths.tile_keys ? left : lengths.tile_keys;
  }

  // To the next step. After the job's last one the place is meaningless.
  AAPT_HD void next(const KeyLengths& lengths) {
    row += lengths.tile_keys;
    if (row < rows(lengths)) return;
    row = 0;
    ++page;
    while (page >= pages && segment + 1 < lengths.segments) enter(lengths, segment + 1);
  }

 private:
  AAPT_HD void enter(const KeyLengths& lengths, int into) {
    segment = into;
    page = row = 0;
    pages = lengths.segment[into].page_count[batch];
  }

  AAPT_HD int rows(const KeyLengths& lengths) const {
    const KeyLengths::Segment& s = lengths.segment[segment];
    return page + 1 == pages ? s.last_rows[batch] : s.rows;
  }
};

}  // namespace aapt::attention
