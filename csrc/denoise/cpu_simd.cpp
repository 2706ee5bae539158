// The vector path. A thread takes some tokens: LayerNorm, scale and shift go into working memory, that times the
// weight gives their velocities [tokens, 4 C], and these are laid out as pixels and subtracted from the noise.
#include <cmath>

#include "core/project.h"
#include "denoise/op.h"

namespace aapt::denoise::AAPT_ISA {
namespace {

using namespace gemm::AAPT_ISA;

// One token, normalised over D, scaled and shifted.
template <class T>
void normalise(const Problem& p, int64_t row, int64_t batch, Left<T>* to) {
  const int width = p.model_width;
  const T* x = static_cast<const T*>(p.x) + row * width;
  const T* scale = static_cast<const T*>(p.scale) + batch * width;
  const T* shift = static_cast<const T*>(p.shift) + batch * width;
  const Vector mean = broadcast(sum_over(width, [&](int i, auto part) { return load(x + i, part); }) / width);
  const float variance = sum_over(width,
                                  [&](int i, auto part) {
                                    const Vector centred = load(x + i, part) - mean;
                                    return centred * centred;
                                  }) /
                         width;
  const Vector inverse = broadcast(1 / sqrtf(variance + static_cast<float>(p.eps)));
  for_each_vector(width, [&](int i, auto part) {
    const Vector normed = (load(x + i, part) - mean) * inverse;
    store(to + i, fma(normed, broadcast(1.0f) + load(scale + i, part), load(shift + i, part)), part);
  });
}

// Subtracts t velocity from the noise for the tokens [first, first + count) of one row of patches. `line` holds one
// row of their pixels.
template <class T>
void step_patches(const Problem& p, int64_t batch, int first, int count, const float* velocity, float* line) {
  const int across = p.width / 2, outputs = 4 * p.channels;
  const int top = first / across * 2, left = first % across * 2;
  const Vector minus_t = broadcast(-static_cast<float>(p.timestep));
  for (int c = 0; c < p.channels; ++c) {
    for (int y = 0; y < 2; ++y) {
      const float* from = velocity + 2 * y * p.channels + c;
      for (int token = 0; token < count; ++token, from += outputs) {
        line[2 * token] = from[0];
        line[2 * token + 1] = from[p.channels];
      }
      const int64_t at = ((batch * p.channels + c) * p.height + top + y) * p.width + left;
      const T* noisy = static_cast<const T*>(p.noisy) + at;
      T* out = static_cast<T*>(p.out) + at;
      for_each_vector(2 * count, [&](int i, auto part) {
        store(out + i, fma(minus_t, load(line + i, part), load(noisy + i, part)), part);
      });
    }
  }
}

template <class T>
struct Memory {
  Left<T>* a;       // [rows, D]
  float* velocity;  // [rows, 4 C]
  float* line;      // [W]

  void take(Pieces& pieces, const Problem& p, int rows) {
    pieces.give(a, static_cast<int64_t>(rows) * p.model_width);
    pieces.give(velocity, static_cast<int64_t>(rows) * 4 * p.channels);
    pieces.give(line, p.width);
  }
};

template <class T>
void denoise_all(const Problem& p) {
  const int across = p.width / 2, tokens = p.height / 2 * across, outputs = p.weight.outputs;
  const int64_t rows = static_cast<int64_t>(p.batch) * tokens;
  const int panels = (outputs + kTileColumns - 1) / kTileColumns;
  const T* packed = packed_weight<T>(p.weight);
  const T* bias = static_cast<const T*>(p.bias);
  const Split split = split_rows(rows, 1);
  const int block_rows = split.tiles_per_block * kTileRows;
#pragma omp parallel
  {
    Memory<T> m;
    Pieces measure(nullptr);
    m.take(measure, p, block_rows);
    Pieces pieces(thread_scratch(measure.bytes()));
    m.take(pieces, p, block_rows);
#pragma omp for schedule(dynamic)
    for (int block = 0; block < split.row_blocks; ++block) {
      const int64_t first = static_cast<int64_t>(block) * block_rows;
      const int count = static_cast<int>(rows - first < block_rows ? rows - first : block_rows);
      for (int row = 0; row < count; ++row) {
        normalise<T>(p, first + row, (first + row) / tokens, m.a + static_cast<int64_t>(row) * p.model_width);
      }
      for (int panel = 0; panel < panels; ++panel) {
        multiply_panel(m.a, count, p.weight, packed, panel, [&](int row, int output, int n, const float* sums) {
          float* velocity = m.velocity + static_cast<int64_t>(row) * outputs + output;
          for_each_vector(n, [&](int i, auto part) {
            const Vector v = load(sums + i);
            store(velocity + i, bias ? v + load(bias + output + i, part) : v, part);
          });
        });
      }
      for (int row = 0; row < count;) {
        const int token = static_cast<int>((first + row) % tokens);
        const int in_line = across - token % across, n = in_line < count - row ? in_line : count - row;
        step_patches<T>(p, (first + row) / tokens, token, n, m.velocity + static_cast<int64_t>(row) * outputs, m.line);
        row += n;
      }
    }
  }
}

}  // namespace

void denoise(const Problem& p) {
  if (p.dtype == DType::f32) return denoise_all<float>(p);
  denoise_all<bf16>(p);
}

}  // namespace aapt::denoise::AAPT_ISA
