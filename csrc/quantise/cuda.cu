#include "core/cuda_device.h"
#include "quantise/sm80.cuh"

namespace aapt::quantise {

void run_cuda(const Problem& problem) {
  cuda::refuse_float64("quantise", problem.dtype);
  const cuda::DeviceGuard guard(problem.device.index);
  sm80::run(problem);
}

}  // namespace aapt::quantise
