// The layout dump on a GPU, for tools/dump_layout.py. Compiled there, not part of the module.
#include <string>
#include <vector>

#include "emulator/layout_dump.cuh"

using namespace aapt;

extern "C" int layout_dump_size() {
  return layout::kDumpSize;
}

// Both arrays are the host's. Returns "" or what went wrong.
extern "C" const char* layout_dump(const uint16_t* source, int32_t* out) {
  static std::string message;
  message.clear();
  try {
    constexpr size_t kSourceBytes = 2 * layout::kRows * layout::kColumns * sizeof(uint16_t);
    constexpr size_t kDumpBytes = layout::kDumpSize * sizeof(int32_t);
    uint16_t* device_source;
    int32_t* device_out;
    check_cuda(cudaMalloc(&device_source, kSourceBytes), "cudaMalloc");
    check_cuda(cudaMalloc(&device_out, kDumpBytes), "cudaMalloc");
    check_cuda(cudaMemcpy(device_source, source, kSourceBytes, cudaMemcpyHostToDevice), "cudaMemcpy");
    check_cuda(cudaMemset(device_out, 0xff, kDumpBytes), "cudaMemset");
    layout::run_dump(device_source, device_out, nullptr);
    check_cuda(cudaMemcpy(out, device_out, kDumpBytes, cudaMemcpyDeviceToHost), "the dump");
    check_cuda(cudaFree(device_source), "cudaFree");
    check_cuda(cudaFree(device_out), "cudaFree");
  } catch (const std::exception& error) {
    message = error.what();
  }
  return message.c_str();
}
