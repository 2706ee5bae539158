#include "cache_write/sm80.cuh"
#include "core/cuda_device.h"

namespace aapt::cache_write {

void run_cuda(const Problem& problem) {
  cuda::refuse_float64("cache_write", problem.dtype);
  if (problem.tiled) Check("cache_write").fail("k_pages", "is tiled", "plain [pages, h, L, d] on a GPU");
  const cuda::DeviceGuard guard(problem.device.index);
  sm80::run(problem, cuda::bad_page_flag());
}

}  // namespace aapt::cache_write
