#include "patch_embed/op.h"

namespace aapt::patch_embed::portable {
namespace {

template <class T>
void embed(const Problem& p) {
  const int across = p.width / 2, tokens = p.height / 2 * across, outputs = p.weight.outputs;
#pragma omp parallel for collapse(2) schedule(static)
  for (int b = 0; b < p.batch; ++b) {
    for (int token = 0; token < tokens; ++token) {
      const int top = token / across * 2, left = token % across * 2;
      T* out = static_cast<T*>(p.out) + (static_cast<int64_t>(b) * tokens + token) * outputs;
      for (int n = 0; n < outputs; ++n) {
        double sum = p.bias ? to_wide(static_cast<const T*>(p.bias)[n]) : 0;
        int input = 0;
        for (int i = 0; i < p.sources; ++i) {
          for (int c = 0; c < p.channels[i]; ++c, input += 4) {
            const int64_t plane = (static_cast<int64_t>(b) * p.channels[i] + c) * p.height;
            const T* pixel = static_cast<const T*>(p.source[i]) + (plane + top) * p.width + left;
            for (int y = 0; y < 2; ++y) {
              for (int x = 0; x < 2; ++x) {
                sum += static_cast<double>(to_wide(pixel[y * p.width + x])) * p.weight.at<T>(n, input + 2 * y + x);
              }
            }
          }
        }
        store(out + n, sum);
      }
    }
  }
}

}  // namespace

void patch_embed(const Problem& p) {
  if (p.dtype == DType::f64) return embed<double>(p);
  if (p.dtype == DType::f32) return embed<float>(p);
  embed<bf16>(p);
}

}  // namespace aapt::patch_embed::portable
