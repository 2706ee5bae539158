// Small kernels that use every function of ptx/. `Bug` plants one mistake, which the emulator must notice.
#pragma once

#include "ptx/mbarrier.cuh"
#include "ptx/sync.cuh"
#include "ptx/tma.cuh"
#include "ptx/warp.cuh"
#include "ptx/wgmma.cuh"

namespace aapt::test {

enum Bug : int {
  kCorrect,
  kMissingArrive,        // consumers never give a stage back
  kWrongParity,          // consumers wait for the phase before
  kNoWaitForData,        // consumers read a stage before it has landed
  kEarlyRelease,         // consumers give a stage back before wgmma has read it
  kNoWaitForResult,      // accumulators are read while wgmma owns them
  kNoRegisterFence,      // wgmma without wgmma_fence
  kWrongDescriptorStep,  // K advances by rows instead of within the row
  kNoBarrierFence,       // the copy engine meets an unpublished mbarrier
  kTooFewBytes,          // fewer bytes announced than land
  kDroppedSyncthreads,
  kCopyWaitOneTooHigh,
  kOneWarpReleases,  // one warp's arrival stands for four warps' reads
};

constexpr int kTile = 128, kDepth = 64, kStages = 3;

struct GemmShared {
  uint16_t a[kStages][kTile * kDepth];
  uint16_t b[kStages][kTile * kDepth];
  uint64_t full[kStages], empty[kStages];
};

// c[M, N] = a[M, K] b[N, K]^T in fp32. A producer warp fills a ring of stages by TMA; two warpgroups
// multiply.
__global__ void __launch_bounds__(384, 1)
    gemm_sm90(const __grid_constant__ ptx::TensorMap a, const __grid_constant__ ptx::TensorMap b, float* c, int m,
              int n, int k, int bug) {
#if defined(AAPT_SM90)
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<GemmShared*>(raw);
  const int warpgroup = threadIdx.x / 128, steps = k / kDepth;
  const int m0 = blockIdx.y * kTile, n0 = blockIdx.x * kTile;
  if (threadIdx.x == 0) {
    for (int s = 0; s < kStages; ++s) {
      ptx::mbarrier_init(&shared.full[s], 1);
      ptx::mbarrier_init(&shared.empty[s], bug == kOneWarpReleases ? 2 : 8);
    }
    if (bug != kNoBarrierFence) ptx::fence_mbarrier_init();
  }
  __syncthreads();
  if (warpgroup == 0) {
    ptx::registers_decrease<40>();
    if (threadIdx.x == 0) {
      for (int step = 0; step < steps; ++step) {
        const int s = step % kStages;
        ptx::mbarrier_wait(&shared.empty[s], (step / kStages + 1) % 2);
        const int bytes = 2 * kTile * kDepth * 2;
        ptx::mbarrier_arrive_expect_tx(&shared.full[s], bug == kTooFewBytes ? bytes / 2 : bytes);
        ptx::tma_load_2d(shared.a[s], &a, &shared.full[s], step * kDepth, m0);
        ptx::tma_load_2d(shared.b[s], &b, &shared.full[s], step * kDepth, n0);
      }
    }
    return;
  }
  ptx::registers_increase<232>();
  const int half = warpgroup - 1, lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
  float sums[64];
  for (int i = 0; i < 64; ++i) sums[i] = 0;
  for (int step = 0; step < steps; ++step) {
    const int s = step % kStages, parity = step / kStages % 2;
    if (bug != kNoWaitForData) ptx::mbarrier_wait(&shared.full[s], bug == kWrongParity ? parity ^ 1 : parity);
    if (bug != kNoRegisterFence) ptx::wgmma_fence();
    AAPT_UNROLL
    for (int j = 0; j < kDepth / 16; ++j) {
      const int advance = bug == kWrongDescriptorStep ? j * kDepth : j * 16;
      ptx::wgmma<128, ptx::Major::k>(sums, ptx::wgmma_descriptor(shared.a[s] + half * 64 * kDepth + advance),
                                     ptx::wgmma_descriptor(shared.b[s] + advance), step + j > 0);
    }
    ptx::wgmma_commit();
    if (bug == kEarlyRelease && lane == 0) ptx::mbarrier_arrive(&shared.empty[s]);
    if (bug != kNoWaitForResult) ptx::wgmma_wait<0>();
    const bool releases = bug == kOneWarpReleases ? lane == 0 && warp == 0 : lane == 0;
    if (bug != kMissingArrive && bug != kEarlyRelease && releases) ptx::mbarrier_arrive(&shared.empty[s]);
  }
  const int row = m0 + half * 64 + warp * 16 + lane / 4, column = n0 + lane % 4 * 2;
  for (int i = 0; i < 64; ++i) {
    const int r = row + i / 2 % 2 * 8, q = column + i / 4 * 8 + i % 2;
    if (r < m && q < n) c[static_cast<int64_t>(r) * n + q] = sums[i];
  }
  if (bug == kNoWaitForResult) ptx::wgmma_wait<0>();
#endif
}

// The same product with what sm_80 has: cp.async, ldmatrix, mma. M and N multiples of 64, K of 32.
__global__ void __launch_bounds__(128)
    gemm_sm80(const uint16_t* a, const uint16_t* b, float* c, int n, int k, int bug) {
  constexpr int kRow = 40;  // 32 elements and 8 against bank conflicts
  struct Shared {
    uint16_t a[2][64][kRow], b[2][64][kRow];
  };
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<Shared*>(raw);
  const int t = threadIdx.x, warp = t / 32, lane = t % 32;
  const int64_t m0 = blockIdx.y * 64, n0 = blockIdx.x * 64;
  const auto load = [&](int s, int k0) {
    for (int i = t; i < 64 * 4; i += 128) {
      const int row = i / 4, column = i % 4 * 8;
      ptx::copy_async_16(&shared.a[s][row][column], a + (m0 + row) * k + k0 + column, true);
      ptx::copy_async_16(&shared.b[s][row][column], b + (n0 + row) * k + k0 + column, true);
    }
    ptx::copy_async_commit();
  };
  float sums[8][4] = {};
  load(0, 0);
  for (int step = 0; step < k / 32; ++step) {
    const int s = step % 2;
    if (step + 1 < k / 32) {
      load(s ^ 1, (step + 1) * 32);
      if (bug != kCopyWaitOneTooHigh) ptx::copy_async_wait<1>();
    } else {
      ptx::copy_async_wait<0>();
    }
    __syncthreads();
    for (int j = 0; j < 32; j += 16) {
      uint32_t fragment_a[4];
      ptx::ldmatrix_x4(fragment_a, &shared.a[s][warp * 16 + lane % 16][j + lane / 16 * 8]);
      for (int i = 0; i < 4; ++i) {
        uint32_t fragment_b[4];
        ptx::ldmatrix_x4(fragment_b, &shared.b[s][i * 16 + lane % 16][j + lane / 16 * 8]);
        ptx::mma_m16n8k16(sums[2 * i], fragment_a, fragment_b[0], fragment_b[2]);
        ptx::mma_m16n8k16(sums[2 * i + 1], fragment_a, fragment_b[1], fragment_b[3]);
      }
    }
    if (bug != kDroppedSyncthreads) __syncthreads();
  }
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int64_t row = m0 + warp * 16 + lane / 4 + j / 2 * 8, column = n0 + i * 8 + lane % 4 * 2 + j % 2;
      c[row * n + column] = sums[i][j];
    }
  }
}

// out[row] = the sum of x[row, 0 .. width): shuffles, shared memory, __syncthreads.
__global__ void row_sums(const float* x, float* out, int width, int bug) {
  DYN_SMEM(raw);
  auto* partial = reinterpret_cast<float*>(raw);
  const int t = threadIdx.x, warps = blockDim.x / 32;
  float sum = 0;
  for (int i = t; i < width; i += blockDim.x) sum += x[static_cast<int64_t>(blockIdx.x) * width + i];
  for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
  if (t % 32 == 0) partial[t / 32] = sum;
  if (bug != kDroppedSyncthreads) __syncthreads();
  if (t == 0) {
    float all = 0;
    for (int i = 0; i < warps; ++i) all += partial[i];
    out[blockIdx.x] = all;
  }
}

struct MulticastShared {
  uint16_t tile[2][64 * 64];
  uint64_t full, done;
};

// Two blocks of a cluster each fetch one of two tiles [64, 64] for both; every block writes out both.
__global__ void __launch_bounds__(128) multicast(const __grid_constant__ ptx::TensorMap tiles, uint16_t* out, int bug) {
#if defined(AAPT_SM90)
  DYN_SMEM(raw);
  auto& shared = *reinterpret_cast<MulticastShared*>(raw);
  const uint32_t rank = ptx::cluster_rank();
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&shared.full, 1);
    ptx::mbarrier_init(&shared.done, 2);
    ptx::fence_mbarrier_init();
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(&shared.full, 2 * 64 * 64 * 2);
    ptx::tma_load_2d_multicast(shared.tile[rank], &tiles, &shared.full, 0, static_cast<int>(rank) * 64, 3);
  }
  if (bug != kNoWaitForData) ptx::mbarrier_wait(&shared.full, 0);
  for (int i = threadIdx.x; i < 2 * 64 * 64; i += 128) out[rank * 2 * 64 * 64 + i] = shared.tile[i / 4096][i % 4096];
  __syncthreads();
  if (threadIdx.x < 2 && bug != kMissingArrive) ptx::mbarrier_arrive_cluster(&shared.done, threadIdx.x);
  ptx::mbarrier_wait(&shared.done, 0);
#endif
}

// Named barriers: the upper warps hand `value + 1` to the lower warps, which hand back its double.
__global__ void hand_over(const int* value, int* out, int bug) {
  DYN_SMEM(raw);
  auto* box = reinterpret_cast<int*>(raw);
  const int t = threadIdx.x % 64, threads = 128;
  if (threadIdx.x >= 64) {
    box[t] = value[t] + 1;
    ptx::barrier_arrive(1, threads);
    ptx::barrier_sync(2, threads);
    out[t] = box[t];
  } else {
    if (bug != kDroppedSyncthreads) ptx::barrier_sync(1, threads);
    box[63 - t] *= 2;
    if (bug != kMissingArrive) ptx::barrier_arrive(2, threads);
  }
}

}  // namespace aapt::test
