// Rows times a weight: what linear, patch_embed and denoise share.
//
// The rows are gathered in blocks (copied, cut into patches, normalised) into working memory, one block at a time and
// never all of them. A job is one block of rows times one panel of 64 outputs; a thread that takes the next panel of
// the same rows gathers nothing. The panel's weights come from memory once and from the second-level cache for every
// further tile of six rows.
#pragma once

#include <omp.h>

#include "core/pack.h"
#include "core/packed_weight.h"
#include "core/pieces.h"
#include "core/scratch.h"

namespace aapt::gemm::AAPT_ISA {

// How rows x outputs is cut into jobs.
struct Split {
  int tiles_per_block, row_blocks, panels;
};

// At most 96 rows in a block; fewer where there would be less than four jobs for each thread.
inline Split split_rows(int64_t rows, int panels) {
  constexpr int kMostTiles = 16;
  const int tiles = static_cast<int>((rows + kTileRows - 1) / kTileRows);
  const int wanted = (4 * omp_get_max_threads() + panels - 1) / panels;
  int blocks = (tiles + kMostTiles - 1) / kMostTiles;
  if (blocks < wanted) blocks = wanted < tiles ? wanted : tiles;
  const int per_block = (tiles + blocks - 1) / blocks;
  return {per_block, (tiles + per_block - 1) / per_block, panels};
}

// The weight as [ceil(N / 16), K / g, 16, g]. Plain weights are packed by all threads at every call: pack them once, at
// load.
template <class T>
inline const T* packed_weight(const Weight& w) {
  if (w.packed) return static_cast<const T*>(w.data);
  const int blocks = (w.outputs + kKeyBlock - 1) / kKeyBlock;
  const int64_t block = static_cast<int64_t>(w.inputs) * kKeyBlock;
  T* packed = static_cast<T*>(thread_scratch(static_cast<size_t>(blocks * block) * sizeof(T), Scratch::operand));
#pragma omp parallel for schedule(static)
  for (int n = 0; n < blocks; ++n) {
    const int left = w.outputs - n * kKeyBlock;
    pack_block(static_cast<const T*>(w.data) + n * block, w.inputs, left < kKeyBlock ? left : kKeyBlock,
               w.inputs / kGroup<T>, packed + n * block);
  }
  return packed;
}

// Groups of four bytes of K that are summed in one chain.
constexpr int kChunk = 128;

// Calls emit(row, first output, outputs, sums) for `rows` rows of A [rows rounded up to 6, K] and one panel.
template <class T, class Emit>
inline void multiply_panel(const Left<T>* a, int rows, const Weight& w, const T* packed, int panel, Emit emit) {
  const int64_t block = static_cast<int64_t>(w.inputs) * kKeyBlock;
  const int first = panel * kTileColumns, left = w.outputs - first;
  const int count = left < kTileColumns ? left : kTileColumns;
  const T* column[kTileBlocks] = {};
  const int blocks = (count + kKeyBlock - 1) / kKeyBlock;
  for (int n = 0; n < blocks; ++n) column[n] = packed + (static_cast<int64_t>(panel) * kTileBlocks + n) * block;
  alignas(64) float sums[kTileRows * kTileColumns];
  for (int row = 0; row < rows; row += kTileRows) {
    for_each_tile(blocks, [&](int begin, auto width) {
      multiply_in_chunks<T, width.value>(a + static_cast<int64_t>(row) * w.inputs, w.inputs, column + begin,
                                         kKeyBlock * kGroup<T>, w.inputs / kGroup<T>, kChunk, sums + begin * kKeyBlock,
                                         kTileColumns);
    });
    for (int i = 0; i < kTileRows && row + i < rows; ++i) emit(row + i, first, count, sums + i * kTileColumns);
  }
}

// Rows of a weight product, panel by panel: gather(first row, count, a) fills A's rows [count, K]; emit as above with
// rows counted from the beginning.
template <class T, class Gather, class Emit>
inline void project(const Weight& w, int64_t rows, Gather gather, Emit emit) {
  const T* packed = packed_weight<T>(w);
  const Split split = split_rows(rows, (w.outputs + kTileColumns - 1) / kTileColumns);
  const int block_rows = split.tiles_per_block * kTileRows;
  const int64_t jobs = static_cast<int64_t>(split.row_blocks) * split.panels;
#pragma omp parallel
  {
    Left<T>* a = static_cast<Left<T>*>(thread_scratch(sizeof(Left<T>) * static_cast<size_t>(block_rows) * w.inputs));
    int64_t gathered = -1;
#pragma omp for schedule(dynamic)
    for (int64_t job = 0; job < jobs; ++job) {
      const int64_t first = job / split.panels * block_rows;
      const int count = static_cast<int>(rows - first < block_rows ? rows - first : block_rows);
      if (first != gathered) gather(first, count, a);
      gathered = first;
      multiply_panel(
          a, count, w, packed, static_cast<int>(job % split.panels),
          [&](int row, int output, int outputs, const float* sums) { emit(first + row, output, outputs, sums); });
    }
  }
}

}  // namespace aapt::gemm::AAPT_ISA
