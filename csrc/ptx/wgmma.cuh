// wgmma: a warpgroup multiplies matrices that lie in shared memory (A also in registers), asynchronously.
//
//   fence     the warpgroup's registers are ready: before the first wgmma that reads or writes them
//   wgmma     c[64, N] (+)= a[64, 16] b[16, N], bf16 in, fp32 out; any number of them
//   commit    closes a group
//   wait<n>   until at most n groups are under way; only then may their registers be touched and the shared
//   memory that
//             they read be given away
//
// Fragments, for lane l of warp w of the warpgroup (checked by emulator/layout_dump.cuh):
//   c  element i is row 16 w + l / 4 + 8 (i / 2 % 2), column 8 (i / 4) + 2 (l % 4) + i % 2
//   a  in registers: register i holds row 16 w + l / 4 + 8 (i % 2), columns 8 (i / 2) + 2 (l % 4) and the
//   next,
//      so eight neighbouring elements of c, rounded and packed in pairs, are the a of 16 columns
#pragma once

#include "ptx/platform.cuh"

namespace aapt::ptx {

// How B[16, N] lies in shared memory: K-major, as N rows of which each holds its 16 elements side by side (K
// of attention); MN-major, as 16 rows of N elements (V of attention).
enum class Major { k = 0, mn = 1 };

}  // namespace aapt::ptx

#if defined(AAPT_EMULATED)
#include "emulator/wgmma.h"
#else

#include "ptx/mbarrier.cuh"

namespace aapt::ptx {

// Describes a matrix of 128-byte rows (64 bf16) in 128-byte swizzle, as TMA writes it: groups of eight rows
// are 1024 bytes apart. `start` is the first element of the operand; a K-major operand advances along K by
// plain addition of 32 bytes within the row. `column_stride` is the distance in bytes between blocks of 64
// columns, read only for MN-major operands wider than 64.
AAPT_DEVICE uint64_t wgmma_descriptor(const void* start, uint32_t column_stride = 0) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 >> 4} << 32;
  const uint64_t address = (shared_address(start) & 0x3ffff) >> 4;
  return kSwizzle128 | kEightRows | uint64_t{(column_stride & 0x3ffff) >> 4} << 16 | address;
}

AAPT_DEVICE void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
AAPT_DEVICE void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N>
AAPT_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// c = (accumulate ? c : 0) + a b, both operands in shared memory, A K-major.
template <int N, Major B>
AAPT_DEVICE void wgmma(float (&c)[N / 2], uint64_t a, uint64_t b, bool accumulate);

// The same with A in registers.
template <int N, Major B>
AAPT_DEVICE void wgmma(float (&c)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate);

// The operand lists of the instruction: N / 2 accumulators, then A, B and the flag.
#define AAPT_REGISTERS_32                                                  \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define AAPT_REGISTERS_64                                                            \
  AAPT_REGISTERS_32                                                                  \
  ", "                                                                               \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define AAPT_REGISTERS_88                                                            \
  AAPT_REGISTERS_64                                                                  \
  ", "                                                                               \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
  "%80, %81, %82, %83, %84, %85, %86, %87"
#define AAPT_C8(i)                                                                                            \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), \
      "+f"(c[i + 7])
#define AAPT_OPERANDS_32 AAPT_C8(0), AAPT_C8(8), AAPT_C8(16), AAPT_C8(24)
#define AAPT_OPERANDS_64 AAPT_OPERANDS_32, AAPT_C8(32), AAPT_C8(40), AAPT_C8(48), AAPT_C8(56)
#define AAPT_OPERANDS_88 AAPT_OPERANDS_64, AAPT_C8(64), AAPT_C8(72), AAPT_C8(80)

// One shape: N, N / 2 and the six operand numbers that follow the accumulators.
#define AAPT_WGMMA_SHAPE(N, C, P0, P1, P2, P3, P4, P5, P6)                                                   \
  template <Major B>                                                                                         \
  struct Wgmma<N, B> {                                                                                       \
    static AAPT_DEVICE void run(float (&c)[C], uint64_t a, uint64_t b, bool accumulate) {                    \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P2                                                  \
                   ", 0;\n"                                                                                  \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" AAPT_REGISTERS_##C           \
                   "}, %" #P0 ", %" #P1 ", p, 1, 1, 0, %" #P3 ";\n}"                                         \
                   : AAPT_OPERANDS_##C                                                                       \
                   : "l"(a), "l"(b), "r"(int{accumulate}), "n"(int(B)));                                     \
    }                                                                                                        \
    static AAPT_DEVICE void run(float (&c)[C], const uint32_t (&a)[4], uint64_t b, bool accumulate) {        \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P5                                                  \
                   ", 0;\n"                                                                                  \
                   "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" AAPT_REGISTERS_##C           \
                   "}, {%" #P0 ", %" #P1 ", %" #P2 ", %" #P3 "}, %" #P4 ", p, 1, 1, %" #P6 ";\n}"            \
                   : AAPT_OPERANDS_##C                                                                       \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int{accumulate}), "n"(int(B))); \
    }                                                                                                        \
  };

template <int N, Major B>
struct Wgmma;
AAPT_WGMMA_SHAPE(64, 32, 32, 33, 34, 35, 36, 37, 38)
AAPT_WGMMA_SHAPE(128, 64, 64, 65, 66, 67, 68, 69, 70)
AAPT_WGMMA_SHAPE(176, 88, 88, 89, 90, 91, 92, 93, 94)

template <int N, Major B>
AAPT_DEVICE void wgmma(float (&c)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  Wgmma<N, B>::run(c, a, b, accumulate);
}

template <int N, Major B>
AAPT_DEVICE void wgmma(float (&c)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  Wgmma<N, B>::run(c, a, b, accumulate);
}

#undef AAPT_WGMMA_SHAPE
#undef AAPT_OPERANDS_88
#undef AAPT_OPERANDS_64
#undef AAPT_OPERANDS_32
#undef AAPT_C8
#undef AAPT_REGISTERS_88
#undef AAPT_REGISTERS_64
#undef AAPT_REGISTERS_32

}  // namespace aapt::ptx

#endif

namespace aapt::ptx {

// The descriptor of the operand that starts `bytes` further on, a multiple of 16.
AAPT_DEVICE uint64_t wgmma_advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

}  // namespace aapt::ptx
