// The faults; see the header.
#include "sim/faults.hpp"

#include <vector>

#include "sim/world.hpp"

namespace hawser::sim {

void Faults::schedule() {
  for (std::size_t kind = 0; kind < fault_kinds; ++kind) {
    for (std::uint32_t i = 0; i < world_.settings.faults[kind]; ++i) {
      world_.scheduler.at(world_.random.range(0, world_.settings.fault_time), nature,
                          [this, kind] { happen(static_cast<Fault>(kind)); });
    }
  }
}

Peer* Faults::any_peer(bool member) {
  std::vector<Peer*> living;
  for (const auto& peer : world_.peers) {
    if (world_.scheduler.alive(peer->actor()) && (!member || peer->is_member())) living.push_back(peer.get());
  }
  return living.empty() ? nullptr : living[world_.random.index(living.size())];
}

void Faults::pause(Peer& peer, Micros time) {
  if (world_.scheduler.paused(peer.actor())) return;
  peer.disturb();
  world_.scheduler.pause(peer.actor());
  world_.scheduler.after(time, nature, [this, index = peer.index()] {
    Peer& p = *world_.peers[index];
    if (!world_.scheduler.alive(p.actor())) return;
    world_.trace.line(world_.scheduler.now(), "{} goes on", p.name());
    // Which comes first, timers or what lies in the sockets, is not said anywhere.
    if (world_.random.chance(0.5)) world_.scheduler.after(0, p.actor(), [&p] { p.resumed(); });
    world_.scheduler.resume(p.actor());
  });
}

void Faults::happen(Fault fault) {
  if (world_.quiet) return;
  Random& random = world_.random;
  const Settings& s = world_.settings;
  Scheduler& scheduler = world_.scheduler;
  Peer* peer = any_peer(random.chance(0.8));
  const auto say = [&](const std::string& whom) {
    world_.trace.line(scheduler.now(), "FAULT {} {}", fault_name(fault), whom);
  };
  if (fault == Fault::join) {
    for (Slot& slot : world_.slots) {
      if (slot.wanted || random.chance(0.3)) continue;
      say("");
      slot.wanted = true;
      return world_.start_slot(slot, 0);
    }
    return;
  }
  if (fault == Fault::coordinator_pause) {
    CoordinatorHost& host = *world_.coordinators.back();
    if (!scheduler.alive(host.actor()) || scheduler.paused(host.actor())) return;
    say("");
    // Those who wait for it may give it up; it removes them then, and is right.
    const Micros time = random.range(s.timeout() / 4, 3 * s.timeout());
    for (const auto& p : world_.peers) p->disturb();
    if (time > 2 * s.timeout()) world_.counters.count(Sometimes::coordinator_paused);
    scheduler.pause(host.actor());
    scheduler.after(time, nature, [this, actor = host.actor(), &host] {
      if (world_.random.chance(0.5)) world_.scheduler.after(0, actor, [&host] { host.tick(); });
      world_.scheduler.resume(actor);
    });
    return;
  }
  if (fault == Fault::coordinator_crash) {
    CoordinatorHost& host = *world_.coordinators.back();
    if (!scheduler.alive(host.actor())) return;
    say("");
    if (random.chance(0.5)) {
      host.crash_in(random.index(4));
    } else {
      world_.crash_coordinator();
    }
    return;
  }
  if (fault == Fault::crash_at_message) {
    // What members hear in the course of a view change or an admission, and what they say.
    static constexpr std::size_t types[] = {4, 7, 8, 9, 10, 11, 15, 16, 17, 18, 18, 18};
    armed_ = Armed{types[random.index(std::size(types))], random.below(6), random.index(5)};
    say(std::to_string(armed_->type));
    return;
  }
  if (peer == nullptr) return;
  say(peer->name());
  switch (fault) {
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
    case Fault::strand_cut:
    case Fault::edge_dead: {
      Peer* other = any_peer(true);
      if (other == nullptr || other == peer) return;
      Micros until = 0;
      if (fault == Fault::edge_dead) {
        until = scheduler.now() + random.range(s.timeout(), 4 * s.timeout());
        peer->disturb();
        other->disturb();
      }
      return world_.network.cut_strand(peer->index(), other->index(), until);
    }
    default:
      return;
  }
}

void Faults::at_message(Peer& peer, const wire::Message& message) {
  if (!armed_ || message.index() != armed_->type) return;
  if (armed_->count > 0) {
    --armed_->count;
    return;
  }
  world_.trace.line(world_.scheduler.now(), "FAULT {} dies at {}", peer.name(), wire::message_name(message));
  peer.crash_in(armed_->actions);
  armed_.reset();
}

}  // namespace hawser::sim
