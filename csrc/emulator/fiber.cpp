#include "emulator/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// aapt_switch_stack(from, to): saves the registers that a called function must keep and the stack pointer in
// *from, then goes on where `to` was saved.
#if defined(__x86_64__)
asm(R"(
.text
.globl aapt_switch_stack
.hidden aapt_switch_stack
.type aapt_switch_stack, @function
aapt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size aapt_switch_stack, . - aapt_switch_stack
)");
extern "C" void aapt_switch_stack(void** from, void* to);
#else
#error "the emulator switches stacks in x86-64 assembly; add the lines for this processor here"
#endif

namespace aapt::emulator {
namespace {

constexpr size_t kGuardBytes = 4096;
constexpr size_t kPitch = kStackBytes + kGuardBytes;

thread_local Fiber* starting = nullptr;

}  // namespace

char* Stacks::get(size_t index, size_t count) {
  if (count > count_) {
    release();
    void* memory =
        mmap(nullptr, count * kPitch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
    count_ = count;
    for (size_t i = 0; i < count; ++i) mprotect(memory_ + i * kPitch, kGuardBytes, PROT_NONE);
  }
  return memory_ + index * kPitch + kGuardBytes;
}

void Stacks::release() {
  if (memory_) munmap(memory_, count_ * kPitch);
  memory_ = nullptr;
  count_ = 0;
}

void Fiber::prepare(char* stack, Entry entry, void* argument) {
  entry_ = entry;
  argument_ = argument;
  stack_ = stack;
  own_fake_stack_ = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(stack, kStackBytes);  // a fiber that was abandoned left its marks
#endif
  // What aapt_switch_stack pops: six registers, then the address to go to. The stack is left as after a call.
  auto** top = reinterpret_cast<void**>(stack + kStackBytes - 64);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::start);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  own_ = top;
}

void Fiber::start() {
  Fiber* self = starting;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self->outer_stack_, &self->outer_stack_bytes_);
#endif
  self->entry_(self->argument_);
  __builtin_unreachable();
}

void Fiber::resume() {
  starting = this;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&outer_fake_stack_, stack_, kStackBytes);
#endif
  aapt_switch_stack(&outer_, own_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(outer_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::suspend(bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &own_fake_stack_, outer_stack_, outer_stack_bytes_);
#endif
  (void)last;
  aapt_switch_stack(&own_, outer_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(own_fake_stack_, &outer_stack_, &outer_stack_bytes_);
#endif
}

}  // namespace aapt::emulator
