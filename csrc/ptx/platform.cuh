// The two compilers that translate our kernels: nvcc for a GPU, the host compiler for the emulator
// (emulator/README.md).
//
// Rules for a source that both accept: kernels live in .cuh files; shared memory is taken by DYN_SMEM;
// kernels start by launch(); whatever CUDA C++ cannot say is a function of ptx/.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/host_device.h"

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#define AAPT_DEVICE __device__ __forceinline__
#define AAPT_UNROLL _Pragma("unroll")
#define DYN_SMEM(name) extern __shared__ __align__(1024) unsigned char name[]
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define AAPT_SM90 1
#endif

namespace aapt {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorString(status));
  }
}

// Starts `kernel` on `stream` with `shared` bytes of dynamic shared memory per block.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, void* stream,
            const Arguments&... arguments) {
  constexpr size_t kWithoutOptIn = 48 * 1024;
  if (shared > kWithoutOptIn) {
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared)),
               "cudaFuncSetAttribute");
  }
  kernel<<<grid, block, shared, static_cast<cudaStream_t>(stream)>>>(arguments...);
  check_cuda(cudaGetLastError(), "kernel launch");
}

}  // namespace aapt

#else

#define AAPT_EMULATED 1
#define AAPT_SM90 1
#define AAPT_DEVICE inline
#define AAPT_UNROLL
#include "emulator/language.h"

#endif
