#include "linear/op.h"

namespace aapt::linear {

AAPT_DECLARE_CPU_KERNELS(linear, Problem)

Problem make_problem(const Tensor& x, const Tensor& weight, const Tensor* bias, const std::string& activation,
                     const Tensor& out) {
  const Check check("linear");
  check.dims(x, "x", 2, "[rows, K]");
  check.floating(x, "x");
  check.contiguous(x, "x", 1);
  check.device(x, "x", Device{});
  check.dims(out, "out", 2, "[rows, N]");
  const int64_t rows = x.size(0), inputs = x.size(1), outputs = out.size(1);
  check.output(out, "out", {rows, outputs}, "[rows, N]", x.dtype, x.device);

  Problem p{};
  p.dtype = x.dtype;
  p.rows = rows;
  p.x_stride = x.stride[0];
  p.x = x.data;
  p.weight =
      make_weight(check, weight, "weight", static_cast<int>(outputs), static_cast<int>(inputs), x.dtype, x.device);
  if (bias) {
    check.tensor(*bias, "bias", {outputs}, "[N]", x.dtype, x.device);
    p.bias = bias->data;
  }
  if (activation == "gelu_tanh") {
    p.activation = Activation::gelu_tanh;
  } else if (activation == "silu") {
    p.activation = Activation::silu;
  } else if (activation != "none") {
    check.fail("activation", "is '" + activation + "'", "none, gelu_tanh or silu");
  }
  p.out = out.data;
  return p;
}

void run(const Problem& p) {
  if (p.rows == 0 || p.weight.outputs == 0) return;
  cpu_linear.pick(p.dtype)(p);
}

}  // namespace aapt::linear
