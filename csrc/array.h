// Python arrays as views: torch, NumPy, CuPy and everything else that speaks DLPack.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <string>

#include "core/dlpack.h"
#include "core/tensor.h"

namespace aapt {

// Borrows one array for the time of a call.
class Array {
 public:
  // `words` says what 16-bit unsigned integers mean: bfloat16 for callers whose library has no such dtype.
  Array(pybind11::handle object, const char* argument, bool words_are_bf16 = false);
  ~Array();
  Array(Array&&) noexcept;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  const Tensor& operator*() const { return view_; }
  // The stream that the array's library works on at present, null on a CPU or where the library does not say.
  void* stream() const;

 private:
  Array() = default;  // whole already, so that an export is given back where the rest of the construction throws
  void take(const dlpack::DLTensor& tensor, const char* argument, bool words_are_bf16);

  Tensor view_;
  const dlpack::ExchangeApi* api_ = nullptr;
  dlpack::ManagedVersioned* versioned_ = nullptr;
  dlpack::Managed* managed_ = nullptr;
};

}  // namespace aapt
