// One buffer, handed out piece by piece. Included only by the sources that are compiled once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aapt::gemm::AAPT_ISA {

// Every piece begins at a multiple of 64 bytes. Without a buffer it only measures.
class Pieces {
 public:
  explicit Pieces(void* base) : base_(static_cast<char*>(base)) {}

  template <class U>
  void give(U*& piece, int64_t count) {
    piece = base_ ? reinterpret_cast<U*>(base_ + bytes_) : nullptr;
    bytes_ += (static_cast<size_t>(count) * sizeof(U) + 63) / 64 * 64;
  }
  size_t bytes() const { return bytes_; }

 private:
  char* base_;
  size_t bytes_ = 0;
};

}  // namespace aapt::gemm::AAPT_ISA
