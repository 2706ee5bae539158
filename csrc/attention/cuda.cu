#include "attention/simt.cuh"
#include "attention/sm80.cuh"
#include "attention/sm90.h"
#include "core/cuda_device.h"

namespace aapt::attention {

void run_cuda(const Problem& problem) {
  cuda::refuse_float64("paged_attention", problem.dtype);
  for (int i = 0; i < problem.segment_count; ++i) {
    if (problem.segment[i].tiled) {
      Check("paged_attention")
          .fail("segments[" + std::to_string(i) + "].k_pages", "is tiled", "plain [pages, h, rows, d] on a GPU");
    }
  }
  const cuda::DeviceGuard guard(problem.device.index);
  const cuda::Limits& limits = cuda::limits(problem.device.index);
  int* const bad_page = cuda::bad_page_flag();
  if (sm90_serves(problem, limits.major) && sm80::rows_are_aligned(problem)) {
    run_sm90(problem, limits.multiprocessors, bad_page);
  } else if (sm80::serves(problem, limits.shared_bytes)) {
    sm80::run(problem, bad_page);
  } else {
    simt::run(problem, bad_page);
  }
}

}  // namespace aapt::attention
