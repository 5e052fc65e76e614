// Where a coordinator keeps what must survive it: small values by key, opaque here. A store belongs to one process at a
// time; in a directory of the machine that is whoever has its lock, in etcd whoever holds the leader key.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.hpp"

namespace hawser::runtime {

// All calls but cancel come from one thread, and block; StoreThread makes them. They expect SIGPIPE to be blocked or
// ignored there.
class ViewStore {
 public:
  using Values = std::map<std::uint64_t, std::vector<std::uint8_t>>;

  virtual ~ViewStore() = default;

  // Blocks until this process is the only one that may write (a directory: at once, or an error; etcd: until no other
  // leads), then returns what is stored. CANCELLED after cancel.
  virtual Result<Values> acquire() = 0;
  // Durable when it returns OK. RESOURCE: not known to be stored, try again; it is still ours. Any other code: no
  // longer ours, and nothing may be stored or decided before the next acquire. After a failure whoever acquires next
  // may find either value; but no later put is ever overtaken by one that failed.
  virtual Status put(std::uint64_t key, std::span<const std::uint8_t> value) = 0;
  // What must be done between calls while the store is ours (etcd: the lease is renewed). In how many ms it wants to be
  // called again; negative: never. Not OK: no longer ours.
  virtual Result<std::int64_t> upkeep() { return std::int64_t{-1}; }
  // Any thread: a call that blocks returns soon, and so do all later ones.
  virtual void cancel() = 0;
  // For logs and errors: "log directory /var/lib/hawser".
  [[nodiscard]] virtual std::string describe() const = 0;
};

// A directory of this machine (io/file_log.hpp). acquire fails as io::FileLog::open does.
std::unique_ptr<ViewStore> make_file_store(const std::string& directory);

struct EtcdOptions {
  std::vector<std::string> endpoints;  // "http://HOST:PORT", "HOST:PORT"; tried in turn
  std::string prefix = "hawser/";      // of all keys
  std::uint32_t ttl_s = 18;            // an owner that is silent for so long is another's to replace; 3..3600
};

// etcd 3.4 or newer, through its HTTP gateway; its own limit of a request, 1.5 MiB unless it is told otherwise, is that
// of a value. INVALID_ARGUMENT: an option; nothing is sent before acquire.
Result<std::unique_ptr<ViewStore>> make_etcd_store(EtcdOptions options);

}  // namespace hawser::runtime
