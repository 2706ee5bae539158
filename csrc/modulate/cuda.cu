#include "core/cuda_device.h"
#include "modulate/sm80.cuh"

namespace aapt::modulate {

void run_cuda(const Problem& problem) {
  cuda::refuse_float64("modulate", problem.dtype);
  const cuda::DeviceGuard guard(problem.device.index);
  sm80::run(problem);
}

}  // namespace aapt::modulate
