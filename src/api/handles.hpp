// Handles of the C API. What a caller holds is a number dressed as a pointer: it is looked up, never followed, so a
// NULL, stale or foreign handle is an error and not undefined behaviour. Numbers are never used again. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

namespace hawser::api {

// Next free number; shared by all kinds, so a handle of one kind is no handle of another.
std::uintptr_t next_handle();

template <typename Object, typename Handle>
class Registry {
 public:
  Handle* add(std::shared_ptr<Object> object) {
    const std::uintptr_t number = next_handle();
    const std::unique_lock lock(mutex_);
    objects_.emplace(number, std::move(object));
    return reinterpret_cast<Handle*>(number);
  }
  std::shared_ptr<Object> find(const Handle* handle) {
    const std::shared_lock lock(mutex_);
    auto it = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    return it == objects_.end() ? nullptr : it->second;
  }
  std::shared_ptr<Object> remove(const Handle* handle) {
    const std::unique_lock lock(mutex_);
    auto it = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    if (it == objects_.end()) return nullptr;
    std::shared_ptr<Object> object = std::move(it->second);
    objects_.erase(it);
    return object;
  }

 private:
  std::shared_mutex mutex_;
  std::unordered_map<std::uintptr_t, std::shared_ptr<Object>> objects_;
};

}  // namespace hawser::api
