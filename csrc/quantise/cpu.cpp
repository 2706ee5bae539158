#include <vector>

#include "core/e4m3.h"
#include "core/gelu.h"
#include "quantise/op.h"

namespace aapt::quantise::portable {
namespace {

template <class T>
void quantise_all(const Problem& p) {
#pragma omp parallel
  {
    std::vector<wide<T>> value(p.width);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < p.rows; ++row) {
      const T* x = static_cast<const T*>(p.x) + row * p.width;
      for (int i = 0; i < p.width; ++i) {
        value[i] = p.activation == Activation::none ? to_wide(x[i]) : gelu_tanh(to_wide(x[i]));
      }
      quantise_row(value.data(), p.width, static_cast<e4m3*>(p.out) + row * p.width, p.row_scale + row);
    }
  }
}

}  // namespace

void quantise(const Problem& p) {
  if (p.dtype == DType::f64) return quantise_all<double>(p);
  if (p.dtype == DType::f32) return quantise_all<float>(p);
  quantise_all<bf16>(p);
}

}  // namespace aapt::quantise::portable
