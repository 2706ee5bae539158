// Arrays for the C++ tests: each in a heap block of exactly its size, so that AddressSanitizer sees the first byte
// read or written beyond it.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/e4m3.h"
#include "core/tensor.h"

namespace aapt::test {

class Array {
 public:
  Array(DType dtype, std::vector<int64_t> shape) {
    view_.dtype = dtype;
    view_.dims = static_cast<int>(shape.size());
    int64_t stride = 1;
    for (int i = view_.dims - 1; i >= 0; --i) {
      view_.shape[i] = shape[i];
      view_.stride[i] = stride;
      stride *= shape[i];
    }
    bytes_.reset(new char[stride * size_of(dtype)]);
    view_.data = bytes_.get();
  }

  static Array random(DType dtype, std::vector<int64_t> shape) {
    static std::mt19937 generator(7);
    Array array(dtype, std::move(shape));
    for (int64_t i = 0; i < array.view_.elements(); ++i) {
      array.set(i, std::uniform_real_distribution<float>(-1, 1)(generator));
    }
    return array;
  }
  // What nothing may read: an output before it is written, storage around the rows of a page.
  static Array poisoned(DType dtype, std::vector<int64_t> shape) {
    Array array(dtype, std::move(shape));
    for (int64_t i = 0; i < array.view_.elements(); ++i) array.set(i, std::numeric_limits<float>::quiet_NaN());
    return array;
  }
  static Array integers(const std::vector<int32_t>& values, std::vector<int64_t> shape) {
    Array array(DType::i32, std::move(shape));
    for (size_t i = 0; i < values.size(); ++i) array.view_.as<int32_t>()[i] = values[i];
    return array;
  }

  const Tensor& operator*() const { return view_; }
  const Tensor* operator&() const { return &view_; }
  // fp8 is told by its code, the sign apart: it grows with the magnitude.
  float at(int64_t i) const {
    if (view_.dtype == DType::e4m3) {
      const int code = view_.as<e4m3>()[i].bits;
      return static_cast<float>(code < 128 ? code : 128 - code);
    }
    return view_.dtype == DType::bf16 ? to_wide(view_.as<bf16>()[i]) : view_.as<float>()[i];
  }
  void set(int64_t i, float value) {
    if (view_.dtype == DType::e4m3) {
      store(view_.as<e4m3>() + i, value);
    } else if (view_.dtype == DType::bf16) {
      store(view_.as<bf16>() + i, value);
    } else {
      store(view_.as<float>() + i, value);
    }
  }

 private:
  Tensor view_;
  std::unique_ptr<char[]> bytes_;
};

}  // namespace aapt::test
