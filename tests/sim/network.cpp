// How messages travel; see the header.
#include "sim/network.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "sim/world.hpp"

namespace hawser::sim {

ActorId Network::actor(PeerIndex peer) const { return world_.peers[peer]->actor(); }
ActorId Network::coordinator_actor(std::uint32_t coordinator) const {
  return world_.coordinators[coordinator]->actor();
}

// ------------------------------------------------------------------------------------------------ control connections

Place Network::place_of(PeerIndex peer) const { return world_.place_of(*world_.peers[peer]); }
Place Network::place_of_coordinator(std::uint32_t coordinator) const {
  return world_.place_of_address(world_.coordinators[coordinator]->address());
}

void Network::block(Place from, Place to, Micros until) {
  Micros& blocked = blocked_[{from, to}];
  blocked = std::max(blocked, until);
}

Micros Network::blocked_until(Place from, Place to) const {
  auto it = blocked_.find({from, to});
  return it == blocked_.end() || it->second <= world_.scheduler.now() ? 0 : it->second;
}

Micros Network::arrival(Control& control, int direction) {
  const Settings& s = world_.settings;
  Micros delay = world_.random.range(1, 2 * s.control_delay);
  if (world_.scheduler.now() < control.slow_until) delay += control.slow;
  Micros start = world_.scheduler.now();
  if (!blocked_.empty()) {
    const Place peer = place_of(control.peer);
    const Place coordinator = place_of_coordinator(control.coordinator);
    const Micros blocked = direction == 0 ? blocked_until(peer, coordinator) : blocked_until(coordinator, peer);
    // The sender's host tries again after ever longer pauses.
    if (blocked != 0) start = blocked + world_.random.range(0, s.timeout() / 4);
  }
  Micros& last = control.last[direction];
  last = std::max(last + 1, start + delay);
  return last;
}

void Network::dial(PeerIndex peer, std::uint32_t address) {
  const Settings& s = world_.settings;
  const Place here = place_of(peer);
  const Place there = world_.place_of_address(address);
  const std::optional<std::uint32_t> host = world_.coordinator_at(address);
  if (is_blocked(here, there) || is_blocked(there, here)) {
    return world_.scheduler.after(s.coordinators > 1 ? s.timeout() / 3 : s.timeout(), actor(peer),
                                  [this, peer] { world_.peers[peer]->control_failed("no answer"); });
  }
  if (!host) {
    return world_.scheduler.after(world_.random.range(1, 4 * s.control_delay), actor(peer),
                                  [this, peer] { world_.peers[peer]->control_failed("connection refused"); });
  }
  const ConnId id = ++connections_;
  controls_.emplace(id, Control{peer, *host});
  Control& control = controls_.at(id);
  // The kernel of a stopped coordinator accepts too.
  world_.scheduler.at(arrival(control, 0), coordinator_actor(*host), [this, id, host] {
    if (controls_.at(id).coordinator_open) world_.coordinators[*host]->opened(id);
  });
  world_.scheduler.at(arrival(control, 1), actor(peer), [this, id, peer, host] {
    if (controls_.at(id).peer_open) world_.peers[peer]->control_opened(id, *host);
  });
}

void Network::send_to_coordinator(ConnId id, wire::Message message) {
  Control& control = controls_.at(id);
  const Micros when = arrival(control, 0);
  world_.scheduler.at(when, coordinator_actor(control.coordinator), [this, id, when, message = std::move(message)] {
    const Control& c = controls_.at(id);
    if (c.coordinator_open && when <= c.lost_after[0]) world_.coordinators[c.coordinator]->received(id, message);
  });
}

void Network::send_to_peer(ConnId id, wire::Message message) {
  Control& control = controls_.at(id);
  const Micros when = arrival(control, 1);
  world_.scheduler.at(when, actor(control.peer), [this, id, when, message = std::move(message)] {
    const Control& c = controls_.at(id);
    if (c.peer_open && when <= c.lost_after[1]) world_.peers[c.peer]->control_received(id, message);
  });
}

void Network::close_arrives(ConnId id, int direction, const std::string& why) {
  Control& control = controls_.at(id);
  const Micros when = arrival(control, direction);
  const bool to_peer = direction == 1;
  const ActorId receiver = to_peer ? actor(control.peer) : coordinator_actor(control.coordinator);
  world_.scheduler.at(when, receiver, [this, id, to_peer, why] {
    Control& c = controls_.at(id);
    bool& open = to_peer ? c.peer_open : c.coordinator_open;
    if (!open) return;
    open = false;
    if (to_peer) {
      world_.peers[c.peer]->control_closed(id, why);
    } else {
      world_.coordinators[c.coordinator]->closed(id, why);
    }
  });
}

void Network::close_by_peer(ConnId id) {
  Control& control = controls_.at(id);
  control.peer_open = false;
  if (control.lost_after[0] == never) close_arrives(id, 0, "the peer closed the connection");
}

void Network::close_by_coordinator(ConnId id) {
  Control& control = controls_.at(id);
  control.coordinator_open = false;
  if (control.lost_after[1] == never) close_arrives(id, 1, "the coordinator closed the connection");
}

void Network::cut(ConnId id, bool peer_hears, bool coordinator_hears) {
  Control& control = controls_.at(id);
  for (Micros& lost_after : control.lost_after) {
    lost_after =
        std::min(lost_after, world_.scheduler.now() + world_.random.range(0, 2 * world_.settings.control_delay));
  }
  if (peer_hears) close_arrives(id, 1, "connection reset");
  if (coordinator_hears) close_arrives(id, 0, "connection reset");
}

void Network::swallow(ConnId id, bool to_coordinator) {
  Micros& lost_after = controls_.at(id).lost_after[to_coordinator ? 0 : 1];
  lost_after = std::min(lost_after, world_.scheduler.now());
}

void Network::slow_down(ConnId id, Micros delay, Micros until) {
  controls_.at(id).slow = delay;
  controls_.at(id).slow_until = until;
}

void Network::coordinator_gone(std::uint32_t coordinator) {
  for (auto& [id, control] : controls_) {
    if (control.coordinator != coordinator || !control.coordinator_open) continue;
    control.coordinator_open = false;
    control.lost_after[1] = std::min(
        control.lost_after[1], world_.scheduler.now() + world_.random.range(0, 3 * world_.settings.control_delay));
    if (world_.random.chance(0.9)) close_arrives(id, 1, "connection reset by the coordinator's host");
  }
}

void Network::coordinator_back(std::uint32_t address) {
  for (auto& [id, control] : controls_) {
    const CoordinatorHost& host = *world_.coordinators[control.coordinator];
    if (host.address() != address || world_.scheduler.alive(host.actor()) || !control.peer_open) continue;
    world_.scheduler.after(world_.random.range(0, world_.settings.heartbeat_ms * 1000), actor(control.peer),
                           [this, id] {
                             if (controls_.at(id).peer_open)
                               close_arrives(id, 1, "connection reset by the coordinator's host");
                           });
  }
}

// ------------------------------------------------------------------------------------------------------ light strands

Micros Network::strand_delay() { return world_.random.range(1, 2 * world_.settings.strand_delay); }

void Network::allow(PeerIndex self, PeerIndex other, bool dials) {
  const Pair key = pair(self, other);
  Link& link = links_[key];
  const int side = self == key.first ? 0 : 1;
  link.allowed[side] = true;
  if (!dials) return;
  link.dialler = side;
  try_link(key, strand_delay());
}

void Network::try_link(const Pair& key, Micros delay) {
  Link& link = links_.at(key);
  if (link.dialling) return;
  link.dialling = true;
  world_.scheduler.after(delay, nature, [this, key] {
    Link& l = links_.at(key);
    l.dialling = false;
    const ActorId a = actor(key.first);
    const ActorId b = actor(key.second);
    if (l.up || l.dialler < 0 || !l.allowed[l.dialler] || !world_.scheduler.alive(a) || !world_.scheduler.alive(b)) {
      return;
    }
    if (!l.allowed[0] || !l.allowed[1] || world_.scheduler.now() < l.dead_until || world_.scheduler.paused(a) ||
        world_.scheduler.paused(b)) {
      return try_link(key, world_.random.range(1, world_.settings.timeout() / 10));
    }
    const Place first = place_of(key.first);
    const Place second = place_of(key.second);
    if (is_blocked(first, second) || is_blocked(second, first)) {
      return try_link(key, world_.random.range(1, world_.settings.timeout() / 10));
    }
    l.up = true;
    l.was_up = true;
    ++l.session;
    const PeerIndex dialler = l.dialler == 0 ? key.first : key.second;
    const PeerIndex other = l.dialler == 0 ? key.second : key.first;
    world_.scheduler.after(0, actor(dialler), [this, dialler, other] { world_.peers[dialler]->linked(other); });
    for (int direction : {0, 1}) {
      l.lanes[direction].last = 0;
      for (const auto& item : l.lanes[direction].unacknowledged) transmit(key, direction, item);
    }
  });
}

void Network::part(PeerIndex self, PeerIndex other) {
  const Pair key = pair(self, other);
  auto it = links_.find(key);
  if (it == links_.end()) return;
  Link& link = it->second;
  const int side = self == key.first ? 0 : 1;
  link.allowed[side] = false;
  const bool was_up = link.up;
  link.up = false;
  ++link.session;
  for (Lane& lane : link.lanes) lane.unacknowledged.clear();
  if (was_up) unreachable_later(key, 1 - side);
}

void Network::send(PeerIndex from, PeerIndex to, Frame frame) {
  const Pair key = pair(from, to);
  auto it = links_.find(key);
  if (it == links_.end() || !it->second.was_up || !it->second.allowed[0] || !it->second.allowed[1]) return;
  const int direction = from == key.first ? 0 : 1;
  Lane& lane = it->second.lanes[direction];
  lane.unacknowledged.emplace_back(lane.next++, std::move(frame));
  if (it->second.up) transmit(key, direction, lane.unacknowledged.back());
}

void Network::transmit(const Pair& key, int direction, const std::pair<std::uint64_t, Frame>& item) {
  Link& link = links_.at(key);
  Lane& lane = link.lanes[direction];
  const PeerIndex from = direction == 0 ? key.first : key.second;
  const PeerIndex to = direction == 0 ? key.second : key.first;
  const Micros start = std::max(world_.scheduler.now(), blocked_until(place_of(from), place_of(to)));
  const Micros when = lane.last = std::max(lane.last + 1, start + strand_delay());
  world_.scheduler.at(when, actor(to), [this, key, direction, from, to, when, session = link.session, item] {
    Link& l = links_.at(key);
    Lane& target = l.lanes[direction];
    if (l.session != session || when > target.lost_after) return;
    if (item.first <= target.seen) world_.counters.count(Sometimes::frame_repeated);
    target.seen = std::max(target.seen, item.first);
    world_.scheduler.after(world_.random.range(1, 6 * world_.settings.strand_delay), actor(from),
                           [this, key, direction, session, number = item.first] {
                             Link& back = links_.at(key);
                             if (back.session != session) return;
                             auto& queue = back.lanes[direction].unacknowledged;
                             while (!queue.empty() && queue.front().first <= number) queue.pop_front();
                           });
    world_.peers[to]->frame(from, item.second);
  });
}

void Network::unreachable_later(const Pair& key, int side) {
  const PeerIndex self = side == 0 ? key.first : key.second;
  const PeerIndex other = side == 0 ? key.second : key.first;
  const std::uint64_t session = links_.at(key).session;
  const Micros delay = world_.settings.timeout() + world_.random.range(0, world_.settings.timeout() / 4);
  world_.scheduler.after(delay, actor(self), [this, key, self, other, session] {
    const Link& link = links_.at(key);
    if (!link.up && link.session == session) world_.peers[self]->unreachable(other);
  });
}

void Network::went_down(const Pair& key, bool hears_first, bool hears_second) {
  Link& link = links_.at(key);
  link.up = false;
  ++link.session;
  unreachable_later(key, 0);
  unreachable_later(key, 1);
  const auto tell = [&](PeerIndex self, PeerIndex other) {
    world_.scheduler.after(0, actor(self), [this, self, other] { world_.peers[self]->link_lost(other); });
  };
  if (hears_first) tell(key.first, key.second);
  if (hears_second) tell(key.second, key.first);
  try_link(key, world_.random.range(1, world_.settings.timeout() / 10));
}

void Network::cut_strand(PeerIndex a, PeerIndex b, Micros dead_until) {
  const Pair key = pair(a, b);
  auto it = links_.find(key);
  if (it == links_.end()) return;
  it->second.dead_until = std::max(it->second.dead_until, dead_until);
  if (it->second.up) went_down(key);
}

bool Network::data_flows(PeerIndex a, PeerIndex b) const {
  auto it = links_.find(pair(a, b));
  return it != links_.end() && it->second.up && !is_blocked(place_of(a), place_of(b));
}

bool Network::linked(PeerIndex a, PeerIndex b) const {
  auto it = links_.find(pair(a, b));
  return it != links_.end() && it->second.was_up;
}

void Network::heal() {
  blocked_.clear();
  for (auto& [key, link] : links_) link.dead_until = 0;
}

void Network::gone(PeerIndex peer, ConnId control, bool silently) {
  const Micros now = world_.scheduler.now();
  if (control != 0) {
    Control& c = controls_.at(control);
    if (c.peer_open) {
      c.peer_open = false;
      c.lost_after[0] = std::min(c.lost_after[0], now + world_.random.range(0, 3 * world_.settings.control_delay));
      if (!silently) close_arrives(control, 0, "connection reset by the peer's host");
    }
  }
  for (auto& [key, link] : links_) {
    if (key.first != peer && key.second != peer) continue;
    const int side = key.first == peer ? 0 : 1;
    Lane& lane = link.lanes[side];
    const Micros last = now + world_.random.range(0, 3 * world_.settings.strand_delay);
    lane.lost_after = std::min(lane.lost_after, last);
    if (silently || !link.up) continue;
    const Pair pair_key = key;
    const int other = 1 - side;
    world_.scheduler.at(last + 1, nature, [this, pair_key, other] {
      Link& l = links_.at(pair_key);
      if (!l.up) return;
      l.up = false;
      ++l.session;
      unreachable_later(pair_key, other);
      const PeerIndex self = other == 0 ? pair_key.first : pair_key.second;
      const PeerIndex dead = other == 0 ? pair_key.second : pair_key.first;
      world_.scheduler.after(0, actor(self), [this, self, dead] { world_.peers[self]->link_lost(dead); });
    });
  }
}

}  // namespace hawser::sim
