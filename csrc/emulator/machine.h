// The emulated machine: threads in warps, in blocks, in one cluster, that run on one thread of the host.
//
// Threads are fibers. One runs until it must wait; then the scheduler resumes another whose wait is over, in
// an order that is shuffled anew for every round. Asynchronous work is kept aside and takes effect as late as
// the rules allow: copies into shared memory only when no thread of the cluster can go on without one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulator/fiber.h"

namespace aapt::emulator {

struct Index3 {
  unsigned x, y, z;
};

// A kernel broke a rule of the machine, or cannot end. Thrown out of launch().
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a thread waits for.
struct Wait {
  virtual bool over() const = 0;
  virtual std::string text() const = 0;

 protected:
  ~Wait() = default;
};

// A meeting of lanes: the generation advances when all that are expected have come.
struct Meeting {
  uint32_t members = 0, arrived = 0;
  uint64_t generation = 0;
  uint64_t values[2][32] = {};  // what the lanes brought, by parity of the generation
};

struct Warp {
  std::vector<Meeting> meetings;  // one for each mask in use
  int registers = 0;              // per lane
};

struct Block;
struct Cluster;

// One wgmma that was issued and has not been waited for.
struct PendingWgmma {
  float* c;
  int columns;
  const uint32_t* a_registers;  // null: `a` is a descriptor
  uint64_t a, b;
  bool b_is_mn_major, accumulate;
};

// Accumulators that belong to the tensor core until their last wgmma has been waited for.
struct BorrowedAccumulator {
  float* c;
  std::vector<float> values;
  int uses;
};

struct PendingStore {
  void* to;
  uint32_t words[4];
};

struct PendingCopy {
  void* to;
  const void* from;
  bool valid;
};

struct Thread {
  Index3 index;
  int linear, lane;
  Block* block;
  Warp* warp;
  Fiber fiber;
  char* fiber_stack = nullptr;
  const Wait* wait = nullptr;
  bool finished = false;

  bool registers_fenced = false;  // wgmma_fence since the last wgmma_wait
  std::vector<PendingWgmma> wgmmas;
  std::vector<size_t> wgmma_groups;  // the length of `wgmmas` at each commit
  std::vector<BorrowedAccumulator> accumulators;
  uint64_t cluster_generation = 0;  // of the barrier that cluster_wait completes
  std::vector<PendingStore> stores_for_async;
  std::vector<PendingCopy> copies;
  std::vector<size_t> copy_groups;
};

struct NamedBarrier {
  int arrived = 0, expected = 0;
  uint64_t generation = 0;
};

struct Block {
  static constexpr int kNamedBarriers = 16;

  Index3 index, grid, size;
  uint32_t rank;  // in the cluster
  Cluster* cluster;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  NamedBarrier barriers[kNamedBarriers];
  std::vector<uint64_t*> unfenced_mbarriers;
  int free_registers = 0;
  char* shared = nullptr;  // the whole window of the block: 256 KiB, 256 KiB aligned
  size_t shared_bytes = 0;
};

struct Cluster {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::function<void()>> in_flight;  // asynchronous copies, in the order of issue
  NamedBarrier barrier;
  std::mt19937 random;
  std::string failure;
};

// The first kilobyte of shared memory belongs to the system, as on sm_90.
constexpr size_t kReservedShared = 1024;
constexpr size_t kSharedWindow = 256 * 1024;
constexpr size_t kMaxDynamicShared = 227 * 1024;
constexpr int kRegistersPerBlock = 65536;

Thread& this_thread();

[[noreturn]] void fail(const std::string& what);

// Suspends the running thread until `wait` is over.
void wait_until(const Wait& wait);

// The same from a condition and a function that says in words what is waited for.
template <class Condition, class Text>
void wait_until(Condition condition, Text text) {
  struct Until final : Wait {
    Condition condition;
    Text words;
    Until(Condition condition, Text words) : condition(condition), words(words) {}
    bool over() const override { return condition(); }
    std::string text() const override { return words(); }
  };
  wait_until(static_cast<const Wait&>(Until(condition, text)));
}

// The lanes of `mask` meet; each brings a value. The result is the array of them, valid until the lane meets
// again.
const uint64_t* meet(uint32_t mask, uint64_t value, const char* what);

// Offset of `pointer` in the running block's shared memory, its 32-bit address on the GPU. Fails where
// `bytes` from there are not all inside of what the block was given.
uint32_t shared_offset(const void* pointer, size_t bytes, const char* what);

// The same place in block `rank` of the cluster.
void* in_block(const void* pointer, uint32_t rank);

// Runs all threads of `cluster` to their end.
void run(Cluster& cluster, void (*kernel)(void*), void* arguments);

}  // namespace aapt::emulator
