// The vector path: one pass over the keys with a running maximum and sum (Milakov and Gimelshein,
// arXiv:1805.02867; Dao et al., FlashAttention, arXiv:2205.14135).
//
// A thread takes some rows of one head. It walks the keys in steps of up to 256, sixteen blocks of 16 that may come
// from several pages, so that short pages fill a step as long ones do. A step's keys and values stay in the
// second-level cache while tiles of six rows go over them:
//
//   scores = q k^T                               in registers, then 6 KB
//   top' = max(top, max(scores))
//   weights = 2^(c (scores - top')),         c = scale log2e
//   out = 2^(c (top - top')) out + weights v,    total = 2^(c (top - top')) total + sum(weights)
//
// The difference comes before the product with c: it is exact where the scores are close, so that the largest weight
// is 1 however large the scores are.
//
// Tiled pages are multiplied where they lie. Copied into working memory first, once for all rows: blocks of plain
// pages, blocks of values that end in rows without meaning (these may be NaN, and 0 NaN is NaN), and values whose d is
// no multiple of 16.
#include <omp.h>

#include <cmath>

#include "attention/op.h"
#include "core/exp2.h"
#include "core/pack.h"
#include "core/pieces.h"
#include "core/scratch.h"

namespace aapt::attention::AAPT_ISA {
namespace {

using namespace gemm::AAPT_ISA;

constexpr int kStepBlocks = 16;
constexpr int kStepKeys = kStepBlocks * kKeyBlock;
constexpr int kMostTiles = 16;  // of rows that a thread takes at a time
// Where there is no key, and the maximum before the first one. Finite, so that differences are numbers.
constexpr float kNowhere = -1e30f;
constexpr double kLog2e = 1.4426950408889634;

// Weights that become bfloat16 need no better powers of two than bfloat16's.
template <class T>
struct PrecisionOf {
  using type = Quick;
};
template <>
struct PrecisionOf<float> {
  using type = Precise;
};

// Groups of d that are summed in one chain: fewer of float32, whose result is held to a smaller error.
template <class T>
constexpr int kScoreChunk = sizeof(T) == 2 ? 128 : 32;

// Keys that are worked on together.
template <class T>
struct Step {
  int blocks = 0;
  const T* k[kStepBlocks];  // [d / g, 16, g] each
  const T* v[kStepBlocks];  // [16 / g, width, g] each
  int valid[kStepBlocks];   // keys of the block
};

// What a thread holds while it walks the keys.
template <class T>
struct Memory {
  Left<T>* q;        // [rows, d]
  float* scores;     // [6, 256]
  Left<T>* weights;  // [6, 256]
  float* out;        // [rows, width], not yet divided by the total
  float* top;        // [rows]: the largest score so far
  float* total;      // [rows, lanes]: sums of weights, one per lane
  T* k;              // [16 blocks, d / g, 16, g]
  T* v;              // [16 blocks, 16 / g, width, g]
};

// Some rows of one head of one stream.
template <class T>
class Rows {
 public:
  Rows(const Problem& p, int tiles) : p_(p), width_((p.head_dim + kKeyBlock - 1) / kKeyBlock * kKeyBlock) {
    Pieces measure(nullptr);
    take(measure, tiles);
    Pieces pieces(thread_scratch(measure.bytes()));
    take(pieces, tiles);
  }

  // Rows [first, first + count) of a head, from the queries to the output.
  void attend(int stream, int head, int first, int count) {
    stream_ = stream, head_ = head, first_ = first, count_ = count;
    tiles_ = (count + kTileRows - 1) / kTileRows;
    const int rows = tiles_ * kTileRows;
    for (int row = 0; row < rows; ++row) m_.top[row] = kNowhere;
    memset(m_.total, 0, sizeof(float) * rows * kLanes);
    memset(m_.out, 0, sizeof(float) * rows * width_);
    int query = -1;
    for (int i = 0; i < p_.segment_count; ++i) {
      const Segment& s = p_.segment[i];
      if (s.page_count[stream] == 0) continue;
      if (s.query != query) read_query(s.query);
      query = s.query;
      walk(s);
    }
    write();
  }

 private:
  void take(Pieces& pieces, int tiles) {
    const int64_t rows = tiles * kTileRows;
    pieces.give(m_.q, rows * p_.head_dim);
    pieces.give(m_.scores, kTileRows * kStepKeys);
    pieces.give(m_.weights, kTileRows * kStepKeys);
    pieces.give(m_.out, rows * width_);
    pieces.give(m_.top, rows);
    pieces.give(m_.total, rows * kLanes);
    pieces.give(m_.k, static_cast<int64_t>(kStepKeys) * p_.head_dim);
    pieces.give(m_.v, static_cast<int64_t>(kStepKeys) * width_);
  }

  void read_query(int query) {
    const int64_t stride = static_cast<int64_t>(p_.heads) * p_.head_dim;
    const T* from = static_cast<const T*>(p_.query[query]) +
                    (static_cast<int64_t>(stream_) * p_.rows + first_) * stride + head_ * p_.head_dim;
    for (int row = 0; row < tiles_ * kTileRows; ++row) {
      const T* q = from + (row < count_ ? row : count_ - 1) * stride;
      Left<T>* to = m_.q + row * p_.head_dim;
      for_each_vector(p_.head_dim, [&](int i, auto part) { store(to + i, load(q + i, part), part); });
    }
  }

  void walk(const Segment& s) {
    Step<T> step;
    const int pages = s.page_count[stream_];
    for (int listed = 0; listed < pages; ++listed) {
      const int64_t page = s.page_table[static_cast<int64_t>(stream_) * s.table_stride + listed];
      const T* k = static_cast<const T*>(s.k) + page * s.k_page_stride + head_ * s.k_head_stride;
      const T* v = static_cast<const T*>(s.v) + page * s.v_page_stride + head_ * s.v_head_stride;
      const int rows = listed + 1 == pages ? s.last_rows[stream_] : s.rows;
      for (int row = 0; row < rows; row += kKeyBlock) {
        add_block(step, s, k, v, row, rows - row < kKeyBlock ? rows - row : kKeyBlock);
        if (step.blocks == kStepBlocks) take_step(step);
      }
    }
    if (step.blocks) take_step(step);
  }

  // The block of keys that begins at `row` of a page.
  void add_block(Step<T>& step, const Segment& s, const T* k, const T* v, int row, int valid) {
    const int n = step.blocks++, d = p_.head_dim;
    T* packed_k = m_.k + static_cast<int64_t>(n) * kKeyBlock * d;
    T* packed_v = m_.v + static_cast<int64_t>(n) * kKeyBlock * width_;
    step.valid[n] = valid;
    if (s.tiled) {
      const T* values = v + static_cast<int64_t>(row) * d;
      const bool in_place = valid == kKeyBlock && width_ == d;
      if (!in_place) mask_values(values, valid, d, width_, packed_v);
      step.k[n] = k + static_cast<int64_t>(row) * d;
      step.v[n] = in_place ? values : packed_v;
    } else {
      pack_block(k + row * s.k_row_stride, s.k_row_stride, valid, d / kGroup<T>, packed_k);
      pack_values(v + row * s.v_row_stride, s.v_row_stride, valid, d, width_, packed_v);
      step.k[n] = packed_k;
      step.v[n] = packed_v;
    }
  }

  void take_step(Step<T>& step) {
    for (int tile = 0; tile < tiles_; ++tile) {
      score(step, m_.q + tile * kTileRows * p_.head_dim);
      weigh(step.blocks, tile * kTileRows);
      add_values(step, m_.out + tile * kTileRows * width_);
    }
    step.blocks = 0;
  }

  // scores = q k^T for six rows.
  void score(const Step<T>& step, const Left<T>* q) {
    for_each_tile(step.blocks, [&](int first, auto blocks) {
      multiply_in_chunks<T, blocks.value>(q, p_.head_dim, step.k + first, kKeyBlock * kGroup<T>,
                                          p_.head_dim / kGroup<T>, kScoreChunk<T>, m_.scores + first * kKeyBlock,
                                          kStepKeys);
    });
    for (int n = 0; n < step.blocks; ++n) {
      if (step.valid[n] == kKeyBlock) continue;
      for (int i = 0; i < kTileRows; ++i) {
        float* scores = m_.scores + i * kStepKeys + n * kKeyBlock;
        for (int key = step.valid[n]; key < kKeyBlock; ++key) scores[key] = kNowhere;
      }
    }
  }

  // Scores of six rows become weights; what the rows have summed so far follows their maxima.
  void weigh(int blocks, int first_row) {
    const int keys = blocks * kKeyBlock;
    const Vector factor = broadcast(static_cast<float>(p_.scale * kLog2e));
    Vector most[kTileRows];
    for (int i = 0; i < kTileRows; ++i) most[i] = load(m_.scores + i * kStepKeys);
    for (int key = kLanes; key < keys; key += kLanes) {
      for (int i = 0; i < kTileRows; ++i) most[i] = max(most[i], load(m_.scores + i * kStepKeys + key));
    }
    for (int i = 0; i < kTileRows; ++i) raise(first_row + i, largest(most[i]), factor);

    for (int i = 0; i < kTileRows; ++i) {
      const float* scores = m_.scores + i * kStepKeys;
      Left<T>* weights = m_.weights + i * kStepKeys;
      const Vector top = broadcast(m_.top[first_row + i]);
      Vector total = zero();
      const auto weight = [&](int key) {
        return exp2((load(scores + key) - top) * factor, typename PrecisionOf<T>::type{});
      };
#pragma GCC unroll 4
      for (int key = 0; key + kLanes < keys; key += 2 * kLanes) {
        const Vector first = weight(key), second = weight(key + kLanes);
        total = total + (first + second);
        store_two(weights + key, first, second);
      }
      if (keys % (2 * kLanes)) {
        const Vector last = weight(keys - kLanes);
        total = total + last;
        store(weights + keys - kLanes, last);
      }
      float* sum = m_.total + (first_row + i) * kLanes;
      store(sum, load(sum) + total);
    }
  }

  // Makes `top` the maximum of a row where it is larger than the one before.
  void raise(int row, float top, Vector factor) {
    if (!(top > m_.top[row])) return;
    const Vector shrink = exp2(factor * broadcast(m_.top[row] - top), Precise{});
    float *out = m_.out + row * width_, *total = m_.total + row * kLanes;
    for (int dim = 0; dim < width_; dim += kLanes) store(out + dim, shrink * load(out + dim));
    store(total, shrink * load(total));
    m_.top[row] = top;
  }

  // out += weights v for six rows.
  void add_values(const Step<T>& step, float* out) {
    for_each_tile(width_ / kKeyBlock, [&](int first, auto blocks) {
      constexpr int kColumn = kKeyBlock * kGroup<T>;
      Tile<T, blocks.value> tile;
      tile.load_from(out + first * kKeyBlock, width_);
      for (int n = 0; n < step.blocks; ++n) {
        const T* column[blocks.value];
        for (int j = 0; j < blocks.value; ++j) column[j] = step.v[n] + (first + j) * kColumn;
        tile.multiply(m_.weights + n * kKeyBlock, kStepKeys, column, width_ * kGroup<T>, kKeyBlock / kGroup<T>);
      }
      tile.store_to(out + first * kKeyBlock, width_);
    });
  }

  void write() {
    const int64_t stride = static_cast<int64_t>(p_.heads) * p_.head_dim;
    T* to = static_cast<T*>(p_.out) + (static_cast<int64_t>(stream_) * p_.rows + first_) * stride + head_ * p_.head_dim;
    for (int row = 0; row < count_; ++row) {
      const float total = sum(load(m_.total + row * kLanes));
      const Vector inverse = broadcast(total > 0 ? 1 / total : 0);
      const float* out = m_.out + row * width_;
      for_each_vector(p_.head_dim,
                      [&](int i, auto part) { store(to + row * stride + i, inverse * load(out + i, part), part); });
      if (p_.lse) {
        const int64_t at = (static_cast<int64_t>(stream_) * p_.heads + head_) * p_.rows + first_ + row;
        p_.lse[at] = total > 0 ? static_cast<float>(p_.scale * m_.top[row] + log(total)) : -INFINITY;
      }
    }
  }

  const Problem& p_;
  const int width_;  // d rounded up to 16
  int stream_ = 0, head_ = 0, first_ = 0, count_ = 0, tiles_ = 0;
  Memory<T> m_;
};

template <class T>
void attend(const Problem& p) {
  const int heads = p.batch * p.heads, tiles = (p.rows + kTileRows - 1) / kTileRows;
  // Enough jobs for every thread to have four, of as many rows as that leaves.
  int groups = (tiles + kMostTiles - 1) / kMostTiles;
  const int wanted = (4 * omp_get_max_threads() + heads - 1) / heads;
  if (groups < wanted) groups = wanted < tiles ? wanted : tiles;
  const int per_group = (tiles + groups - 1) / groups;
  groups = (tiles + per_group - 1) / per_group;
#pragma omp parallel
  {
    Rows<T> rows(p, per_group);
#pragma omp for schedule(dynamic)
    for (int job = 0; job < heads * groups; ++job) {
      const int head = job / groups, first = job % groups * per_group * kTileRows;
      const int left = p.rows - first, most = per_group * kTileRows;
      rows.attend(head / p.heads, head % p.heads, first, left < most ? left : most);
    }
  }
}

}  // namespace

void attention(const Problem& p) {
  if (p.dtype == DType::f32) return attend<float>(p);
  attend<bf16>(p);
}

}  // namespace aapt::attention::AAPT_ISA
