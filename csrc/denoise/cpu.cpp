#include <vector>

#include "core/norm.h"
#include "denoise/op.h"

namespace aapt::denoise::portable {
namespace {

template <class T>
void denoise_token(const Problem& p, int b, int token, std::vector<wide<T>>& value) {
  using W = wide<T>;
  const int across = p.width / 2, tokens = p.height / 2 * across, width = p.model_width;
  const T* x = static_cast<const T*>(p.x) + (static_cast<int64_t>(b) * tokens + token) * width;
  const T* scale = static_cast<const T*>(p.scale) + static_cast<int64_t>(b) * width;
  const T* shift = static_cast<const T*>(p.shift) + static_cast<int64_t>(b) * width;
  const auto norm = layer_norm<W>(width, static_cast<W>(p.eps), [&](int i) { return to_wide(x[i]); });
  for (int i = 0; i < width; ++i) {
    value[i] = norm(to_wide(x[i])) * (1 + to_wide(scale[i])) + to_wide(shift[i]);
  }
  for (int n = 0; n < 4 * p.channels; ++n) {
    double velocity = p.bias ? to_wide(static_cast<const T*>(p.bias)[n]) : 0;
    for (int k = 0; k < width; ++k) velocity += static_cast<double>(value[k]) * p.weight.at<T>(n, k);
    const int patch = n / p.channels, c = n % p.channels;
    const int row = token / across * 2 + patch / 2, column = token % across * 2 + patch % 2;
    const int64_t at = ((static_cast<int64_t>(b) * p.channels + c) * p.height + row) * p.width + column;
    const W noisy = to_wide(static_cast<const T*>(p.noisy)[at]);
    store(static_cast<T*>(p.out) + at, static_cast<W>(noisy - p.timestep * velocity));
  }
}

template <class T>
void denoise_all(const Problem& p) {
  const int tokens = p.height / 2 * (p.width / 2);
#pragma omp parallel
  {
    std::vector<wide<T>> value(p.model_width);
#pragma omp for collapse(2) schedule(static)
    for (int b = 0; b < p.batch; ++b) {
      for (int token = 0; token < tokens; ++token) denoise_token<T>(p, b, token, value);
    }
  }
}

}  // namespace

void denoise(const Problem& p) {
  if (p.dtype == DType::f64) return denoise_all<double>(p);
  if (p.dtype == DType::f32) return denoise_all<float>(p);
  denoise_all<bf16>(p);
}

}  // namespace aapt::denoise::portable
