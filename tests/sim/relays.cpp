// Frames between two members that have no strand, by way of a third: what runtime/data/engine_relay.cpp does, with
// frames instead of bytes. The sender keeps a frame until its receipt is there; who passes it on may refuse it, lose
// its way, hold it back, or be gone. See the header.
#include <algorithm>

#include "sim/world.hpp"

namespace hawser::sim {
namespace {

// Smaller than the real ones, so that histories come to them.
constexpr std::size_t window = 4;
constexpr std::size_t passing_max = 6;

}  // namespace

Network::Lane& Network::lane(PeerIndex from, PeerIndex to) {
  const Pair key = pair(from, to);
  return links_.at(key).lanes[from == key.first ? 0 : 1];
}

bool Network::may_hear(PeerIndex self, PeerIndex other) const {
  const Pair key = pair(self, other);
  auto it = links_.find(key);
  return it != links_.end() && it->second.allowed[self == key.first ? 0 : 1];
}

// Whoever serves already, else the first of the view that has a strand and is not known to have no way.
PeerIndex Network::way_to(PeerIndex from, PeerIndex to, Lane& lane) const {
  const Micros now = world_.scheduler.now();
  const auto serves = [&](PeerIndex third) {
    const auto refused = lane.no_way.find(third);
    return third != from && third != to && is_up(from, third) &&
           (refused == lane.no_way.end() || now >= refused->second.until);
  };
  if (lane.via != nobody && serves(lane.via)) return lane.via;
  lane.via = nobody;
  lane.proven = false;
  for (const auto& member : world_.peers[from]->machine().view().members) {
    const PeerIndex third = world_.peer(member.peer.id).index();
    if (!serves(third)) continue;
    lane.via = third;
    if (!lane.no_way.empty()) world_.counters.count(Sometimes::relay_again);
    break;
  }
  return lane.via;
}

void Network::look_later(PeerIndex from, PeerIndex to, Micros when) {
  Lane& waiting = lane(from, to);
  if (waiting.unacknowledged.empty() || waiting.look_at <= when) return;
  waiting.look_at = when;
  world_.scheduler.at(when, actor(from), [this, from, to, when] {
    Lane& l = lane(from, to);
    if (l.look_at != when) return;
    l.look_at = never;
    look(from, to);
  });
}

void Network::look(PeerIndex from, PeerIndex to) {
  const Link& link = links_.at(pair(from, to));
  Lane& waiting = lane(from, to);
  if (link.up || waiting.unacknowledged.empty()) return;
  const Settings& s = world_.settings;
  const Micros now = world_.scheduler.now();
  if (now < link.since + s.heartbeat()) return look_later(from, to, link.since + s.heartbeat());
  look_later(from, to, now + s.heartbeat());
  const auto& members = world_.peers[from]->machine().view().members;
  const PeerId receiver = world_.peers[to]->id();
  if (std::none_of(members.begin(), members.end(), [&](const auto& m) { return m.peer.id == receiver; })) return;
  for (const Item& item : waiting.unacknowledged) {
    if (item.via == nobody || now - item.sent < s.timeout()) continue;
    refuse_way(waiting, item.via);
    break;
  }
  const PeerIndex via = way_to(from, to, waiting);
  if (via == nobody) return;
  auto under_way = static_cast<std::size_t>(std::count_if(waiting.unacknowledged.begin(), waiting.unacknowledged.end(),
                                                          [](const Item& item) { return item.via != nobody; }));
  for (Item& item : waiting.unacknowledged) {
    if (item.via != nobody) continue;
    if (under_way >= (waiting.proven ? window : 1)) return;
    ++under_way;
    item.via = via;
    item.sent = now;
    world_.trace.line(now, "{} has no strand with {}: a frame goes by way of {}", world_.peers[from]->name(),
                      world_.peers[to]->name(), world_.peers[via]->name());
    world_.counters.count(Sometimes::relayed);
    hop(from, via, Relay{Relay::What::frame, from, to, item.number, item.frame});
  }
}

void Network::refuse_way(Lane& lane, PeerIndex via) {
  Refused& refused = lane.no_way[via];
  refused.delay = std::clamp(2 * refused.delay, world_.settings.heartbeat(), world_.settings.timeout());
  refused.until = world_.scheduler.now() + refused.delay;
  for (Item& item : lane.unacknowledged) {
    if (item.via == via) item.via = nobody;
  }
}

// The strand to this third is gone.
void Network::lose_way(PeerIndex self, PeerIndex via) {
  for (auto& [key, link] : links_) {
    if (key.first != self && key.second != self) continue;
    const PeerIndex other = key.first == self ? key.second : key.first;
    Lane& lane = link.lanes[key.first == self ? 0 : 1];
    bool used = lane.via == via;
    if (used) lane.via = nobody;
    for (Item& item : lane.unacknowledged) {
      if (item.via != via) continue;
      item.via = nobody;
      used = true;
    }
    if (used && !link.up) look_later(self, other, world_.scheduler.now());
  }
}

// Over a strand that stands. What does not arrive because the strand breaks is lost.
void Network::hop(PeerIndex here, PeerIndex there, const Relay& relay) {
  const Pair key = pair(here, there);
  const int direction = here == key.first ? 0 : 1;
  Link& link = links_.at(key);
  Lane& over = link.lanes[direction];
  const std::uint64_t number = ++hops_;
  if (relay.from != here && relay.what == Relay::What::frame) over.passing.emplace(number, relay);
  const Micros when = arrival(over, here, there);
  world_.scheduler.at(when, actor(there),
                      [this, key, direction, here, there, when, number, session = link.session, relay] {
                        Link& l = links_.at(key);
                        Lane& target = l.lanes[direction];
                        if (l.session != session || when > target.lost_after) return;
                        target.passing.erase(number);
                        if (there == relay.to && relay.what == Relay::What::frame)
                          lane(relay.from, there).brought.insert(relay.number);
                        world_.peers[there]->relay(here, relay);
                      });
}

void Network::pass_on(PeerIndex third, const Relay& relay) {
  const bool way = is_up(third, relay.to);
  if (relay.what == Relay::What::frame) {
    const auto full = [&] {
      const auto& passing = lane(third, relay.to).passing;
      return std::count_if(passing.begin(), passing.end(), [&](const auto& item) {
               return item.second.from == relay.from;
             }) >= static_cast<std::ptrdiff_t>(passing_max);
    };
    if (!way || full()) return answer(third, relay.from, relay, Relay::What::no_way);
  }
  if (way) hop(third, relay.to, relay);
}

// To the one that gave it this frame.
void Network::answer(PeerIndex by, PeerIndex speaker, const Relay& relay, Relay::What what) {
  if (what == Relay::What::no_way) world_.counters.count(Sometimes::relay_refused);
  if (is_up(by, speaker)) hop(by, speaker, Relay{what, relay.to, relay.from, relay.number, {}});
}

// The strand over which these were passed on is gone.
void Network::bounce(PeerIndex third, PeerIndex to) {
  std::map<std::uint64_t, Relay> back;
  back.swap(lane(third, to).passing);
  for (const auto& [number, relay] : back) {
    world_.scheduler.after(0, actor(third),
                           [this, third, relay = relay] { answer(third, relay.from, relay, Relay::What::no_way); });
  }
}

void Network::answered(PeerIndex self, PeerIndex speaker, const Relay& relay) {
  Lane& waiting = lane(self, relay.from);
  auto& items = waiting.unacknowledged;
  const auto at =
      std::find_if(items.begin(), items.end(), [&](const Item& item) { return item.number == relay.number; });
  if (at == items.end()) return;
  if (relay.what == Relay::What::no_way) {
    if (at->via != speaker) return;
    refuse_way(waiting, speaker);
  } else {
    items.erase(at);
    waiting.no_way.erase(speaker);
    if (speaker == waiting.via) waiting.proven = true;
  }
  look(self, relay.from);
}

}  // namespace hawser::sim
