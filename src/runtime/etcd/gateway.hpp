// Requests to etcd through its HTTP gateway: a path and JSON to whichever endpoint answers, and what it says. The calls
// of one thread at a time block; cancel may come from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.hpp"

namespace hawser::runtime {

struct EtcdEndpoint {
  std::string host;  // without the brackets of an IPv6 address
  std::uint16_t port = 0;
  std::string authority;  // as written, for messages and the header Host
};

// "http://HOST:PORT", "HOST:PORT"; the port is 2379 where none is given. INVALID_ARGUMENT; UNSUPPORTED: https.
Result<EtcdEndpoint> parse_etcd_endpoint(const std::string& text);

class EtcdGateway {
 public:
  explicit EtcdGateway(std::vector<EtcdEndpoint> endpoints);
  EtcdGateway(const EtcdGateway&) = delete;
  EtcdGateway& operator=(const EtcdGateway&) = delete;

  // The body of an answer with status 200. Endpoints that cannot answer now are passed over, the one that answered last
  // is asked first. RESOURCE: nobody answered within the time (it may have been done all the same), or etcd is short of
  // something; CANCELLED; REFUSED: etcd wants to know who asks; UNSUPPORTED: not the gateway of etcd 3.4 or newer;
  // INTERNAL: etcd refused the request for what is in it.
  Result<std::string> post(const std::string& path, const std::string& json, std::int64_t timeout_ms);

  // Calls end soon with CANCELLED, those to come at once.
  void cancel();
  // Takes that back, for a last word.
  void resume() { cancelled_ = false; }
  [[nodiscard]] bool cancelled() const { return cancelled_; }
  [[nodiscard]] std::string describe() const;  // "HOST:PORT, HOST:PORT"

 private:
  enum class Next : std::uint8_t { done, other_endpoint };
  Next ask(const EtcdEndpoint& endpoint, const std::string& path, const std::string& json, std::int64_t timeout_ms,
           Result<std::string>& out);

  const std::vector<EtcdEndpoint> endpoints_;
  std::size_t first_ = 0;  // the endpoint to ask first
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;                 // guards the rest
  std::function<void()> interrupt_;  // of the request under way
};

}  // namespace hawser::runtime
