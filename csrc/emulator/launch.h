// launch() for the emulator, with the settings of a run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>

#include "emulator/machine.h"

namespace aapt {

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulator {

// Decides the order of threads and of copies in the launches that follow.
void set_seed(uint32_t seed);

// The blocks of the launches that follow form clusters of `blocks` along x.
void set_cluster(unsigned blocks);

void run_grid(dim3 grid, dim3 block, size_t shared, void (*kernel)(void*), void* arguments);

}  // namespace emulator

// Runs the kernel to its end before it returns. Throws emulator::Error.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, void* /*stream*/,
            const Arguments&... arguments) {
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<const Arguments&...> arguments;
  } call{kernel, {arguments...}};
  emulator::run_grid(
      grid, block, shared,
      [](void* opaque) {
        auto* call = static_cast<Call*>(opaque);
        std::apply(call->kernel, call->arguments);
      },
      &call);
}

}  // namespace aapt
