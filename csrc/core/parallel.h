// Threads for the vector paths. In a namespace per instruction set for the reason that core/simd.h gives.
#pragma once

#include <omp.h>

#include <cstdint>

namespace aapt::simd::AAPT_ISA {

// Elements below which the caller works alone, since waking threads has its price.
constexpr int64_t kWorthThreads = 32 * 1024;

// Calls body(begin, end) for contiguous runs of [0, jobs), one run per thread. `elements` is the size of the whole
// work; a small one is done at once by the caller. Which thread does what depends on the number of threads alone.
template <class Body>
inline void split(int64_t jobs, int64_t elements, Body body) {
  if (elements < kWorthThreads || jobs < 2 || omp_get_max_threads() == 1) {
    body(int64_t{0}, jobs);
    return;
  }
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads(), self = omp_get_thread_num();
    const int64_t begin = jobs * self / threads, end = jobs * (self + 1) / threads;
    if (begin < end) body(begin, end);
  }
}

}  // namespace aapt::simd::AAPT_ISA
