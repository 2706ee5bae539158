#include "attention/sm90.h"
#include "attention/sm90_launch.cuh"

namespace aapt::attention {
namespace {

// Memory of the stream's order: there for what is launched on `stream` while this object lives.
class StreamMemory {
 public:
  StreamMemory(size_t bytes, void* stream) : stream_(static_cast<cudaStream_t>(stream)) {
    check_cuda(cudaMallocAsync(&memory_, bytes, stream_), "cudaMallocAsync");
  }
  ~StreamMemory() { cudaFreeAsync(memory_, stream_); }
  StreamMemory(const StreamMemory&) = delete;
  StreamMemory& operator=(const StreamMemory&) = delete;

  float* floats() const { return static_cast<float*>(memory_); }

 private:
  void* memory_ = nullptr;
  cudaStream_t stream_;
};

}  // namespace

bool sm90_serves(const Problem& problem, int major) {
  bool plain = true;
  for (int s = 0; s < problem.segment_count; ++s) plain = plain && !problem.segment[s].tiled;
  const bool head_dim = problem.head_dim == 64 || problem.head_dim == 128;
  const int64_t rows =
      static_cast<int64_t>(problem.batch) * problem.rows * problem.heads;  // counted in int by the kernel
  return major == 9 && plain && head_dim && problem.dtype == DType::bf16 && rows <= INT32_MAX;
}

void run_sm90(const Problem& problem, int multiprocessors, int* bad_page) {
  const Plan plan = make_plan(problem.rows, sm90::kRows, multiprocessors);
  const StreamMemory workspace(sm90::workspace_bytes(plan, problem.head_dim), problem.stream);
  sm90::run(problem, plan, workspace.floats(), bad_page);
}

}  // namespace aapt::attention
