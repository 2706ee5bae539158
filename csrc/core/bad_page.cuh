// A page number from device memory cannot be checked at the call. A kernel that meets one beyond the pool touches no
// page for it and raises a flag that stays up until the host takes it (core/cuda_device.h).
#pragma once

#include "ptx/platform.cuh"

namespace aapt {

// Whether `page` is one of the pool's. `flag` becomes 1 + a bad page's number, or 1 for a negative one.
AAPT_DEVICE bool page_exists(int page, int pages, int* flag) {
  if (page >= 0 && page < pages) return true;
  *flag = page < 0 ? 1 : page + 1;
  return false;
}

}  // namespace aapt
