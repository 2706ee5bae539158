// Working memory of a kernel's thread. It stays with the thread, so that a call allocates nothing once the largest
// shape has been seen.
#pragma once

#include <cstddef>

namespace aapt {

// A thread has one buffer for the job that it works on, and one for an operand that it prepares for all threads.
enum class Scratch { job, operand };

// At least `bytes`, aligned to 64; the contents are undefined. A later call on the same thread may move it.
void* thread_scratch(size_t bytes, Scratch use = Scratch::job);

}  // namespace aapt
