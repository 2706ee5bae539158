// C functions by which the tests run kernels in the emulator. Each returns "" or what the emulator objects
// to.
#include "exports.h"

#include "emulator/layout_dump.cuh"
#include "kernels.cuh"

namespace {

using namespace aapt;

ptx::TensorMap matrix_map(const uint16_t* base, uint64_t rows, uint64_t columns, uint32_t box_rows) {
  ptx::TensorMapSpec spec;
  spec.base = base;
  spec.rank = 2;
  spec.size[0] = columns;
  spec.size[1] = rows;
  spec.byte_stride[0] = columns * 2;
  spec.box[0] = 64;
  spec.box[1] = box_rows;
  return ptx::encode_tensor_map(spec);
}

}  // namespace

EXPORT const char* gemm_sm90(const uint16_t* a, const uint16_t* b, float* c, int m, int n, int k, int bug) {
  return guarded([=] {
    const dim3 grid((n + test::kTile - 1) / test::kTile, (m + test::kTile - 1) / test::kTile);
    launch(test::gemm_sm90, grid, 384, sizeof(test::GemmShared), nullptr, matrix_map(a, m, k, test::kTile),
           matrix_map(b, n, k, test::kTile), c, m, n, k, bug);
  });
}

EXPORT const char* gemm_sm80(const uint16_t* a, const uint16_t* b, float* c, int m, int n, int k, int bug) {
  return guarded([=] { launch(test::gemm_sm80, dim3(n / 64, m / 64), 128, 20480, nullptr, a, b, c, n, k, bug); });
}

EXPORT const char* row_sums(const float* x, float* out, int rows, int width, int bug) {
  return guarded([=] { launch(test::row_sums, rows, 128, 16, nullptr, x, out, width, bug); });
}

EXPORT const char* multicast(const uint16_t* tiles, uint16_t* out, int bug) {
  return guarded([=] {
    emulator::set_cluster(2);
    launch(test::multicast, 2, 128, sizeof(test::MulticastShared), nullptr, matrix_map(tiles, 128, 64, 64), out, bug);
  });
}

EXPORT const char* hand_over(const int* value, int* out, int bug) {
  return guarded([=] { launch(test::hand_over, 1, 128, 256, nullptr, value, out, bug); });
}

EXPORT int layout_dump_size() {
  return layout::kDumpSize;
}

EXPORT const char* layout_dump(const uint16_t* source, int32_t* out) {
  return guarded([=] { layout::run_dump(source, out, nullptr); });
}
