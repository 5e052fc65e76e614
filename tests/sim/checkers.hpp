// What must hold, checked as things happen: one lineage of views, uniform outcomes, equal values, a true cause for
// every failure, nobody removed without a reason, bounded memory. A broken promise throws Violation. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "base/status.hpp"
#include "sim/network.hpp"
#include "wire/messages.hpp"

namespace hawser::sim {

class World;
class Peer;
struct CallSpec;

// One operation of one group of one run.
struct OpId {
  std::uint32_t run = 0;
  std::uint32_t group = 0;
  wire::OpKey key;
  auto operator<=>(const OpId&) const = default;
};

struct Success {
  std::uint64_t contributions = 0;  // the sum: every peer contributes a power of two
  std::uint64_t epoch = 0;
  wire::Digest128 digest;
  std::uint64_t call = 0;  // which step of the program
};

class Checker {
 public:
  explicit Checker(World& world) : world_(world) {}

  // A coordinator has decided on a view; a peer has installed one.
  void decided(std::uint32_t run, std::uint32_t group, const wire::View& view);
  void installed(const Peer& peer, const wire::View& before, const wire::Install& install);

  // What the simulator knows about an operation, for the causes of failures.
  void called(const OpId& id, const CallSpec& spec, const wire::OpParams& params);
  void voted_timeout(const OpId& id) {
    ops_[id].timed_out = true;
    timed_out_.insert({id.run, id.group});
  }
  // Members that seemed to wait for one another under different tags count differently from then on if the guess was
  // wrong; what they call matches as it may until the next generation.
  [[nodiscard]] bool unaligned(const OpId& id) const {
    return unaligned_.contains({id.run, id.group, id.key.generation});
  }
  void cancelled(const OpId& id) { ops_[id].cancelled = true; }
  void diverged(const OpId& id) { ops_[id].diverged = true; }

  void succeeded(const Peer& peer, const OpId& id, const Success& success);
  void failed(const Peer& peer, const OpId& id, Code code, const std::string& text);

  void ended(const Peer& peer, Code code, const std::string& text);
  void memory(const Peer& peer);
  [[nodiscard]] bool in_newest_view(const Peer& peer) const;

 private:
  struct Op {
    std::optional<Success> success;
    std::string success_at;
    std::optional<Code> failure;  // a definite one
    std::string failure_at;
    std::set<PeerId> roots;
    bool broadcast = false;
    bool deviated = false;
    bool timed_out = false;
    bool cancelled = false;
    bool diverged = false;
    std::uint32_t min_participants = 0;
  };

  World& world_;
  std::map<std::tuple<std::uint32_t, std::uint32_t, std::uint64_t>, wire::View> views_;
  std::map<std::tuple<std::uint32_t, std::uint32_t>, std::uint64_t> newest_;
  std::set<std::tuple<std::uint32_t, std::uint32_t>> losses_;  // groups that have lost a member
  std::set<std::tuple<std::uint32_t, std::uint32_t>> timed_out_;
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint64_t>> unaligned_;
  std::map<OpId, Op> ops_;
};

}  // namespace hawser::sim
