#include "emulator/tma.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "emulator/machine.h"
#include "emulator/mbarrier.h"
#include "ptx/swizzle.h"

namespace aapt::emulator {
namespace {

constexpr int kElementBytes = 2, kLineBytes = 128, kLineElements = kLineBytes / kElementBytes;

uint32_t lines_of(const TensorMap& map) {
  uint32_t lines = 1;
  for (int i = 1; i < map.rank; ++i) lines *= map.box[i];
  return lines;
}

// Writes the box at `at` to offset `to` of the window `shared`.
void land(const TensorMap& map, const int (&at)[5], char* shared, uint32_t to) {
  const uint32_t lines = lines_of(map);
  for (uint32_t line = 0; line < lines; ++line) {
    const char* from = map.base;
    bool inside = true;
    uint32_t rest = line;
    for (int i = 1; i < map.rank; ++i) {
      const int64_t place = int64_t{at[i]} + rest % map.box[i];
      rest /= map.box[i];
      inside = inside && place >= 0 && place < static_cast<int64_t>(map.size[i]);
      from += place * static_cast<int64_t>(map.byte_stride[i]);
    }
    for (int column = 0; column < kLineElements; ++column) {
      const int64_t place = int64_t{at[0]} + column;
      uint16_t element = 0;
      if (inside && place >= 0 && place < static_cast<int64_t>(map.size[0])) {
        std::memcpy(&element, from + place * kElementBytes, kElementBytes);
      }
      std::memcpy(shared + ptx::swizzle_128(to + line * kLineBytes + column * kElementBytes), &element, kElementBytes);
    }
  }
}

}  // namespace

void tma_load(void* to, const ptx::TensorMap& map, uint64_t* barrier, int rank, const int (&at)[5], uint32_t blocks) {
  Thread& self = this_thread();
  Cluster& cluster = *self.block->cluster;
  if (rank != map.rank) fail("tma_load: the tensor map has " + std::to_string(map.rank) + " dimensions");
  const uint32_t bytes = lines_of(map) * kLineBytes;
  const uint32_t offset = shared_offset(to, bytes, "tma_load");
  if (offset % 1024) fail("tma_load: the destination is not 1024-byte aligned, which this swizzle needs");
  shared_offset(barrier, 8, "tma_load");
  if (blocks == 0 || blocks >> cluster.blocks.size()) fail("tma_load: no such blocks in the cluster");
  std::array<int, 5> place;
  std::copy(std::begin(at), std::end(at), place.begin());
  for (uint32_t rank_to = 0; rank_to < cluster.blocks.size(); ++rank_to) {
    if (!(blocks >> rank_to & 1)) continue;
    Block& target = *cluster.blocks[rank_to];
    auto* target_barrier = static_cast<uint64_t*>(in_block(barrier, rank_to));
    mbarrier(target_barrier, "tma_load");
    const auto& unfenced = target.unfenced_mbarriers;
    if (std::find(unfenced.begin(), unfenced.end(), target_barrier) != unfenced.end()) {
      fail("tma_load: the mbarrier was not published by fence_mbarrier_init");
    }
    std::memset(target.shared + offset, 0xff, bytes);
    cluster.in_flight.push_back([map, place, offset, bytes, target_barrier, shared = target.shared] {
      int coordinates[5];
      std::copy(place.begin(), place.end(), coordinates);
      land(map, coordinates, shared, offset);
      reinterpret_cast<Mbarrier*>(target_barrier)->land(bytes);
    });
  }
}

}  // namespace aapt::emulator

namespace aapt::ptx {

void tma_load_5d(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1, int c2, int c3, int c4) {
  emulator::tma_load(to, *map, barrier, 5, {c0, c1, c2, c3, c4}, 1u << emulator::this_thread().block->rank);
}

void tma_load_2d(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1) {
  emulator::tma_load(to, *map, barrier, 2, {c0, c1, 0, 0, 0}, 1u << emulator::this_thread().block->rank);
}

void tma_load_2d_multicast(void* to, const TensorMap* map, uint64_t* barrier, int c0, int c1, uint16_t blocks) {
  emulator::tma_load(to, *map, barrier, 2, {c0, c1, 0, 0, 0}, blocks);
}

TensorMap encode_tensor_map(const TensorMapSpec& spec) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw emulator::Error(std::string("encode_tensor_map: ") + what);
  };
  require(spec.rank >= 1 && spec.rank <= 5, "the rank must be 1 to 5");
  require(reinterpret_cast<uintptr_t>(spec.base) % 16 == 0, "the base must be 16-byte aligned");
  require(spec.box[0] * 2 == 128, "the innermost side of the box must be 128 bytes");
  TensorMap map{};
  map.base = static_cast<const char*>(spec.base);
  map.rank = spec.rank;
  for (int i = 0; i < spec.rank; ++i) {
    require(spec.size[i] >= 1 && spec.size[i] <= uint64_t{1} << 32, "a size must be 1 to 2^32");
    require(spec.box[i] >= 1 && spec.box[i] <= 256, "a side of the box must be 1 to 256");
    map.size[i] = spec.size[i];
    map.box[i] = spec.box[i];
    map.byte_stride[i] = i == 0 ? 2 : spec.byte_stride[i - 1];
    require(i == 0 || (map.byte_stride[i] % 16 == 0 && map.byte_stride[i] < uint64_t{1} << 40),
            "a stride must be a multiple of 16 bytes below 2^40");
  }
  return map;
}

}  // namespace aapt::ptx
