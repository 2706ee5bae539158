// A problem for kernels that read pages through pointers, and the one tile of a segment that they are at.
#pragma once

#include "attention/op.h"
#include "attention/plan.h"
#include "core/bad_page.cuh"
#include "core/device.cuh"

namespace aapt::attention {

constexpr float kLog2E = 1.44269504088896f, kLog2 = 0.693147180559945f;  // log2 of e, natural logarithm of 2

template <class T>
struct Pointers {
  const T* query[kMaxQueries];
  struct Pages {
    const T *k, *v;
    int64_t k_page, k_head, k_row, v_page, v_head, v_row;  // strides in elements
    const int32_t* table;
    int table_stride, pages, query;
  } segment[kMaxSegments];
  KeyLengths lengths;
  int rows, heads, head_dim;
  float scale_log2;  // of scores whose exponential is taken to base 2
  T* out;
  float* lse;
  int* bad_page;

  AAPT_HD int64_t token(int batch, int row, int head) const {
    return ((static_cast<int64_t>(batch) * rows + row) * heads + head) * head_dim;
  }
  AAPT_HD int64_t lse_at(int batch, int row, int head) const {
    return (static_cast<int64_t>(batch) * heads + head) * rows + row;
  }
};

// Neighbouring keys of one page.
template <class T>
struct Tile {
  const T *k, *v;  // the first key of the head
  int64_t k_row, v_row;
  int keys, query;
};

// The tile at `steps`. A page beyond the pool is reported and has no keys.
template <class T>
AAPT_DEVICE Tile<T> tile_at(const Pointers<T>& p, const Steps& steps, int head) {
  const auto& s = p.segment[steps.segment];
  const int page = s.table[static_cast<int64_t>(steps.batch) * s.table_stride + steps.page];
  if (!page_exists(page, s.pages, p.bad_page)) return {s.k, s.v, 0, 0, 0, s.query};
  return {s.k + page * s.k_page + head * s.k_head + steps.row * s.k_row,
          s.v + page * s.v_page + head * s.v_head + steps.row * s.v_row,
          s.k_row,
          s.v_row,
          steps.keys(p.lengths),
          s.query};
}

template <class T>
Pointers<T> make_pointers(const Problem& problem, int tile_keys, int* bad_page) {
  Pointers<T> p{};
  for (int i = 0; i < problem.query_count; ++i) p.query[i] = static_cast<const T*>(problem.query[i]);
  for (int i = 0; i < problem.segment_count; ++i) {
    const Segment& s = problem.segment[i];
    p.segment[i] = {static_cast<const T*>(s.k),
                    static_cast<const T*>(s.v),
                    s.k_page_stride,
                    s.k_head_stride,
                    s.k_row_stride,
                    s.v_page_stride,
                    s.v_head_stride,
                    s.v_row_stride,
                    s.page_table,
                    s.table_stride,
                    s.pages,
                    s.query};
  }
  p.lengths = key_lengths(problem, tile_keys);
  p.rows = problem.rows, p.heads = problem.heads, p.head_dim = problem.head_dim;
  p.scale_log2 = static_cast<float>(problem.scale) * kLog2E;
  p.out = static_cast<T*>(problem.out);
  p.lse = problem.lse;
  p.bad_page = bad_page;
  return p;
}

}  // namespace aapt::attention
