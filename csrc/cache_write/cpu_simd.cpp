// The vector path. Sixteen tokens, one block of a tiled page, are one job: each thread reads its tokens in order and
// writes whole cache lines. Keys of one head are made row by row in a scratch of the first-level cache, then transposed
// into the page in words of four bytes; values of two rows are interleaved on the way.
#include <math.h>

#include "cache_write/op.h"
#include "core/geometry.h"
#include "core/parallel.h"
#include "core/simd.h"
#include "core/transpose.h"

namespace aapt::cache_write {

namespace portable {
void cache_write(const Problem&);
}

namespace AAPT_ISA {
namespace {

using namespace simd::AAPT_ISA;

constexpr int kMaxHeadDim = 256;

struct alignas(64) Rotations {
  float token[kKeyBlock][kMaxHeadDim];  // cos, sin, cos, sin, ... of the whole head
};

// Up to sixteen neighbouring tokens of one stream.
template <class T>
class Block {
 public:
  Block(const Problem& problem, int b, int first)
      : p(problem),
        stream(b),
        first(first),
        tokens(p.rows - first < kKeyBlock ? p.rows - first : kKeyBlock),
        width(p.heads * p.head_dim) {}

  void write() {
    Rotations turn;
    gather(p.time_rotation, turn);
    write_queries(turn, p.q);
    if (p.q_pinned) {
      Rotations pinned;
      gather(p.pinned_rotation, pinned);
      write_queries(pinned, p.q_pinned);
    }
    write_keys(turn);
    write_values();
  }

 private:
  enum Which { kQuery, kKey, kValue };

  const T* input(int token, Which which) const {
    return static_cast<const T*>(p.qkv) + ((static_cast<int64_t>(stream) * p.rows + first + token) * 3 + which) * width;
  }
  T* k_head(int head) const { return static_cast<T*>(p.k) + p.page[stream] * p.k_page_stride + head * p.k_head_stride; }
  T* v_head(int head) const { return static_cast<T*>(p.v) + p.page[stream] * p.v_page_stride + head * p.v_head_stride; }

  // Each token's turns of time and of place, side by side as the pairs of a head are.
  void gather(const void* time_rotation, Rotations& turn) const {
    const int time = 2 * p.time_pairs, space = p.head_dim - time;
    const float* from_time = static_cast<const float*>(time_rotation) + static_cast<int64_t>(stream) * time;
    for (int token = 0; token < tokens; ++token) {
      const float* from_space =
          static_cast<const float*>(p.space_rotation) + static_cast<int64_t>(first + token) * space;
      if (time) memcpy(turn.token[token], from_time, time * sizeof(float));
      if (space) memcpy(turn.token[token] + time, from_space, space * sizeof(float));
    }
  }

  float inverse_rms(const T* x, int elements) const {
    const float squares = sum_over(elements, [&](int i, auto extent) {
      const Vector v = load(x + i, extent);
      return v * v;
    });
    return 1 / sqrtf(squares / static_cast<float>(elements) + static_cast<float>(p.eps));
  }

  // What all heads of a token are multiplied by; 1 where there is no norm or one per head.
  float token_factor(const T* x) const { return p.norm == Norm::all_heads ? inverse_rms(x, width) : 1; }

  // Norm and turn of one head of one token.
  void turn_head(const T* x, float factor, const T* weight, const float* rotation, T* to) const {
    if (p.norm == Norm::head) factor = inverse_rms(x, p.head_dim);
    const Vector scale = broadcast(factor);
    for_each_vector(p.head_dim, [&](int i, auto extent) {
      Vector v = load(x + i, extent);
      if (weight) v = v * scale * load(weight + i, extent);
      store(to + i, turn_pairs(v, load(rotation + i, extent)), extent);
    });
  }

  const T* head_weight(const void* weight, int head) const {
    const T* base = static_cast<const T*>(weight);
    return p.norm == Norm::all_heads ? base + head * p.head_dim : base;
  }

  void write_queries(const Rotations& turn, void* q) const {
    for (int token = 0; token < tokens; ++token) {
      const T* x = input(token, kQuery);
      const float factor = token_factor(x);
      T* to = static_cast<T*>(q) + (static_cast<int64_t>(stream) * p.rows + first + token) * width;
      for (int head = 0; head < p.heads; ++head) {
        const int at = head * p.head_dim;
        turn_head(x + at, factor, head_weight(p.q_weight, head), turn.token[token], to + at);
      }
    }
  }

  void write_keys(const Rotations& turn) const {
    float factor[kKeyBlock];
    for (int token = 0; token < tokens; ++token) factor[token] = token_factor(input(token, kKey));
    alignas(64) T rows[kKeyBlock * kMaxHeadDim];
    for (int head = 0; head < p.heads; ++head) {
      T* const to = p.tiled ? rows : k_head(head) + first * p.k_row_stride;
      const int64_t pitch = p.tiled ? p.head_dim : p.k_row_stride;
      for (int token = 0; token < tokens; ++token) {
        turn_head(input(token, kKey) + head * p.head_dim, factor[token], head_weight(p.k_weight, head),
                  turn.token[token], to + token * pitch);
      }
      if (p.tiled) {
        transpose_words(rows, tokens, p.head_dim * static_cast<int>(sizeof(T)) / 4,
                        k_head(head) + static_cast<int64_t>(first) * p.head_dim);
      }
    }
  }

  void write_values() const {
    if constexpr (sizeof(T) == 2) {
      if (p.tiled) return interleave_values();
    }
    const int64_t pitch = p.tiled ? p.head_dim : p.v_row_stride;
    for (int token = 0; token < tokens; ++token) {
      const T* x = input(token, kValue);
      for (int head = 0; head < p.heads; ++head) {
        memcpy(v_head(head) + (first + token) * pitch, x + head * p.head_dim, p.head_dim * sizeof(T));
      }
    }
  }

  // Tiled pages of bfloat16: the values of two rows lie in turns. The last row of a page may be alone.
  void interleave_values() const {
    for (int token = 0; token < tokens; token += 2) {
      const T* even = input(token, kValue);
      for (int head = 0; head < p.heads; ++head) {
        const int at = head * p.head_dim;
        T* to = v_head(head) + static_cast<int64_t>(first + token) * p.head_dim;
        if (token + 1 < tokens) {
          interleave(even + at, input(token + 1, kValue) + at, p.head_dim, to);
        } else {
          for (int i = 0; i < p.head_dim; ++i) to[2 * i] = even[at + i];
        }
      }
    }
  }

  const Problem& p;
  const int stream, first, tokens;
  const int width;  // h d
};

template <class T>
void write_all(const Problem& p) {
  const int blocks = key_blocks(p.rows);
  const int64_t elements = int64_t{3} * p.batch * p.rows * p.heads * p.head_dim;
  split(static_cast<int64_t>(p.batch) * blocks, elements, [&](int64_t begin, int64_t end) {
    for (int64_t job = begin; job < end; ++job) {
      Block<T>(p, static_cast<int>(job / blocks), static_cast<int>(job % blocks) * kKeyBlock).write();
    }
  });
}

}  // namespace

void cache_write(const Problem& p) {
  if (p.dtype == DType::f64) return portable::cache_write(p);
  if (p.dtype == DType::f32) return write_all<float>(p);
  write_all<bf16>(p);
}

}  // namespace AAPT_ISA
}  // namespace aapt::cache_write
