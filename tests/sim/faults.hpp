// Doing harm: each fault of the settings happens at a random time to a random victim. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

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
  void stop() { armed_.reset(); }
  // A control message comes to this peer or goes out from it; it may be the last thing the peer sees.
  void at_message(Peer& peer, const wire::Message& message);

 private:
  struct Armed {
    std::size_t type = 0;  // alternative of wire::Message
    std::uint64_t count = 0;
    std::size_t actions = 0;  // the peer dies after so many actions of the step
  };

  void happen(Fault fault);
  Peer* any_peer(bool member);
  void pause(Peer& peer, Micros time);

  World& world_;
  std::optional<Armed> armed_;
};

}  // namespace hawser::sim
