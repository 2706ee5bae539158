// The part of the DLPack 1.x binary interface that we consume: managed tensors from `__dlpack__()` capsules, and
// the C exchange API that a tensor type may offer as `__dlpack_c_exchange_api__` (it makes no Python objects, and
// it tells the current stream). Layouts and names are DLPack's.
#pragma once

#include <cstdint>

namespace aapt::dlpack {

struct Version {
  uint32_t major, minor;
};

constexpr int32_t kCPU = 1, kCUDA = 2, kCUDAHost = 3;

struct DLDevice {
  int32_t type, id;
};

constexpr uint8_t kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kFloat8E4m3fn = 10;

struct DLDataType {
  uint8_t code, bits;
  uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // null: contiguous
  uint64_t byte_offset;
};

struct Managed {
  DLTensor tensor;
  void* context;
  void (*deleter)(Managed*);
};

constexpr uint64_t kReadOnly = 1;

struct ManagedVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned*);
  uint64_t flags;
  DLTensor tensor;
};

struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  int (*allocate)(DLTensor*, ManagedVersioned**, void*, void (*)(void*, const char*, const char*));
  int (*managed_from_object)(void*, ManagedVersioned**);
  int (*managed_to_object)(ManagedVersioned*, void**);
  int (*tensor_from_object)(void*, DLTensor*);  // borrows; null where the type does not offer it
  int (*current_stream)(int32_t device_type, int32_t device_id, void**);
};

}  // namespace aapt::dlpack
