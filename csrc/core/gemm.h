// The one inner loop of every matrix product on a CPU: a tile of the result stays in registers while the shared
// dimension runs past it.
//
//   C [6, 16 N]  +=  A [6, K]  B [K, 16 N]
//
// A is row-major. B is read where it lies, without repacking, in columns of 16 whose elements are grouped to four
// bytes (g = 2 for bfloat16, else 1; core/geometry.h):
//
//   q k^T            columns: blocks of 16 keys       one step of K: 16 g elements further in the block
//   x W^T            columns: blocks of 16 outputs    the same
//   softmax(..) v    columns: 16 of v's d dimensions  one step of K (g keys): d g elements further
//
// so B is a list of column pointers and a step. bfloat16 is multiplied two elements at a time by vdpbf16ps where the
// CPU has it. Elsewhere A is kept as float32, and B is passed over twice: a shift makes float32 of the first elements
// of its pairs, a mask of the second ones. (Both in one pass need more than 16 registers.)
#pragma once

#include "core/geometry.h"
#include "core/simd.h"

namespace aapt::gemm::AAPT_ISA {

using namespace simd::AAPT_ISA;

constexpr int kTileRows = 6;
// Column blocks of the widest tile: 6 x 4 of 32 registers, or 6 x 2 of 16, are accumulators.
constexpr int kTileBlocks = kLanes == 16 ? 4 : 1;
constexpr int kTileColumns = kTileBlocks * kKeyBlock;
constexpr int kVectorsPerBlock = kKeyBlock / kLanes;

template <class T>
constexpr int kGroup = 4 / sizeof(T);

#if defined(__AVX512BF16__)
constexpr bool kMultipliesPairs = true;
#else
constexpr bool kMultipliesPairs = false;
#endif

template <class T>
struct LeftOf {
  using type = float;
};
#if defined(__AVX512BF16__)
template <>
struct LeftOf<bf16> {
  using type = bf16;
};
#endif
// The type that A is kept in where B is T.
template <class T>
using Left = typename LeftOf<T>::type;

// Four bytes of B in each lane, and of A in every lane, as the multiplication takes them; `half` picks one element
// of the group where they are multiplied one at a time.
inline Vector right_operand(const float* from, int) {
  return load(from);
}
inline Vector left_operand(const float* from) {
  return broadcast(*from);
}

#if defined(__AVX512BF16__)

inline Vector right_operand(const bf16* from, int) {
  return {_mm512_loadu_ps(from)};
}
inline Vector left_operand(const bf16* from) {
  int pair;
  memcpy(&pair, from, sizeof(pair));
  return {_mm512_castsi512_ps(_mm512_set1_epi32(pair))};
}
inline Vector multiply_add(Vector a, Vector b, Vector c, bf16) {
  return {_mm512_dpbf16_ps(c.v, (__m512bh)b.v, (__m512bh)a.v)};
}

#elif defined(__AVX512F__)

inline Vector right_operand(const bf16* from, int half) {
  const __m512i pairs = _mm512_loadu_si512(from);
  const __m512i element =
      half == 0 ? _mm512_slli_epi32(pairs, 16) : _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(~0xffffu)));
  return {_mm512_castsi512_ps(element)};
}

#else

inline Vector right_operand(const bf16* from, int half) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i element =
      half == 0 ? _mm256_slli_epi32(pairs, 16) : _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(~0xffffu)));
  return {_mm256_castsi256_ps(element)};
}

#endif

inline Vector multiply_add(Vector a, Vector b, Vector c, float) {
  return fma(a, b, c);
}

// The tile of C, N blocks of 16 columns wide.
template <class T, int N>
struct Tile {
  static constexpr int kVectors = N * kVectorsPerBlock;
  // Multiplications that one group of B takes, and elements of A in each.
  static constexpr int kHalves = kMultipliesPairs ? 1 : kGroup<T>;
  static constexpr int kElements = kGroup<T> / kHalves;

  Vector c[kTileRows][kVectors];

  void clear() {
    for (auto& row : c) {
      for (Vector& v : row) v = zero();
    }
  }

  void load_from(const float* from, int64_t stride) {
    for (int i = 0; i < kTileRows; ++i) {
      for (int j = 0; j < kVectors; ++j) c[i][j] = load(from + i * stride + j * kLanes);
    }
  }

  void add_to(float* to, int64_t stride) const {
    for (int i = 0; i < kTileRows; ++i) {
      for (int j = 0; j < kVectors; ++j) {
        float* at = to + i * stride + j * kLanes;
        store(at, load(at) + c[i][j]);
      }
    }
  }

  void store_to(float* to, int64_t stride) const {
    for (int i = 0; i < kTileRows; ++i) {
      for (int j = 0; j < kVectors; ++j) store(to + i * stride + j * kLanes, c[i][j]);
    }
  }

  // Adds A B over `groups` groups of the shared dimension. `column[n]` is the first group of B's n-th block of
  // columns, `step` the elements from one group to the next.
  void multiply(const Left<T>* a, int64_t a_stride, const T* const* column, int64_t step, int groups) {
    const T* b[N];
    for (int n = 0; n < N; ++n) b[n] = column[n];
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      int64_t at = 0;
      for (int k = 0; k < groups; ++k, at += step) {
        Vector right[kVectors];
#pragma GCC unroll 8
        for (int j = 0; j < kVectors; ++j) {
          constexpr int lanes = kLanes * kGroup<T>;
          right[j] = right_operand(b[j / kVectorsPerBlock] + at + j % kVectorsPerBlock * lanes, half);
        }
#pragma GCC unroll 8
        for (int i = 0; i < kTileRows; ++i) {
          const Vector left = left_operand(a + i * a_stride + k * kGroup<T> + half * kElements);
#pragma GCC unroll 8
          for (int j = 0; j < kVectors; ++j) c[i][j] = multiply_add(left, right[j], c[i][j], Left<T>{});
        }
      }
    }
  }
};

// C = A B in chunks of the shared dimension, each summed on its own: one chain of additions over all of it would lose
// accuracy with its length. `column`, `step` and `groups` as in Tile::multiply.
template <class T, int N>
inline void multiply_in_chunks(const Left<T>* a, int64_t a_stride, const T* const* column, int64_t step, int groups,
                               int chunk, float* to, int64_t stride) {
  for (int k = 0; k < groups; k += chunk) {
    const T* at[N];
    for (int n = 0; n < N; ++n) at[n] = column[n] + k * step;
    Tile<T, N> tile;
    tile.clear();
    tile.multiply(a + k * kGroup<T>, a_stride, at, step, groups - k < chunk ? groups - k : chunk);
    k == 0 ? tile.store_to(to, stride) : tile.add_to(to, stride);
  }
}

// A tile's width as a type.
template <int N>
struct Blocks {
  static constexpr int value = N;
};

// Calls body(first block, Blocks<N>) with tiles that cover `blocks` blocks of columns.
template <class Body>
inline void for_each_tile(int blocks, Body body) {
  int first = 0;
  for (; first + kTileBlocks <= blocks; first += kTileBlocks) body(first, Blocks<kTileBlocks>());
  if constexpr (kTileBlocks == 4) {
    if (blocks - first == 3) body(first, Blocks<3>());
    if (blocks - first == 2) body(first, Blocks<2>());
    if (blocks - first == 1) body(first, Blocks<1>());
  }
}

}  // namespace aapt::gemm::AAPT_ISA
