#include "core/dispatch.h"

#include <atomic>

#include "core/check.h"

namespace aapt {
namespace {

std::atomic<int> forced{-1};

Backend best_backend() {
  Backend best = Backend::portable;
  for (Backend backend : kCpuBackends) {
    if (cpu_supports(backend)) best = backend;
  }
  return best;
}

}  // namespace

const char* name_of(Backend backend) {
  constexpr const char* names[] = {"portable", "avx2", "avx512", "avx512_bf16"};
  return names[static_cast<int>(backend)];
}

bool cpu_supports(Backend backend) {
  if (backend == Backend::portable) return true;
#if defined(AAPT_X86)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (backend == Backend::avx2) return avx2;
  if (backend == Backend::avx512) return avx512;
  return avx512 && __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

Backend cpu_backend() {
  static const Backend best = best_backend();
  const int value = forced.load(std::memory_order_relaxed);
  return value < 0 ? best : static_cast<Backend>(value);
}

void force_cpu_backend(const std::string& name) {
  if (name == "auto") {
    forced = -1;
    return;
  }
  std::string known;
  for (Backend backend : kCpuBackends) {
    if (!cpu_supports(backend)) continue;
    if (name == name_of(backend)) {
      forced = static_cast<int>(backend);
      return;
    }
    known += std::string(", ") + name_of(backend);
  }
  throw ArgumentError("backend: name is '" + name + "'; on this CPU it must be one of auto" + known);
}

std::string forced_cpu_backend() {
  const int value = forced.load(std::memory_order_relaxed);
  return value < 0 ? "auto" : name_of(static_cast<Backend>(value));
}

}  // namespace aapt
