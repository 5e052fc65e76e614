// Doing harm: each fault of the settings happens at its time to its victims. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "sim/network.hpp"
#include "sim/random.hpp"
#include "sim/settings.hpp"
#include "wire/messages.hpp"

namespace hawser::sim {

class World;
class Peer;
class CoordinatorHost;

class Faults {
 public:
  explicit Faults(World& world) : world_(world) {}

  void schedule();
  void stop();
  // A control message comes to this process or goes out from it; it may be the last thing that the process sees.
  void at_message(Peer& peer, const wire::Message& message);
  void at_message(CoordinatorHost& host, const wire::Message& message);
  // The proposal that is out for this group has so many acceptances.
  void at_accept(CoordinatorHost& host, std::uint32_t group, std::size_t count);
  // A fault has struck between two of its actions.
  void coordinator_dies(CoordinatorHost& host);

 private:
  struct Armed {
    std::size_t type = 0;  // alternative of wire::Message
    std::uint64_t count = 0;
    std::size_t actions = 0;  // the process dies after so many actions of the step
  };
  struct ArmedCut {
    std::size_t count = 0;
    Random random{0};
  };

  // Whoever hears of this view dies of it, as long as some are left.
  struct ArmedHeirs {
    LineageId lineage;
    std::uint64_t number = 0;
    std::size_t left = 0;
  };

  void happen(const FaultEvent& event);
  bool happen_to_coordinator(const FaultEvent& event, Random& random);
  [[nodiscard]] Peer* peer_at(std::uint32_t place, bool member) const;
  [[nodiscard]] CoordinatorHost* coordinator_at(std::uint32_t place) const;  // one that lives; who leads, if possible
  void pause(Peer& peer, Micros time);
  void pause(CoordinatorHost& host, Micros time);
  void restart(std::uint32_t address, Random& random);
  void join(const FaultEvent& event);
  void cut_way(const FaultEvent& event, Random& random);
  void partition(const std::vector<Place>& some, Micros time, bool back);
  void partition_randomly(Random& random);
  void disturb(Place place);
  void fall_silent(Place a, Place b);

  World& world_;
  std::optional<Armed> armed_;
  std::optional<Armed> armed_coordinator_;
  std::optional<ArmedCut> armed_cut_;
  std::optional<ArmedHeirs> armed_heirs_;
};

}  // namespace hawser::sim
