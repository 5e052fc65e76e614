// What compression has left out of this peer's contributions (error feedback): taken by one operation at a time, which
// reads it and leaves the next one when it commits. Any thread.
#pragma once

#include <cstddef>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "base/status.hpp"
#include "runtime/data/byte_buffer.hpp"

namespace hawser::runtime {

class Residual {
 public:
  explicit Residual(std::size_t count) : count_(count), memory_(ByteBuffer::zeroed(count * sizeof(float))) {}

  [[nodiscard]] std::size_t count() const { return count_; }
  // For an operation; false: another one has it. Until release() the values do not change.
  bool acquire() {
    const std::lock_guard hold(mutex_);
    return !std::exchange(taken_, true);
  }
  [[nodiscard]] const float* values() const { return reinterpret_cast<const float*>(memory_.data()); }
  // Values of another residual of this size, which gets these.
  void take_over(Residual& other) { std::swap(memory_, other.memory_); }
  // The operation has committed: these are the new values, count() of them.
  void replace(ByteBuffer values) { memory_ = std::move(values); }
  void release() {
    const std::lock_guard hold(mutex_);
    taken_ = false;
  }

  Status read(float* out, std::size_t count) { return copy(count, out, memory_.data()); }
  Status write(const float* in, std::size_t count) { return copy(count, memory_.data(), in); }

 private:
  Status copy(std::size_t count, void* to, const void* from) {
    const std::lock_guard hold(mutex_);
    if (taken_) return {Code::INVALID_ARGUMENT, "the residual is in use by an operation"};
    if (count != count_) {
      return {Code::INVALID_ARGUMENT,
              "the residual has " + std::to_string(count_) + " elements, the call names " + std::to_string(count)};
    }
    if (count != 0) std::memcpy(to, from, count * sizeof(float));
    return {};
  }

  std::mutex mutex_;
  bool taken_ = false;
  const std::size_t count_;
  ByteBuffer memory_;
};

}  // namespace hawser::runtime
