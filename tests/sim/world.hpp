// One history: a coordinator, groups of peers, the network between them, faults, and what ties them together. Made from
// a seed, on one thread, without a clock, a socket or a random number of its own.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
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

// The real Coordinator machine in the place where its service puts it.
class CoordinatorHost {
 public:
  CoordinatorHost(World& world, std::uint32_t run);

  void opened(Network::ConnId id);
  void received(Network::ConnId id, const wire::Message& message);
  void closed(Network::ConnId id, const std::string& why);
  void tick();
  void crash_in(std::size_t actions) { crash_in_ = actions; }
  [[nodiscard]] ActorId actor() const { return actor_; }
  [[nodiscard]] const protocol::Coordinator& machine() const { return machine_; }

 private:
  void event(const protocol::Coordinator::Event& event);
  void retime();
  [[nodiscard]] protocol::Env env();

  World& world_;
  const std::uint32_t run_;
  const ActorId actor_;
  protocol::Coordinator machine_;
  std::map<std::uint32_t, bool> sealing_;
  std::optional<std::size_t> crash_in_;
  Micros tick_at_ = INT64_MAX;
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
  std::vector<std::unique_ptr<CoordinatorHost>> coordinators;
  std::vector<Slot> slots;
  bool quiet = false;  // no more faults

  [[nodiscard]] Peer& peer(PeerId id) const { return *peers.at(static_cast<std::size_t>(id.low - 1)); }
  void start_slot(Slot& slot, Micros delay);
  void crash(PeerIndex index, bool silently);
  void process_ended(Peer& peer, Code code);
  void crash_coordinator();
  void data_started(Peer& peer, const wire::OpKey& key, std::uint64_t epoch, const wire::OpParams& params,
                    const std::vector<PeerId>& participants);
  std::shared_ptr<Lineage> lineage(std::uint32_t run, std::uint32_t group, std::uint64_t view);
  void formed(std::uint32_t run, std::uint32_t group, std::uint64_t view);
  [[nodiscard]] bool coordinator_alive() const;

 private:
  void run_until(Micros until);
  [[nodiscard]] std::string unsettled() const;
  [[nodiscard]] std::string unfinished() const;
  void contribute(PeerIndex from, PeerIndex to, const wire::OpKey& key, std::uint64_t epoch);
  [[nodiscard]] Slot& slot_of(const Peer& peer);

  std::map<std::tuple<OpId, std::uint64_t>, Attempt> attempts_;
  std::vector<std::shared_ptr<Lineage>> lineages_;
};

}  // namespace hawser::sim
