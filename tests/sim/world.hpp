// One history: coordinators, groups of peers, the network between them, faults, and what ties them together. Made from
// settings, on one thread, without a clock, a socket or a random number of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "protocol/membership/coordinator.hpp"
#include "sim/checkers.hpp"
#include "sim/counters.hpp"
#include "sim/faults.hpp"
#include "sim/network.hpp"
#include "sim/peer.hpp"
#include "sim/random.hpp"
#include "sim/scheduler.hpp"
#include "sim/settings.hpp"
#include "sim/trace.hpp"

namespace hawser::sim {

// A process with the real Coordinator machine in the place where its service puts it. Where an arbiter decides who
// leads there is a machine only while this process does.
class CoordinatorHost {
 public:
  using Machine = protocol::Coordinator;

  CoordinatorHost(World& world, std::uint32_t index, std::uint32_t address);

  void begin();  // reads its log
  void opened(Network::ConnId id);
  void received(Network::ConnId id, const wire::Message& message);
  void closed(Network::ConnId id, const std::string& why);
  void tick();
  void crash_in(std::size_t actions) { crash_in_ = actions; }
  void crash_at_persist() { crash_at_persist_ = true; }
  void spare() {
    crash_in_.reset();
    crash_at_persist_ = false;
  }
  [[nodiscard]] ActorId actor() const { return actor_; }
  [[nodiscard]] std::uint32_t address() const { return address_; }
  [[nodiscard]] const Machine* machine() const { return machine_ ? &*machine_ : nullptr; }
  [[nodiscard]] bool leads_any() const;
  [[nodiscard]] Micros since() const { return since_; }  // it has been there as a coordinator

 private:
  void lead(const std::vector<Machine::Restored>& stored);
  void campaign();
  void depose();
  void event(const Machine::Event& event);
  bool perform(Machine::Action& action);  // false: the process is gone
  void send(Machine::Send& send);
  void persist(const Machine::Persist& persist);
  void persisted(std::uint32_t group, const wire::Install& install);
  void retime();
  [[nodiscard]] protocol::Env env();

  World& world_;
  const std::uint32_t index_;
  const std::uint32_t address_;
  const ActorId actor_;
  std::optional<Machine> machine_;
  std::uint64_t machines_ = 0;  // grows with every machine, so that orders of an earlier one are not answered
  std::set<Network::ConnId> conns_;
  std::map<std::uint32_t, bool> sealing_;
  std::map<std::uint32_t, std::set<PeerId>> accepts_;  // of the proposal that is out
  std::map<std::uint32_t, wire::Install> wanted_;      // that were to be made durable
  std::optional<std::size_t> crash_in_;
  bool crash_at_persist_ = false;
  Micros tick_at_ = INT64_MAX;
  Micros since_ = 0;
};

// Where a coordinator runs, one process after the other, and what it has on its disk.
struct Address {
  std::optional<std::uint32_t> host;  // the process that lives
  std::vector<std::pair<std::uint32_t, wire::Install>> log;
  // Its write failed, and so did cutting it off: whoever opens the log next may find it.
  std::optional<std::pair<std::uint32_t, wire::Install>> left_behind;
  bool restarting = false;
  bool given_up = false;  // never again
  Micros log_fails_until = 0;
};

// The outside store that knows the leader and the views.
struct Arbiter {
  std::optional<std::uint32_t> leader;
  Micros until = 0;
  std::map<std::uint32_t, wire::Install> views;
};

// A place in a group where one process after the other lives.
struct Slot {
  std::uint32_t group = 0;
  std::uint32_t number = 0;
  std::optional<PeerIndex> peer;  // the process that lives
  bool wanted = false;            // a process is to live here
};

// The data of one attempt of an operation.
struct Attempt {
  std::map<PeerId, wire::OpParams> started;
  bool flowing = false;
};

// What a coordinator finds when it starts again.
enum class Memory : std::uint8_t { intact, older, none };

class World {
 public:
  World(const Settings& settings, Counters& counters, bool print);

  void run();  // throws Violation

  const Settings settings;
  Counters& counters;
  Random random;
  Trace trace;
  Scheduler scheduler;
  Network network;
  Checker checker;
  Faults faults;
  std::vector<std::unique_ptr<Peer>> peers;
  std::vector<std::unique_ptr<CoordinatorHost>> coordinators;  // every process that ever was one
  std::vector<Address> addresses;
  Arbiter arbiter;
  std::vector<Slot> slots;
  bool quiet = false;    // no more faults
  bool settled = false;  // and everyone is where it belongs
  Micros settled_at = 0;

  [[nodiscard]] Peer& peer(PeerId id) const { return *peers.at(static_cast<std::size_t>(id.low - 1)); }
  [[nodiscard]] Place place_of(const Peer& peer) const { return peer.group() * settings.peers + peer.slot(); }
  [[nodiscard]] Place place_of_address(std::uint32_t address) const {
    return static_cast<Place>(slots.size()) + address;
  }
  [[nodiscard]] std::optional<std::uint32_t> coordinator_at(std::uint32_t address) const {
    return addresses[address].host;
  }
  void start_slot(Slot& slot, Micros delay);
  void crash(PeerIndex index, bool silently);
  void process_ended(Peer& peer, Code code);
  void start_coordinator(std::uint32_t address);
  void crash_coordinator(std::uint32_t address);
  void restart_coordinator(std::uint32_t address, Memory memory, Micros delay);
  void data_started(Peer& peer, const wire::OpKey& key, std::uint64_t epoch, const wire::OpParams& params,
                    const std::vector<PeerId>& participants);
  std::shared_ptr<Formation> formation(LineageIndex lineage, std::uint64_t view);
  [[nodiscard]] bool has_formation(LineageIndex lineage, std::uint64_t view) const;
  void formed(LineageIndex lineage, std::uint32_t group, std::uint64_t view);
  [[nodiscard]] bool any_coordinator() const;
  // Whether a majority of a view that must agree can never come together again: an operator has to start anew.
  [[nodiscard]] bool is_helpless(std::uint32_t group) const;
  // Whether this group can be led and its members be heard, as far as the faults say.
  [[nodiscard]] bool is_excused(std::uint32_t group) const;
  [[nodiscard]] bool is_excused(const Peer& peer) const;
  // The view of the coordinator that leads the group whose view this member has; nullptr: none does.
  [[nodiscard]] const wire::View* led_view(const Peer& peer) const;

 private:
  [[nodiscard]] bool is_occupied(std::uint32_t group) const;
  void run_until(Micros until);
  void become_quiet();
  [[nodiscard]] std::string unsettled() const;
  [[nodiscard]] std::string unfinished() const;
  void contribute(PeerIndex from, PeerIndex to, const wire::OpKey& key, std::uint64_t epoch);
  [[nodiscard]] Slot& slot_of(const Peer& peer) { return slots[place_of(peer)]; }

  std::map<std::tuple<OpId, std::uint64_t>, Attempt> attempts_;
  std::vector<std::shared_ptr<Formation>> formations_;
  std::set<std::uint32_t> unsettled_;  // groups that could not be demanded to come together
};

}  // namespace hawser::sim
