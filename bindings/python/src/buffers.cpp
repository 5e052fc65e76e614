// Reading the buffer protocol (PEP 3118) and DLPack capsules. Runs with the GIL held.
//
// The DLPack structs below are those of its ABI, versions 0 (unversioned) and 1 (https://dmlc.github.io/dlpack,
// dlpack.h).

#include "buffers.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

namespace hawser_python {

namespace {

struct DlDevice {
  int32_t type;
  int32_t id;
};

struct DlDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct DlTensor {
  void* data;
  DlDevice device;
  int32_t ndim;
  DlDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; NULL means C order
  uint64_t byte_offset;
};

struct DlManagedTensor {
  DlTensor tensor;
  void* manager;
  void (*deleter)(DlManagedTensor*);
};

struct DlManagedTensorVersioned {
  uint32_t version_major;
  uint32_t version_minor;
  void* manager;
  void (*deleter)(DlManagedTensorVersioned*);
  uint64_t flags;
  DlTensor tensor;
};

constexpr uint64_t dl_flag_readonly = 1;
constexpr uint32_t dl_version_major = 1;

enum DlCode : uint8_t { dl_int = 0, dl_uint = 1, dl_float = 2, dl_bfloat = 4 };

int signed_dtype(size_t bytes) {
  switch (bytes) {
    case 1:
      return HAWSER_I8;
    case 2:
      return HAWSER_I16;
    case 4:
      return HAWSER_I32;
    case 8:
      return HAWSER_I64;
    default:
      return dtype_unknown;
  }
}

int unsigned_dtype(size_t bytes) {
  switch (bytes) {
    case 1:
      return HAWSER_U8;
    case 2:
      return HAWSER_U16;
    case 4:
      return HAWSER_U32;
    case 8:
      return HAWSER_U64;
    default:
      return dtype_unknown;
  }
}

int float_dtype(size_t bytes) {
  switch (bytes) {
    case 2:
      return HAWSER_F16;
    case 4:
      return HAWSER_F32;
    case 8:
      return HAWSER_F64;
    default:
      return dtype_unknown;
  }
}

// A struct-module format of one native element. Byte order other than the machine's is unknown: it would need a copy.
int dtype_of_format(const char* format, size_t item_bytes) {
  if (format == nullptr) {
    return item_bytes == 1 ? HAWSER_U8 : dtype_unknown;
  }
  constexpr char native_order = std::endian::native == std::endian::little ? '<' : '>';
  if (*format == '@' || *format == '=' || *format == native_order) {
    ++format;
  }
  if (std::strlen(format) != 1) {
    return dtype_unknown;
  }
  if (std::strchr("bhilqn", *format) != nullptr) {
    return signed_dtype(item_bytes);
  }
  if (std::strchr("BHILQN", *format) != nullptr) {
    return unsigned_dtype(item_bytes);
  }
  if (std::strchr("efd", *format) != nullptr) {
    return float_dtype(item_bytes);
  }
  return dtype_unknown;
}

int dtype_of_dlpack(const DlDataType& type) {
  if (type.lanes != 1 || type.bits % 8 != 0) {
    return dtype_unknown;
  }
  const size_t bytes = type.bits / 8U;
  switch (type.code) {
    case dl_int:
      return signed_dtype(bytes);
    case dl_uint:
      return unsigned_dtype(bytes);
    case dl_float:
      return float_dtype(bytes);
    case dl_bfloat:
      return bytes == 2 ? HAWSER_BF16 : dtype_unknown;
    default:
      return dtype_unknown;
  }
}

std::string name_of_dlpack(const DlDataType& type) {
  return "DLPack code " + std::to_string(type.code) + ", " + std::to_string(type.bits) + " bits, " +
         std::to_string(type.lanes) + " lanes";
}

bool c_order(const DlTensor& tensor) {
  if (tensor.strides == nullptr) {
    return true;
  }
  const int64_t* const shape_begin = tensor.shape;
  const int64_t* const shape_end = shape_begin + tensor.ndim;
  if (std::find(shape_begin, shape_end, 0) != shape_end) {
    return true;
  }
  int64_t expected = 1;
  for (int32_t axis = tensor.ndim - 1; axis >= 0; --axis) {
    if (tensor.shape[axis] != 1 && tensor.strides[axis] != expected) {
      return false;
    }
    expected *= tensor.shape[axis];
  }
  return true;
}

}  // namespace

Buffer* Buffer::from_exporter(nb::handle exporter) {
  std::unique_ptr<Buffer> buffer(new Buffer);
  if (PyObject_GetBuffer(exporter.ptr(), &buffer->view_, PyBUF_FULL_RO) != 0) {
    throw nb::python_error();
  }
  const Py_buffer& view = buffer->view_;
  buffer->data_ = view.buf;
  buffer->set_shape(view.ndim == 0 ? std::vector<int64_t>{} : std::vector<int64_t>(view.shape, view.shape + view.ndim));
  buffer->format_ = view.format == nullptr ? "B" : view.format;
  buffer->dtype_ = dtype_of_format(view.format, static_cast<size_t>(view.itemsize));
  buffer->contiguous_ = PyBuffer_IsContiguous(&view, 'C') != 0;
  buffer->readonly_ = view.readonly != 0;
  return buffer.release();
}

Buffer* Buffer::from_dlpack(nb::object capsule) {
  const DlTensor* tensor = nullptr;
  bool readonly = false;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
    const auto* const managed =
        static_cast<const DlManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version_major != dl_version_major) {
      throw nb::buffer_error("DLPack of a version that this build does not read");
    }
    tensor = &managed->tensor;
    readonly = (managed->flags & dl_flag_readonly) != 0;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor") != 0) {
    tensor = &static_cast<const DlManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))->tensor;
  } else {
    throw nb::buffer_error("__dlpack__ did not return an unused DLPack capsule");
  }
  std::unique_ptr<Buffer> buffer(new Buffer);
  buffer->data_ = static_cast<std::byte*>(tensor->data) + tensor->byte_offset;
  buffer->set_shape(std::vector<int64_t>(tensor->shape, tensor->shape + tensor->ndim));
  buffer->format_ = name_of_dlpack(tensor->dtype);
  buffer->dtype_ = dtype_of_dlpack(tensor->dtype);
  buffer->contiguous_ = c_order(*tensor);
  buffer->readonly_ = readonly;
  buffer->owner_ = std::move(capsule);
  return buffer.release();
}

Buffer* Buffer::from_address(uintptr_t address, int dtype, std::vector<int64_t> shape, bool contiguous, bool readonly,
                             nb::object owner) {
  std::unique_ptr<Buffer> buffer(new Buffer);
  buffer->data_ = reinterpret_cast<void*>(address);
  buffer->set_shape(std::move(shape));
  buffer->dtype_ = dtype;
  buffer->contiguous_ = contiguous;
  buffer->readonly_ = readonly;
  buffer->owner_ = std::move(owner);
  return buffer.release();
}

Buffer::~Buffer() {
  if (view_.obj != nullptr) {
    PyBuffer_Release(&view_);
  }
}

void Buffer::set_shape(std::vector<int64_t> shape) {
  count_ = 1;
  for (const int64_t extent : shape) {
    count_ *= static_cast<size_t>(extent);
  }
  shape_ = std::move(shape);
}

}  // namespace hawser_python
