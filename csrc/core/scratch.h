// Working memory of a kernel's thread. It stays with the thread, so that a call allocates nothing once the largest
// shape has been seen.
#pragma once

#include <cstddef>

namespace aapt {

// At least `bytes`, aligned to 64; the contents are undefined. A later call on the same thread may move it.
void* thread_scratch(size_t bytes);

}  // namespace aapt
