// The faults; see the header.
#include "sim/faults.hpp"

#include <algorithm>
#include <vector>

#include "sim/world.hpp"

namespace hawser::sim {

void Faults::schedule() {
  for (const FaultEvent& event : world_.settings.faults) {
    world_.scheduler.at(event.at, nature, [this, event] { happen(event); });
  }
}

void Faults::stop() {
  armed_.reset();
  armed_coordinator_.reset();
  armed_cut_.reset();
  armed_heirs_.reset();
  for (const auto& peer : world_.peers) peer->spare();
  for (const auto& host : world_.coordinators) host->spare();
}

Peer* Faults::peer_at(std::uint32_t place, bool member) const {
  const auto size = static_cast<std::uint32_t>(world_.slots.size());
  for (std::uint32_t i = 0; i < size; ++i) {
    const Slot& slot = world_.slots[(place + i) % size];
    if (slot.peer && (!member || world_.peers[*slot.peer]->is_member())) return world_.peers[*slot.peer].get();
  }
  return nullptr;
}

CoordinatorHost* Faults::coordinator_at(std::uint32_t place) const {
  CoordinatorHost* any = nullptr;
  const auto size = static_cast<std::uint32_t>(world_.addresses.size());
  for (std::uint32_t i = 0; i < size; ++i) {
    const auto host = world_.coordinator_at((place + i) % size);
    if (!host) continue;
    CoordinatorHost* candidate = world_.coordinators[*host].get();
    if (candidate->leads_any()) return candidate;
    if (any == nullptr) any = candidate;
  }
  return any;
}

void Faults::pause(Peer& peer, Micros time) {
  if (world_.scheduler.paused(peer.actor())) return;
  peer.disturb();
  world_.scheduler.pause(peer.actor());
  if (time > world_.settings.timeout()) {
    for (const Slot& slot : world_.slots) {
      if (slot.peer && slot.group == peer.group()) world_.network.fall_silent(peer.index(), *slot.peer);
    }
  }
  world_.scheduler.after(time, nature, [this, index = peer.index()] {
    Peer& p = *world_.peers[index];
    if (!world_.scheduler.alive(p.actor())) return;
    world_.trace.line(world_.scheduler.now(), "{} goes on", p.name());
    // Which comes first, timers or what lies in the sockets, is not said anywhere.
    if (world_.random.chance(0.5)) world_.scheduler.first(p.actor(), [&p] { p.resumed(); });
    world_.scheduler.resume(p.actor());
  });
}

void Faults::pause(CoordinatorHost& host, Micros time) {
  if (world_.scheduler.paused(host.actor())) return;
  if (time > 2 * world_.settings.timeout()) world_.counters.count(Sometimes::coordinator_paused);
  world_.scheduler.pause(host.actor());
  world_.scheduler.after(time, nature, [this, &host, count = world_.coordinators.size()] {
    if (!world_.scheduler.alive(host.actor())) return;
    world_.trace.line(world_.scheduler.now(), "the coordinator at address {} goes on", host.address());
    for (const auto& other : world_.coordinators) {
      if (other.get() != &host && world_.scheduler.alive(other->actor()) && other->leads_any() && host.leads_any()) {
        world_.counters.count(Sometimes::zombie_coordinator);
      }
    }
    if (world_.random.chance(0.5)) world_.scheduler.first(host.actor(), [&host] { host.tick(); });
    world_.scheduler.resume(host.actor());
  });
}

// Whoever is there has a reason to be removed.
void Faults::disturb(Place place) {
  if (place >= world_.slots.size()) return;
  if (const Slot& slot = world_.slots[place]; slot.peer) world_.peers[*slot.peer]->disturb();
}

void Faults::restart(std::uint32_t address, Random& random) {
  if (world_.settings.group_rule() == wire::Rule::alone && random.chance(0.1)) {
    world_.addresses[address].given_up = true;
    return;
  }
  const Memory memory = !world_.settings.log || random.chance(0.12) ? Memory::none
                        : random.chance(0.1)                        ? Memory::older
                                                                    : Memory::intact;
  world_.restart_coordinator(address, memory,
                             random.range(1, (random.chance(0.5) ? 1 : 4) * world_.settings.timeout()));
}

void Faults::coordinator_dies(CoordinatorHost& host) {
  const std::uint32_t address = host.address();
  world_.crash_coordinator(address);
  restart(address, world_.random);
}

void Faults::happen(const FaultEvent& event) {
  if (world_.quiet) return;
  Random random(event.pick);
  world_.trace.line(world_.scheduler.now(), "FAULT {} {} {}", fault_name(event.kind), event.a, event.b);
  if (event.kind == Fault::join) return join(event);
  if (event.kind == Fault::cut_way) return cut_way(event, random);
  if (event.kind == Fault::partition) return partition_randomly(random);
  if (event.kind == Fault::partition_at_accept) {
    armed_cut_ = ArmedCut{1 + random.index(3), random};
    return;
  }
  if (event.kind == Fault::crash_at_message) {
    // What members hear in the course of a view change or an admission, and what they say.
    static constexpr std::size_t types[] = {4, 7, 8, 9, 10, 11, 15, 16, 17, 18, 18, 18, 21, 22};
    armed_ = Armed{types[random.index(std::size(types))], random.below(6), random.index(5)};
    return;
  }
  if (happen_to_coordinator(event, random)) return;
  Peer* peer = peer_at(event.a, random.chance(0.8));
  if (peer == nullptr) return;
  const Settings& s = world_.settings;
  Scheduler& scheduler = world_.scheduler;
  world_.trace.line(scheduler.now(), "  hits {}", peer->name());
  switch (event.kind) {
    case Fault::crash:
      return world_.crash(peer->index(), false);
    case Fault::vanish:
      return world_.crash(peer->index(), true);
    case Fault::crash_in_actions:
      return peer->crash_in(1 + random.index(6));
    case Fault::abort:
      return scheduler.after(0, peer->actor(), [peer] { peer->abort(); });
    case Fault::leave:
      return scheduler.after(0, peer->actor(), [peer] { peer->leave(); });
    case Fault::pause:
      return pause(*peer, random.range(s.timeout() / 20, s.timeout() * 3 / 4));
    case Fault::long_pause:
      peer->stopped_for_long();
      return pause(*peer, random.range(s.timeout(), 4 * s.timeout()));
    case Fault::control_break:
      peer->control_broken();
      if (peer->conn() != 0) world_.network.cut(peer->conn(), true, true);
      return;
    case Fault::control_cut: {
      if (peer->conn() == 0) return;
      peer->disturb();
      const bool peer_hears = random.chance(0.6);
      const bool coordinator_hears = random.chance(0.6);
      return world_.network.cut(peer->conn(), peer_hears, coordinator_hears);
    }
    case Fault::control_one_way:
      if (peer->conn() == 0) return;
      peer->disturb();
      return world_.network.swallow(peer->conn(), random.chance(0.5));
    case Fault::slow_control: {
      if (peer->conn() == 0) return;
      const Micros delay = random.range(1, s.timeout() / 8);
      const Micros until = scheduler.now() + random.range(0, 4 * s.timeout());
      return world_.network.slow_down(peer->conn(), delay, until);
    }
    case Fault::slow_strand: {
      Peer* other = peer_at(event.b, true);
      if (other == nullptr || other == peer) return;
      const Micros delay = random.range(1, s.timeout() / 4);
      const Micros until = scheduler.now() + random.range(0, 4 * s.timeout());
      return world_.network.slow_strand(peer->index(), other->index(), delay, until);
    }
    case Fault::strand_cut:
    case Fault::edge_dead:
    case Fault::edge_gone: {
      Peer* other = peer_at(event.b, true);
      if (other == nullptr || other == peer) return;
      Micros until = 0;
      if (event.kind == Fault::edge_dead) until = scheduler.now() + random.range(s.timeout(), 4 * s.timeout());
      if (event.kind == Fault::edge_gone) until = Network::never;
      peer->links_broken();
      other->links_broken();
      return world_.network.cut_strand(peer->index(), other->index(), until);
    }
    default:
      return;
  }
}

void Faults::join(const FaultEvent& event) {
  const auto size = static_cast<std::uint32_t>(world_.slots.size());
  for (std::uint32_t i = 0; i < size; ++i) {
    Slot& slot = world_.slots[(event.a + i) % size];
    if (slot.wanted) continue;
    slot.wanted = true;
    return world_.start_slot(slot, 0);
  }
}

bool Faults::happen_to_coordinator(const FaultEvent& event, Random& random) {
  const Settings& s = world_.settings;
  CoordinatorHost* host = coordinator_at(event.b);
  switch (event.kind) {
    case Fault::coordinator_pause:
      if (host != nullptr) pause(*host, random.range(s.timeout() / 4, 4 * s.timeout()));
      return true;
    case Fault::coordinator_crash:
      if (host == nullptr) return true;
      if (random.chance(0.5)) {
        host->crash_in(random.index(5));
      } else {
        coordinator_dies(*host);
      }
      return true;
    case Fault::coordinator_crash_at_message: {
      // What it hears and says in the course of a view change or an admission.
      static constexpr std::size_t types[] = {0, 0, 3, 6, 8, 8, 9, 10, 10, 16, 17, 17, 18, 18, 18, 18, 21, 21, 22, 22};
      armed_coordinator_ = Armed{types[random.index(std::size(types))], random.below(6), random.index(4)};
      return true;
    }
    case Fault::coordinator_crash_at_persist:
      if (host != nullptr) host->crash_at_persist();
      return true;
    case Fault::coordinator_and_peers: {
      world_.counters.count(Sometimes::coordinator_and_peers);
      // Where views are kept, more may go.
      const std::size_t most = s.log ? s.peers : std::max<std::size_t>(1, (s.peers - 1) / 2);
      const std::size_t victims = 1 + random.index(most);
      for (std::size_t i = 0; i < victims; ++i) {
        if (Peer* peer = peer_at(event.a + static_cast<std::uint32_t>(i), true); peer != nullptr) {
          world_.crash(peer->index(), random.chance(0.3));
        }
      }
      if (host != nullptr) coordinator_dies(*host);
      return true;
    }
    case Fault::log_fails:
      if (host != nullptr) {
        world_.addresses[host->address()].log_fails_until = world_.scheduler.now() + random.range(1, 4 * s.timeout());
      }
      return true;
    default:
      return false;
  }
}

// From one place to another, or both ways.
void Faults::cut_way(const FaultEvent& event, Random& random) {
  const auto hosts = static_cast<std::uint32_t>(world_.slots.size());
  const Place from = event.a % hosts;
  Place to = random.chance(0.5) ? event.b % hosts : hosts + event.b % world_.settings.coordinators;
  if (to == from) to = hosts;
  const Micros time = random.range(world_.settings.timeout() / 4, 3 * world_.settings.timeout());
  const Micros until = world_.scheduler.now() + time;
  const int ways = static_cast<int>(random.range(1, 3));
  if ((ways & 1) != 0) world_.network.block(from, to, until);
  if ((ways & 2) != 0) world_.network.block(to, from, until);
  if (to >= hosts) return disturb(from);
  fall_silent(from, to);
}

void Faults::fall_silent(Place a, Place b) {
  if (a >= world_.slots.size() || b >= world_.slots.size() || !world_.slots[a].peer || !world_.slots[b].peer) return;
  world_.network.fall_silent(*world_.slots[a].peer, *world_.slots[b].peer);
}

// Nothing gets from these places to all others, nor back.
void Faults::partition(const std::vector<Place>& some, Micros time, bool back) {
  const Micros until = world_.scheduler.now() + time;
  const auto all = static_cast<Place>(world_.slots.size() + world_.addresses.size());
  for (const Place here : some) {
    for (Place there = 0; there < all; ++there) {
      if (std::find(some.begin(), some.end(), there) != some.end()) continue;
      world_.network.block(here, there, until);
      if (back) world_.network.block(there, here, until);
      fall_silent(here, there);
    }
  }
  for (Place place = 0; place < world_.slots.size(); ++place) disturb(place);
}

void Faults::partition_randomly(Random& random) {
  const auto all = static_cast<Place>(world_.slots.size() + world_.addresses.size());
  std::vector<Place> some;
  for (Place place = 0; place < all; ++place) {
    if (random.chance(0.5)) some.push_back(place);
  }
  const Micros time = random.range(world_.settings.timeout() / 4, 4 * world_.settings.timeout());
  partition(some, time, random.chance(0.8));
}

void Faults::at_message(Peer& peer, const wire::Message& message) {
  const auto* install = std::get_if<wire::Install>(&message);
  if (install != nullptr && armed_heirs_ && armed_heirs_->lineage == install->view.lineage &&
      armed_heirs_->number == install->view.number && armed_heirs_->left > 0) {
    --armed_heirs_->left;
    world_.counters.count(Sometimes::heir_lost);
    world_.trace.line(world_.scheduler.now(), "FAULT {} dies with the coordinator at {}", peer.name(),
                      wire::message_name(message));
    return peer.crash_in(1 + world_.random.index(8));
  }
  if (!armed_ || message.index() != armed_->type) return;
  if (armed_->count > 0) {
    --armed_->count;
    return;
  }
  world_.trace.line(world_.scheduler.now(), "FAULT {} dies at {}", peer.name(), wire::message_name(message));
  peer.crash_in(armed_->actions);
  armed_.reset();
}

void Faults::at_message(CoordinatorHost& host, const wire::Message& message) {
  if (!armed_coordinator_ || message.index() != armed_coordinator_->type) return;
  if (armed_coordinator_->count > 0) {
    --armed_coordinator_->count;
    return;
  }
  world_.trace.line(world_.scheduler.now(), "FAULT the coordinator at address {} dies at {}", host.address(),
                    wire::message_name(message));
  host.crash_in(armed_coordinator_->actions);
  if (const auto* install = std::get_if<wire::Install>(&message); install != nullptr && world_.random.chance(0.4)) {
    armed_heirs_ = ArmedHeirs{install->view.lineage, install->view.number, (install->view.members.size() - 1) / 2};
  }
  armed_coordinator_.reset();
}

// The coordinator is cut off from some, or dies, when some have agreed and others have not.
void Faults::at_accept(CoordinatorHost& host, std::uint32_t group, std::size_t count) {
  if (!armed_cut_ || count != armed_cut_->count || !world_.scheduler.alive(host.actor())) return;
  Random random = armed_cut_->random;
  armed_cut_.reset();
  world_.counters.count(Sometimes::partitioned_at_accept);
  world_.trace.line(world_.scheduler.now(),
                    "FAULT the coordinator at address {} is cut off at acceptance {} of group {}", host.address(),
                    count, group);
  if (random.chance(0.3)) return coordinator_dies(host);
  std::vector<Place> some{world_.place_of_address(host.address())};
  for (Place place = 0; place < world_.slots.size(); ++place) {
    if (random.chance(0.3)) some.push_back(place);
  }
  partition(some, random.range(world_.settings.timeout() / 2, 4 * world_.settings.timeout()), random.chance(0.8));
}

}  // namespace hawser::sim
