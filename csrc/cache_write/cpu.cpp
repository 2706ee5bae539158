#include <vector>

#include "cache_write/op.h"
#include "core/geometry.h"
#include "core/norm.h"

namespace aapt::cache_write::portable {
namespace {

template <class T>
class Frame {
 public:
  using W = wide<T>;

  Frame(const Problem& problem, int b, int row) : p(problem), b(b), row(row), value(p.heads * p.head_dim) {}

  void write() {
    normalise(0, p.q_weight);
    rotate_into(p.time_rotation, query(p.q));
    if (p.q_pinned) rotate_into(p.pinned_rotation, query(p.q_pinned));

    normalise(1, p.k_weight);
    rotate_into(p.time_rotation, [&](int head, int dim, W value) {
      const int64_t inside =
          p.tiled ? tiled_k_offset(row, dim, p.head_dim, group_of(sizeof(T))) : row * p.k_row_stride + dim;
      store(static_cast<T*>(p.k) + p.page[b] * p.k_page_stride + head * p.k_head_stride + inside, value);
    });

    for (int i = 0; i < p.heads * p.head_dim; ++i) {
      const int head = i / p.head_dim, dim = i % p.head_dim;
      const int64_t inside =
          p.tiled ? tiled_v_offset(row, dim, p.head_dim, group_of(sizeof(T))) : row * p.v_row_stride + dim;
      static_cast<T*>(p.v)[p.page[b] * p.v_page_stride + head * p.v_head_stride + inside] = input(2)[i];
    }
  }

 private:
  const T* input(int which) const {
    const int64_t token = (static_cast<int64_t>(b) * p.rows + row) * 3 + which;
    return static_cast<const T*>(p.qkv) + token * p.heads * p.head_dim;
  }

  auto query(void* to) {
    return [this, to](int head, int dim, W value) {
      const int64_t token = static_cast<int64_t>(b) * p.rows + row;
      store(static_cast<T*>(to) + (token * p.heads + head) * p.head_dim + dim, value);
    };
  }

  void normalise(int which, const void* weight) {
    const T* x = input(which);
    const int total = p.heads * p.head_dim;
    for (int i = 0; i < total; ++i) value[i] = to_wide(x[i]);
    if (p.norm == Norm::none) return;
    const int width = p.norm == Norm::head ? p.head_dim : total;
    for (int start = 0; start < total; start += width) {
      const W inverse = inverse_rms<W>(width, static_cast<W>(p.eps), [&](int i) { return value[start + i]; });
      for (int i = 0; i < width; ++i) {
        value[start + i] *= inverse * to_wide(static_cast<const T*>(weight)[i]);
      }
    }
  }

  template <class Put>
  void rotate_into(const void* time_rotation, Put put) {
    const int space_pairs = p.head_dim / 2 - p.time_pairs;
    const W* time = static_cast<const W*>(time_rotation) + static_cast<int64_t>(b) * p.time_pairs * 2;
    const W* space = static_cast<const W*>(p.space_rotation) + static_cast<int64_t>(row) * space_pairs * 2;
    for (int head = 0; head < p.heads; ++head) {
      for (int pair = 0; pair < p.head_dim / 2; ++pair) {
        const W* turn = pair < p.time_pairs ? time + 2 * pair : space + 2 * (pair - p.time_pairs);
        const W first = value[head * p.head_dim + 2 * pair], second = value[head * p.head_dim + 2 * pair + 1];
        put(head, 2 * pair, first * turn[0] - second * turn[1]);
        put(head, 2 * pair + 1, first * turn[1] + second * turn[0]);
      }
    }
  }

  const Problem& p;
  const int b, row;
  std::vector<W> value;
};

template <class T>
void write_all(const Problem& p) {
#pragma omp parallel for collapse(2) schedule(static)
  for (int b = 0; b < p.batch; ++b) {
    for (int row = 0; row < p.rows; ++row) Frame<T>(p, b, row).write();
  }
}

}  // namespace

void cache_write(const Problem& p) {
  if (p.dtype == DType::f64) return write_all<double>(p);
  if (p.dtype == DType::f32) return write_all<float>(p);
  write_all<bf16>(p);
}

}  // namespace aapt::cache_write::portable
