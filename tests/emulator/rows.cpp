// C functions by which the tests run the kernels that work on rows: modulate, cache_write and quantise.
#include "cache_write/sm80.cuh"
#include "exports.h"
#include "modulate/sm80.cuh"
#include "quantise/sm80.cuh"

using namespace aapt;

EXPORT const char* modulate_rows(int is_bf16, int batch, int rows, int width, const void* x, const void* y,
                                 const void* gate, const void* scale, const void* shift, const void* weight,
                                 const void* bias, float eps, void* residual, void* out, float* row_scale) {
  return guarded([=] {
    modulate::Problem p{};
    p.dtype = is_bf16 ? DType::bf16 : DType::f32;
    p.batch = batch, p.rows = rows, p.width = width;
    p.x = x, p.y = y, p.gate = gate, p.scale = scale, p.shift = shift, p.weight = weight, p.bias = bias;
    p.residual = residual, p.out = out, p.row_scale = row_scale, p.eps = eps;
    modulate::sm80::run(p);
  });
}

EXPORT const char* quantise_rows(int is_bf16, int rows, int width, const void* x, int gelu, void* out,
                                 float* row_scale) {
  return guarded([=] {
    quantise::Problem p{};
    p.dtype = is_bf16 ? DType::bf16 : DType::f32;
    p.rows = rows, p.width = width, p.x = x, p.out = out, p.row_scale = row_scale;
    p.activation = static_cast<quantise::Activation>(gelu);
    quantise::sm80::run(p);
  });
}

// Pairs of floats, as kernels convert them.
EXPORT void convert_to_e4m3(const float* x, uint16_t* out, int pairs) {
  for (int i = 0; i < pairs; ++i) out[i] = ptx::pack_e4m3(x[2 * i], x[2 * i + 1]);
}

// `strides`: page, head and row of k, then of v.
EXPORT const char* write_rows(int is_bf16, int batch, int rows, int heads, int head_dim, int time_pairs,
                              const void* qkv, int norm, const void* q_weight, const void* k_weight, float eps,
                              const float* time_rotation, const float* space_rotation, const float* pinned_rotation,
                              const int32_t* page, int pages, void* k, void* v, const int64_t* strides, void* q,
                              void* q_pinned, int* bad_page) {
  return guarded([=] {
    cache_write::Problem p{};
    p.dtype = is_bf16 ? DType::bf16 : DType::f32;
    p.batch = batch, p.rows = rows, p.heads = heads, p.head_dim = head_dim, p.time_pairs = time_pairs;
    p.qkv = qkv, p.norm = static_cast<cache_write::Norm>(norm), p.q_weight = q_weight, p.k_weight = k_weight;
    p.eps = eps;
    p.time_rotation = time_rotation, p.space_rotation = space_rotation, p.pinned_rotation = pinned_rotation;
    p.page = page, p.pages = pages, p.k = k, p.v = v, p.q = q, p.q_pinned = q_pinned;
    p.k_page_stride = strides[0], p.k_head_stride = strides[1], p.k_row_stride = strides[2];
    p.v_page_stride = strides[3], p.v_head_stride = strides[4], p.v_row_stride = strides[5];
    cache_write::sm80::run(p, bad_page);
  });
}
