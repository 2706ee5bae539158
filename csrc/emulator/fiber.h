// A fiber: a function that runs on its own stack and can stop in the middle until it is resumed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aapt::emulator {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 128 * 1024;
#endif

// Stacks of equal size, kept from launch to launch, each above a page that faults.
class Stacks {
 public:
  ~Stacks() { release(); }
  // The lowest usable byte of stack `index`; `count` stacks exist afterwards.
  char* get(size_t index, size_t count);

 private:
  void release();
  char* memory_ = nullptr;
  size_t count_ = 0;
};

class Fiber {
 public:
  using Entry = void (*)(void* argument);

  // Prepares `entry(argument)` on `stack` (kStackBytes long). `entry` never returns: it suspends for the last
  // time.
  void prepare(char* stack, Entry entry, void* argument);

  // Runs the fiber until it suspends. Called from outside of every fiber.
  void resume();

  // Leaves the running fiber; `last` where it will never be resumed.
  void suspend(bool last = false);

 private:
  [[noreturn]] static void start();

  Entry entry_;
  void* argument_;
  char* stack_;
  void* own_ = nullptr;    // stack pointer of the fiber while it is suspended
  void* outer_ = nullptr;  // of whoever resumed it
  void* own_fake_stack_ = nullptr;
  void* outer_fake_stack_ = nullptr;  // of AddressSanitizer
  const void* outer_stack_ = nullptr;
  size_t outer_stack_bytes_ = 0;
};

}  // namespace aapt::emulator
