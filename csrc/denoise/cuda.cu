#include "core/cuda_device.h"
#include "denoise/simt.cuh"
#include "denoise/sm80.cuh"

namespace aapt::denoise {

void run_cuda(const Problem& problem) {
  cuda::refuse_float64("denoise", problem.dtype);
  if (problem.weight.packed) Check("denoise").fail("weight", "is packed", "plain [4 C, D] on a GPU");
  const cuda::DeviceGuard guard(problem.device.index);
  const int shared = cuda::limits(problem.device.index).shared_bytes;
  sm80::serves(problem, shared) ? sm80::run(problem) : simt::run(problem);
}

}  // namespace aapt::denoise
