// A coordinator and communicators in one process, one thread a rank, over the public API.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "hawser/hawser.h"
#include "support/catch.hpp"
#include "support/sanitizers.hpp"

namespace hawser_test {

// What times of silence are longer by. ThreadSanitizer reads the debug information to see whether a report is one that
// is suppressed, which holds up the thread that it is about for a second where other work is done beside.
#ifdef HAWSER_TEST_UNDER_TSAN
inline constexpr std::uint32_t slowness = 5;
#else
inline constexpr std::uint32_t slowness = 1;
#endif

class Coordinator {
 public:
  explicit Coordinator(std::uint32_t heartbeat_ms = 0, const char* listen = nullptr) {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.heartbeat_ms = heartbeat_ms * slowness;
    config.listen = listen;
    const hawser_status_t status = hawser_coordinator_start(&config, &handle_);
    INFO(hawser_last_error());
    REQUIRE(status == HAWSER_OK);
    std::array<char, 64> text{};
    REQUIRE(hawser_coordinator_address(handle_, text.data(), text.size()) == HAWSER_OK);
    address_ = text.data();
  }
  ~Coordinator() { stop(); }
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  void stop() {
    if (handle_ != nullptr) hawser_coordinator_destroy(handle_);
    handle_ = nullptr;
  }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] hawser_coordinator_t* get() const { return handle_; }

 private:
  hawser_coordinator_t* handle_ = nullptr;
  std::string address_;
};

// A communicator that is destroyed with its scope.
class Comm {
 public:
  Comm() = default;
  explicit Comm(const hawser_comm_config_t& config) {
    const hawser_status_t status = hawser_comm_create(&config, &handle_);
    if (status != HAWSER_OK) throw std::runtime_error(hawser_last_error());
  }
  Comm(Comm&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Comm& operator=(Comm&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Comm() { destroy(); }
  void destroy() {
    if (handle_ != nullptr) hawser_comm_destroy(std::exchange(handle_, nullptr));
  }
  [[nodiscard]] hawser_comm_t* get() const { return handle_; }

 private:
  hawser_comm_t* handle_ = nullptr;
};

// Groups of even size use TCP only, so that the tests go both ways.
inline hawser_comm_config_t config_for(const Coordinator& coordinator, std::uint32_t min_size) {
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = coordinator.address().c_str();
  config.min_size = min_size;
  config.transport = min_size % 2 == 0 ? HAWSER_TRANSPORT_TCP : HAWSER_TRANSPORT_AUTO;
  config.join_timeout_ms = 60000;
  config.op_timeout_ms = 60000;
  return config;
}

// Runs one function per thread and waits; what one throws is thrown again here. Catch2's assertions belong to the
// test's own thread, so the functions throw.
inline void in_threads(std::uint32_t count, const std::function<void(std::uint32_t)>& body) {
  std::vector<std::exception_ptr> failures(count);
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      try {
        body(i);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

inline void check(bool fine, const std::string& what) {
  if (!fine) throw std::runtime_error(what);
}
inline void check(bool fine, const char* what) {  // for each of many elements: makes no string that nobody wants
  if (!fine) throw std::runtime_error(what);
}
inline void expect(hawser_status_t status, hawser_status_t wanted, const std::string& what) {
  check(status == wanted, what + ": " + hawser_status_name(status) + ", wanted " + hawser_status_name(wanted) + " (" +
                              hawser_last_error() + ")");
}

// `size` members in one view.
inline std::vector<Comm> make_group(const Coordinator& coordinator, std::uint32_t size,
                                    const std::function<void(hawser_comm_config_t&)>& change = {}) {
  std::vector<Comm> comms(size);
  in_threads(size, [&](std::uint32_t i) {
    hawser_comm_config_t config = config_for(coordinator, size);
    if (change) change(config);
    comms[i] = Comm(config);
    expect(hawser_comm_join(comms[i].get(), 0), HAWSER_OK, "join");
  });
  return comms;
}

inline hawser_metrics_t metrics_of(const Comm& comm) {
  hawser_metrics_t metrics = HAWSER_METRICS_INIT;
  expect(hawser_comm_metrics(comm.get(), &metrics), HAWSER_OK, "metrics");
  return metrics;
}

inline hawser_view_t view_of(const Comm& comm) {
  hawser_view_t view = HAWSER_VIEW_INIT;
  expect(hawser_comm_view(comm.get(), &view), HAWSER_OK, "view");
  return view;
}

}  // namespace hawser_test
