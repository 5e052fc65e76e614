// A process with one communicator: the real Member machine in the place where the runtime puts it, a model of the data
// plane, and a user that runs the program of its group. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/membership/member.hpp"
#include "protocol/membership/search.hpp"
#include "sim/checkers.hpp"
#include "sim/network.hpp"
#include "sim/workload.hpp"

namespace hawser::sim {

// The members that were formed together and all who were admitted since: they run one program.
struct Formation {
  LineageIndex lineage = 0;
  std::uint32_t group = 0;
  std::uint64_t formed = 0;  // number of its first view
  std::shared_ptr<Program> program;
  std::size_t limit = SIZE_MAX;  // members stop at this position: the history ends
};

class Peer {
 public:
  using Member = protocol::Member;

  Peer(World& world, PeerIndex index, std::uint32_t group, std::uint32_t slot, std::uint32_t min_size);

  // ------------------------------------------------------------------------------------------------- from the world
  void begin();
  void control_opened(Network::ConnId id, std::uint32_t coordinator);
  void control_failed(const std::string& why);  // no connection could be had
  void control_received(Network::ConnId id, const wire::Message& message);
  void control_closed(Network::ConnId id, const std::string& why);
  void linked(PeerIndex other);
  void link_lost(PeerIndex other);
  void unreachable(PeerIndex other);
  void frame(PeerIndex from, const Frame& frame);
  void relay(PeerIndex by, const Relay& relay);
  // Data plane: the contribution of another participant is in.
  void contribution(const wire::OpKey& key, std::uint64_t epoch, PeerId from);
  [[nodiscard]] bool contributes(const wire::OpKey& key, std::uint64_t epoch) const;
  void leave();
  void abort();
  void resumed();
  void crash_in(std::size_t actions) { crash_in_ = actions; }
  void spare() { crash_in_.reset(); }
  void disturb() { disturbed_ = true; }
  // Alone no reason to remove it, together one: that is what the end of a process looks like.
  void control_broken();
  void coordinator_lost();
  void links_broken();
  void stopped_for_long() { stopped_ = true; }
  void run_program();

  // ----------------------------------------------------------------------------------------------------- for checks
  [[nodiscard]] const Member& machine() const { return machine_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] PeerId id() const { return id_; }
  [[nodiscard]] PeerIndex index() const { return index_; }
  [[nodiscard]] ActorId actor() const { return actor_; }
  [[nodiscard]] std::uint64_t bit() const { return std::uint64_t{1} << (index_ % 64); }
  [[nodiscard]] LineageIndex lineage() const { return lineage_; }
  [[nodiscard]] std::uint32_t group() const { return group_; }
  [[nodiscard]] std::uint32_t slot() const { return slot_; }
  [[nodiscard]] Network::ConnId conn() const { return conn_; }
  [[nodiscard]] bool disturbed() const { return disturbed_; }
  [[nodiscard]] bool was_stopped() const { return stopped_; }
  [[nodiscard]] bool asked_to_leave() const { return leave_wanted_; }
  [[nodiscard]] bool is_member() const { return machine_.is_member(); }
  [[nodiscard]] bool is_finished() const;  // stands at the end of the program, nothing open
  [[nodiscard]] const std::shared_ptr<Formation>& formation() const { return formation_; }
  [[nodiscard]] std::size_t position() const { return position_; }
  [[nodiscard]] std::size_t open_calls() const { return ops_.size(); }
  [[nodiscard]] std::string describe() const;

 private:
  struct Op {
    CallSpec spec;
    wire::OpParams params;
    std::uint64_t call = 0;
    std::uint64_t epoch = 0;  // of the attempt
    std::vector<PeerId> participants;
    std::set<PeerId> arrived;
    bool finished = false;
    Micros finished_at = 0;
    std::uint64_t contributions = 0;
    wire::Digest128 digest;
    bool said_done = false;
  };
  enum class State : std::uint8_t { joining, running, calling, thinking, waiting, admitting, leaving, finished, gone };

  void event(const Member::Event& event);
  void perform(Member::Actions& actions);
  void perform_one(Member::Action& action);
  void retime();
  [[nodiscard]] bool is_ahead(const Frame& frame) const;
  void dispatch(PeerIndex from, const Frame& frame);
  void unpark();
  void joined();
  void call(std::size_t position);
  void begin_attempt(const wire::OpKey& key, Op& op);
  void finish(const wire::OpKey& key, std::uint64_t epoch);
  void deadline(const wire::OpKey& key, bool voted);
  [[nodiscard]] bool has_held(const wire::OpKey& key, std::uint64_t epoch, Micros since) const;
  void expect_undecided(const wire::OpKey& key) const;
  void op_ended(const wire::OpKey& key, Code code, const std::string& text);
  void connect();
  void coordinator_failed();
  void abandoned();
  [[nodiscard]] bool searches_long() const;
  [[nodiscard]] bool is_sealed() const { return machine_.ledger().is_sealed(); }
  void wake();
  void ended(Code code, const std::string& text);
  [[nodiscard]] OpId op_id(const wire::OpKey& key) const { return {lineage_, key}; }
  [[nodiscard]] protocol::Env env();

  World& world_;
  const PeerIndex index_;
  const std::uint32_t group_;
  const std::uint32_t slot_;
  const std::string name_;
  const PeerId id_;
  const ActorId actor_;
  Member machine_;
  Random random_;

  Network::ConnId conn_ = 0;
  std::uint32_t coordinator_ = 0;  // the process at the other end
  bool greeted_ = false;
  bool back_ = false;  // Welcome was the last that it heard
  // As communicator.cpp has them.
  std::size_t address_index_ = 0;
  protocol::Search search_;
  bool refused_ = false;  // by the coordinator that it is connected with
  std::size_t failures_ = 0;
  Micros backoff_ = 0;
  bool connecting_ = false;
  Micros greeted_at_ = 0;
  Micros unsealed_at_ = 0;
  std::optional<std::uint32_t> proposer_;

  LineageIndex lineage_ = 0;
  Micros control_broken_at_ = -1;
  Micros links_broken_at_ = -1;
  bool disturbed_ = false;
  bool stopped_ = false;
  bool leave_wanted_ = false;
  std::optional<std::size_t> crash_in_;
  Micros tick_at_ = INT64_MAX;

  // Of the runtime.
  std::deque<std::pair<PeerIndex, std::variant<Frame, Relay>>> parked_;
  std::map<wire::OpKey, Op> ops_;
  std::map<wire::OpKey, Micros> committed_at_;
  const wire::Install* installing_ = nullptr;
  bool admission_asked_ = false;
  bool at_point_ = false;  // said AtPoint in this call
  bool stood_alone_ = false;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> next_;  // by generation and tag

  // Of the user.
  State state_ = State::joining;
  std::shared_ptr<Formation> formation_;
  std::size_t position_ = 0;
  std::uint64_t points_ = 0;  // admission points passed
  std::uint64_t admit_call_ = 0;
  bool admit_late_ = false;
};

}  // namespace hawser::sim
