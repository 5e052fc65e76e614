// What every function of the C API shares: the thread's last sentence, structs of several sizes, no exception to the
// outside.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>
#include <new>
#include <string>

#include "base/status.hpp"
#include "hawser/hawser.h"

namespace hawser::api {

// Keeps the sentence for hawser_last_error and gives the code.
hawser_status_t report(const char* call, const Status& status);

// Runs the body of a call; whatever it throws becomes a status.
template <typename Body>
hawser_status_t guarded(const char* call, Body&& body) {
  try {
    return report(call, body());
  } catch (const std::bad_alloc&) {
    return report(call, Status(Code::RESOURCE, "out of memory"));
  } catch (const std::exception& error) {
    return report(call, Status(Code::INTERNAL, error.what()));
  } catch (...) {
    return report(call, Status(Code::INTERNAL, "an unknown exception"));
  }
}

// Reads a struct that begins with its size. An older caller's is shorter: the rest is zero, which means default. A
// newer caller's is longer: what this library does not know must be zero.
template <typename T>
Status read_sized(const T* given, const char* name, T& out) {
  out = T{};
  if (given == nullptr) return {};
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof(size));
  if (size < sizeof(size) || size > (1U << 16)) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("{}.size is {}; start from its _INIT macro, which sets it to {}", name, size, sizeof(T))};
  }
  std::memcpy(&out, given, std::min(size, sizeof(T)));
  out.size = sizeof(T);
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] != 0) {
      return {Code::UNSUPPORTED,
              fmt::format("{} is of a newer version ({} bytes) and uses fields that this library ({}) does not know",
                          name, size, HAWSER_VERSION_STRING)};
    }
  }
  return {};
}

// Checks a struct that the library fills.
template <typename T>
Status check_out(const T* given, const char* name) {
  if (given == nullptr) return {Code::INVALID_ARGUMENT, fmt::format("{} is NULL", name)};
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof(size));
  if (size < sizeof(size) || size > (1U << 16)) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("{}->size is {}; start from its _INIT macro, which sets it to {}", name, size, sizeof(T))};
  }
  return {};
}

// Writes as much as the caller has room for and leaves its size as it is.
template <typename T>
void write_sized(const T& from, T* to) {
  std::size_t size = 0;
  std::memcpy(&size, to, sizeof(size));
  const std::size_t bytes = std::min(size, sizeof(T)) - sizeof(size);
  std::memcpy(reinterpret_cast<char*>(to) + sizeof(size), reinterpret_cast<const char*>(&from) + sizeof(size), bytes);
}

}  // namespace hawser::api
