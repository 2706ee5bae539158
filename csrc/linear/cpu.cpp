#include <cmath>

#include "core/gelu.h"
#include "linear/op.h"

namespace aapt::linear::portable {
namespace {

template <class W>
W activate(W x, Activation activation) {
  if (activation == Activation::silu) return x / (1 + std::exp(-x));
  return activation == Activation::none ? x : gelu_tanh(x);
}

template <class T>
void multiply(const Problem& p) {
  using W = wide<T>;
  const int outputs = p.weight.outputs, inputs = p.weight.inputs;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < p.rows; ++row) {
    const T* x = static_cast<const T*>(p.x) + row * p.x_stride;
    for (int n = 0; n < outputs; ++n) {
      double sum = p.bias ? to_wide(static_cast<const T*>(p.bias)[n]) : 0;
      for (int k = 0; k < inputs; ++k) sum += static_cast<double>(to_wide(x[k])) * p.weight.at<T>(n, k);
      store(static_cast<T*>(p.out) + row * outputs + n, activate(static_cast<W>(sum), p.activation));
    }
  }
}

}  // namespace

void linear(const Problem& p) {
  if (p.dtype == DType::f64) return multiply<double>(p);
  if (p.dtype == DType::f32) return multiply<float>(p);
  multiply<bf16>(p);
}

}  // namespace aapt::linear::portable
