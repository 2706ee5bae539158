// The portable path: one query row at a time, two passes over its keys (maximum, then sum), summed in double. Any dtype
// and layout; the statement of what the vector paths must compute.
#include <cmath>
#include <limits>
#include <vector>

#include "attention/op.h"
#include "core/geometry.h"

namespace aapt::attention::portable {
namespace {

template <class T>
struct Keys {
  const Segment& s;
  int head_dim;

  wide<T> k(int64_t page, int head, int row, int dim) const {
    const T* base = static_cast<const T*>(s.k) + page * s.k_page_stride + head * s.k_head_stride;
    return to_wide(
        base[s.tiled ? tiled_k_offset(row, dim, head_dim, group_of(sizeof(T))) : row * s.k_row_stride + dim]);
  }
  wide<T> v(int64_t page, int head, int row, int dim) const {
    const T* base = static_cast<const T*>(s.v) + page * s.v_page_stride + head * s.v_head_stride;
    return to_wide(
        base[s.tiled ? tiled_v_offset(row, dim, head_dim, group_of(sizeof(T))) : row * s.v_row_stride + dim]);
  }
};

// Calls visit(segment, page, row) for every valid key of stream b, in order.
template <class Visit>
void for_each_key(const Problem& p, int b, Visit visit) {
  for (int i = 0; i < p.segment_count; ++i) {
    const Segment& s = p.segment[i];
    for (int listed = 0; listed < s.page_count[b]; ++listed) {
      const int64_t page = s.page_table[b * s.table_stride + listed];
      const int rows = listed + 1 == s.page_count[b] ? s.last_rows[b] : s.rows;
      for (int row = 0; row < rows; ++row) visit(s, page, row);
    }
  }
}

template <class T>
void attend_row(const Problem& p, int b, int head, int row, std::vector<double>& scores, std::vector<double>& sum) {
  const int64_t at = ((static_cast<int64_t>(b) * p.rows + row) * p.heads + head) * p.head_dim;
  scores.clear();
  double top = -std::numeric_limits<double>::infinity();
  for_each_key(p, b, [&](const Segment& s, int64_t page, int key) {
    const T* q = static_cast<const T*>(p.query[s.query]) + at;
    double dot = 0;
    for (int d = 0; d < p.head_dim; ++d)
      dot += static_cast<double>(to_wide(q[d])) * Keys<T>{s, p.head_dim}.k(page, head, key, d);
    scores.push_back(dot * p.scale);
    top = scores.back() > top ? scores.back() : top;
  });

  double total = 0;
  size_t index = 0;
  sum.assign(p.head_dim, 0);
  for_each_key(p, b, [&](const Segment& s, int64_t page, int key) {
    const double weight = std::exp(scores[index++] - top);
    total += weight;
    for (int d = 0; d < p.head_dim; ++d) sum[d] += weight * Keys<T>{s, p.head_dim}.v(page, head, key, d);
  });

  for (int d = 0; d < p.head_dim; ++d) store(static_cast<T*>(p.out) + at + d, total > 0 ? sum[d] / total : 0);
  if (p.lse) {
    p.lse[(static_cast<int64_t>(b) * p.heads + head) * p.rows + row] = static_cast<float>(top + std::log(total));
  }
}

template <class T>
void attend(const Problem& p) {
  const int64_t jobs = static_cast<int64_t>(p.batch) * p.heads * p.rows;
#pragma omp parallel
  {
    std::vector<double> scores, sum;
#pragma omp for schedule(static)
    for (int64_t job = 0; job < jobs; ++job) {
      const int row = static_cast<int>(job % p.rows);
      const int head = static_cast<int>(job / p.rows % p.heads);
      attend_row<T>(p, static_cast<int>(job / p.rows / p.heads), head, row, scores, sum);
    }
  }
}

}  // namespace

void attention(const Problem& p) {
  if (p.dtype == DType::f64) return attend<double>(p);
  if (p.dtype == DType::f32) return attend<float>(p);
  attend<bf16>(p);
}

}  // namespace aapt::attention::portable
