#include "core/project.h"
#include "patch_embed/op.h"

namespace aapt::patch_embed::AAPT_ISA {
namespace {

using namespace gemm::AAPT_ISA;

// Two neighbouring pixels.
inline void copy_pair(const float* from, float* to) {
  memcpy(to, from, 2 * sizeof(float));
}
inline void copy_pair(const bf16* from, bf16* to) {
  memcpy(to, from, 2 * sizeof(bf16));
}
[[maybe_unused]] inline void copy_pair(const bf16* from, float* to) {
  const uint32_t wide[2] = {static_cast<uint32_t>(from[0].bits) << 16, static_cast<uint32_t>(from[1].bits) << 16};
  memcpy(to, wide, sizeof(wide));
}

// The patch of one token: all sources one after another, each [C_i, 2, 2].
template <class T>
void gather_token(const Problem& p, int64_t batch, int token, Left<T>* patch) {
  const int across = p.width / 2, top = token / across * 2, left = token % across * 2;
  const int64_t plane = static_cast<int64_t>(p.height) * p.width;
  for (int i = 0; i < p.sources; ++i) {
    const T* pixel = static_cast<const T*>(p.source[i]) + batch * p.channels[i] * plane + top * p.width + left;
    for (int c = 0; c < p.channels[i]; ++c, pixel += plane, patch += 4) {
      copy_pair(pixel, patch);
      copy_pair(pixel + p.width, patch + 2);
    }
  }
}

template <class T>
void embed(const Problem& p) {
  const int tokens = p.height / 2 * (p.width / 2), inputs = p.weight.inputs, outputs = p.weight.outputs;
  const T* bias = static_cast<const T*>(p.bias);
  project<T>(
      p.weight, static_cast<int64_t>(p.batch) * tokens,
      [&](int64_t first, int count, Left<T>* a) {
        for (int row = 0; row < count; ++row) {
          const int64_t token = first + row;
          gather_token<T>(p, token / tokens, static_cast<int>(token % tokens), a + static_cast<int64_t>(row) * inputs);
        }
      },
      [&](int64_t row, int output, int count, const float* sums) {
        T* out = static_cast<T*>(p.out) + row * outputs + output;
        for_each_vector(count, [&](int i, auto part) {
          const Vector x = load(sums + i);
          store(out + i, bias ? x + load(bias + output + i, part) : x, part);
        });
      });
}

}  // namespace

void patch_embed(const Problem& p) {
  if (p.dtype == DType::f32) return embed<float>(p);
  embed<bf16>(p);
}

}  // namespace aapt::patch_embed::AAPT_ISA
