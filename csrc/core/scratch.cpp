#include "core/scratch.h"

#include <cstdlib>
#include <new>

namespace aapt {
namespace {

struct Buffer {
  void* data = nullptr;
  size_t bytes = 0;

  ~Buffer() { std::free(data); }
};

thread_local Buffer buffers[2];

}  // namespace

void* thread_scratch(size_t bytes, Scratch use) {
  Buffer& buffer = buffers[static_cast<int>(use)];
  if (bytes > buffer.bytes) {
    const size_t rounded = (bytes + 4095) / 4096 * 4096;
    std::free(buffer.data);
    buffer.data = std::aligned_alloc(64, rounded);
    buffer.bytes = buffer.data ? rounded : 0;
    if (!buffer.data) throw std::bad_alloc();
  }
  return buffer.data;
}

}  // namespace aapt
