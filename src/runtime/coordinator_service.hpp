// The coordinator as a running thing: one event loop thread that feeds protocol::Coordinator with what happens on its
// connections and performs what it orders. Calls may come from any thread; stop also from a signal handler.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.hpp"

namespace hawser::runtime {

inline constexpr std::size_t handshakes_max = 256;  // connections that have not said who they are

struct CoordinatorOptions {
  std::string listen = "127.0.0.1:0";  // "HOST:PORT", "[V6]:PORT", ":PORT"
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t peer_timeout_ms = 6000;
  std::uint32_t peers_max = 1024;
  std::int64_t hello_ms = 10000;  // for the first message of a connection
  // Where views are written before they are announced; empty: nowhere, they end with the process. At most one of the
  // two.
  std::string log_dir{};
  std::vector<std::string> etcd{};  // "http://HOST:PORT", tried in turn
  std::string etcd_prefix = "hawser/";
  // The coordinators in front of this one in the members' lists, as text for messages; not empty: a standby.
  std::vector<std::string> standby_of{};
};

// Keeps what can be read of a damaged log; a sentence about what was done.
Result<std::string> repair_log(const std::string& log_dir);

class CoordinatorService {
 public:
  // Accepts peers when it returns. BAD_ADDRESS, ADDRESS_IN_USE, RESOURCE, INVALID_ARGUMENT (times and limits).
  static Result<std::unique_ptr<CoordinatorService>> start(const CoordinatorOptions& options);
  ~CoordinatorService();  // stops, waits
  CoordinatorService(const CoordinatorService&) = delete;
  CoordinatorService& operator=(const CoordinatorService&) = delete;

  [[nodiscard]] const std::string& address() const;  // "IP:PORT" with the real port
  // Closes every connection and the listening socket soon. Does not wait. Any thread, and signal handlers.
  void stop() noexcept;
  // Whether it has ended within the time; negative: no limit.
  bool wait(std::int64_t timeout_ms);

 private:
  struct Core;
  explicit CoordinatorService(std::unique_ptr<Core> core);
  std::unique_ptr<Core> core_;
};

}  // namespace hawser::runtime
