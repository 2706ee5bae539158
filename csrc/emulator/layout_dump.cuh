// One kernel that writes down where each function of ptx/ puts what, so that the emulator's reading of the
// manual can be compared with a GPU. One warpgroup; every section of the dump is int32.
#pragma once

#include "ptx/mbarrier.cuh"
#include "ptx/swizzle.h"
#include "ptx/sync.cuh"
#include "ptx/tma.cuh"
#include "ptx/warp.cuh"
#include "ptx/wgmma.cuh"

namespace aapt::layout {

// The tensor whose box is dumped: bf16 bit patterns 0, 1, 2, ... over [2 pages, 1 head, 20 rows, 128
// columns]; the box covers 24 rows of page 1, the last four of them beyond the end.
constexpr int kRows = 20, kBoxRows = 24, kColumns = 128;
constexpr int kBoxElements = kBoxRows * kColumns;
constexpr int kWidth = 128;  // N of the wgmmas
constexpr int kThreads = 128, kAccumulators = kWidth / 2;

// Sections of the dump, in order. Per thread means [128 threads, values].
constexpr int kTmaBox = 0;                               // the box as it lies in shared memory
constexpr int kAccumulatorRow = kTmaBox + kBoxElements;  // row of each accumulator, per thread
constexpr int kAccumulatorColumn = kAccumulatorRow + kThreads * kAccumulators;
constexpr int kFragmentThread = kAccumulatorColumn + kThreads * kAccumulators;  // owner of a[row, k], per accumulator
constexpr int kFragmentSlot = kFragmentThread + kThreads * kAccumulators;       // register and half of a[row, k]
constexpr int kKMajor = kFragmentSlot + kThreads * kAccumulators;               // b[k, n] by row k, K-major
constexpr int kMnMajor = kKMajor + kThreads * kAccumulators;                    // the same, MN-major
constexpr int kLoadMatrix = kMnMajor + kThreads * kAccumulators;                // per lane of one warp: 4 registers
constexpr int kLoadTransposed = kLoadMatrix + 32 * 4;
constexpr int kStoreMatrix = kLoadTransposed + 32 * 4;  // 4 matrices of 8x8 in shared memory
constexpr int kWarpMma = kStoreMatrix + 4 * 64;         // c of mma_m16n8k16, per lane
constexpr int kPack = kWarpMma + 32 * 4;
constexpr int kDumpSize = kPack + 1;

struct Shared {
  uint16_t box[kBoxElements];
  uint16_t a[64 * 64];
  uint16_t b[2 * 128 * 64];
  uint64_t landed;
};

// Writes `value` as element (row, column) of a matrix of swizzled rows of 64; wider matrices continue
// `block_elements` further on.
AAPT_DEVICE void put(uint16_t* matrix, int row, int column, int block_elements, float value) {
  const uint32_t plain = static_cast<uint32_t>(column / 64 * block_elements + row * 64 + column % 64) * 2;
  matrix[ptx::swizzle_128(plain) / 2] = static_cast<uint16_t>(ptx::pack_bf16(value, 0.f));
}

AAPT_DEVICE void publish() {
  ptx::fence_proxy_async();
  __syncthreads();
}

AAPT_DEVICE void write_accumulators(const float (&c)[kAccumulators], int32_t* out) {
  for (int i = 0; i < kAccumulators; ++i) {
    out[threadIdx.x * kAccumulators + i] = static_cast<int32_t>(c[i]);
  }
}

// Sums a b over the first 16 columns, both K-major unless `b` says otherwise.
template <ptx::Major kMajorOfB>
AAPT_DEVICE void multiply(const Shared& shared, int32_t* out) {
  float c[kAccumulators];
  ptx::wgmma_fence();
  ptx::wgmma<kWidth, kMajorOfB>(c, ptx::wgmma_descriptor(shared.a), ptx::wgmma_descriptor(shared.b, 16 * 64 * 2),
                                false);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  write_accumulators(c, out);
  __syncthreads();
}

AAPT_DEVICE void multiply_fragment(const uint32_t (&a)[4], const Shared& shared, int32_t* out) {
  float c[kAccumulators];
  ptx::wgmma_fence();
  ptx::wgmma<kWidth, ptx::Major::k>(c, a, ptx::wgmma_descriptor(shared.b), false);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  write_accumulators(c, out);
}

AAPT_DEVICE void dump_box(Shared& shared, const ptx::TensorMap* map, int32_t* out) {
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&shared.landed, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(&shared.landed, sizeof shared.box);
    ptx::tma_load_5d(shared.box, map, &shared.landed, 0, 0, 0, 0, 1);
  }
  ptx::mbarrier_wait(&shared.landed, 0);
  for (int i = threadIdx.x; i < kBoxElements; i += kThreads) out[kTmaBox + i] = shared.box[i];
}

AAPT_DEVICE void dump_wgmma(Shared& shared, int32_t* out) {
  const int t = threadIdx.x;
  // a[row, 0] = row, b[0, n] = 1: each accumulator holds its row. Then the other way round.
  for (int pass = 0; pass < 2; ++pass) {
    for (int i = t; i < 64 * 16; i += kThreads) {
      const int row = i / 16, k = i % 16;
      put(shared.a, row, k, 0, k > 0 ? 0.f : pass == 0 ? static_cast<float>(row) : 1.f);
    }
    for (int i = t; i < kWidth * 16; i += kThreads) {
      const int n = i / 16, k = i % 16;
      put(shared.b, n, k, 0, k > 0 ? 0.f : pass == 0 ? 1.f : static_cast<float>(n));
    }
    publish();
    multiply<ptx::Major::k>(shared, out + (pass == 0 ? kAccumulatorRow : kAccumulatorColumn));
  }
  // b[k, n] = (k == n): column n < 16 of the product is column n of a, which the threads' registers spell.
  for (int i = t; i < kWidth * 16; i += kThreads) put(shared.b, i / 16, i % 16, 0, i / 16 == i % 16 ? 1.f : 0.f);
  publish();
  uint32_t a[4];
  for (int i = 0; i < 4; ++i) a[i] = ptx::pack_bf16(static_cast<float>(t), static_cast<float>(t));
  multiply_fragment(a, shared, out + kFragmentThread);
  for (int i = 0; i < 4; ++i) a[i] = ptx::pack_bf16(static_cast<float>(2 * i), static_cast<float>(2 * i + 1));
  multiply_fragment(a, shared, out + kFragmentSlot);
  __syncthreads();
  // a[row, k] = (row == k): row k < 16 of the product is row k of b, whose elements are 7 k + n.
  for (int i = t; i < 64 * 16; i += kThreads) put(shared.a, i / 16, i % 16, 0, i / 16 == i % 16 ? 1.f : 0.f);
  for (int i = t; i < kWidth * 16; i += kThreads) {
    put(shared.b, i / 16, i % 16, 0, static_cast<float>(7 * (i % 16) + i / 16));
  }
  publish();
  multiply<ptx::Major::k>(shared, out + kKMajor);
  for (int i = t; i < kWidth * 16; i += kThreads) {
    put(shared.b, i / kWidth, i % kWidth, 16 * 64, static_cast<float>(7 * (i / kWidth) + i % kWidth));
  }
  publish();
  multiply<ptx::Major::mn>(shared, out + kMnMajor);
}

AAPT_DEVICE void dump_warp(Shared& shared, int32_t* out) {
  const int lane = threadIdx.x;
  if (lane >= 32) return;
  for (int i = lane; i < 4 * 64; i += 32) shared.box[i] = static_cast<uint16_t>(i);
  __syncwarp();
  uint32_t r[4], b[4];
  ptx::ldmatrix_x4(r, shared.box + lane * 8);
  for (int i = 0; i < 4; ++i) out[kLoadMatrix + lane * 4 + i] = static_cast<int32_t>(r[i]);
  ptx::ldmatrix_x4_transposed(b, shared.box + lane * 8);
  for (int i = 0; i < 4; ++i) out[kLoadTransposed + lane * 4 + i] = static_cast<int32_t>(b[i]);
  for (int i = 0; i < 4; ++i) r[i] = static_cast<uint32_t>(lane * 8 + i * 2) | (lane * 8u + i * 2u + 1) << 16;
  __syncwarp();
  ptx::stmatrix_x4(shared.box + lane * 8, r);
  __syncwarp();
  for (int i = lane; i < 4 * 64; i += 32) out[kStoreMatrix + i] = shared.box[i];
  float c[4] = {};
  for (int i = 0; i < 4; ++i) {
    r[i] = ptx::pack_bf16(static_cast<float>(lane % 8 + i), static_cast<float>(lane / 8 - i));
    b[i] = ptx::pack_bf16(static_cast<float>(lane % 5 - i), static_cast<float>(3 * i + lane % 3));
  }
  ptx::mma_m16n8k16(c, r, b[0], b[1]);
  for (int i = 0; i < 4; ++i) out[kWarpMma + lane * 4 + i] = static_cast<int32_t>(c[i]);
  if (lane == 0) out[kPack] = static_cast<int32_t>(ptx::pack_bf16(1.00390625f, -1.01171875f));  // two ties
}

__global__ void __launch_bounds__(kThreads) dump(const __grid_constant__ ptx::TensorMap map, int32_t* out) {
#if defined(AAPT_SM90)
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<Shared*>(raw);
  dump_box(shared, &map, out);
  __syncthreads();
  dump_wgmma(shared, out);
  __syncthreads();
  dump_warp(shared, out);
#endif
}

// `source` holds the bit patterns 0, 1, ... of the dumped tensor, 2 kRows kColumns of them; `out` kDumpSize
// numbers, zeroed. Both where the kernel runs.
inline void run_dump(const uint16_t* source, int32_t* out, void* stream) {
  ptx::TensorMapSpec spec;
  spec.base = source;
  spec.rank = 5;
  const uint64_t row = kColumns * 2, size[5] = {64, kRows, kColumns / 64, 1, 2};
  const uint64_t stride[4] = {row, 128, kRows * row, kRows * row};
  const uint32_t box[5] = {64, kBoxRows, kColumns / 64, 1, 1};
  for (int i = 0; i < 5; ++i) spec.size[i] = size[i], spec.box[i] = box[i];
  for (int i = 0; i < 4; ++i) spec.byte_stride[i] = stride[i];
  launch(dump, 1, kThreads, sizeof(Shared), stream, ptx::encode_tensor_map(spec), out);
}

}  // namespace aapt::layout
