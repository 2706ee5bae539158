// The words that the vector paths are written in: a vector of floats, loaded from and stored to float32 and
// bfloat16, whole or in part.
//
// Included only by the sources that are compiled once per instruction set. Everything here lives in a namespace
// named after the instruction set, so that the linker never takes one set's function for another's; for the same
// reason those sources use no inline function from outside (std:: containers, core/dtype.h).
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "core/dtype.h"

namespace aapt::simd::AAPT_ISA {

// How much of a vector is meant: all lanes, or the first `count`.
struct Whole {};
struct Part {
  int count;
};

#if defined(__AVX512F__)

constexpr int kLanes = 16;

struct Vector {
  __m512 v;
};

inline Vector broadcast(float value) {
  return {_mm512_set1_ps(value)};
}
inline Vector zero() {
  return {_mm512_setzero_ps()};
}
inline Vector operator+(Vector a, Vector b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline Vector operator-(Vector a, Vector b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline Vector operator*(Vector a, Vector b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline Vector operator/(Vector a, Vector b) {
  return {_mm512_div_ps(a.v, b.v)};
}
// Of a NaN and a number, the second argument.
inline Vector max(Vector a, Vector b) {
  return {_mm512_max_ps(a.v, b.v)};
}
inline Vector min(Vector a, Vector b) {
  return {_mm512_min_ps(a.v, b.v)};
}
// a b + c
inline Vector fma(Vector a, Vector b, Vector c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}

inline __mmask16 mask(Part part) {
  return static_cast<__mmask16>((1u << part.count) - 1);
}

// The lanes of `part`; the others zero.
inline Vector only(Vector a, Part part) {
  return {_mm512_maskz_mov_ps(mask(part), a.v)};
}

inline Vector load(const float* from, Whole = {}) {
  return {_mm512_loadu_ps(from)};
}
inline Vector load(const float* from, Part part) {
  return {_mm512_maskz_loadu_ps(mask(part), from)};
}
inline void store(float* to, Vector a, Whole = {}) {
  _mm512_storeu_ps(to, a.v);
}
inline void store(float* to, Vector a, Part part) {
  _mm512_mask_storeu_ps(to, mask(part), a.v);
}

inline Vector widen(__m256i words) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16))};
}
// Rounds to nearest even; every NaN becomes a quiet one.
inline __m256i narrow(Vector a) {
#if defined(__AVX512BF16__)
  return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a.v));
#else
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(
      _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc00000)), 16));
#endif
}
inline Vector load(const bf16* from, Whole = {}) {
  return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline Vector load(const bf16* from, Part part) {
  return widen(_mm256_maskz_loadu_epi16(mask(part), from));
}
inline void store(bf16* to, Vector a, Whole = {}) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow(a));
}
inline void store(bf16* to, Vector a, Part part) {
  _mm256_mask_storeu_epi16(to, mask(part), narrow(a));
}

inline float sum(Vector a) {
  return _mm512_reduce_add_ps(a.v);
}
inline float largest(Vector a) {
  return _mm512_reduce_max_ps(a.v);
}

// Neighbouring pairs (a, b) turned by neighbouring (cos, sin): (a cos - b sin, b cos + a sin).
inline Vector turn_pairs(Vector pairs, Vector rotation) {
  const __m512 crossed = _mm512_mul_ps(_mm512_permute_ps(pairs.v, 0xb1), _mm512_movehdup_ps(rotation.v));
  return {_mm512_fmaddsub_ps(pairs.v, _mm512_moveldup_ps(rotation.v), crossed)};
}

#else

constexpr int kLanes = 8;

struct Vector {
  __m256 v;
};

inline Vector broadcast(float value) {
  return {_mm256_set1_ps(value)};
}
inline Vector zero() {
  return {_mm256_setzero_ps()};
}
inline Vector operator+(Vector a, Vector b) {
  return {_mm256_add_ps(a.v, b.v)};
}
inline Vector operator-(Vector a, Vector b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
inline Vector operator*(Vector a, Vector b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
inline Vector operator/(Vector a, Vector b) {
  return {_mm256_div_ps(a.v, b.v)};
}
// Of a NaN and a number, the second argument.
inline Vector max(Vector a, Vector b) {
  return {_mm256_max_ps(a.v, b.v)};
}
inline Vector min(Vector a, Vector b) {
  return {_mm256_min_ps(a.v, b.v)};
}
// a b + c
inline Vector fma(Vector a, Vector b, Vector c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}

inline __m256i mask(Part part) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(part.count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The lanes of `part`; the others zero.
inline Vector only(Vector a, Part part) {
  return {_mm256_and_ps(a.v, _mm256_castsi256_ps(mask(part)))};
}

inline Vector load(const float* from, Whole = {}) {
  return {_mm256_loadu_ps(from)};
}
inline Vector load(const float* from, Part part) {
  return {_mm256_maskload_ps(from, mask(part))};
}
inline void store(float* to, Vector a, Whole = {}) {
  _mm256_storeu_ps(to, a.v);
}
inline void store(float* to, Vector a, Part part) {
  _mm256_maskstore_ps(to, mask(part), a.v);
}

inline Vector widen(__m128i words) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16))};
}
// Rounds to nearest even; every NaN becomes a quiet one.
inline __m128i narrow(Vector a) {
  const __m256i bits = _mm256_castps_si256(a.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}
inline Vector load(const bf16* from, Whole = {}) {
  return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline Vector load(const bf16* from, Part part) {
  __m128i words = _mm_setzero_si128();
  memcpy(&words, from, 2 * static_cast<size_t>(part.count));
  return widen(words);
}
inline void store(bf16* to, Vector a, Whole = {}) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow(a));
}
inline void store(bf16* to, Vector a, Part part) {
  const __m128i words = narrow(a);
  memcpy(to, &words, 2 * static_cast<size_t>(part.count));
}

inline float sum(Vector a) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline float largest(Vector a) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// Neighbouring pairs (a, b) turned by neighbouring (cos, sin): (a cos - b sin, b cos + a sin).
inline Vector turn_pairs(Vector pairs, Vector rotation) {
  const __m256 crossed = _mm256_mul_ps(_mm256_permute_ps(pairs.v, 0xb1), _mm256_movehdup_ps(rotation.v));
  return {_mm256_fmaddsub_ps(pairs.v, _mm256_moveldup_ps(rotation.v), crossed)};
}

#endif

// Two vectors one after the other.
inline void store_two(float* to, Vector a, Vector b) {
  store(to, a);
  store(to + kLanes, b);
}
inline void store_two(bf16* to, Vector a, Vector b) {
#if defined(__AVX512BF16__)
  _mm512_storeu_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b.v, a.v)));
#else
  store(to, a);
  store(to + kLanes, b);
#endif
}

// Calls body(offset, Whole or Part) over a row.
template <class Body>
inline void for_each_vector(int width, Body body) {
  int i = 0;
  for (; i + kLanes <= width; i += kLanes) body(i, Whole{});
  if (i < width) body(i, Part{width - i});
}

// The sum of term(offset, Whole or Part) over a row. Four chains, so that one addition does not wait for the one
// before. The order of the additions depends on the width alone.
template <class Term>
inline float sum_over(int width, Term term) {
  Vector a = zero(), b = zero(), c = zero(), d = zero();
  int i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) {
    a = a + term(i, Whole{});
    b = b + term(i + kLanes, Whole{});
    c = c + term(i + 2 * kLanes, Whole{});
    d = d + term(i + 3 * kLanes, Whole{});
  }
  for (; i + kLanes <= width; i += kLanes) a = a + term(i, Whole{});
  if (i < width) b = b + only(term(i, Part{width - i}), Part{width - i});
  return sum((a + b) + (c + d));
}

}  // namespace aapt::simd::AAPT_ISA
