#include "ptx/tensor_map.h"

namespace aapt::ptx {
namespace {

// The driver's encoder, found at run time, so that the module needs no driver to be imported.
decltype(&cuTensorMapEncodeTiled) find_encoder() {
  constexpr unsigned kSince = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
  check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kSince, cudaEnableDefault, &found),
             "cudaGetDriverEntryPointByVersion");
#else
  check_cuda(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found),
             "cudaGetDriverEntryPoint");
#endif
  if (found != cudaDriverEntryPointSuccess || !function) {
    throw std::runtime_error("the NVIDIA driver has no cuTensorMapEncodeTiled; version 525 or newer has");
  }
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

TensorMap encode_tensor_map(const TensorMapSpec& spec) {
  static const auto encode = find_encoder();
  cuuint64_t size[5], stride[4];
  cuuint32_t box[5], every[5];
  for (int i = 0; i < spec.rank; ++i) size[i] = spec.size[i], box[i] = spec.box[i], every[i] = 1;
  for (int i = 0; i + 1 < spec.rank; ++i) stride[i] = spec.byte_stride[i];
  TensorMap map;
  const CUresult status =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(spec.rank), const_cast<void*>(spec.base),
             size, stride, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw std::runtime_error("cuTensorMapEncodeTiled failed with CUresult " + std::to_string(status));
  }
  return map;
}

}  // namespace aapt::ptx
