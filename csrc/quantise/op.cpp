#include "quantise/op.h"

#include <climits>

namespace aapt::quantise {

AAPT_DECLARE_CUDA_KERNELS(Problem)

// A CPU multiplies no fp8, so it has no faster path than the portable one.
namespace portable {
void quantise(const Problem&);
}

Problem make_problem(const Tensor& x, const std::string& activation, const Tensor& out, const Tensor& row_scale,
                     void* stream) {
  const Check check("quantise");
  check.dims(x, "x", 2, "[rows, K]");
  check.floating(x, "x");
  check.contiguous(x, "x");
  const int64_t rows = x.size(0), width = x.size(1);
  if (width < 1 || rows > INT_MAX || width > INT_MAX) {
    check.fail("x", "has shape " + show_shape(x.shape, 2), "[rows, K] with K at least 1, both below 2^31");
  }
  if (activation != "none" && activation != "gelu_tanh") {
    check.fail("activation", "is '" + activation + "'", "none or gelu_tanh");
  }
  check.output(out, "out", {rows, width}, "[rows, K]", DType::e4m3, x.device);
  check.output(row_scale, "row_scale", {rows}, "[rows]", DType::f32, x.device);

  Problem p{};
  p.dtype = x.dtype;
  p.device = x.device;
  p.stream = stream;
  p.rows = rows;
  p.width = static_cast<int>(width);
  p.x = x.data;
  p.activation = activation == "none" ? Activation::none : Activation::gelu_tanh;
  p.out = out.data;
  p.row_scale = row_scale.as<float>();
  return p;
}

void run(const Problem& p) {
  if (p.rows == 0) return;
  if (p.device.type == Device::cuda) return run_cuda(p);
  portable::quantise(p);
}

}  // namespace aapt::quantise
