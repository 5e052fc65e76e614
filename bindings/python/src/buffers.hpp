// The memory that Python lends to an operation: where it is, what it holds, and what keeps it alive. Buffer only
// reports facts; hawser/_tensors.py decides what is acceptable and words the errors.
#pragma once

#include <hawser/hawser.h>
#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>
#include <vector>

namespace hawser_python {

namespace nb = nanobind;

inline constexpr int dtype_unknown = -1;

// Constant after construction. A Py_buffer held here also keeps its exporter from being resized, as a bytearray could
// be.
class Buffer {
 public:
  // From the buffer protocol. Throws what the exporter raised, TypeError when there is no such protocol.
  static Buffer* from_exporter(nb::handle exporter);
  // From a "dltensor" or "dltensor_versioned" capsule, which stays unconsumed: its own destructor frees the tensor.
  static Buffer* from_dlpack(nb::object capsule);
  // From an address that `owner` keeps valid.
  static Buffer* from_address(uintptr_t address, int dtype, std::vector<int64_t> shape, bool contiguous, bool readonly,
                              nb::object owner);

  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] uintptr_t address() const { return reinterpret_cast<uintptr_t>(data_); }
  [[nodiscard]] size_t count() const { return count_; }
  [[nodiscard]] int dtype() const { return dtype_; }
  [[nodiscard]] const std::string& format() const { return format_; }
  [[nodiscard]] bool contiguous() const { return contiguous_; }
  [[nodiscard]] bool readonly() const { return readonly_; }
  [[nodiscard]] const std::vector<int64_t>& shape() const { return shape_; }

 private:
  Buffer() = default;
  void set_shape(std::vector<int64_t> shape);

  void* data_ = nullptr;
  size_t count_ = 0;           // elements, the product of shape_
  int dtype_ = dtype_unknown;  // a hawser_dtype_t, or dtype_unknown
  std::string format_;         // how the exporter calls its elements, for error sentences
  bool contiguous_ = false;    // C order without gaps
  bool readonly_ = true;
  std::vector<int64_t> shape_;
  Py_buffer view_{};  // held when view_.obj is not NULL
  nb::object owner_;  // held otherwise
};

}  // namespace hawser_python
