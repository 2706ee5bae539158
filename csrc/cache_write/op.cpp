#include "cache_write/op.h"

#include "core/check_pages.h"

namespace aapt::cache_write {

AAPT_DECLARE_CPU_KERNELS(cache_write, Problem)
AAPT_DECLARE_CUDA_KERNELS(Problem)

namespace {

const Check check("cache_write");

void take_norm(Problem& p, const Tensor* q_weight, const Tensor* k_weight) {
  if (!q_weight != !k_weight) {
    check.fail(q_weight ? "k_weight" : "q_weight", "is missing", "given together with the other, or neither");
  }
  if (!q_weight) return;
  const bool head = q_weight->dims == 1 && q_weight->size(0) == p.head_dim;
  const int64_t size = head ? p.head_dim : p.heads * p.head_dim;
  p.norm = head ? Norm::head : Norm::all_heads;
  check.tensor(*q_weight, "q_weight", {size}, "[d] (per head) or [h d] (over all heads)", p.dtype, p.device);
  check.tensor(*k_weight, "k_weight", {size}, "of q_weight's shape", p.dtype, p.device);
  p.q_weight = q_weight->data;
  p.k_weight = k_weight->data;
}

void take_pages(Problem& p, const Tensor& page, const Tensor& k, const Tensor& v) {
  p.tiled = check_pages(check, k, "k_pages", v, "v_pages", {p.heads, p.rows, p.head_dim, p.dtype, p.device});
  check.writable(k, "k_pages");
  check.writable(v, "v_pages");
  const int64_t pages = k.size(0);
  check.tensor(page, "page", {p.batch}, "[B]", DType::i32, p.device);
  if (p.device.type == Device::cpu) {
    for (int b = 0; b < p.batch; ++b) {
      const int number = page.as<int32_t>()[b];
      if (number < 0 || number >= pages) {
        check.fail("page[" + std::to_string(b) + "]", "is " + std::to_string(number),
                   "between 0 and pages - 1 = " + std::to_string(pages - 1));
      }
      for (int other = 0; other < b; ++other) {
        if (page.as<int32_t>()[other] == number) {
          check.fail("page[" + std::to_string(b) + "]",
                     "is " + std::to_string(number) + " as is page[" + std::to_string(other) + "]",
                     "another page, since each stream writes its own");
        }
      }
    }
  }
  p.page = page.as<int32_t>();
  p.pages = static_cast<int>(pages);
  p.k = k.data;
  p.v = v.data;
  p.k_page_stride = k.stride[0];
  p.k_head_stride = k.stride[1];
  p.k_row_stride = k.stride[2];
  p.v_page_stride = v.stride[0];
  p.v_head_stride = v.stride[1];
  p.v_row_stride = v.stride[2];
}

}  // namespace

Problem make_problem(const Tensor& qkv, const Tensor* q_weight, const Tensor* k_weight, double eps,
                     const Tensor& time_rotation, const Tensor& space_rotation, const Tensor* pinned_rotation,
                     const Tensor& page, const Tensor& k_pages, const Tensor& v_pages, const Tensor& q,
                     const Tensor* q_pinned, void* stream) {
  check.shape(qkv, "qkv", {-1, -1, 3, -1, -1}, "[B, L, 3, h, d]");
  check.floating(qkv, "qkv");
  check.contiguous(qkv, "qkv");
  Problem p{};
  p.dtype = qkv.dtype;
  p.device = qkv.device;
  p.stream = stream;
  p.batch = static_cast<int>(qkv.size(0));
  p.rows = static_cast<int>(qkv.size(1));
  p.heads = static_cast<int>(qkv.size(3));
  p.head_dim = static_cast<int>(qkv.size(4));
  if (p.head_dim < 2 || p.head_dim > 256 || p.head_dim % 2) {
    check.fail("qkv", "has head size d = " + std::to_string(p.head_dim), "even and at most 256");
  }
  p.qkv = qkv.data;
  take_norm(p, q_weight, k_weight);
  if (!(eps > 0)) check.fail("eps", "is " + std::to_string(eps), "positive");
  p.eps = eps;

  p.rotation_dtype = p.dtype == DType::f64 ? DType::f64 : DType::f32;
  check.dims(time_rotation, "time_rotation", 3, "[B, time pairs, 2]");
  const int64_t time_pairs = time_rotation.size(1), pairs = p.head_dim / 2;
  if (time_pairs > pairs) {
    check.fail("time_rotation", "has " + std::to_string(time_pairs) + " pairs",
               "at most d/2 = " + std::to_string(pairs));
  }
  p.time_pairs = static_cast<int>(time_pairs);
  check.tensor(time_rotation, "time_rotation", {p.batch, time_pairs, 2}, "[B, time pairs, 2]", p.rotation_dtype,
               p.device);
  check.tensor(space_rotation, "space_rotation", {p.rows, pairs - time_pairs, 2}, "[L, d/2 - time pairs, 2]",
               p.rotation_dtype, p.device);
  p.time_rotation = time_rotation.data;
  p.space_rotation = space_rotation.data;
  take_pages(p, page, k_pages, v_pages);

  check.output(q, "q", {p.batch, p.rows, p.heads, p.head_dim}, "[B, L, h, d]", p.dtype, p.device);
  p.q = q.data;
  if (!pinned_rotation != !q_pinned) {
    check.fail(q_pinned ? "pinned_rotation" : "q_pinned", "is missing", "given together with the other");
  }
  if (q_pinned) {
    check.tensor(*pinned_rotation, "pinned_rotation", {p.batch, time_pairs, 2}, "[B, time pairs, 2]", p.rotation_dtype,
                 p.device);
    check.output(*q_pinned, "q_pinned", {p.batch, p.rows, p.heads, p.head_dim}, "[B, L, h, d]", p.dtype, p.device);
    p.pinned_rotation = pinned_rotation->data;
    p.q_pinned = q_pinned->data;
  }
  return p;
}

void run(const Problem& p) {
  if (p.batch == 0 || p.rows == 0 || p.heads == 0) return;
  if (p.device.type == Device::cuda) return run_cuda(p);
  cpu_cache_write.pick(p.dtype)(p);
}

}  // namespace aapt::cache_write
