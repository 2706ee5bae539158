// Argument checks. Every message names the operator, the argument, its value, and what it must be.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "core/tensor.h"

namespace aapt {

// Becomes Python's ValueError.
struct ArgumentError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// Checks the arguments of one operator; the first bad one throws.
class Check {
 public:
  explicit Check(const char* op) : op_(op) {}

  [[noreturn]] void fail(const std::string& argument, const std::string& is, const std::string& must_be) const {
    throw ArgumentError(std::string(op_) + ": " + argument + " " + is + "; it must be " + must_be);
  }

  // -1 in `shape` admits any size. `meaning` is the shape in symbols, for the message.
  void shape(const Tensor& t, const char* argument, std::initializer_list<int64_t> shape, const char* meaning) const;
  void dims(const Tensor& t, const char* argument, int dims, const char* meaning) const;
  void dtype(const Tensor& t, const char* argument, DType dtype) const;
  void floating(const Tensor& t, const char* argument) const;
  void device(const Tensor& t, const char* argument, Device device) const;
  void contiguous(const Tensor& t, const char* argument, int last = Tensor::kMaxDims) const;
  void writable(const Tensor& t, const char* argument) const;

  // The checks that most arguments need, at once: shape, dtype, device, contiguity.
  void tensor(const Tensor& t, const char* argument, std::initializer_list<int64_t> shape, const char* meaning,
              DType dtype, Device device) const;
  // The same for one that is written.
  void output(const Tensor& t, const char* argument, std::initializer_list<int64_t> shape, const char* meaning,
              DType dtype, Device device) const;

 private:
  const char* op_;
};

std::string show_shape(const int64_t* shape, int dims);

}  // namespace aapt
