// The coordinator's calls of the C API.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "api/handles.hpp"
#include "api/support.hpp"
#include "runtime/coordinator_service.hpp"
#include "runtime/status_query.hpp"

namespace hawser::api {
namespace {

using Coordinators = Registry<runtime::CoordinatorService, hawser_coordinator_t>;

Coordinators& coordinators() {
  static auto* registry = new Coordinators();  // lives until the process ends: calls may come from exit handlers
  return *registry;
}

// The way from a handle to its service for a signal handler, which may take no lock. A destroyer empties the slot, then
// waits for those who are just in it.
struct StopSlot {
  std::atomic<std::uintptr_t> handle{0};
  std::atomic<runtime::CoordinatorService*> service{nullptr};
  std::atomic<int> users{0};
};
std::array<StopSlot, 256> stop_slots;

Status open_slot(const hawser_coordinator_t* handle, runtime::CoordinatorService* service) {
  for (StopSlot& slot : stop_slots) {
    runtime::CoordinatorService* empty = nullptr;
    if (!slot.service.compare_exchange_strong(empty, service)) continue;
    slot.handle.store(reinterpret_cast<std::uintptr_t>(handle));
    return {};
  }
  return {Code::RESOURCE, fmt::format("{} coordinators run in this process already", stop_slots.size())};
}

void close_slot(const hawser_coordinator_t* handle) {
  for (StopSlot& slot : stop_slots) {
    std::uintptr_t mine = reinterpret_cast<std::uintptr_t>(handle);
    if (!slot.handle.compare_exchange_strong(mine, 0)) continue;
    while (slot.users.load() != 0) std::this_thread::yield();
    slot.service.store(nullptr);
    return;
  }
}

std::vector<std::string> split(const char* list) {
  std::vector<std::string> out;
  std::string item;
  for (const char* at = list == nullptr ? "" : list;; ++at) {
    if (*at != ',' && *at != '\0') {
      if (*at != ' ') item += *at;
      continue;
    }
    if (!item.empty()) out.push_back(std::exchange(item, {}));
    if (*at == '\0') return out;
  }
}

constexpr std::uint32_t report_timeout_ms = 5000;

Status no_coordinator_handle() { return {Code::INVALID_HANDLE, "the coordinator handle is NULL or was destroyed"}; }

}  // namespace
}  // namespace hawser::api

using namespace hawser;       // NOLINT(google-build-using-namespace): the C functions stand outside of it
using namespace hawser::api;  // NOLINT(google-build-using-namespace)

extern "C" {

hawser_status_t hawser_coordinator_start(const hawser_coordinator_config_t* config,
                                         hawser_coordinator_t** coordinator_out) {
  return guarded("hawser_coordinator_start", [&]() -> Status {
    if (coordinator_out == nullptr) return {Code::INVALID_ARGUMENT, "coordinator_out is NULL"};
    hawser_coordinator_config_t given;
    if (Status status = read_sized(config, "hawser_coordinator_config_t", given); !status.ok()) return status;
    runtime::CoordinatorOptions options;
    if (given.listen != nullptr) options.listen = given.listen;
    if (given.heartbeat_ms != 0) options.heartbeat_ms = given.heartbeat_ms;
    options.peer_timeout_ms = given.peer_timeout_ms != 0 ? given.peer_timeout_ms : 6 * options.heartbeat_ms;
    if (given.peers_max != 0) options.peers_max = given.peers_max;
    if (given.reserved != 0) return {Code::UNSUPPORTED, "hawser_coordinator_config_t.reserved is not 0"};
    if (given.log_dir != nullptr) options.log_dir = given.log_dir;
    options.standby_of = split(given.standby_of);
    options.etcd = split(given.etcd);
    if (given.etcd_prefix != nullptr) options.etcd_prefix = given.etcd_prefix;
    auto service = runtime::CoordinatorService::start(options);
    if (!service.ok()) return service.status();
    std::shared_ptr<runtime::CoordinatorService> shared = std::move(service.value());
    hawser_coordinator_t* handle = coordinators().add(shared);
    if (Status status = open_slot(handle, shared.get()); !status.ok()) {
      coordinators().remove(handle);
      return status;
    }
    *coordinator_out = handle;
    return {};
  });
}

hawser_status_t hawser_coordinator_repair_log(const char* log_dir, char* text, size_t capacity) {
  return guarded("hawser_coordinator_repair_log", [&]() -> Status {
    if (log_dir == nullptr || *log_dir == '\0') return {Code::INVALID_ARGUMENT, "log_dir is empty"};
    if (text != nullptr && capacity == 0) return {Code::INVALID_ARGUMENT, "text has a capacity of 0"};
    const auto done = runtime::repair_log(log_dir);
    if (!done.ok()) return done.status();
    if (text != nullptr) {
      const std::size_t size = std::min(done.value().size(), capacity - 1);
      std::memcpy(text, done.value().data(), size);
      text[size] = '\0';
    }
    return {};
  });
}

hawser_status_t hawser_coordinator_address(hawser_coordinator_t* coordinator, char* buffer, size_t capacity) {
  return guarded("hawser_coordinator_address", [&]() -> Status {
    auto service = coordinators().find(coordinator);
    if (!service) return no_coordinator_handle();
    const std::string& address = service->address();
    if (buffer == nullptr || capacity <= address.size()) {
      return {Code::INVALID_ARGUMENT, fmt::format("the buffer must hold {} bytes", address.size() + 1)};
    }
    std::memcpy(buffer, address.c_str(), address.size() + 1);
    return {};
  });
}

hawser_status_t hawser_coordinator_report(const char* address, uint32_t timeout_ms, char* json, size_t capacity,
                                          size_t* bytes_out) {
  return guarded("hawser_coordinator_report", [&]() -> Status {
    if (address == nullptr) return {Code::INVALID_ARGUMENT, "address is NULL"};
    if (json == nullptr && capacity != 0) return {Code::INVALID_ARGUMENT, "json is NULL and capacity is not 0"};
    const auto report = runtime::query_status(address, timeout_ms != 0 ? timeout_ms : report_timeout_ms);
    if (!report.ok()) return report.status();
    const std::string text = runtime::to_json(report.value());
    if (bytes_out != nullptr) *bytes_out = text.size() + 1;
    if (capacity <= text.size()) {
      return {Code::INVALID_ARGUMENT,
              fmt::format("the report takes {} bytes, capacity is {}", text.size() + 1, capacity)};
    }
    std::memcpy(json, text.c_str(), text.size() + 1);
    return {};
  });
}

hawser_status_t hawser_coordinator_stop(hawser_coordinator_t* coordinator) {
  // Safe in a signal handler: no lock, no memory, no sentence.
  if (coordinator == nullptr) return HAWSER_INVALID_HANDLE;
  for (StopSlot& slot : stop_slots) {
    slot.users.fetch_add(1);
    const bool found = slot.handle.load() == reinterpret_cast<std::uintptr_t>(coordinator);
    if (found) slot.service.load()->stop();
    slot.users.fetch_sub(1);
    if (found) return HAWSER_OK;
  }
  return HAWSER_INVALID_HANDLE;
}

hawser_status_t hawser_coordinator_wait(hawser_coordinator_t* coordinator, uint32_t timeout_ms) {
  return guarded("hawser_coordinator_wait", [&]() -> Status {
    auto service = coordinators().find(coordinator);
    if (!service) return no_coordinator_handle();
    const bool over = service->wait(timeout_ms == UINT32_MAX ? -1 : static_cast<std::int64_t>(timeout_ms));
    return over ? Status{} : Status(Code::PENDING, "the coordinator is still running");
  });
}

hawser_status_t hawser_coordinator_destroy(hawser_coordinator_t* coordinator) {
  return guarded("hawser_coordinator_destroy", [&]() -> Status {
    auto service = coordinators().remove(coordinator);
    if (!service) return no_coordinator_handle();
    close_slot(coordinator);
    service->stop();
    service->wait(-1);
    return {};
  });
}

}  // extern "C"
