// C functions by which the tests run paged attention for every GPU, on tensor cores and without.
#include "attention/simt.cuh"
#include "attention/sm80.cuh"
#include "exports.h"

using namespace aapt;
using namespace aapt::attention;

// One segment for every stream, as attention/op.h has it.
struct StridedSegment {
  const void *k, *v;
  const int32_t *table, *count, *last;
  int64_t stride[6];  // page, head and row of k, then of v
  int pages, rows, listed, query;
};

EXPORT const char* attend_anywhere(int is_bf16, int use_tensor_cores, const void* q, const void* q_pinned,
                                   const StridedSegment* segments, int segment_count, int batch, int rows, int heads,
                                   int head_dim, float scale, void* out, float* lse, int* bad_page) {
  return guarded([=] {
    Problem p{};
    p.dtype = is_bf16 ? DType::bf16 : DType::f32;
    p.batch = batch, p.rows = rows, p.heads = heads, p.head_dim = head_dim;
    p.query[0] = q, p.query[1] = q_pinned, p.query_count = q_pinned ? 2 : 1;
    p.segment_count = segment_count;
    for (int i = 0; i < segment_count; ++i) {
      const StridedSegment& s = segments[i];
      p.segment[i] = {s.k,         s.v,         false,       s.pages, s.rows,   s.stride[0], s.stride[1], s.stride[2],
                      s.stride[3], s.stride[4], s.stride[5], s.table, s.listed, s.count,     s.last,      s.query};
    }
    p.scale = scale, p.out = out, p.lse = lse;
    constexpr int kSharedOfSmallGpus = 99 * 1024;
    if (use_tensor_cores && !sm80::serves(p, kSharedOfSmallGpus)) throw std::runtime_error("sm80 does not serve this");
    use_tensor_cores ? sm80::run(p, bad_page) : simt::run(p, bad_page);
  });
}
