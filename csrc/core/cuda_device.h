// What the CUDA runtime says of this machine's GPUs, and what the launchers of all operators share.
#pragma once

#include <string>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"

namespace aapt::cuda {

struct DeviceInfo {
  std::string name;
  int major, minor;  // compute capability
  int multiprocessors;
  size_t memory;  // bytes
};

struct Report {
  int runtime, driver;  // 13000 is 13.0; driver 0 where there is none
  std::string error;    // why there is no device, in the runtime's words
  std::vector<DeviceInfo> devices;
};

Report report();

// What a launcher asks of its device, read once per device.
struct Limits {
  int major;            // compute capability
  int multiprocessors;  // blocks that run at once where one fills a multiprocessor
  int shared_bytes;     // that one block may ask for
};
const Limits& limits(int device);

// Makes `device` the calling thread's current one until the end of the scope.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int before_;
};

// The current device's flag for pages beyond the pool (core/bad_page.cuh), in its memory.
int* bad_page_flag();

// Waits for `device`, reads its flag and clears it.
int take_bad_page(int device);

// Our CUDA kernels serve float32 and bfloat16.
inline void refuse_float64(const char* op, DType dtype) {
  if (dtype == DType::f64) Check(op).fail("dtype", "is float64", "float32 or bfloat16 on a GPU");
}

}  // namespace aapt::cuda
