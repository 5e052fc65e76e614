// What compression has left out of this peer's contributions (error feedback): taken by one operation at a time, which
// reads it and leaves the next one when it commits. Any thread.
#pragma once

#include <cstddef>
#include <mutex>
#include <new>
#include <vector>

#include "base/status.hpp"

namespace hawser::runtime {

class Residual {
 public:
  explicit Residual(std::size_t count) : values_(count, 0.0F) {}

  [[nodiscard]] std::size_t count() const { return values_.size(); }
  // For an operation; false: another one has it. Until release() the values do not change.
  bool acquire() {
    const std::lock_guard hold(mutex_);
    return !std::exchange(taken_, true);
  }
  [[nodiscard]] const float* values() const { return values_.data(); }
  // The operation has committed: these are the new values.
  void replace(std::vector<float>&& values) { values_ = std::move(values); }
  void release() {
    const std::lock_guard hold(mutex_);
    taken_ = false;
  }

  Status read(float* out, std::size_t count) {
    return copy(count, [&](std::size_t i) { out[i] = values_[i]; });
  }
  Status write(const float* in, std::size_t count) {
    return copy(count, [&](std::size_t i) { values_[i] = in[i]; });
  }

 private:
  template <typename Each>
  Status copy(std::size_t count, const Each& each) {
    const std::lock_guard hold(mutex_);
    if (taken_) return {Code::INVALID_ARGUMENT, "the residual is in use by an operation"};
    if (count != values_.size()) {
      return {Code::INVALID_ARGUMENT, "the residual has " + std::to_string(values_.size()) +
                                          " elements, the call names " + std::to_string(count)};
    }
    for (std::size_t i = 0; i < count; ++i) each(i);
    return {};
  }

  std::mutex mutex_;
  bool taken_ = false;
  std::vector<float> values_;
};

}  // namespace hawser::runtime
