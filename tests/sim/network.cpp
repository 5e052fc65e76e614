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

bool Network::is_cut_off(Place place) const {
  return std::any_of(blocked_.begin(), blocked_.end(), [&](const auto& item) {
    return (item.first.first == place || item.first.second == place) && item.second > world_.scheduler.now();
  });
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
                           [this, id = id] {  // a name of its own, for clang 14
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
  if (!link.up) unreachable_later(key, side);
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
    l.since = world_.scheduler.now();
    ++l.session;
    const PeerIndex dialler = l.dialler == 0 ? key.first : key.second;
    const PeerIndex other = l.dialler == 0 ? key.second : key.first;
    world_.scheduler.after(0, actor(dialler), [this, dialler, other] { world_.peers[dialler]->linked(other); });
    for (int direction : {0, 1}) {
      Lane& lane = l.lanes[direction];
      lane.last = 0;
      lane.via = nobody;
      lane.proven = false;
      lane.no_way.clear();
      for (Item& item : lane.unacknowledged) {
        item.via = nobody;
        transmit(key, direction, item);
      }
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
  for (Lane& lane : link.lanes) lane.unacknowledged.clear();
  if (!link.up) {
    ++link.session;
    return;
  }
  set_down(key);
  unreachable_later(key, 1 - side);
}

bool Network::send(PeerIndex from, PeerIndex to, Frame frame) {
  const Pair key = pair(from, to);
  auto it = links_.find(key);
  if (it == links_.end() || !it->second.allowed[0] || !it->second.allowed[1]) return false;
  const Link& link = it->second;
  const int direction = from == key.first ? 0 : 1;
  Lane& lane = it->second.lanes[direction];
  lane.unacknowledged.push_back(Item{lane.next++, std::move(frame), nobody, 0});
  if (link.up) {
    transmit(key, direction, lane.unacknowledged.back());
  } else {
    look_later(from, to, link.since + world_.settings.heartbeat());
  }
  return true;
}

Micros Network::arrival(Lane& lane, PeerIndex from, PeerIndex to) {
  const Micros now = world_.scheduler.now();
  const Micros start = std::max(now, blocked_until(place_of(from), place_of(to)));
  const Micros slow = now < lane.slow_until ? lane.slow : 0;
  return lane.last = std::max(lane.last + 1, start + slow + strand_delay());
}

void Network::slow_strand(PeerIndex from, PeerIndex to, Micros delay, Micros until) {
  if (!links_.contains(pair(from, to))) return;
  lane(from, to).slow = delay;
  lane(from, to).slow_until = until;
}

void Network::transmit(const Pair& key, int direction, const Item& item) {
  Link& link = links_.at(key);
  Lane& lane = link.lanes[direction];
  const PeerIndex from = direction == 0 ? key.first : key.second;
  const PeerIndex to = direction == 0 ? key.second : key.first;
  const Micros when = arrival(lane, from, to);
  world_.scheduler.at(when, actor(to), [this, key, direction, from, to, when, session = link.session, item] {
    Link& l = links_.at(key);
    Lane& target = l.lanes[direction];
    if (l.session != session || when > target.lost_after) return;
    if (item.number <= target.seen) world_.counters.count(Sometimes::frame_repeated);
    if (target.brought.contains(item.number)) world_.counters.count(Sometimes::relay_repeated);
    target.seen = std::max(target.seen, item.number);
    world_.scheduler.after(world_.random.range(1, 6 * world_.settings.strand_delay), actor(from),
                           [this, key, direction, session, number = item.number] {
                             Link& back = links_.at(key);
                             if (back.session != session) return;
                             auto& queue = back.lanes[direction].unacknowledged;
                             while (!queue.empty() && queue.front().number <= number) queue.pop_front();
                           });
    world_.peers[to]->frame(from, item.frame);
  });
}

// Said again every peer timeout, as long as there is no strand.
void Network::unreachable_later(const Pair& key, int side) {
  Link& link = links_.at(key);
  if (std::exchange(link.watched[side], true)) return;
  const PeerIndex self = side == 0 ? key.first : key.second;
  const PeerIndex other = side == 0 ? key.second : key.first;
  const Micros delay = world_.settings.timeout() + world_.random.range(0, world_.settings.timeout() / 4);
  world_.scheduler.after(delay, actor(self), [this, key, side, self, other] {
    Link& l = links_.at(key);
    l.watched[side] = false;
    if (l.up || !l.allowed[side]) return;
    if (world_.scheduler.now() - l.since >= world_.settings.timeout()) world_.peers[self]->unreachable(other);
    unreachable_later(key, side);
  });
}

void Network::set_down(const Pair& key) {
  Link& link = links_.at(key);
  link.up = false;
  link.since = world_.scheduler.now();
  ++link.session;
  for (const auto& [self, other] : {key, Pair{key.second, key.first}}) {
    bounce(self, other);
    lose_way(self, other);
    look_later(self, other, link.since + world_.settings.heartbeat());
  }
}

void Network::went_down(const Pair& key, bool hears_first, bool hears_second) {
  set_down(key);
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

void Network::fall_silent(PeerIndex a, PeerIndex b) {
  const Pair key = pair(a, b);
  auto it = links_.find(key);
  if (it == links_.end() || !it->second.up) return;
  const Micros delay = world_.settings.timeout() + world_.random.range(0, world_.settings.heartbeat());
  world_.scheduler.after(delay, nature, [this, key, session = it->second.session] {
    const Link& link = links_.at(key);
    if (!link.up || link.session != session) return;
    const Place first = place_of(key.first);
    const Place second = place_of(key.second);
    const Scheduler& scheduler = world_.scheduler;
    const bool silent = is_blocked(first, second) || is_blocked(second, first) || scheduler.paused(actor(key.first)) ||
                        scheduler.paused(actor(key.second)) || !scheduler.alive(actor(key.first)) ||
                        !scheduler.alive(actor(key.second));
    if (!silent) return;
    world_.peers[key.first]->links_broken();
    world_.peers[key.second]->links_broken();
    went_down(key);
  });
}

bool Network::is_up(PeerIndex a, PeerIndex b) const {
  auto it = links_.find(pair(a, b));
  return it != links_.end() && it->second.up;
}

bool Network::has_stood(PeerIndex a, PeerIndex b, Micros since) const {
  auto it = links_.find(pair(a, b));
  return it != links_.end() && it->second.up && it->second.since <= since;
}

void Network::heal() {
  blocked_.clear();
  for (auto& [key, link] : links_) {
    if (link.dead_until != never) link.dead_until = 0;
  }
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
    if (silently) fall_silent(key.first, key.second);
    if (silently || !link.up) continue;
    const Pair pair_key = key;
    const int other = 1 - side;
    world_.scheduler.at(last + 1, nature, [this, pair_key, other] {
      Link& l = links_.at(pair_key);
      if (!l.up) return;
      set_down(pair_key);
      unreachable_later(pair_key, other);
      const PeerIndex self = other == 0 ? pair_key.first : pair_key.second;
      const PeerIndex dead = other == 0 ? pair_key.second : pair_key.first;
      world_.scheduler.after(0, actor(self), [this, self, dead] { world_.peers[self]->link_lost(dead); });
    });
  }
}

}  // namespace hawser::sim
