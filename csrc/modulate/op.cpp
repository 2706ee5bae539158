#include "modulate/op.h"

namespace aapt::modulate {

AAPT_DECLARE_CPU_KERNELS(modulate, Problem)
AAPT_DECLARE_CUDA_KERNELS(Problem)

Problem make_problem(const Tensor& x, const Tensor* y, const Tensor* gate, const Tensor* scale, const Tensor* shift,
                     const Tensor* weight, const Tensor* bias, double eps, const Tensor* residual, const Tensor& out,
                     const Tensor* row_scale, void* stream) {
  const Check check("modulate");
  check.dims(x, "x", 3, "[B, L, D]");
  check.floating(x, "x");
  check.contiguous(x, "x");
  const int64_t batch = x.size(0), rows = x.size(1), width = x.size(2);
  if (!y && (gate || residual)) {
    check.fail(gate ? "gate" : "residual", "is given without y", "left out, or given together with y");
  }
  if (y && !residual) check.fail("residual", "is missing", "given together with y");
  if (!(eps > 0)) check.fail("eps", "is " + std::to_string(eps), "positive");

  const auto optional = [&](const Tensor* t, const char* argument, std::initializer_list<int64_t> shape,
                            const char* meaning) -> const void* {
    if (!t) return nullptr;
    check.tensor(*t, argument, shape, meaning, x.dtype, x.device);
    return t->data;
  };
  Problem p{};
  p.dtype = x.dtype;
  p.device = x.device;
  p.stream = stream;
  p.batch = static_cast<int>(batch);
  p.rows = static_cast<int>(rows);
  p.width = static_cast<int>(width);
  p.x = x.data;
  p.y = optional(y, "y", {batch, rows, width}, "[B, L, D]");
  p.gate = optional(gate, "gate", {batch, width}, "[B, D]");
  p.scale = optional(scale, "scale", {batch, width}, "[B, D]");
  p.shift = optional(shift, "shift", {batch, width}, "[B, D]");
  p.weight = optional(weight, "weight", {width}, "[D]");
  p.bias = optional(bias, "bias", {width}, "[D]");
  if (residual) {
    check.output(*residual, "residual", {batch, rows, width}, "[B, L, D]", x.dtype, x.device);
    p.residual = residual->data;
  }
  if (row_scale) {
    check.output(*row_scale, "row_scale", {batch, rows}, "[B, L]", DType::f32, x.device);
    p.row_scale = row_scale->as<float>();
  }
  check.output(out, "out", {batch, rows, width}, "[B, L, D]", row_scale ? DType::e4m3 : x.dtype, x.device);
  p.out = out.data;
  p.eps = eps;
  return p;
}

void run(const Problem& p) {
  if (p.batch == 0 || p.rows == 0 || p.width == 0) return;
  if (p.device.type == Device::cuda) return run_cuda(p);
  if (p.row_scale) return portable::modulate(p);
  cpu_modulate.pick(p.dtype)(p);
}

}  // namespace aapt::modulate
