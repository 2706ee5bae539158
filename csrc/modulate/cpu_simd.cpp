// The vector path. What follows the norm, ((v weight + bias) (1 + scale) + shift), is one multiplication and one
// addition per element: v gain + offset, with gain and offset made once per stream. A row is then read once: its sum
// stays in the first-level cache as floats while mean, variance and result are taken from it.
#include <math.h>

#include "core/parallel.h"
#include "core/scratch.h"
#include "core/simd.h"
#include "modulate/op.h"

namespace aapt::modulate {

namespace portable {
void modulate(const Problem&);
}

namespace AAPT_ISA {
namespace {

using namespace simd::AAPT_ISA;

template <class T>
const T* row_of(const void* base, int64_t row, int width) {
  return base ? static_cast<const T*>(base) + row * width : nullptr;
}

template <class T, class Extent>
Vector load_or(const T* from, int i, Extent extent, Vector otherwise) {
  return from ? load(from + i, extent) : otherwise;
}

template <class T>
void fold_vectors(const Problem& p, int64_t stream, float* gain, float* offset) {
  const T* scale = row_of<T>(p.scale, stream, p.width);
  const T* shift = row_of<T>(p.shift, stream, p.width);
  const T* weight = static_cast<const T*>(p.weight);
  const T* bias = static_cast<const T*>(p.bias);
  const Vector one = broadcast(1);
  for_each_vector(p.width, [&](int i, auto extent) {
    const Vector factor = one + load_or(scale, i, extent, zero());
    store(gain + i, load_or(weight, i, extent, one) * factor, extent);
    store(offset + i, fma(load_or(bias, i, extent, zero()), factor, load_or(shift, i, extent, zero())), extent);
  });
}

// value = x + gate y, kept in `value` and rounded in `residual`; returns its sum.
template <class T>
float add_residual(const Problem& p, int64_t row, int64_t stream, float* value) {
  const T* x = row_of<T>(p.x, row, p.width);
  const T* y = row_of<T>(p.y, row, p.width);
  const T* gate = row_of<T>(p.gate, stream, p.width);
  T* residual = static_cast<T*>(p.residual) + row * p.width;
  return sum_over(p.width, [&](int i, auto extent) {
    const Vector branch = load(y + i, extent);
    const Vector v = gate ? fma(load(gate + i, extent), branch, load(x + i, extent)) : load(x + i, extent) + branch;
    store(value + i, v, extent);
    store(residual + i, v, extent);
    return v;
  });
}

template <class T>
float widen_row(const Problem& p, int64_t row, float* value) {
  const T* x = row_of<T>(p.x, row, p.width);
  return sum_over(p.width, [&](int i, auto extent) {
    const Vector v = load(x + i, extent);
    store(value + i, v, extent);
    return v;
  });
}

template <class T>
void modulate_rows(const Problem& p, int64_t begin, int64_t end) {
  const int64_t pitch = (p.width + kLanes - 1) / kLanes * kLanes;
  auto* const value = static_cast<float*>(thread_scratch(3 * pitch * sizeof(float)));
  float *const gain = value + pitch, *const offset = gain + pitch;
  int64_t folded = -1;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t stream = row / p.rows;
    if (stream != folded) fold_vectors<T>(p, folded = stream, gain, offset);

    const float total = p.y ? add_residual<T>(p, row, stream, value) : widen_row<T>(p, row, value);
    const Vector mean = broadcast(total / static_cast<float>(p.width));
    const float squares = sum_over(p.width, [&](int i, auto extent) {
      const Vector off = load(value + i, extent) - mean;
      return off * off;
    });
    const float variance = squares / static_cast<float>(p.width);
    const Vector inverse = broadcast(1 / sqrtf(variance + static_cast<float>(p.eps)));
    T* out = static_cast<T*>(p.out) + row * p.width;
    for_each_vector(p.width, [&](int i, auto extent) {
      const Vector normed = (load(value + i, extent) - mean) * inverse;
      store(out + i, fma(normed, load(gain + i, extent), load(offset + i, extent)), extent);
    });
  }
}

template <class T>
void modulate_all(const Problem& p) {
  const int64_t rows = static_cast<int64_t>(p.batch) * p.rows;
  split(rows, rows * p.width, [&](int64_t begin, int64_t end) { modulate_rows<T>(p, begin, end); });
}

}  // namespace

void modulate(const Problem& p) {
  if (p.dtype == DType::f64) return portable::modulate(p);
  if (p.dtype == DType::f32) return modulate_all<float>(p);
  modulate_all<bf16>(p);
}

}  // namespace AAPT_ISA
}  // namespace aapt::modulate
