#include "emulator/machine.h"

#include <algorithm>
#include <sstream>

namespace aapt::emulator {
namespace {

thread_local Thread* current = nullptr;
thread_local void (*running_kernel)(void*) = nullptr;
thread_local void* kernel_arguments = nullptr;

std::string name_of(const Thread& thread) {
  const Index3& b = thread.block->index;
  std::ostringstream text;
  text << "block (" << b.x << ", " << b.y << ", " << b.z << ") thread " << thread.linear;
  return text.str();
}

void thread_main(void* argument) {
  auto* self = static_cast<Thread*>(argument);
  try {
    running_kernel(kernel_arguments);
    if (!self->wgmmas.empty()) fail("ends with wgmmas that were not waited for");
    if (!self->copies.empty()) fail("ends with asynchronous copies that were not waited for");
  } catch (const Error& error) {
    Cluster& cluster = *self->block->cluster;
    if (cluster.failure.empty()) cluster.failure = error.what();
  }
  self->finished = true;
  self->fiber.suspend(/*last=*/true);
}

// Threads that wait for the same thing, in ranges.
std::string deadlock_report(const Cluster& cluster) {
  std::ostringstream report;
  report << "deadlock: no thread can go on and no copy is in flight";
  for (const auto& block : cluster.blocks) {
    const auto& threads = block->threads;
    for (size_t first = 0; first < threads.size();) {
      const auto state = [&](size_t i) {
        return threads[i].finished ? std::string("ended") : "waits for " + threads[i].wait->text();
      };
      size_t last = first;
      while (last + 1 < threads.size() && state(last + 1) == state(first)) ++last;
      report << "\n  " << name_of(threads[first]);
      if (last > first) report << " to " << last;
      report << " " << state(first);
      first = last + 1;
    }
  }
  return report.str();
}

bool can_go_on(const Thread& thread) {
  return !thread.wait || thread.wait->over();
}

// One warp sleeps until no other can go on: the slowest warp that a correct kernel must expect.
class Sleeper {
 public:
  Sleeper(const std::vector<Thread*>& threads, std::mt19937& random) { change(threads, random); }

  bool is(const Thread& thread) const { return thread.warp == warp_; }

  bool can_go_on(const std::vector<Thread*>& threads) const {
    return std::any_of(threads.begin(), threads.end(),
                       [this](const Thread* t) { return is(*t) && emulator::can_go_on(*t); });
  }

  // Wakes the warp; another falls asleep, or none where it is the last.
  void change(const std::vector<Thread*>& threads, std::mt19937& random) {
    const Warp* next = threads[random() % threads.size()]->warp;
    warp_ = next == warp_ ? nullptr : next;
  }

 private:
  const Warp* warp_ = nullptr;
};

// Any of the copies in flight, since they may overtake each other.
void land_a_copy(Cluster& cluster) {
  auto& copies = cluster.in_flight;
  std::swap(copies[cluster.random() % copies.size()], copies.back());
  const std::function<void()> copy = std::move(copies.back());
  copies.pop_back();
  copy();
}

}  // namespace

Thread& this_thread() {
  return *current;
}

void fail(const std::string& what) {
  throw Error(name_of(*current) + " " + what);
}

void wait_until(const Wait& wait) {
  Thread& self = *current;
  if (wait.over()) return;
  self.wait = &wait;
  self.fiber.suspend();
}

const uint64_t* meet(uint32_t mask, uint64_t value, const char* what) {
  Thread& self = *current;
  if (!(mask >> self.lane & 1)) fail(std::string(what) + ": the mask does not name the calling lane");
  auto& meetings = self.warp->meetings;
  auto found = std::find_if(meetings.begin(), meetings.end(),
                            [mask](const Meeting& meeting) { return meeting.members == mask; });
  if (found == meetings.end()) {
    meetings.reserve(8);
    if (meetings.size() == meetings.capacity()) fail("more than eight masks in one warp");
    found = meetings.insert(meetings.end(), Meeting());
    found->members = mask;
  }
  Meeting& meeting = *found;
  const uint64_t generation = meeting.generation;
  meeting.values[generation & 1][self.lane] = value;
  meeting.arrived |= 1u << self.lane;
  if (meeting.arrived == mask) {
    meeting.arrived = 0;
    ++meeting.generation;
  } else {
    wait_until([&meeting, generation] { return meeting.generation != generation; },
               [what] { return std::string("the other lanes at ") + what; });
  }
  return meeting.values[generation & 1];
}

uint32_t shared_offset(const void* pointer, size_t bytes, const char* what) {
  const Block& block = *current->block;
  const auto offset = static_cast<const char*>(pointer) - block.shared;
  const auto end = static_cast<std::ptrdiff_t>(kReservedShared + block.shared_bytes);
  if (offset < static_cast<std::ptrdiff_t>(kReservedShared) || offset + static_cast<std::ptrdiff_t>(bytes) > end) {
    fail(std::string(what) + ": " + std::to_string(bytes) + " bytes at offset " + std::to_string(offset) +
         " are outside of the block's shared memory [" + std::to_string(kReservedShared) + ", " + std::to_string(end) +
         ")");
  }
  return static_cast<uint32_t>(offset);
}

void* in_block(const void* pointer, uint32_t rank) {
  const Block& own = *current->block;
  if (rank >= own.cluster->blocks.size()) fail("names block " + std::to_string(rank) + " of the cluster");
  return own.cluster->blocks[rank]->shared + (static_cast<const char*>(pointer) - own.shared);
}

void run(Cluster& cluster, void (*kernel)(void*), void* arguments) {
  running_kernel = kernel;
  kernel_arguments = arguments;
  std::vector<Thread*> order;
  for (auto& block : cluster.blocks) {
    for (Thread& thread : block->threads) {
      order.push_back(&thread);
      thread.fiber.prepare(thread.fiber_stack, thread_main, &thread);
    }
  }
  Sleeper sleeper(order, cluster.random);
  while (!order.empty()) {
    std::shuffle(order.begin(), order.end(), cluster.random);
    bool moved = false;
    for (Thread* thread : order) {
      if (sleeper.is(*thread) || !can_go_on(*thread)) continue;
      thread->wait = nullptr;
      current = thread;
      thread->fiber.resume();
      moved = true;
      if (!cluster.failure.empty()) throw Error(cluster.failure);
    }
    order.erase(std::remove_if(order.begin(), order.end(), [](Thread* t) { return t->finished; }), order.end());
    if (moved || order.empty()) continue;
    const bool copies = !cluster.in_flight.empty();
    if (!copies && !sleeper.can_go_on(order)) throw Error(deadlock_report(cluster));
    if (!copies || cluster.random() % 2) {
      sleeper.change(order, cluster.random);
    } else {
      land_a_copy(cluster);
    }
  }
  if (!cluster.in_flight.empty()) throw Error("the kernel ends with copies into shared memory in flight");
}

}  // namespace aapt::emulator
