// Statistics of one row, in the portable paths. Sums are made in double, whatever the row's type.
#pragma once

#include <cmath>

#include "core/dtype.h"

namespace aapt {

template <class W>
struct LayerNorm {
  W mean, inverse_deviation;

  W operator()(W value) const { return (value - mean) * inverse_deviation; }
};

// `value(i)` is the i-th element of the row.
template <class W, class Value>
LayerNorm<W> layer_norm(int width, W eps, Value value) {
  double mean = 0, variance = 0;
  for (int i = 0; i < width; ++i) mean += value(i);
  mean /= width;
  for (int i = 0; i < width; ++i) variance += (value(i) - mean) * (value(i) - mean);
  return {static_cast<W>(mean), static_cast<W>(1 / std::sqrt(variance / width + eps))};
}

template <class W, class Value>
W inverse_rms(int width, W eps, Value value) {
  double squares = 0;
  for (int i = 0; i < width; ++i) squares += static_cast<double>(value(i)) * value(i);
  return static_cast<W>(1 / std::sqrt(squares / width + eps));
}

}  // namespace aapt
