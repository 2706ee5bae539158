// Paged attention on tensor cores of any GPU since sm_80, bf16: plain and not tuned (Hopper has a path of its own).
//
// A block holds 64 queries of one head, a warp 16 of them. It walks the keys of all segments in tiles of neighbouring
// rows of a page, which come by cp.async, two stages deep: scores = q k^T in registers, softmax there, out += p v with
// p still in registers. Scores of keys that are not there are replaced by -inf, by selection; their rows are zero in
// shared memory, so that what lies beyond the last valid key, which may be NaN, is never read.
//
// Head sizes are rounded up to 64, 128 or 256; columns past the end are zero.
#pragma once

#include "attention/pointers.cuh"

namespace aapt::attention::sm80 {

constexpr int kWarps = 4, kThreads = kWarps * kWarp, kRows = 16 * kWarps;

template <int d>
constexpr int kKeys = d > 128 ? 32 : 64;  // of a tile

template <int d>
struct Shared {
  static constexpr int kPitch = d + 8;  // 8 more against bank conflicts
  uint16_t q[kRows][kPitch];
  uint16_t k[2][kKeys<d>][kPitch], v[2][kKeys<d>][kPitch];
};

// Rows of `head_dim` elements to shared memory; those past `valid` and columns past the end are zero.
template <int d, int rows>
AAPT_DEVICE void fetch(uint16_t (&to)[rows][d + 8], const bf16* from, int64_t row_stride, int valid, int head_dim) {
  constexpr int kChunks = d / 8;
  AAPT_UNROLL
  for (int i = 0; i < rows * kChunks / kThreads; ++i) {
    const int chunk = threadIdx.x + i * kThreads, row = chunk / kChunks, column = chunk % kChunks * 8;
    const bool inside = row < valid && column < head_dim;
    ptx::copy_async_16(&to[row][column], inside ? from + row * row_stride + column : from, inside);
  }
}

// What one warp knows of its 16 queries: the lane holds rows lane / 4 and lane / 4 + 8.
template <int d>
struct Rows {
  float out[d / 8][4] = {};
  float top[2] = {-INFINITY, -INFINITY};  // times scale, to base 2
  float sum[2] = {0.f, 0.f};              // of the lane's own columns
};

template <int d>
AAPT_DEVICE void score(float (&scores)[kKeys<d> / 8][4], const uint16_t (*q)[d + 8], const uint16_t (*k)[d + 8]) {
  const int lane = threadIdx.x % kWarp;
  AAPT_UNROLL
  for (auto& s : scores) s[0] = s[1] = s[2] = s[3] = 0.f;
  AAPT_UNROLL
  for (int column = 0; column < d; column += 16) {
    uint32_t a[4];
    ptx::ldmatrix_x4(a, &q[lane % 16][column + lane / 16 * 8]);
    AAPT_UNROLL
    for (int j = 0; j < kKeys<d> / 16; ++j) {
      uint32_t b[4];
      ptx::ldmatrix_x4(b, &k[j * 16 + lane % 16][column + lane / 16 * 8]);
      ptx::mma_m16n8k16(scores[2 * j], a, b[0], b[2]);
      ptx::mma_m16n8k16(scores[2 * j + 1], a, b[1], b[3]);
    }
  }
}

// Turns scores into weights; what was added up so far fades as the largest score grows.
template <int d>
AAPT_DEVICE void softmax(float (&scores)[kKeys<d> / 8][4], Rows<d>& rows, int keys, float scale_log2) {
  constexpr int kTiles = kKeys<d> / 8;
  AAPT_UNROLL
  for (int r = 0; r < 2; ++r) {
    float top = rows.top[r];
    AAPT_UNROLL
    for (int i = 0; i < kTiles; ++i) {
      AAPT_UNROLL
      for (int e = 2 * r; e < 2 * r + 2; ++e) {
        const int key = i * 8 + threadIdx.x % 4 * 2 + e % 2;
        scores[i][e] = key < keys ? scores[i][e] * scale_log2 : -INFINITY;
        top = fmaxf(top, scores[i][e]);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    const float base = top == -INFINITY ? 0.f : top;
    const float fade = ptx::exp2_approx(rows.top[r] - base);
    rows.top[r] = top;
    rows.sum[r] *= fade;
    AAPT_UNROLL
    for (int i = 0; i < kTiles; ++i) {
      AAPT_UNROLL
      for (int e = 2 * r; e < 2 * r + 2; ++e) {
        scores[i][e] = ptx::exp2_approx(scores[i][e] - base);
        rows.sum[r] += scores[i][e];
      }
    }
    AAPT_UNROLL
    for (auto& out : rows.out) out[2 * r] *= fade, out[2 * r + 1] *= fade;
  }
}

template <int d>
AAPT_DEVICE void add_values(Rows<d>& rows, const float (&weights)[kKeys<d> / 8][4], const uint16_t (*v)[d + 8]) {
  const int lane = threadIdx.x % kWarp;
  AAPT_UNROLL
  for (int j = 0; j < kKeys<d> / 16; ++j) {
    const auto &low = weights[2 * j], &high = weights[2 * j + 1];
    const uint32_t a[4] = {ptx::pack_bf16(low[0], low[1]), ptx::pack_bf16(low[2], low[3]),
                           ptx::pack_bf16(high[0], high[1]), ptx::pack_bf16(high[2], high[3])};
    AAPT_UNROLL
    for (int i = 0; i < d / 16; ++i) {
      uint32_t b[4];
      ptx::ldmatrix_x4_transposed(b, &v[j * 16 + lane % 16][i * 16 + lane / 16 * 8]);
      ptx::mma_m16n8k16(rows.out[2 * i], a, b[0], b[1]);
      ptx::mma_m16n8k16(rows.out[2 * i + 1], a, b[2], b[3]);
    }
  }
}

template <int d>
AAPT_DEVICE void write(const Pointers<bf16>& p, const Rows<d>& rows, int batch, int head, int first_row) {
  const int lane = threadIdx.x % kWarp;
  AAPT_UNROLL
  for (int r = 0; r < 2; ++r) {
    float sum = rows.sum[r];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    const int row = first_row + lane / 4 + 8 * r;
    if (row >= p.rows) continue;
    const float inverse = sum > 0.f ? 1.f / sum : 0.f;
    bf16* to = p.out + p.token(batch, row, head);
    AAPT_UNROLL
    for (int i = 0; i < d / 8; ++i) {
      const int column = i * 8 + lane % 4 * 2;
      const uint32_t pair = ptx::pack_bf16(rows.out[i][2 * r] * inverse, rows.out[i][2 * r + 1] * inverse);
      if (column < p.head_dim) store_words<2>(to + column, pair);
    }
    if (p.lse && lane % 4 == 0) {
      p.lse[p.lse_at(batch, row, head)] = sum > 0.f ? (rows.top[r] + log2f(sum)) * kLog2 : -INFINITY;
    }
  }
}

// Grid: tiles of queries x heads x streams.
template <int d>
__global__ void __launch_bounds__(kThreads) attend(const __grid_constant__ Pointers<bf16> p) {
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<Shared<d>*>(raw);
  const int first_row = blockIdx.x * kRows, head = blockIdx.y, batch = blockIdx.z;
  const int warp_row = threadIdx.x / kWarp * 16;
  Rows<d> rows;
  const int all = p.lengths.steps(batch);
  Steps steps;
  Tile<bf16> next{};
  const auto fetch_next = [&](int stage) {
    next = tile_at(p, steps, head);
    fetch<d>(shared.k[stage], next.k, next.k_row, next.keys, p.head_dim);
    fetch<d>(shared.v[stage], next.v, next.v_row, next.keys, p.head_dim);
    ptx::copy_async_commit();
  };
  if (all > 0) {
    steps.begin(p.lengths, batch, 0);
    fetch_next(0);
  }
  for (int step = 0, loaded = -1; step < all; ++step) {
    const int stage = step % 2, keys = next.keys, query = next.query;
    if (query != loaded) {
      const bf16* from = p.query[query] + p.token(batch, first_row, head);
      fetch<d>(shared.q, from, static_cast<int64_t>(p.heads) * p.head_dim, p.rows - first_row, p.head_dim);
      ptx::copy_async_commit();
      loaded = query;
    }
    ptx::copy_async_wait<0>();
    __syncthreads();  // this tile is there for all, and all are done with the other stage
    if (step + 1 < all) {
      steps.next(p.lengths);
      fetch_next(stage ^ 1);
    }
    float scores[kKeys<d> / 8][4];
    score<d>(scores, shared.q + warp_row, shared.k[stage]);
    softmax<d>(scores, rows, keys, p.scale_log2);
    add_values<d>(rows, scores, shared.v[stage]);
    if (step + 1 < all && next.query != query) __syncthreads();  // q is about to be replaced
  }
  write<d>(p, rows, batch, head, first_row + warp_row);
}

// The head size that the kernel is compiled for.
inline int rounded_head_dim(int head_dim) {
  return head_dim <= 64 ? 64 : head_dim <= 128 ? 128 : 256;
}

inline size_t shared_bytes(int head_dim) {
  const int d = rounded_head_dim(head_dim);
  return d == 64 ? sizeof(Shared<64>) : d == 128 ? sizeof(Shared<128>) : sizeof(Shared<256>);
}

// Whether 16-byte accesses fit queries and pages.
inline bool rows_are_aligned(const Problem& problem) {
  bool fits = problem.head_dim % 8 == 0 && aligned(16, problem.query[0], problem.query[1], problem.out);
  for (int i = 0; i < problem.segment_count; ++i) {
    const Segment& s = problem.segment[i];
    fits = fits && aligned(16, s.k, s.v);
    for (const int64_t stride :
         {s.k_page_stride, s.k_head_stride, s.k_row_stride, s.v_page_stride, s.v_head_stride, s.v_row_stride}) {
      fits = fits && stride % 8 == 0;
    }
  }
  return fits;
}

// `shared`: bytes that one block may have on this GPU.
inline bool serves(const Problem& problem, int shared) {
  return problem.dtype == DType::bf16 && rows_are_aligned(problem) &&
         shared_bytes(problem.head_dim) <= static_cast<size_t>(shared);
}

template <int d>
void run_head_dim(const Problem& problem, int* bad_page) {
  const dim3 grid((problem.rows + kRows - 1) / kRows, problem.heads, problem.batch);
  launch(attend<d>, grid, dim3(kThreads), sizeof(Shared<d>), problem.stream,
         make_pointers<bf16>(problem, kKeys<d>, bad_page));
}

// The problem must be one that this path serves, with plain pages.
inline void run(const Problem& problem, int* bad_page) {
  const int d = rounded_head_dim(problem.head_dim);
  d == 64    ? run_head_dim<64>(problem, bad_page)
  : d == 128 ? run_head_dim<128>(problem, bad_page)
             : run_head_dim<256>(problem, bad_page);
}

}  // namespace aapt::attention::sm80
