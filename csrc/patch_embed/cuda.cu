#include "core/cuda_device.h"
#include "patch_embed/simt.cuh"
#include "patch_embed/sm80.cuh"

namespace aapt::patch_embed {

void run_cuda(const Problem& problem) {
  cuda::refuse_float64("patch_embed", problem.dtype);
  if (problem.weight.packed) Check("patch_embed").fail("weight", "is packed", "plain [D, sum C_i, 2, 2] on a GPU");
  const cuda::DeviceGuard guard(problem.device.index);
  sm80::serves(problem) ? sm80::run(problem) : simt::run(problem);
}

}  // namespace aapt::patch_embed
