#include <vector>

#include "core/e4m3.h"
#include "core/norm.h"
#include "modulate/op.h"

namespace aapt::modulate::portable {
namespace {

template <class T>
wide<T> optional(const void* data, int64_t index, wide<T> otherwise) {
  return data ? to_wide(static_cast<const T*>(data)[index]) : otherwise;
}

template <class T>
void modulate_row(const Problem& p, int64_t row, std::vector<wide<T>>& value) {
  using W = wide<T>;
  const int64_t stream = row / p.rows * p.width;
  const T* x = static_cast<const T*>(p.x) + row * p.width;
  const T* y = p.y ? static_cast<const T*>(p.y) + row * p.width : nullptr;
  for (int i = 0; i < p.width; ++i) {
    value[i] = to_wide(x[i]);
    if (!y) continue;
    value[i] += optional<T>(p.gate, stream + i, 1) * to_wide(y[i]);
    store(static_cast<T*>(p.residual) + row * p.width + i, value[i]);
  }
  const auto norm = layer_norm<W>(p.width, static_cast<W>(p.eps), [&](int i) { return value[i]; });
  for (int i = 0; i < p.width; ++i) {
    const W affine = norm(value[i]) * optional<T>(p.weight, i, 1) + optional<T>(p.bias, i, 0);
    value[i] = affine * (1 + optional<T>(p.scale, stream + i, 0)) + optional<T>(p.shift, stream + i, 0);
  }
  if (p.row_scale) {
    quantise_row(value.data(), p.width, static_cast<e4m3*>(p.out) + row * p.width, p.row_scale + row);
    return;
  }
  for (int i = 0; i < p.width; ++i) store(static_cast<T*>(p.out) + row * p.width + i, value[i]);
}

template <class T>
void modulate_all(const Problem& p) {
  const int64_t rows = static_cast<int64_t>(p.batch) * p.rows;
#pragma omp parallel
  {
    std::vector<wide<T>> value(p.width);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) modulate_row<T>(p, row, value);
  }
}

}  // namespace

void modulate(const Problem& p) {
  if (p.dtype == DType::f64) return modulate_all<double>(p);
  if (p.dtype == DType::f32) return modulate_all<float>(p);
  modulate_all<bf16>(p);
}

}  // namespace aapt::modulate::portable
