#include "attention/op.h"

#include "core/check_pages.h"

namespace aapt::attention {

AAPT_DECLARE_CPU_KERNELS(attention, Problem)
AAPT_DECLARE_CUDA_KERNELS(Problem)

namespace {

const Check check("paged_attention");

std::string label(int segment, const char* what) {
  return "segments[" + std::to_string(segment) + "]." + what;
}

void check_table(const SegmentArguments& s, int index, int batch, int pages) {
  const int listed = static_cast<int>(s.page_table.size(1));
  for (int b = 0; b < batch; ++b) {
    const int count = s.page_count.as<int32_t>()[b];
    if (count < 0 || count > listed) {
      check.fail(label(index, "page_count[") + std::to_string(b) + "]", "is " + std::to_string(count),
                 "between 0 and P = " + std::to_string(listed));
    }
    if (count == 0) continue;
    const int last = s.last_rows.as<int32_t>()[b];
    if (last < 1 || last > s.rows) {
      check.fail(label(index, "last_rows[") + std::to_string(b) + "]", "is " + std::to_string(last),
                 "between 1 and rows = " + std::to_string(s.rows));
    }
    for (int i = 0; i < count; ++i) {
      const int page = s.page_table.as<int32_t>()[b * s.page_table.stride[0] + i];
      if (page < 0 || page >= pages) {
        check.fail(label(index, "page_table[") + std::to_string(b) + ", " + std::to_string(i) + "]",
                   "is " + std::to_string(page), "between 0 and pages - 1 = " + std::to_string(pages - 1));
      }
    }
  }
}

Segment make_segment(const SegmentArguments& s, const Problem& p, int index) {
  if (s.rows < 1) check.fail(label(index, "rows"), "is " + std::to_string(s.rows), "at least 1");
  const bool tiled = check_pages(check, s.k_pages, label(index, "k_pages"), s.v_pages, label(index, "v_pages"),
                                 {p.heads, s.rows, p.head_dim, p.dtype, p.device});
  check.shape(s.page_table, label(index, "page_table").c_str(), {p.batch, -1}, "[B, P]");
  check.contiguous(s.page_table, label(index, "page_table").c_str(), 1);
  check.tensor(s.page_count, label(index, "page_count").c_str(), {p.batch}, "[B]", DType::i32, p.device);
  check.tensor(s.last_rows, label(index, "last_rows").c_str(), {p.batch}, "[B]", DType::i32, p.device);
  check.dtype(s.page_table, label(index, "page_table").c_str(), DType::i32);
  check.device(s.page_table, label(index, "page_table").c_str(), p.device);
  if (s.query < 0 || s.query >= p.query_count) {
    check.fail(label(index, "query"), "is " + std::to_string(s.query),
               "between 0 and " + std::to_string(p.query_count - 1) + ", an index into queries");
  }
  const int pages = static_cast<int>(s.k_pages.size(0));
  if (p.device.type == Device::cpu) check_table(s, index, p.batch, pages);
  return {s.k_pages.data,
          s.v_pages.data,
          tiled,
          pages,
          s.rows,
          s.k_pages.stride[0],
          s.k_pages.stride[1],
          s.k_pages.stride[2],
          s.v_pages.stride[0],
          s.v_pages.stride[1],
          s.v_pages.stride[2],
          s.page_table.as<int32_t>(),
          static_cast<int>(s.page_table.stride[0]),
          s.page_count.as<int32_t>(),
          s.last_rows.as<int32_t>(),
          s.query};
}

}  // namespace

Problem make_problem(const Tensor* queries, int query_count, const SegmentArguments* segments, int segment_count,
                     double scale, const Tensor& out, const Tensor* lse, void* stream) {
  if (query_count < 1 || query_count > kMaxQueries) {
    check.fail("queries", "has " + std::to_string(query_count) + " tensors", "one or two");
  }
  if (segment_count < 1 || segment_count > kMaxSegments) {
    check.fail("segments", "has " + std::to_string(segment_count) + " entries", "one to three");
  }
  const Tensor& q = queries[0];
  check.dims(q, "queries[0]", 4, "[B, L, h, d]");
  check.floating(q, "queries[0]");
  Problem p{};
  p.dtype = q.dtype;
  p.device = q.device;
  p.stream = stream;
  p.batch = static_cast<int>(q.size(0));
  p.rows = static_cast<int>(q.size(1));
  p.heads = static_cast<int>(q.size(2));
  p.head_dim = static_cast<int>(q.size(3));
  if (p.head_dim < 2 || p.head_dim > 256 || p.head_dim % 2) {
    check.fail("queries[0]", "has head size d = " + std::to_string(p.head_dim), "even and at most 256");
  }
  for (int i = 0; i < query_count; ++i) {
    const std::string name = "queries[" + std::to_string(i) + "]";
    check.tensor(queries[i], name.c_str(), {p.batch, p.rows, p.heads, p.head_dim}, "[B, L, h, d]", p.dtype, p.device);
    p.query[i] = queries[i].data;
  }
  p.query_count = query_count;
  for (int i = 0; i < segment_count; ++i) p.segment[i] = make_segment(segments[i], p, i);
  p.segment_count = segment_count;
  if (!(scale > 0)) check.fail("scale", "is " + std::to_string(scale), "positive, usually 1/sqrt(d)");
  p.scale = scale;
  check.output(out, "out", {p.batch, p.rows, p.heads, p.head_dim}, "[B, L, h, d]", p.dtype, p.device);
  p.out = out.data;
  if (lse) {
    check.output(*lse, "lse", {p.batch, p.heads, p.rows}, "[B, h, L]", DType::f32, p.device);
    p.lse = lse->as<float>();
  }
  return p;
}

void run(const Problem& p) {
  if (p.batch == 0 || p.rows == 0 || p.heads == 0) return;
  if (p.device.type == Device::cuda) return run_cuda(p);
  cpu_attention.pick(p.dtype)(p);
}

}  // namespace aapt::attention
