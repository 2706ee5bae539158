#include "emulator/launch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace aapt::emulator {
namespace {

std::atomic<uint32_t> seed{0};
std::atomic<unsigned> cluster_blocks{1};

// Shared memory of one host thread's cluster. It starts as NaN in every float format.
class SharedMemory {
 public:
  ~SharedMemory() { std::free(memory_); }

  char* window(size_t block, size_t blocks, size_t bytes) {
    if (blocks > blocks_) {
      std::free(memory_);
      memory_ = static_cast<char*>(std::aligned_alloc(kSharedWindow, blocks * kSharedWindow));
      if (!memory_) throw std::bad_alloc();
      blocks_ = blocks;
    }
    char* start = memory_ + block * kSharedWindow;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(start, kSharedWindow);
#endif
    std::memset(start, 0xff, kSharedWindow);
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(start, kReservedShared);
    ASAN_POISON_MEMORY_REGION(start + kReservedShared + bytes, kSharedWindow - kReservedShared - bytes);
#endif
    (void)bytes;
    return start;
  }

 private:
  char* memory_ = nullptr;
  size_t blocks_ = 0;
};

void make_block(Block& b, dim3 size, char* shared, size_t shared_bytes, Stacks& stacks, size_t first_stack,
                size_t all_stacks) {
  const int threads = static_cast<int>(size.x * size.y * size.z);
  b.size = {size.x, size.y, size.z};
  b.shared = shared;
  b.shared_bytes = shared_bytes;
  b.warps.resize((threads + 31) / 32);
  const int registers = std::min(255, kRegistersPerBlock / (static_cast<int>(b.warps.size()) * 32)) / 8 * 8;
  for (Warp& warp : b.warps) warp.registers = registers;
  b.threads.resize(threads);
  for (int i = 0; i < threads; ++i) {
    Thread& t = b.threads[i];
    t.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    t.linear = i;
    t.lane = i % 32;
    t.block = &b;
    t.warp = &b.warps[i / 32];
    t.fiber_stack = stacks.get(first_stack + i, all_stacks);
  }
}

void run_cluster(dim3 grid, dim3 size, size_t shared, unsigned number, unsigned blocks, void (*kernel)(void*),
                 void* arguments) {
  thread_local Stacks stacks;
  thread_local SharedMemory memory;
  const size_t threads = size.x * size.y * size.z;
  Cluster cluster;
  cluster.random.seed(seed + 0x9e3779b9u * number);
  for (unsigned rank = 0; rank < blocks; ++rank) {
    auto block = std::make_unique<Block>();
    const unsigned linear = number * blocks + rank;
    block->index = {linear % grid.x, linear / grid.x % grid.y, linear / (grid.x * grid.y)};
    block->grid = {grid.x, grid.y, grid.z};
    block->rank = rank;
    block->cluster = &cluster;
    make_block(*block, size, memory.window(rank, blocks, shared), shared, stacks, rank * threads, blocks * threads);
    cluster.blocks.push_back(std::move(block));
  }
  run(cluster, kernel, arguments);
}

}  // namespace

void set_seed(uint32_t value) {
  seed = value;
}

void set_cluster(unsigned blocks) {
  cluster_blocks = blocks;
}

void run_grid(dim3 grid, dim3 block, size_t shared, void (*kernel)(void*), void* arguments) {
  const unsigned blocks = cluster_blocks;
  if (shared > kMaxDynamicShared) throw Error("launch: more shared memory than a block can have");
  if (block.x * block.y * block.z > 1024) throw Error("launch: more than 1024 threads in a block");
  if (grid.x % blocks) throw Error("launch: the grid is not a multiple of the cluster");
  const unsigned clusters = grid.x * grid.y * grid.z / blocks;

  std::atomic<unsigned> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (unsigned i = next++; i < clusters; i = next++) {
        run_cluster(grid, block, shared, i, blocks, kernel, arguments);
      }
    } catch (...) {
      next = clusters;
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::thread helper(work);
  work();
  helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace aapt::emulator
