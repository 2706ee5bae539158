// C functions by which the tests run the kernels that multiply with a weight: patch_embed and denoise, each on tensor
// cores and without.
#include "denoise/simt.cuh"
#include "denoise/sm80.cuh"
#include "exports.h"
#include "patch_embed/simt.cuh"
#include "patch_embed/sm80.cuh"

using namespace aapt;

namespace {
bool on_tensor_cores = false;
}

// Whether the last product ran on tensor cores.
EXPORT int last_was_on_tensor_cores() {
  return on_tensor_cores;
}

EXPORT const char* embed_patches(int is_bf16, int count, const void* const* sources, const int* channels, int batch,
                                 int height, int width, const void* weight, int inputs, int outputs, const void* bias,
                                 void* out) {
  return guarded([=] {
    patch_embed::Problem p{};
    p.dtype = is_bf16 ? DType::bf16 : DType::f32;
    p.batch = batch, p.height = height, p.width = width, p.sources = count;
    for (int i = 0; i < count; ++i) p.source[i] = sources[i], p.channels[i] = channels[i];
    p.weight = {weight, false, outputs, inputs};
    p.bias = bias, p.out = out;
    on_tensor_cores = patch_embed::sm80::serves(p);
    on_tensor_cores ? patch_embed::sm80::run(p) : patch_embed::simt::run(p);
  });
}

EXPORT const char* denoise_tokens(int is_bf16, int batch, int channels, int height, int width, int model_width,
                                  const void* x, const void* scale, const void* shift, const void* weight,
                                  const void* bias, const void* noisy, float timestep, float eps, void* out) {
  return guarded([=] {
    denoise::Problem p{};
    p.dtype = is_bf16 ? DType::bf16 : DType::f32;
    p.batch = batch, p.channels = channels, p.height = height, p.width = width, p.model_width = model_width;
    p.x = x, p.scale = scale, p.shift = shift, p.bias = bias, p.noisy = noisy;
    p.weight = {weight, false, 4 * channels, model_width};
    p.timestep = timestep, p.eps = eps, p.out = out;
    constexpr int kSharedOfSmallGpus = 99 * 1024;
    on_tensor_cores = denoise::sm80::serves(p, kSharedOfSmallGpus);
    on_tensor_cores ? denoise::sm80::run(p) : denoise::simt::run(p);
  });
}
