// Marks functions that both the host compiler and nvcc translate.
#pragma once

#if defined(__CUDACC__)
#define AAPT_HD __host__ __device__ __forceinline__
#else
#define AAPT_HD inline
#endif
