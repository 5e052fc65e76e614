// What must hold, checked as things happen: one chain of views in every lineage whoever decides on them, uniform
// outcomes, equal values, a true cause for every failure, nobody removed without a reason, bounded memory. A broken
// promise throws Violation. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/status.hpp"
#include "sim/network.hpp"
#include "wire/messages.hpp"

namespace hawser::sim {

class World;
class Peer;
struct CallSpec;

// Lineages are numbered from 1 in the order in which they appear; 0: none.
using LineageIndex = std::uint32_t;

// One operation of one lineage.
struct OpId {
  LineageIndex lineage = 0;
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

  LineageIndex lineage_of(const LineageId& id);

  // A coordinator orders that a view be made durable, says that it is decided; a peer installs one; a coordinator
  // proposes one; a peer accepts.
  void ordered(const wire::Install& install);
  void announced(std::uint32_t coordinator, std::uint32_t group, const wire::Install& install);
  void installed(const Peer& peer, const wire::View& before, const wire::Install& install);
  // The coordinator removes this one, since it cannot reach others and nobody serves them.
  void judged(const protocol::Coordinator& coordinator, const std::string& name);
  void proposed(std::uint32_t group, const wire::Install& install);
  void accepted(const Peer& peer, const wire::Accept& accept);
  // Which coordinator was the first to announce it.
  [[nodiscard]] std::uint32_t decider(LineageIndex lineage, std::uint64_t view) const {
    auto it = decisions_.find({lineage, view});
    return it == decisions_.end() ? 0 : it->second.decider;
  }
  // What a coordinator that is the only one has decided may be unknown to the next. Wrong memory (an old copy of the
  // log) is worse than none.
  void memory_lost(bool wrong);
  // A coordinator that forms groups has made it durable; what it knows is lost.
  void logged(const wire::Install& install) { lineages_[lineage_of(install.view.lineage) - 1].logged = true; }
  void log_lost() {
    for (Lineage& lineage : lineages_) lineage.logged = false;
  }
  // Its write had failed and the next process finds it: members were told that nobody is let in and have gone on.
  void found_again(const wire::Install& install) { found_again_.push_back(install); }
  [[nodiscard]] bool is_found_again(const wire::Install& install) const;
  // It has a view that needs a majority and has none that lives; a lineage of this group has one.
  [[nodiscard]] bool lacks_majority(LineageIndex lineage) const;
  [[nodiscard]] bool group_lacks_majority(std::uint32_t group) const;
  // A coordinator has forgotten a lineage that has members, but they are too few for the word of a majority.
  [[nodiscard]] bool is_stranded(LineageIndex lineage) const;
  [[nodiscard]] bool group_is_stranded(std::uint32_t group) const;
  [[nodiscard]] std::set<PeerId> living(const wire::View& view) const;
  [[nodiscard]] bool has_majority(const wire::View& view) const;
  [[nodiscard]] bool can_go_on(LineageIndex lineage, const std::set<PeerId>& besides) const;
  [[nodiscard]] bool is_member_of(const Peer& peer, LineageIndex lineage) const;  // and lives
  // Half of a view or more was removed by a coordinator whose memory was lost: nothing is promised.
  [[nodiscard]] bool is_outside(std::uint32_t group) const;
  [[nodiscard]] bool is_outside_lineage(LineageIndex lineage) const {
    return lineage != 0 && lineages_[lineage - 1].outside;
  }
  [[nodiscard]] bool is_forgotten(LineageIndex lineage) const {
    return lineage != 0 && lineages_[lineage - 1].forgotten;
  }
  [[nodiscard]] const wire::View* newest_view(LineageIndex lineage) const;

  // What the simulator knows about an operation, for the causes of failures.
  void called(const OpId& id, const CallSpec& spec, const wire::OpParams& params);
  void voted_timeout(const OpId& id) {
    ops_[id].timed_out = true;
    timed_out_.insert(id.lineage);
  }
  // Members that seemed to wait for one another under different tags count differently from then on if the guess was
  // wrong; what they call matches as it may until the next generation.
  [[nodiscard]] bool unaligned(const OpId& id) const { return unaligned_.contains({id.lineage, id.key.generation}); }
  void voted_straggler(const OpId& id) { stragglers_.insert(id.lineage); }
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

  struct Decision {
    wire::Install install;
    std::uint32_t decider = 0;
  };
  struct Lineage {
    LineageId id;
    std::uint32_t group = 0;
    std::uint64_t newest = 0;                // number of the newest view
    std::optional<wire::Install> agreed_to;  // the newest proposal that somebody has accepted
    bool halved = false;                     // a view has come without a majority of those before it
    bool forgotten = false;                  // a coordinator has lost its memory of it
    bool outside = false;
    bool logged = false;  // a coordinator that forms groups has it in its log
  };

  void decided(std::uint32_t group, const wire::Install& install);
  // Of a group that was formed just now: no other of this number may have a majority that lives.
  void check_only(LineageIndex formed, std::uint32_t group) const;
  void check_succession(const wire::View& before, const wire::View& view) const;

  World& world_;
  std::vector<Lineage> lineages_;
  std::map<LineageId, LineageIndex> indices_;
  std::map<std::pair<LineageIndex, std::uint64_t>, Decision> decisions_;
  struct Proposal {
    wire::Install install;
    std::set<PeerId> accepted;
  };
  std::map<std::pair<wire::Term, std::uint64_t>, Proposal> proposals_;  // by term and number of the view
  std::set<LineageIndex> losses_;                                       // that have lost a member
  std::set<LineageIndex> timed_out_;
  std::set<LineageIndex> stragglers_;
  std::set<PeerId> left_;  // were told so
  std::set<std::tuple<LineageIndex, std::uint64_t>> unaligned_;
  std::map<OpId, Op> ops_;
  std::vector<wire::Install> found_again_;
};

}  // namespace hawser::sim
