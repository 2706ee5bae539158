// fp8 with four bits of exponent and three of mantissa (OCP e4m3, torch's float8_e4m3fn): up to 448, no infinity, NaN
// is 0x7f. And rows of it with one scale each: x = value * scale, where a row's largest magnitude becomes 448.
#pragma once

#include <cmath>

#include "core/dtype.h"

namespace aapt {

struct e4m3 {
  uint8_t bits;
};

// Rounds to nearest even. What is beyond 448, infinity too, becomes 448; NaN stays NaN.
AAPT_HD void store(e4m3* to, float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 24 & 0x80u;
  bits &= 0x7fffffffu;
  uint32_t code;
  if (bits > 0x7f800000u) {
    code = 0x7f;
  } else if (bits >= 0x43e00000u) {  // 448
    code = 0x7e;
  } else if (bits < 0x3c800000u) {  // 2^-6: multiples of 2^-9, which is the last digit of a float at 2^14
    float magnitude;
    memcpy(&magnitude, &bits, 4);
    magnitude += 16384.f;
    memcpy(&bits, &magnitude, 4);
    code = bits - 0x46800000u;
  } else {  // another exponent bias, 20 digits less
    code = (bits - (120u << 23) + 0x7ffffu + (bits >> 20 & 1u)) >> 20;
  }
  to->bits = static_cast<uint8_t>(sign | code);
}

// Two of them, `low` in the low byte.
AAPT_HD uint16_t pack_e4m3(float low, float high) {
  e4m3 pair[2];
  store(&pair[0], low);
  store(&pair[1], high);
  return static_cast<uint16_t>(pair[0].bits | pair[1].bits << 8);
}

// The scale of a row whose largest magnitude is `largest`; positive also where that is zero.
AAPT_HD float scale_of_row(float largest) {
  constexpr float kLargest = 448.f, kLeastScale = 1e-30f;
  const float scale = largest / kLargest;
  return scale > kLeastScale ? scale : kLeastScale;
}

// One row in the portable paths; W is float or double.
template <class W>
void quantise_row(const W* value, int width, e4m3* out, float* scale) {
  W largest = 0;
  for (int i = 0; i < width; ++i) largest = std::fmax(largest, std::fabs(value[i]));
  *scale = scale_of_row(static_cast<float>(largest));
  const W inverse = 1 / static_cast<W>(*scale);
  for (int i = 0; i < width; ++i) store(out + i, static_cast<float>(value[i] * inverse));
}

}  // namespace aapt
