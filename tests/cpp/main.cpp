// Every operator on every CPU path over odd shapes: no path may read or write a byte that is not its own (the
// sanitizers watch), and the vector paths must agree with the portable one. Built by tests/test_sanitizers.py.
#include <cmath>

#include "array.h"
#include "attention/op.h"
#include "cache_write/op.h"
#include "core/geometry.h"
#include "denoise/op.h"
#include "linear/op.h"
#include "modulate/op.h"
#include "patch_embed/op.h"
#include "quantise/op.h"

namespace aapt::test {
namespace {

int comparisons = 0;

void compare(const std::string& what, const Array& expected, const Array& found, float tolerance) {
  for (int64_t i = 0; i < (*expected).elements(); ++i) {
    const float a = expected.at(i), b = found.at(i);
    const bool same = std::isnan(a) || std::isnan(b) ? std::isnan(a) && std::isnan(b)
                                                     : a == b || std::fabs(a - b) <= tolerance * (1 + std::fabs(a));
    if (!same) {
      std::fprintf(stderr, "%s: element %lld is %g; portable: %g\n", what.c_str(), static_cast<long long>(i), b, a);
      std::exit(1);
    }
  }
  ++comparisons;
}

// `call` returns the arrays that the operator wrote.
template <class Call>
void on_every_path(const std::string& what, DType dtype, Call call) {
  force_cpu_backend("portable");
  const std::vector<Array> expected = call();
  for (Backend backend : kCpuBackends) {
    if (backend == Backend::portable || !cpu_supports(backend)) continue;
    force_cpu_backend(name_of(backend));
    const std::vector<Array> found = call();
    for (size_t i = 0; i < expected.size(); ++i) {
      compare(what + " on " + name_of(backend) + ", " + name_of(dtype) + ", result " + std::to_string(i), expected[i],
              found[i], dtype == DType::bf16 ? 2e-2f : 2e-4f);
    }
  }
}

template <class... Arrays>
std::vector<Array> results(Arrays&&... arrays) {
  std::vector<Array> list;
  (list.push_back(std::move(arrays)), ...);
  return list;
}

void modulate(DType dtype, int64_t batch, int64_t rows, int64_t width, bool branch, bool vectors) {
  const auto x = Array::random(dtype, {batch, rows, width}), y = Array::random(dtype, {batch, rows, width});
  const auto gate = Array::random(dtype, {batch, width}), scale = Array::random(dtype, {batch, width});
  const auto shift = Array::random(dtype, {batch, width});
  const auto weight = Array::random(dtype, {width}), bias = Array::random(dtype, {width});
  on_every_path("modulate", dtype, [&] {
    auto residual = Array::poisoned(dtype, {batch, rows, width}), out = Array::poisoned(dtype, {batch, rows, width});
    aapt::modulate::run(aapt::modulate::make_problem(*x, branch ? &y : nullptr, branch && vectors ? &gate : nullptr,
                                                     vectors ? &scale : nullptr, vectors ? &shift : nullptr,
                                                     vectors ? nullptr : &weight, vectors ? nullptr : &bias, 1e-6,
                                                     branch ? &residual : nullptr, *out, nullptr, nullptr));
    return results(std::move(residual), std::move(out));
  });
  on_every_path("modulate to fp8", dtype, [&] {
    auto out = Array::poisoned(DType::e4m3, {batch, rows, width}),
         row_scale = Array::poisoned(DType::f32, {batch, rows});
    aapt::modulate::run(aapt::modulate::make_problem(*x, nullptr, nullptr, vectors ? &scale : nullptr, nullptr, nullptr,
                                                     nullptr, 1e-6, nullptr, *out, &row_scale, nullptr));
    return results(std::move(out), std::move(row_scale));
  });
}

void quantise(DType dtype, int64_t rows, int64_t width, const char* activation) {
  const auto x = Array::random(dtype, {rows, width});
  on_every_path("quantise", dtype, [&] {
    auto out = Array::poisoned(DType::e4m3, {rows, width}), row_scale = Array::poisoned(DType::f32, {rows});
    aapt::quantise::run(aapt::quantise::make_problem(*x, activation, *out, *row_scale, nullptr));
    return results(std::move(out), std::move(row_scale));
  });
}

struct Pages {
  std::vector<int64_t> k, v;
};

Pages page_shapes(DType dtype, bool tiled, int64_t pages, int64_t heads, int64_t rows, int64_t head_dim) {
  if (!tiled) return {{pages, heads, rows, head_dim}, {pages, heads, rows, head_dim}};
  const int64_t group = group_of(size_of(dtype)), blocks = key_blocks(static_cast<int>(rows));
  return {{pages, heads, blocks, head_dim / group, kKeyBlock, group},
          {pages, heads, blocks * kKeyBlock / group, head_dim, group}};
}

void cache_write(DType dtype, bool tiled, int64_t rows, int64_t heads, int64_t head_dim, int64_t time_pairs) {
  const int64_t batch = 2, weights = rows % 2 ? head_dim : heads * head_dim;
  const auto shape = page_shapes(dtype, tiled, 3, heads, rows, head_dim);
  const auto qkv = Array::random(dtype, {batch, rows, 3, heads, head_dim});
  const auto q_weight = Array::random(dtype, {weights}), k_weight = Array::random(dtype, {weights});
  const auto time = Array::random(DType::f32, {batch, time_pairs, 2});
  const auto pinned = Array::random(DType::f32, {batch, time_pairs, 2});
  const auto space = Array::random(DType::f32, {rows, head_dim / 2 - time_pairs, 2});
  const auto page = Array::integers({2, 0}, {batch});
  on_every_path("cache_write", dtype, [&] {
    auto k = Array::poisoned(dtype, shape.k), v = Array::poisoned(dtype, shape.v);
    auto q = Array::poisoned(dtype, {batch, rows, heads, head_dim});
    auto q_pinned = Array::poisoned(dtype, {batch, rows, heads, head_dim});
    aapt::cache_write::run(aapt::cache_write::make_problem(*qkv, &q_weight, &k_weight, 1e-6, *time, *space, &pinned,
                                                           *page, *k, *v, *q, &q_pinned, nullptr));
    return results(std::move(k), std::move(v), std::move(q), std::move(q_pinned));
  });
}

void paged_attention(DType dtype, bool tiled, int64_t queries, int64_t rows, int64_t heads, int64_t head_dim) {
  const auto shape = page_shapes(dtype, tiled, 3, heads, rows, head_dim);
  const auto k = Array::random(dtype, shape.k), v = Array::random(dtype, shape.v);
  const auto q = Array::random(dtype, {2, queries, heads, head_dim});
  const auto table = Array::integers({2, 0, 1, 1, 0, 2}, {2, 3});
  const auto count = Array::integers({3, 1}, {2});
  const auto last = Array::integers({static_cast<int32_t>(rows), static_cast<int32_t>((rows + 1) / 2)}, {2});
  on_every_path("paged_attention", dtype, [&] {
    auto out = Array::poisoned(dtype, {2, queries, heads, head_dim});
    auto lse = Array::poisoned(DType::f32, {2, heads, queries});
    const attention::SegmentArguments segment{*k, *v, static_cast<int>(rows), *table, *count, *last, 0};
    attention::run(attention::make_problem(&q, 1, &segment, 1, 0.5, *out, &lse, nullptr));
    return results(std::move(out), std::move(lse));
  });
}

std::vector<int64_t> weight_shape(DType dtype, bool packed, int64_t outputs, int64_t inputs) {
  if (!packed) return {outputs, inputs};
  const int64_t group = group_of(size_of(dtype));
  return {key_blocks(static_cast<int>(outputs)), inputs / group, kKeyBlock * group};
}

void linear(DType dtype, bool packed, int64_t rows, int64_t inputs, int64_t outputs, const char* activation) {
  const auto x = Array::random(dtype, {rows, inputs}), bias = Array::random(dtype, {outputs});
  const auto weight = Array::random(dtype, weight_shape(dtype, packed, outputs, inputs));
  on_every_path("linear", dtype, [&] {
    auto out = Array::poisoned(dtype, {rows, outputs});
    aapt::linear::run(aapt::linear::make_problem(*x, *weight, &bias, activation, *out));
    return results(std::move(out));
  });
}

void patch_embed(DType dtype, bool packed, int64_t channels, int64_t height, int64_t width, int64_t outputs) {
  const auto noise = Array::random(dtype, {2, channels, height, width});
  const auto condition = Array::random(dtype, {2, 1, height, width});
  const auto weight = Array::random(dtype, weight_shape(dtype, packed, outputs, 4 * (channels + 1)));
  const auto bias = Array::random(dtype, {outputs});
  const Tensor sources[] = {*noise, *condition};
  on_every_path("patch_embed", dtype, [&] {
    auto out = Array::poisoned(dtype, {2, height * width / 4, outputs});
    aapt::patch_embed::run(aapt::patch_embed::make_problem(sources, 2, *weight, &bias, *out, nullptr));
    return results(std::move(out));
  });
}

void denoise(DType dtype, bool packed, int64_t channels, int64_t height, int64_t width, int64_t model_width) {
  const auto x = Array::random(dtype, {2, height * width / 4, model_width});
  const auto scale = Array::random(dtype, {2, model_width}), shift = Array::random(dtype, {2, model_width});
  const auto weight = Array::random(dtype, weight_shape(dtype, packed, 4 * channels, model_width));
  const auto bias = Array::random(dtype, {4 * channels}), noisy = Array::random(dtype, {2, channels, height, width});
  on_every_path("denoise", dtype, [&] {
    auto out = Array::poisoned(dtype, {2, channels, height, width});
    aapt::denoise::run(
        aapt::denoise::make_problem(*x, *scale, *shift, *weight, &bias, *noisy, 0.75, 1e-6, *out, nullptr));
    return results(std::move(out));
  });
}

void everything(DType dtype) {
  for (int64_t width : {1, 7, 16, 50, 129, 600}) {
    for (bool branch : {false, true}) modulate(dtype, 2, width % 5 + 1, width, branch, width % 2);
    for (const char* activation : {"none", "gelu_tanh"}) quantise(dtype, width % 5 + 1, width, activation);
  }
  modulate(dtype, 1, 300, 128, true, true);  // enough for threads
  for (bool tiled : {false, true}) {
    for (int64_t head_dim : {2, 6, 16, 34, 64, 128, 256}) {
      for (int64_t rows : {1, 8, 17, 48}) {
        cache_write(dtype, tiled, rows, 3, head_dim, head_dim / 2 == 1 ? rows % 2 : head_dim / 6);
      }
    }
    cache_write(dtype, tiled, 171, 2, 66, 9);
    for (int64_t head_dim : {2, 6, 16, 34, 64, 256}) paged_attention(dtype, tiled, 7, 21, 2, head_dim);
    paged_attention(dtype, tiled, 1, 1, 1, 64);
    paged_attention(dtype, tiled, 25, 300, 1, 30);
  }
  for (bool packed : {false, true}) {
    for (int64_t outputs : {1, 15, 16, 37, 130}) linear(dtype, packed, outputs % 9 + 1, 2 * outputs, outputs, "none");
    linear(dtype, packed, 13, 34, 65, "gelu_tanh");
    linear(dtype, packed, 5, 6, 3, "silu");
    for (int64_t outputs : {1, 33, 70}) patch_embed(dtype, packed, 3, 6, 10, outputs);
    for (int64_t model_width : {2, 18, 66}) denoise(dtype, packed, 3, 4, 10, model_width);
    denoise(dtype, packed, 16, 2, 2, 40);
  }
}

}  // namespace
}  // namespace aapt::test

int main() {
  aapt::test::everything(aapt::DType::f32);
  aapt::test::everything(aapt::DType::bf16);
  std::printf("%d comparisons with the portable path\n", aapt::test::comparisons);
}
