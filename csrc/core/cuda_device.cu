#include <cuda_runtime_api.h>

#include "core/cuda_device.h"

namespace aapt::cuda {

Report report() {
  Report result{};
  cudaRuntimeGetVersion(&result.runtime);
  cudaDriverGetVersion(&result.driver);
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    result.error = cudaGetErrorString(error);
    return result;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
    result.devices.push_back({properties.name, properties.major, properties.minor, properties.multiProcessorCount,
                              properties.totalGlobalMem});
  }
  return result;
}

}  // namespace aapt::cuda
