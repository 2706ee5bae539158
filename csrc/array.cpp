#include "array.h"

#include <utility>

#include "core/check.h"

namespace aapt {
namespace py = pybind11;
namespace {

// The exchange API of a type, remembered for the type seen last: nearly every call passes tensors of one
// library.
const dlpack::ExchangeApi* exchange_api(py::handle object) {
  static PyTypeObject* last_type = nullptr;
  static const dlpack::ExchangeApi* last_api = nullptr;
  PyTypeObject* type = Py_TYPE(object.ptr());
  if (type == last_type) return last_api;

  const dlpack::ExchangeApi* api = nullptr;
  if (PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__")) {
    api = static_cast<const dlpack::ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    Py_DECREF(capsule);
    while (api && api->version.major > 1) api = api->previous;
    if (api && !api->tensor_from_object) api = nullptr;
  }
  PyErr_Clear();
  Py_INCREF(type);  // so that its address is never another type's
  Py_XDECREF(last_type);
  last_type = type;
  return last_api = api;
}

DType dtype_of(dlpack::DLDataType type, bool words_are_bf16) {
  if (type.lanes != 1) return DType::other;
  if (type.code == dlpack::kFloat && type.bits == 32) return DType::f32;
  if (type.code == dlpack::kFloat && type.bits == 64) return DType::f64;
  if (type.code == dlpack::kBfloat && type.bits == 16) return DType::bf16;
  if (type.code == dlpack::kInt && type.bits == 32) return DType::i32;
  if (type.code == dlpack::kUInt && type.bits == 16 && words_are_bf16) return DType::bf16;
  // No operator takes integers of 8 bits: they are fp8 from a library that has no such dtype or does not export it.
  if (type.bits == 8 && (type.code == dlpack::kFloat8E4m3fn || type.code == dlpack::kUInt)) return DType::e4m3;
  return DType::other;
}

// The versioned protocol first, since it tells whether an array may be written; then the old one.
py::object capsule_of(py::handle object, const char* argument) {
  if (!py::hasattr(object, "__dlpack__") || !py::hasattr(object, "__dlpack_device__")) {
    throw ArgumentError(std::string(argument) + " is a " + Py_TYPE(object.ptr())->tp_name +
                        "; it must be an array that speaks DLPack (torch, NumPy, CuPy)");
  }
  const auto refuse = [&](const py::error_already_set& error) {
    throw ArgumentError(std::string(argument) + " cannot be exported by DLPack (" +
                        py::str(error.value()).cast<std::string>() +
                        "); detach a tensor that requires a gradient, copy a read-only array");
  };
  py::dict options;
  try {
    const auto device = py::tuple(object.attr("__dlpack_device__")());
    // The operators run on the caller's stream: nothing to wait for.
    if (!py::object(device[0]).equal(py::int_(dlpack::kCPU))) options["stream"] = -1;
  } catch (const py::error_already_set& error) {
    refuse(error);
  }
  try {
    py::dict versioned = options.attr("copy")();
    versioned["max_version"] = py::make_tuple(1, 0);
    return object.attr("__dlpack__")(**versioned);
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) refuse(error);
  }
  try {
    return object.attr("__dlpack__")(**options);
  } catch (const py::error_already_set& error) {
    refuse(error);
  }
  return py::none();
}

}  // namespace

Array::Array(py::handle object, const char* argument, bool words_are_bf16) : Array() {
  api_ = exchange_api(object);
  if (api_) {
    dlpack::DLTensor tensor;
    if (api_->tensor_from_object(object.ptr(), &tensor) != 0) {
      PyErr_Clear();
      throw ArgumentError(std::string(argument) +
                          " cannot be exported by DLPack; it must be a dense tensor, detached from autograd");
    }
    take(tensor, argument, words_are_bf16);
    return;
  }
  const py::object capsule = capsule_of(object, argument);
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    versioned_ = static_cast<dlpack::ManagedVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    take(versioned_->tensor, argument, words_are_bf16);
    view_.read_only = versioned_->flags & dlpack::kReadOnly;
  } else {
    managed_ = static_cast<dlpack::Managed*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
    if (!managed_) {
      PyErr_Clear();
      throw ArgumentError(std::string(argument) + " offers no DLPack capsule; its __dlpack__ must return one");
    }
    PyCapsule_SetName(capsule.ptr(), "used_dltensor");
    take(managed_->tensor, argument, words_are_bf16);
  }
}

Array::Array(Array&& other) noexcept
    : view_(other.view_),
      api_(other.api_),
      versioned_(std::exchange(other.versioned_, nullptr)),
      managed_(std::exchange(other.managed_, nullptr)) {}

Array::~Array() {
  if (versioned_ && versioned_->deleter) versioned_->deleter(versioned_);
  if (managed_ && managed_->deleter) managed_->deleter(managed_);
}

void Array::take(const dlpack::DLTensor& tensor, const char* argument, bool words_are_bf16) {
  if (tensor.ndim > Tensor::kMaxDims) {
    throw ArgumentError(std::string(argument) + " has " + std::to_string(tensor.ndim) +
                        " dimensions; it must have at most " + std::to_string(Tensor::kMaxDims));
  }
  if (tensor.device.type != dlpack::kCPU && tensor.device.type != dlpack::kCUDAHost &&
      tensor.device.type != dlpack::kCUDA) {
    throw ArgumentError(std::string(argument) + " is on DLPack device type " + std::to_string(tensor.device.type) +
                        "; it must be on a CPU or a CUDA device");
  }
  view_.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view_.dtype = dtype_of(tensor.dtype, words_are_bf16);
  view_.device = tensor.device.type == dlpack::kCUDA ? Device{Device::cuda, tensor.device.id} : Device{};
  view_.dims = tensor.ndim;
  int64_t contiguous = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    view_.shape[i] = tensor.shape[i];
    view_.stride[i] = tensor.strides ? tensor.strides[i] : contiguous;
    contiguous *= tensor.shape[i];
  }
}

void* Array::stream() const {
  void* stream = nullptr;
  if (api_ && view_.device.type == Device::cuda) {
    api_->current_stream(dlpack::kCUDA, view_.device.index, &stream);
  }
  return stream;
}

}  // namespace aapt
