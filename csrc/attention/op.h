// paged_attention: softmax(q k^T * scale) v over every valid key of one to three segments.
//
// A segment is a list of pages per stream. All pages of the list hold `rows` keys, the last one `last_rows`.
// Text, the pinned position and the window are segments; each names the query it is seen by, since the pinned
// position may be looked at with a query rotated to another time.
#pragma once

#include "core/check.h"
#include "core/dispatch.h"

namespace aapt::attention {

constexpr int kMaxSegments = 3;
constexpr int kMaxQueries = 2;

// The contract as arguments; `make_problem` checks it.
struct SegmentArguments {
  Tensor k_pages, v_pages;  // plain [pages, h, rows, d]; tiled: see core/geometry.h
  int rows;                 // keys of a full page; equals the shape's for plain pages
  Tensor page_table;        // [B, P] int32
  Tensor page_count;        // [B] int32, pages listed for each stream; 0 <= page_count <= P
  Tensor last_rows;         // [B] int32, valid keys of the last listed page; 1 <= last_rows <= rows
  int query;                // which of the queries looks at this segment
};

struct Segment {
  const void* k;
  const void* v;
  bool tiled;
  int pages, rows;
  int64_t k_page_stride, k_head_stride, k_row_stride;  // in elements; the row's only where plain
  int64_t v_page_stride, v_head_stride, v_row_stride;
  const int32_t* page_table;
  int table_stride;
  const int32_t* page_count;
  const int32_t* last_rows;
  int query;
};

struct Problem {
  DType dtype;
  Device device;
  void* stream;  // of the device
  int batch, rows, heads, head_dim;
  const void* query[kMaxQueries];  // [B, L, h, d]
  int query_count;
  Segment segment[kMaxSegments];
  int segment_count;
  double scale;
  void* out;   // [B, L, h, d]; zero where a stream lists no page
  float* lse;  // [B, h, L], natural logarithm, or null; -inf where a stream lists no page
};

// Throws ArgumentError. Tables on the CPU are checked against the pool here; tables on a device are checked
// where they are written.
Problem make_problem(const Tensor* queries, int query_count, const SegmentArguments* segments, int segment_count,
                     double scale, const Tensor& out, const Tensor* lse, void* stream);

void run(const Problem& problem);

}  // namespace aapt::attention
