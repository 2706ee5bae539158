// The tanh form of GELU in the portable paths.
#pragma once

#include <cmath>

namespace aapt {

// 0.5 x (1 + tanh(u)), written so that nothing cancels where u is negative.
template <class W>
W gelu_tanh(W x) {
  const W u = static_cast<W>(0.7978845608028654) * (x + static_cast<W>(0.044715) * x * x * x);
  return x / (1 + std::exp(-2 * u));
}

}  // namespace aapt
