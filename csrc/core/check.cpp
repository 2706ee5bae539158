#include "core/check.h"

namespace aapt {
namespace {

std::string show(Device device) {
  return device.type == Device::cpu ? "cpu" : "cuda:" + std::to_string(device.index);
}

}  // namespace

std::string show_shape(const int64_t* shape, int dims) {
  std::string text = "[";
  for (int i = 0; i < dims; ++i) {
    text += (i ? ", " : "") + (shape[i] < 0 ? std::string("any") : std::to_string(shape[i]));
  }
  return text + "]";
}

void Check::shape(const Tensor& t, const char* argument, std::initializer_list<int64_t> shape,
                  const char* meaning) const {
  bool same = t.dims == static_cast<int>(shape.size());
  for (int i = 0; same && i < t.dims; ++i) {
    const int64_t expected = shape.begin()[i];
    same = expected < 0 || t.shape[i] == expected;
  }
  if (!same) {
    fail(argument, "has shape " + show_shape(t.shape, t.dims),
         std::string(meaning) + " = " + show_shape(shape.begin(), static_cast<int>(shape.size())));
  }
}

void Check::dims(const Tensor& t, const char* argument, int dims, const char* meaning) const {
  if (t.dims != dims) fail(argument, "has shape " + show_shape(t.shape, t.dims), meaning);
}

void Check::dtype(const Tensor& t, const char* argument, DType dtype) const {
  if (t.dtype != dtype) fail(argument, std::string("has dtype ") + name_of(t.dtype), name_of(dtype));
}

void Check::floating(const Tensor& t, const char* argument) const {
  if (t.dtype != DType::f32 && t.dtype != DType::bf16 && t.dtype != DType::f64) {
    fail(argument, std::string("has ") + name_of(t.dtype), "float32, bfloat16 or float64");
  }
}

void Check::device(const Tensor& t, const char* argument, Device device) const {
  if (t.device != device) {
    fail(argument, "is on " + show(t.device), "on " + show(device) + " like the first argument");
  }
}

void Check::contiguous(const Tensor& t, const char* argument, int last) const {
  if (!t.contiguous(last)) {
    const std::string which = last >= t.dims ? "" : " in its last " + std::to_string(last) + " dimensions";
    fail(argument, "has strides " + show_shape(t.stride, t.dims), "contiguous" + which);
  }
}

void Check::writable(const Tensor& t, const char* argument) const {
  if (t.read_only) fail(argument, "is read-only", "writable, since the result goes there");
}

void Check::tensor(const Tensor& t, const char* argument, std::initializer_list<int64_t> shape, const char* meaning,
                   DType dtype, Device device) const {
  this->shape(t, argument, shape, meaning);
  this->dtype(t, argument, dtype);
  this->device(t, argument, device);
  contiguous(t, argument);
}

void Check::output(const Tensor& t, const char* argument, std::initializer_list<int64_t> shape, const char* meaning,
                   DType dtype, Device device) const {
  tensor(t, argument, shape, meaning, dtype, device);
  writable(t, argument);
}

}  // namespace aapt
