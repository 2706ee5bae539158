// A view of somebody's array: what an operator receives, whichever library allocated it.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/dtype.h"

namespace aapt {

struct Device {
  enum Type : uint8_t { cpu, cuda } type = cpu;
  int index = 0;
  bool operator==(const Device& other) const { return type == other.type && index == other.index; }
  bool operator!=(const Device& other) const { return !(*this == other); }
};

struct Tensor {
  static constexpr int kMaxDims = 6;

  void* data = nullptr;
  DType dtype = DType::other;
  Device device;
  int dims = 0;
  int64_t shape[kMaxDims] = {};
  int64_t stride[kMaxDims] = {};  // in elements
  bool read_only = false;

  int64_t size(int dim) const { return shape[dim < 0 ? dims + dim : dim]; }
  int64_t elements() const {
    int64_t count = 1;
    for (int i = 0; i < dims; ++i) count *= shape[i];
    return count;
  }
  // Contiguous in its last `last` dimensions (all of them by default); an array without elements always is.
  bool contiguous(int last = kMaxDims) const {
    if (elements() == 0) return true;
    int64_t expected = 1;
    for (int i = dims - 1; i >= 0 && i >= dims - last; --i) {
      if (shape[i] != 1 && stride[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace aapt
