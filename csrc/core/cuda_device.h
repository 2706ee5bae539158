// What the CUDA runtime says of this machine's GPUs.
#pragma once

#include <string>
#include <vector>

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

}  // namespace aapt::cuda
