// A matrix laid out for multiplication from the right, done once at load.
//
// plain   [N, K], row-major, as torch stores a linear layer's weight (patch embedding: [N, C, 2, 2]).
// packed  [ceil(N / 16), K / g, 16 g]: the same blocks as tiled keys (core/geometry.h), outputs in place of
// keys.
#pragma once

#include "core/check.h"
#include "core/geometry.h"

namespace aapt {

struct Weight {
  const void* data;
  bool packed;
  int outputs, inputs;  // N, K

  template <class T>
  wide<T> at(int output, int input) const {
    const int64_t plain = static_cast<int64_t>(output) * inputs + input;
    const int64_t offset = packed ? tiled_k_offset(output, input, inputs, group_of(sizeof(T))) : plain;
    return to_wide(static_cast<const T*>(data)[offset]);
  }
};

inline Weight make_weight(const Check& check, const Tensor& t, const char* argument, int outputs, int inputs,
                          DType dtype, Device device) {
  const int group = group_of(size_of(dtype));
  if (inputs % group) {
    check.fail(argument, "has " + std::to_string(inputs) + " inputs", "even in number for bfloat16");
  }
  const bool packed = t.dims == 3;
  if (packed) {
    check.shape(t, argument, {key_blocks(outputs), inputs / group, kKeyBlock * group},
                "packed [ceil(N/16), K/g, 16 g]");
  } else if (t.dims == 4) {
    check.shape(t, argument, {outputs, inputs / 4, 2, 2}, "[N, K/4, 2, 2]");
  } else {
    check.shape(t, argument, {outputs, inputs}, "[N, K]");
  }
  check.dtype(t, argument, dtype);
  check.device(t, argument, device);
  check.contiguous(t, argument);
  return {t.data, packed, outputs, inputs};
}

}  // namespace aapt
