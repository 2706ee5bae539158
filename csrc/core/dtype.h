// Element types. bf16 is our own eight lines, so that the operators need no toolkit's header.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace aapt {

enum class DType : uint8_t { f32, f64, bf16, i32, e4m3, other };

inline int size_of(DType dtype) {
  return dtype == DType::f64 ? 8 : dtype == DType::bf16 ? 2 : dtype == DType::e4m3 ? 1 : 4;
}

inline const char* name_of(DType dtype) {
  constexpr const char* names[] = {"float32", "float64", "bfloat16", "int32", "float8_e4m3fn", "an unsupported dtype"};
  return names[static_cast<int>(dtype)];
}

struct bf16 {
  uint16_t bits;
};

// Conversions for code that is a template over the element type: `to_wide` to the type that we accumulate in.
AAPT_HD float to_wide(bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  memcpy(&wide, &bits, 4);
  return wide;
}
AAPT_HD float to_wide(float value) {
  return value;
}
AAPT_HD double to_wide(double value) {
  return value;
}

// Rounds to nearest even; every NaN becomes a quiet one.
AAPT_HD void store(bf16* to, float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to->bits = nan ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
AAPT_HD void store(float* to, float value) {
  *to = value;
}
AAPT_HD void store(double* to, double value) {
  *to = value;
}

template <class T>
struct wide_of {
  using type = float;
};
template <>
struct wide_of<double> {
  using type = double;
};
template <class T>
using wide = typename wide_of<T>::type;

}  // namespace aapt
