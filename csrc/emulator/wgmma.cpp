#include "ptx/wgmma.cuh"

#include <algorithm>
#include <cstring>

#include "emulator/warp.h"
#include "ptx/swizzle.h"

namespace aapt::emulator {
namespace {

constexpr int kDepth = 16;     // elements of K in one instruction
constexpr int kWarpRows = 16;  // rows of the warpgroup's 64 that one warp computes
constexpr int kMaxColumns = 256;

// A matrix in shared memory, as the 64 bits of a descriptor say.
class Operand {
 public:
  explicit Operand(uint64_t bits)
      : start_(static_cast<uint32_t>(bits & 0x3fff) << 4),
        column_stride_(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        eight_rows_(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4) {
    if (bits >> 62 != 1) fail("wgmma: the descriptor does not say 128-byte swizzle");
    if (bits >> 49 & 7) fail("wgmma: base offsets are not emulated");
  }

  // Eight elements from column `k` of row `row`, of a K-major operand.
  void k_major(int row, int k, float* to) const { read(start_ + row / 8 * eight_rows_ + row % 8 * 128 + k * 2, to); }

  // Eight elements from column `n` of row `k`, of an MN-major operand.
  void mn_major(int k, int n, float* to) const {
    read(start_ + n / 64 * column_stride_ + k / 8 * eight_rows_ + k % 8 * 128 + n % 64 * 2, to);
  }

 private:
  static void read(uint32_t address, float* to) {
    const Block& block = *this_thread().block;
    const char* from = block.shared + ptx::swizzle_128(address);
    shared_offset(from, 16, "wgmma");
    uint16_t elements[8];
    std::memcpy(elements, from, sizeof elements);
    for (int i = 0; i < 8; ++i) to[i] = widen(elements[i]);
  }

  uint32_t start_, column_stride_, eight_rows_;
};

// The lanes' `wgmma`s number `number` are one instruction of the warp: computes it into the borrowed
// accumulators.
class WarpWgmma {
 public:
  WarpWgmma(Thread* lanes, size_t number) : lanes_(lanes), number_(number), first_(lanes->wgmmas[number]) {
    for (int lane = 0; lane < 32; ++lane) {
      const PendingWgmma& other = lanes[lane].wgmmas[number];
      if (other.columns != first_.columns || other.b != first_.b || other.accumulate != first_.accumulate ||
          other.a != first_.a || other.b_is_mn_major != first_.b_is_mn_major) {
        fail("wgmma: the lanes of a warp do not issue the same");
      }
    }
  }

  void run() {
    load_a();
    load_b();
    for (int row = 0; row < kWarpRows; ++row) {
      float sums[kMaxColumns] = {};
      for (int k = 0; k < kDepth; ++k) {
        const float a = a_[row][k];
        for (int n = 0; n < first_.columns; ++n) sums[n] += a * b_[k][n];
      }
      for (int n = 0; n < first_.columns; ++n) {
        float& c = accumulator(row % 8 * 4 + n % 8 / 2)[n / 8 * 4 + row / 8 * 2 + n % 2];
        c = (first_.accumulate ? c : 0) + sums[n];
      }
    }
  }

 private:
  float* accumulator(int lane) {
    Thread& thread = lanes_[lane];
    for (BorrowedAccumulator& borrowed : thread.accumulators) {
      if (borrowed.c == thread.wgmmas[number_].c) return borrowed.values.data();
    }
    fail("wgmma: accumulator lost");
  }

  void load_a() {
    if (!first_.a_registers) {
      const Operand operand(first_.a);
      const int warp = lanes_->linear / 32 % 4;
      for (int row = 0; row < kWarpRows; ++row) {
        for (int k = 0; k < kDepth; k += 8) operand.k_major(warp * kWarpRows + row, k, &a_[row][k]);
      }
      return;
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const uint32_t pair = lanes_[lane].wgmmas[number_].a_registers[i];
        float* to = &a_[lane / 4 + i % 2 * 8][i / 2 * 8 + lane % 4 * 2];
        to[0] = widen(pair & 0xffff);
        to[1] = widen(pair >> 16);
      }
    }
  }

  void load_b() {
    const Operand operand(first_.b);
    if (first_.b_is_mn_major) {
      for (int k = 0; k < kDepth; ++k) {
        for (int n = 0; n < first_.columns; n += 8) operand.mn_major(k, n, &b_[k][n]);
      }
      return;
    }
    for (int n = 0; n < first_.columns; ++n) {
      float row[kDepth];
      for (int k = 0; k < kDepth; k += 8) operand.k_major(n, k, row + k);
      for (int k = 0; k < kDepth; ++k) b_[k][n] = row[k];
    }
  }

  Thread* lanes_;
  size_t number_;
  const PendingWgmma& first_;
  float a_[kWarpRows][kDepth];
  float b_[kDepth][kMaxColumns];
};

void give_back_accumulator(Thread& thread, const float* c) {
  auto& all = thread.accumulators;
  const auto borrowed = std::find_if(all.begin(), all.end(), [c](const auto& one) { return one.c == c; });
  if (--borrowed->uses > 0) return;
  std::copy(borrowed->values.begin(), borrowed->values.end(), borrowed->c);
  all.erase(borrowed);
}

}  // namespace

void issue_wgmma(const PendingWgmma& wgmma) {
  Thread& self = this_thread();
  auto& all = self.accumulators;
  auto borrowed = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.c == wgmma.c; });
  const bool in_flight = borrowed != all.end();
  if (!self.registers_fenced && (!in_flight || wgmma.a_registers)) {
    fail("wgmma: its registers were not published by wgmma_fence");
  }
  if (!in_flight) {
    const int count = wgmma.columns / 2;
    all.push_back({wgmma.c, std::vector<float>(wgmma.c, wgmma.c + count), 0});
    borrowed = all.end() - 1;
    std::fill(wgmma.c, wgmma.c + count, std::numeric_limits<float>::quiet_NaN());
  }
  ++borrowed->uses;
  self.wgmmas.push_back(wgmma);
}

void wait_wgmma(int groups_left) {
  Thread& self = this_thread();
  const int done = static_cast<int>(self.wgmma_groups.size()) - groups_left;
  const size_t finished = done > 0 ? self.wgmma_groups[done - 1] : 0;
  const uint64_t* counts = meet(~0u, finished, "wgmma_wait");
  if (self.lane == 0) {
    for (int lane = 0; lane < 32; ++lane) {
      if (counts[lane] != finished) fail("wgmma_wait: the lanes of a warp do not wait for the same");
    }
    for (size_t i = 0; i < finished; ++i) WarpWgmma(&self, i).run();
  }
  meet(~0u, 0, "wgmma_wait");
  self.registers_fenced = false;
  if (done <= 0) return;
  for (size_t i = 0; i < finished; ++i) give_back_accumulator(self, self.wgmmas[i].c);
  self.wgmmas.erase(self.wgmmas.begin(), self.wgmmas.begin() + static_cast<std::ptrdiff_t>(finished));
  self.wgmma_groups.erase(self.wgmma_groups.begin(), self.wgmma_groups.begin() + done);
  for (size_t& end : self.wgmma_groups) end -= finished;
}

}  // namespace aapt::emulator

namespace aapt::ptx {

using namespace emulator;

uint64_t wgmma_descriptor(const void* start, uint32_t column_stride) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 >> 4} << 32;
  const uint64_t address = shared_offset(start, 16, "wgmma_descriptor") >> 4;
  return kSwizzle128 | kEightRows | uint64_t{(column_stride & 0x3ffff) >> 4} << 16 | address;
}

void wgmma_fence() {
  meet(~0u, 0, "wgmma_fence");
  this_thread().registers_fenced = true;
}

void wgmma_commit() {
  Thread& self = this_thread();
  self.wgmma_groups.push_back(self.wgmmas.size());
}

}  // namespace aapt::ptx
