#include "core/exp2.h"
#include "core/project.h"
#include "linear/op.h"

namespace aapt::linear::AAPT_ISA {
namespace {

using namespace gemm::AAPT_ISA;

// x / (1 + e^-s): silu with s = x, gelu_tanh with s = 2 sqrt(2/pi) (x + 0.044715 x^3).
inline Vector gated(Vector x, Vector s) {
  const Vector exponent = broadcast(-1.44269504f) * s;
  // Bounded, since 2^x is for finite x; both ends are far beyond what changes the result.
  const Vector bounded = max(broadcast(-150.0f), min(broadcast(150.0f), exponent));
  return x / (broadcast(1.0f) + exp2(bounded, Precise{}));
}

inline Vector activate(Vector x, Activation activation) {
  if (activation == Activation::none) return x;
  if (activation == Activation::silu) return gated(x, x);
  const Vector cubic = fma(broadcast(0.044715f) * x * x, x, x);
  return gated(x, broadcast(1.5957691216057308f) * cubic);
}

template <class T>
void multiply(const Problem& p) {
  const int inputs = p.weight.inputs, outputs = p.weight.outputs;
  const T* bias = static_cast<const T*>(p.bias);
  project<T>(
      p.weight, p.rows,
      [&](int64_t first, int count, Left<T>* a) {
        for (int row = 0; row < count; ++row) {
          const T* x = static_cast<const T*>(p.x) + (first + row) * p.x_stride;
          Left<T>* to = a + static_cast<int64_t>(row) * inputs;
          for_each_vector(inputs, [&](int i, auto part) { store(to + i, load(x + i, part), part); });
        }
      },
      [&](int64_t row, int output, int count, const float* sums) {
        T* out = static_cast<T*>(p.out) + row * outputs + output;
        for_each_vector(count, [&](int i, auto part) {
          const Vector x = load(sums + i);
          store(out + i, activate(bias ? x + load(bias + output + i, part) : x, p.activation), part);
        });
      });
}

}  // namespace

void linear(const Problem& p) {
  if (p.dtype == DType::f32) return multiply<float>(p);
  multiply<bf16>(p);
}

}  // namespace aapt::linear::AAPT_ISA
