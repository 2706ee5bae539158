#include "emulator/sync.h"

#include <cstring>

namespace aapt::emulator {
namespace {

// Returns the generation that ends when the barrier is full.
uint64_t arrive(NamedBarrier& barrier, int expected, const std::string& name) {
  if (barrier.arrived > 0 && barrier.expected != expected) {
    fail("expects " + std::to_string(expected) + " threads at " + name + " where others expect " +
         std::to_string(barrier.expected));
  }
  barrier.expected = expected;
  const uint64_t generation = barrier.generation;
  if (++barrier.arrived == expected) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
  return generation;
}

void wait(const NamedBarrier& barrier, uint64_t generation, const std::string& name) {
  wait_until([&barrier, generation] { return barrier.generation != generation; },
             [&barrier, &name] {
               return name + " (" + std::to_string(barrier.arrived) + " of " + std::to_string(barrier.expected) +
                      " threads came)";
             });
}

NamedBarrier& named_barrier(int id, int threads) {
  if (id < 0 || id >= Block::kNamedBarriers) fail("names barrier " + std::to_string(id));
  if (threads <= 0 || threads % 32) fail("expects " + std::to_string(threads) + " threads at a barrier");
  return this_thread().block->barriers[id];
}

std::string name_of(int id) {
  return id == 0 ? "__syncthreads" : "barrier " + std::to_string(id);
}

int cluster_threads(const Cluster& cluster) {
  return static_cast<int>(cluster.blocks.size() * cluster.blocks[0]->threads.size());
}

}  // namespace

void set_registers(int count, bool increase) {
  Thread& self = this_thread();
  const char* what = increase ? "registers_increase" : "registers_decrease";
  meet(~0u, 0, what);
  if (self.lane == 0) {
    Block& block = *self.block;
    Warp& warp = *self.warp;
    const int change = 32 * (count - warp.registers);
    if (increase ? change < 0 : change > 0) {
      fail(std::string(what) + ": from " + std::to_string(warp.registers) + " to " + std::to_string(count));
    }
    wait_until([&block, change] { return block.free_registers >= change; },
               [&block, change] {
                 return std::to_string(change) + " registers, of which " + std::to_string(block.free_registers) +
                        " are free";
               });
    block.free_registers -= change;
    warp.registers = count;
  }
  meet(~0u, 0, what);
}

}  // namespace aapt::emulator

namespace aapt {

void __syncthreads() {
  emulator::Block& block = *emulator::this_thread().block;
  auto& barrier = block.barriers[0];
  emulator::wait(barrier, emulator::arrive(barrier, static_cast<int>(block.threads.size()), "__syncthreads"),
                 "__syncthreads");
}

}  // namespace aapt

namespace aapt::ptx {

using namespace emulator;

void barrier_sync(int id, int threads) {
  NamedBarrier& barrier = named_barrier(id, threads);
  wait(barrier, arrive(barrier, threads, name_of(id)), name_of(id));
}

void barrier_arrive(int id, int threads) {
  arrive(named_barrier(id, threads), threads, name_of(id));
}

void fence_proxy_async() {
  Thread& self = this_thread();
  for (const PendingStore& store : self.stores_for_async) std::memcpy(store.to, store.words, 16);
  self.stores_for_async.clear();
}

void store_for_async(void* to, uint4 value) {
  shared_offset(to, 16, "store_for_async");
  this_thread().stores_for_async.push_back({to, {value.x, value.y, value.z, value.w}});
}

uint32_t cluster_rank() {
  return this_thread().block->rank;
}

void cluster_arrive() {
  Cluster& cluster = *this_thread().block->cluster;
  Thread& self = this_thread();
  self.cluster_generation = arrive(cluster.barrier, cluster_threads(cluster), "the barrier of the cluster");
}

void cluster_wait() {
  const Thread& self = this_thread();
  wait(self.block->cluster->barrier, self.cluster_generation, "the barrier of the cluster");
}

}  // namespace aapt::ptx
