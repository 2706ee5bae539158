#include "denoise/op.h"

namespace aapt::denoise {

AAPT_DECLARE_CPU_KERNELS(denoise, Problem)
AAPT_DECLARE_CUDA_KERNELS(Problem)

Problem make_problem(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& weight,
                     const Tensor* bias, const Tensor& noisy, double timestep, double eps, const Tensor& out,
                     void* stream) {
  const Check check("denoise");
  check.dims(x, "x", 3, "[B, L, D]");
  check.floating(x, "x");
  check.dims(noisy, "noisy", 4, "[B, C, H, W]");
  const int64_t batch = noisy.size(0), channels = noisy.size(1), height = noisy.size(2), width = noisy.size(3);
  if (height % 2 || width % 2) {
    check.fail("noisy", "has height and width " + show_shape(noisy.shape + 2, 2),
               "even in both, since a patch is 2 x 2");
  }
  const int64_t model_width = x.size(2);
  check.tensor(x, "x", {batch, height / 2 * (width / 2), model_width}, "[B, L, D], L = (H/2)(W/2)", x.dtype, x.device);
  check.tensor(scale, "scale", {batch, model_width}, "[B, D]", x.dtype, x.device);
  check.tensor(shift, "shift", {batch, model_width}, "[B, D]", x.dtype, x.device);
  check.tensor(noisy, "noisy", {batch, channels, height, width}, "[B, C, H, W]", x.dtype, x.device);
  check.output(out, "out", {batch, channels, height, width}, "[B, C, H, W]", x.dtype, x.device);
  if (!(timestep >= 0 && timestep <= 1)) {
    check.fail("timestep", "is " + std::to_string(timestep), "between 0 and 1");
  }
  if (!(eps > 0)) check.fail("eps", "is " + std::to_string(eps), "positive");

  Problem p{};
  p.dtype = x.dtype;
  p.device = x.device;
  p.stream = stream;
  p.batch = static_cast<int>(batch);
  p.channels = static_cast<int>(channels);
  p.height = static_cast<int>(height);
  p.width = static_cast<int>(width);
  p.model_width = static_cast<int>(model_width);
  p.x = x.data;
  p.scale = scale.data;
  p.shift = shift.data;
  p.weight = make_weight(check, weight, "weight", 4 * p.channels, p.model_width, x.dtype, x.device);
  if (bias) {
    check.tensor(*bias, "bias", {4 * channels}, "[4 C]", x.dtype, x.device);
    p.bias = bias->data;
  }
  p.noisy = noisy.data;
  p.timestep = timestep;
  p.eps = eps;
  p.out = out.data;
  return p;
}

void run(const Problem& p) {
  if (p.batch == 0 || p.channels == 0 || p.height == 0 || p.width == 0) return;
  if (p.device.type == Device::cuda) return run_cuda(p);
  cpu_denoise.pick(p.dtype)(p);
}

}  // namespace aapt::denoise
