#include "patch_embed/op.h"

namespace aapt::patch_embed {

AAPT_DECLARE_CPU_KERNELS(patch_embed, Problem)
AAPT_DECLARE_CUDA_KERNELS(Problem)

Problem make_problem(const Tensor* sources, int count, const Tensor& weight, const Tensor* bias, const Tensor& out,
                     void* stream) {
  const Check check("patch_embed");
  if (count < 1 || count > kMaxSources) {
    check.fail("sources", "has " + std::to_string(count) + " tensors", "one to four");
  }
  const Tensor& first = sources[0];
  check.dims(first, "sources[0]", 4, "[B, C, H, W]");
  check.floating(first, "sources[0]");
  const int64_t batch = first.size(0), height = first.size(2), width = first.size(3);
  if (height % 2 || width % 2) {
    check.fail("sources[0]", "has height and width " + show_shape(first.shape + 2, 2),
               "even in both, since a patch is 2 x 2");
  }
  Problem p{};
  p.dtype = first.dtype;
  p.device = first.device;
  p.stream = stream;
  p.batch = static_cast<int>(batch);
  p.height = static_cast<int>(height);
  p.width = static_cast<int>(width);
  p.sources = count;
  int channels = 0;
  for (int i = 0; i < count; ++i) {
    const std::string name = "sources[" + std::to_string(i) + "]";
    check.tensor(sources[i], name.c_str(), {batch, -1, height, width}, "[B, C_i, H, W]", first.dtype, first.device);
    p.source[i] = sources[i].data;
    p.channels[i] = static_cast<int>(sources[i].size(1));
    channels += p.channels[i];
  }
  check.dims(out, "out", 3, "[B, L, D]");
  const int64_t outputs = out.size(2);
  check.output(out, "out", {batch, height / 2 * (width / 2), outputs}, "[B, L, D]", first.dtype, first.device);
  p.weight = make_weight(check, weight, "weight", static_cast<int>(outputs), 4 * channels, first.dtype, first.device);
  if (bias) {
    check.tensor(*bias, "bias", {outputs}, "[D]", first.dtype, first.device);
    p.bias = bias->data;
  }
  p.out = out.data;
  return p;
}

void run(const Problem& p) {
  if (p.batch == 0 || p.height == 0 || p.width == 0) return;
  if (p.device.type == Device::cuda) return run_cuda(p);
  cpu_patch_embed.pick(p.dtype)(p);
}

}  // namespace aapt::patch_embed
