// The Hopper path of paged attention, for the operator's dispatch (CUDA builds).
#pragma once

#include "attention/op.h"

namespace aapt::attention {

// Whether the path serves this problem on a GPU of compute capability `major`.x: bf16, plain pages, head size 64 or
// 128.
bool sm90_serves(const Problem& problem, int major);

// Launches on the problem's stream; its device must be the current one. The workspace is taken from the device's
// stream-ordered pool and given back behind the kernels, so a capture into a graph holds it too. `bad_page` is the
// device's flag for pages beyond the pool.
void run_sm90(const Problem& problem, int multiprocessors, int* bad_page);

}  // namespace aapt::attention
