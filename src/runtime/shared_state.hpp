// Named tensors that are to be the same on all members: their description, revision and record, and the call that makes
// them so. Any thread; one sync at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "protocol/sync/sync.hpp"
#include "runtime/data/engine.hpp"

namespace hawser::runtime {

struct SyncReport {
  std::uint64_t view = 0;
  std::uint32_t participants = 0;
  std::uint32_t attempts = 0;
  protocol::DecidedBy decision = protocol::DecidedBy::unanimous;
  std::uint32_t tensors_changed = 0;
  std::uint32_t sources = 0;
  std::uint32_t behind = 0;
  std::uint64_t revision = 0;
  std::uint64_t blocks = 0;
  std::uint64_t blocks_received = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
  std::int64_t hash_us = 0;
  std::int64_t time_us = 0;
  wire::Digest128 root;
};

class SharedState {
 public:
  Status add(const std::string& name, std::byte* data, std::size_t count, Dtype dtype);
  Status move(const std::string& name, std::byte* data);
  Status set_revision(std::uint64_t revision);
  [[nodiscard]] std::uint64_t revision() const;

  // `call` has the options. OK: the tensors, the revision and the record are the decided ones. Else nothing changed.
  Status sync(Engine& engine, wire::SyncStrategy strategy, const OpCall& call, SyncReport& report);
  // Nothing travels but the roots. DIVERGED names who differs.
  Status check(Engine& engine, const OpCall& call, SyncReport& report);

 private:
  Status run(Engine& engine, protocol::Sync::Local local, OpCall call, SyncReport& report);

  mutable std::mutex mutex_;  // guards all below; not held while the network is waited for
  bool busy_ = false;         // in a sync: nothing may change
  protocol::Layout layout_;
  std::vector<std::byte*> tensors_;
  std::uint64_t revision_ = 0;
  std::optional<protocol::Sync::Record> record_;
  PeerId member_;  // as whom the record was made; another membership begins as a newcomer
};

}  // namespace hawser::runtime
