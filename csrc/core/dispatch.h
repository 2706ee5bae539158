// Which implementation serves an operator. CPU operators come as one portable path (any dtype, float64
// included) and one vector path compiled for several instruction sets; the choice is made at run time.
#pragma once

#include <string>
#include <vector>

#include "core/check.h"
#include "core/dtype.h"
#include "core/tensor.h"

namespace aapt {

enum class Backend : uint8_t { portable, avx2, avx512, avx512_bf16 };

constexpr Backend kCpuBackends[] = {Backend::portable, Backend::avx2, Backend::avx512, Backend::avx512_bf16};

const char* name_of(Backend backend);
bool cpu_supports(Backend backend);

// The forced backend, else the best that this CPU supports.
Backend cpu_backend();

// Serves every later call in this process by `name` ("auto" returns to the best). ArgumentError where the
// name is unknown or the CPU lacks the instructions.
void force_cpu_backend(const std::string& name);
std::string forced_cpu_backend();

// The CPU implementations of one operator.
template <class Problem>
struct CpuKernels {
  using Run = void (*)(const Problem&);
  Run portable, avx2, avx512, avx512_bf16;

  Run pick(DType dtype) const {
    if (dtype == DType::f64) return portable;
    switch (cpu_backend()) {
      case Backend::avx512_bf16:
        return avx512_bf16;
      case Backend::avx512:
        return avx512;
      case Backend::avx2:
        return avx2;
      default:
        return portable;
    }
  }
};

}  // namespace aapt

// Declares `function` in the namespace of every instruction set that is compiled, and names the table of
// them.
#if defined(AAPT_X86)
#define AAPT_DECLARE_CPU_KERNELS(function, Problem)                                                  \
  namespace portable {                                                                               \
  void function(const Problem&);                                                                     \
  }                                                                                                  \
  namespace avx2 {                                                                                   \
  void function(const Problem&);                                                                     \
  }                                                                                                  \
  namespace avx512 {                                                                                 \
  void function(const Problem&);                                                                     \
  }                                                                                                  \
  namespace avx512_bf16 {                                                                            \
  void function(const Problem&);                                                                     \
  }                                                                                                  \
  constexpr CpuKernels<Problem> cpu_##function{portable::function, avx2::function, avx512::function, \
                                               avx512_bf16::function};
#else
#define AAPT_DECLARE_CPU_KERNELS(function, Problem)                                                        \
  namespace portable {                                                                                     \
  void function(const Problem&);                                                                           \
  }                                                                                                        \
  constexpr CpuKernels<Problem> cpu_##function{portable::function, portable::function, portable::function, \
                                               portable::function};
#endif

// Declares `run_cuda(problem)` of an operator: its CUDA kernels, which `<operator>/cuda.cu` defines.
#if defined(AAPT_CUDA)
#define AAPT_DECLARE_CUDA_KERNELS(Problem) void run_cuda(const Problem&);
#else
#define AAPT_DECLARE_CUDA_KERNELS(Problem)                                                                     \
  inline void run_cuda(const Problem&) {                                                                       \
    throw ArgumentError(                                                                                       \
        "the arrays are on a GPU, and this module was built without CUDA; move them to the CPU, or install a " \
        "CUDA toolkit and build again with AAPT_CUDA=ON");                                                     \
  }
#endif
