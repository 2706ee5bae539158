// 2^x on vectors: 2^round(x) by the exponent's bits, times a polynomial on [-1/2, 1/2].
#pragma once

#include "core/simd.h"

namespace aapt::simd::AAPT_ISA {

// Relative minimax polynomials with p(0) = 1: error 1e-7 (Precise) and 3e-6, far below bfloat16's (Quick).
struct Precise {};
struct Quick {};

inline Vector exp2_fraction(Vector r, Precise) {
  Vector p = fma(broadcast(1.32647273e-3f), r, broadcast(9.67151299e-3f));
  p = fma(p, r, broadcast(5.55073358e-2f));
  p = fma(p, r, broadcast(0.240222424f));
  p = fma(p, r, broadcast(0.693147004f));
  return fma(p, r, broadcast(1.0f));
}
inline Vector exp2_fraction(Vector r, Quick) {
  Vector p = fma(broadcast(9.58285294e-3f), r, broadcast(5.59064262e-2f));
  p = fma(p, r, broadcast(0.240240991f));
  p = fma(p, r, broadcast(0.693124175f));
  return fma(p, r, broadcast(1.0f));
}

// x must not be infinite; what is too small becomes 0, what is too large infinity.
template <class Precision>
inline Vector exp2(Vector x, Precision precision) {
#if defined(__AVX512F__)
  const __m512 whole = _mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return {_mm512_scalef_ps(exp2_fraction({_mm512_sub_ps(x.v, whole)}, precision).v, whole)};
#else
  // The bound comes first, so that a NaN passes through.
  x.v = _mm256_min_ps(_mm256_set1_ps(128.0f), _mm256_max_ps(_mm256_set1_ps(-127.0f), x.v));
  const __m256 whole = _mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
  const __m256 power = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
  return exp2_fraction({_mm256_sub_ps(x.v, whole)}, precision) * Vector{power};
#endif
}

}  // namespace aapt::simd::AAPT_ISA
