// Moves that the tiled layout of core/geometry.h needs: words of four bytes from rows to columns, and two rows of
// two-byte elements into one of words. Nothing is computed. All instruction sets use vectors of eight words: the moves
// wait for memory, not for shuffles.
#pragma once

#include "core/geometry.h"
#include "core/simd.h"

namespace aapt::simd::AAPT_ISA {

inline __m256i words_mask(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i load_words(const void* from, Whole) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}
inline __m256i load_words(const void* from, Part part) {
  return _mm256_maskload_epi32(static_cast<const int*>(from), words_mask(part.count));
}
inline void store_words(void* to, __m256i words, Whole) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), words);
}
inline void store_words(void* to, __m256i words, Part part) {
  _mm256_maskstore_epi32(static_cast<int*>(to), words_mask(part.count), words);
}

// row[i] becomes column i.
inline void transpose_8x8(__m256i (&row)[8]) {
  __m256i pair[8], quad[8];
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    quad[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
    quad[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
    quad[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
    quad[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    row[i] = _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x20);
    row[i + 4] = _mm256_permute2x128_si256(quad[i], quad[i + 4], 0x31);
  }
}

// One tile: eight lanes of up to eight rows of [words, 16]. A row that is not there is read as the last one.
template <class Keys, class Columns>
inline void transpose_tile(const char* from, int64_t pitch, int rows, int columns, char* to, Keys keys,
                           Columns extent) {
  __m256i tile[8];
  for (int i = 0; i < 8; ++i) tile[i] = load_words(from + (i < rows ? i : rows - 1) * pitch, extent);
  transpose_8x8(tile);
  for (int i = 0; i < 8; ++i) {
    if (i < columns) store_words(to + i * int64_t{4 * kKeyBlock}, tile[i], keys);
  }
}

// [rows, words], contiguous -> [words, 16]; rows <= 16, and the lanes of rows that are not there are not touched.
inline void transpose_words(const void* matrix, int rows, int words, void* to) {
  const int64_t pitch = 4 * int64_t{words};
  for (int row = 0; row < rows; row += 8) {
    const int left = rows - row < 8 ? rows - row : 8;
    for (int word = 0; word < words; word += 8) {
      const int columns = words - word < 8 ? words - word : 8;
      const char* tile = static_cast<const char*>(matrix) + row * pitch + 4 * word;
      char* lanes = static_cast<char*>(to) + 4 * (word * kKeyBlock + row);
      if (left == 8 && columns == 8) {
        transpose_tile(tile, pitch, 8, 8, lanes, Whole{}, Whole{});
      } else {
        transpose_tile(tile, pitch, left, columns, lanes, Part{left}, Part{columns});
      }
    }
  }
}

// a b a b ...
inline void interleave(const bf16* a, const bf16* b, int elements, bf16* to) {
  int i = 0;
  for (; i + 8 <= elements; i += 8) {
    const __m256i low = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i)));
    const __m256i high = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i)));
    store_words(to + 2 * i, _mm256_or_si256(low, _mm256_slli_epi32(high, 16)), Whole{});
  }
  for (; i < elements; ++i) {
    to[2 * i] = a[i];
    to[2 * i + 1] = b[i];
  }
}

}  // namespace aapt::simd::AAPT_ISA
