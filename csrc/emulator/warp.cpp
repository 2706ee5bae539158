#include "emulator/warp.h"

#include <cmath>
#include <cstring>

#include "core/e4m3.h"
#include "emulator/machine.h"

namespace aapt::emulator {
namespace {

const char* address_of_row(const uint64_t* addresses, int matrix, int row) {
  return reinterpret_cast<const char*>(addresses[matrix * 8 + row]);
}

uint16_t element(const char* row, int column) {
  uint16_t bits;
  std::memcpy(&bits, row + column * 2, sizeof bits);
  return bits;
}

const uint64_t* meet_with_row(const void* row, const char* what) {
  const uint32_t offset = shared_offset(row, 16, what);
  if (offset % 16) fail(std::string(what) + ": a row is not 16-byte aligned");
  return meet(~0u, reinterpret_cast<uint64_t>(row), what);
}

}  // namespace

void wait_copies(int groups_left) {
  Thread& self = this_thread();
  const int done = static_cast<int>(self.copy_groups.size()) - groups_left;
  if (done <= 0) return;
  const size_t finished = self.copy_groups[done - 1];
  for (size_t i = 0; i < finished; ++i) {
    const PendingCopy& copy = self.copies[i];
    if (copy.valid) {
      std::memcpy(copy.to, copy.from, 16);
    } else {
      std::memset(copy.to, 0, 16);
    }
  }
  self.copies.erase(self.copies.begin(), self.copies.begin() + static_cast<std::ptrdiff_t>(finished));
  self.copy_groups.erase(self.copy_groups.begin(), self.copy_groups.begin() + done);
  for (size_t& end : self.copy_groups) end -= finished;
}

}  // namespace aapt::emulator

namespace aapt::ptx {

using namespace emulator;

float exp2_approx(float x) {
  return std::exp2(x);
}

uint32_t pack_bf16(float low, float high) {
  bf16 l, h;
  store(&l, low);
  store(&h, high);
  return l.bits | static_cast<uint32_t>(h.bits) << 16;
}

uint16_t pack_e4m3(float low, float high) {
  return aapt::pack_e4m3(low, high);
}

void copy_async_16(void* to, const void* from, bool valid) {
  if (shared_offset(to, 16, "copy_async_16") % 16 || reinterpret_cast<uintptr_t>(from) % 16) {
    fail("copy_async_16: not 16-byte aligned");
  }
  std::memset(to, 0xff, 16);
  this_thread().copies.push_back({to, from, valid});
}

void copy_async_commit() {
  Thread& self = this_thread();
  self.copy_groups.push_back(self.copies.size());
}

void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  const uint64_t* rows = meet_with_row(row, "ldmatrix_x4");
  const int lane = this_thread().lane;
  for (int i = 0; i < 4; ++i) std::memcpy(&r[i], address_of_row(rows, i, lane / 4) + lane % 4 * 4, 4);
  meet(~0u, 0, "ldmatrix_x4");
}

void ldmatrix_x4_transposed(uint32_t (&r)[4], const void* row) {
  const uint64_t* rows = meet_with_row(row, "ldmatrix_x4_transposed");
  const int lane = this_thread().lane, column = lane / 4, first = lane % 4 * 2;
  for (int i = 0; i < 4; ++i) {
    r[i] = element(address_of_row(rows, i, first), column) |
           static_cast<uint32_t>(element(address_of_row(rows, i, first + 1), column)) << 16;
  }
  meet(~0u, 0, "ldmatrix_x4_transposed");
}

void stmatrix_x4(void* row, const uint32_t (&r)[4]) {
  const uint64_t* rows = meet_with_row(row, "stmatrix_x4");
  const int lane = this_thread().lane;
  for (int i = 0; i < 4; ++i) {
    std::memcpy(const_cast<char*>(address_of_row(rows, i, lane / 4)) + lane % 4 * 4, &r[i], 4);
  }
  meet(~0u, 0, "stmatrix_x4");
}

void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  // The lanes show each other their registers, one 64-bit word per meeting.
  const auto share = [](uint32_t low, uint32_t high, uint32_t (&to)[32][2]) {
    const uint64_t* all = meet(~0u, low | static_cast<uint64_t>(high) << 32, "mma_m16n8k16");
    for (int lane = 0; lane < 32; ++lane) {
      to[lane][0] = static_cast<uint32_t>(all[lane]);
      to[lane][1] = static_cast<uint32_t>(all[lane] >> 32);
    }
  };
  uint32_t a_low[32][2], a_high[32][2], b[32][2];  // a_low: columns 0-7, a_high: columns 8-15
  share(a[0], a[1], a_low);
  share(a[2], a[3], a_high);
  share(b0, b1, b);
  const auto half = [](uint32_t pair, int which) { return widen(which ? pair >> 16 : pair & 0xffff); };
  const int lane = this_thread().lane;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4, column = lane % 4 * 2 + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) {
      const auto& quarter = k < 8 ? a_low : a_high;
      const float x = half(quarter[row * 4 + k % 8 / 2][i / 2], k % 2);
      const float y = half(b[column * 4 + k % 8 / 2][k / 8], k % 2);
      sum += x * y;
    }
    c[i] += sum;
  }
}

}  // namespace aapt::ptx
