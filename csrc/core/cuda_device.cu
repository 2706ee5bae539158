#include <mutex>

#include "core/cuda_device.h"
#include "ptx/platform.cuh"

namespace aapt::cuda {
namespace {

// A variable, not an allocation: it exists before the first call, so that also that one can be captured into a graph.
__device__ int bad_page = 0;

Limits read_limits(int device) {
  Limits found{};
  const auto read = [device](int* to, cudaDeviceAttr attribute) {
    check_cuda(cudaDeviceGetAttribute(to, attribute, device), "cudaDeviceGetAttribute");
  };
  read(&found.major, cudaDevAttrComputeCapabilityMajor);
  read(&found.multiprocessors, cudaDevAttrMultiProcessorCount);
  read(&found.shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return found;
}

}  // namespace

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

const Limits& limits(int device) {
  constexpr int kMaxDevices = 64;
  static Limits known[kMaxDevices];
  static std::once_flag once[kMaxDevices];
  if (device < 0 || device >= kMaxDevices) throw std::runtime_error("device " + std::to_string(device) + " is unknown");
  std::call_once(once[device], [device] { known[device] = read_limits(device); });
  return known[device];
}

DeviceGuard::DeviceGuard(int device) {
  check_cuda(cudaGetDevice(&before_), "cudaGetDevice");
  if (before_ != device) check_cuda(cudaSetDevice(device), "cudaSetDevice");
}

DeviceGuard::~DeviceGuard() {
  int now;
  if (cudaGetDevice(&now) == cudaSuccess && now != before_) cudaSetDevice(before_);
}

int* bad_page_flag() {
  void* address = nullptr;
  check_cuda(cudaGetSymbolAddress(&address, bad_page), "cudaGetSymbolAddress");
  return static_cast<int*>(address);
}

int take_bad_page(int device) {
  const DeviceGuard guard(device);
  constexpr int kNone = 0;
  int found;
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check_cuda(cudaMemcpyFromSymbol(&found, bad_page, sizeof found), "cudaMemcpyFromSymbol");
  check_cuda(cudaMemcpyToSymbol(bad_page, &kNone, sizeof kNone), "cudaMemcpyToSymbol");
  return found;
}

}  // namespace aapt::cuda
