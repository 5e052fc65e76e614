// What a coordinator tells people who ask (`hawser status`): who is there, and what waits for what. Nothing is changed
// by being asked. See coordinator.hpp.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "protocol/membership/coordinator.hpp"

namespace hawser::protocol {
namespace {

constexpr std::size_t names_max = 8;  // in one sentence

// "rank 1 (b/92), rank 4 (e/70)"
class Names {
 public:
  void add(const std::string& name) {
    if (++count_ > names_max) return;
    text_ += (text_.empty() ? "" : ", ") + name;
  }
  void add(const wire::View& view, const wire::ViewMember& member) {
    add(fmt::format("rank {} ({})", &member - view.members.data(), member.peer.name));
  }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::string text() const {
    return count_ <= names_max ? text_ : fmt::format("{} and {} more", text_, count_ - names_max);
  }

 private:
  std::string text_;
  std::size_t count_ = 0;
};

}  // namespace

// The first thing that stands in the way of the next view.
std::string Coordinator::waits_for(std::uint32_t group_id, const Group& group) const {
  const wire::View& view = group.view;
  Names names;
  const auto members_that = [&](const auto& is_so) {
    for (const auto& member : view.members) {
      if (is_so(peers_.at(member.peer.id))) names.add(view, member);
    }
    return !names.empty();
  };
  if (group.recovery) {
    for (const auto& [id, peer] : peers_) {
      if (peer.group == group_id && peer.conn != 0) names.add(peer.info.name);
    }
    return fmt::format("the members of a view that is not known here; come back are {}",
                       names.empty() ? "none" : names.text());
  }
  if (group.pending) {
    const std::uint64_t number = group.pending->install.view.number;
    if (group.pending->retry) return fmt::format("view {} could not be made durable and is tried again", number);
    if (!group.pending->durable) return fmt::format("view {} to be made durable", number);
    members_that([&](const Peer& peer) {
      return has_a_say(group, peer.id) && !group.pending->accepted.contains(peer.id) && !group.doomed.contains(peer.id);
    });
    return fmt::format("agreement to view {} by {}", number, names.empty() ? "its newcomers" : names.text());
  }
  if (needs_majority(group) && !majority_present(group)) {
    members_that([](const Peer& peer) { return peer.conn == 0; });
    return fmt::format("a majority of the members: not here are {}", names.text());
  }
  if (group.change.sealing) {
    members_that(
        [&](const Peer& peer) { return !group.doomed.contains(peer.id) && !group.change.replies.contains(peer.id); });
    return fmt::format("answers to a Seal by {}", names.text());
  }
  switch (group.admission.phase) {
    case Admission::Phase::asking:
      members_that([&](const Peer& peer) { return !group.admission.promises.contains(peer.id); });
      return fmt::format("word from {} at which admission point newcomers may be let in", names.text());
    case Admission::Phase::stopping:
      members_that([&](const Peer& peer) { return !group.admission.at_point.contains(peer.id); });
      return fmt::format("{} to come to admission point {}, at which newcomers are let in", names.text(),
                         group.admission.target);
    case Admission::Phase::idle:
      break;
  }
  if (group.hold_until) return "room for a view that could not be made durable; newcomers wait";
  if (members_that([](const Peer& peer) { return peer.conn == 0; })) {
    return fmt::format("{} to come back, or peer_timeout_ms to pass", names.text());
  }
  return {};
}

// Somebody who is no member.
std::string Coordinator::waits_for(const Peer& peer, const Group& group) const {
  if (peer.phase == Phase::greeted) return "has not said yet that it wants to be let in";
  if (peer.phase == Phase::returning) return "says that it is a member of a view that is not known here";
  Names names;
  for (const auto& member : group.view.members) {
    if (!group.doomed.contains(member.peer.id) && !linked(peer.id, member.peer.id)) names.add(group.view, member);
  }
  std::size_t others = 0;
  for (const auto& [id, other] : peers_) {
    if (id == peer.id || other.group != peer.group || other.phase != Phase::waiting) continue;
    ++others;
    if (group.view.members.empty() && !linked(peer.id, id)) names.add(other.info.name);
  }
  if (!names.empty()) return "a connection with " + names.text();
  if (group.view.members.empty()) {
    return fmt::format("min_size = {} peers, {} are here", peer.min_size, others + 1);
  }
  return "the members' admission point";
}

wire::PeerStatus Coordinator::status_of(const Peer& peer, const Group& group, const Env& env) const {
  wire::PeerStatus out;
  out.group = peer.group;
  out.info = peer.info;
  const auto since = [&](Millis then) {
    return static_cast<std::uint32_t>(std::clamp<Millis>(env.now - then, 0, std::numeric_limits<std::uint32_t>::max()));
  };
  const auto conn = conns_.find(peer.conn);
  if (conn != conns_.end()) out.heard_ms = since(conn->second.heard);
  if (peer.absent_at) out.heard_ms = since(peer.conn_ended_at.value_or(*peer.absent_at));
  const auto doomed = group.doomed.find(peer.id);
  switch (peer.phase) {
    case Phase::greeted:
      out.state = wire::PeerState::greeted;
      break;
    case Phase::waiting:
      out.state = wire::PeerState::waiting;
      break;
    case Phase::returning:
      out.state = wire::PeerState::returning;
      break;
    case Phase::member:
      out.state = doomed != group.doomed.end() ? wire::PeerState::lost
                  : peer.leaving               ? wire::PeerState::leaving
                  : peer.conn == 0             ? wire::PeerState::away
                                               : wire::PeerState::member;
      break;
  }
  if (peer.phase != Phase::member) {
    out.text = waits_for(peer, group);
  } else if (doomed != group.doomed.end()) {
    out.text = doomed->second.why;
  } else if (peer.conn == 0) {
    out.text = peer.absent_why;
  }
  out.progress = peer.progress;
  out.before = peer.progress_before;
  out.between_ms = static_cast<std::uint32_t>(
      std::clamp<Millis>(peer.progress_between, 0, std::numeric_limits<std::uint32_t>::max()));
  return out;
}

wire::StatusReport Coordinator::report(const Env& env) const {
  wire::StatusReport out;
  out.run = config_.run;
  out.standby_of = config_.standby_of;
  out.up_ms = static_cast<std::uint64_t>(env.now - began_at_.value_or(env.now));
  out.heartbeat_ms = config_.heartbeat_ms;
  out.peer_timeout_ms = config_.peer_timeout_ms;
  out.peers = static_cast<std::uint32_t>(peers_.size());
  for (const auto& [group_id, group] : groups_) {
    if (out.groups.size() < wire::status_groups_max) {
      out.groups.push_back({group_id, group.view.lineage, group.view.rule, group.view.number, group.view.epoch,
                            group.view.generation, leads(group_id), waits_for(group_id, group)});
    }
    const auto add = [&, &group = group](const Peer& peer, std::size_t rank) {  // clang 14 captures no binding
      if (out.list.size() >= wire::members_max) return;
      out.list.push_back(status_of(peer, group, env));
      out.list.back().rank = static_cast<std::uint32_t>(rank);
    };
    for (std::size_t rank = 0; rank < group.view.members.size(); ++rank) {
      if (const auto peer = peers_.find(group.view.members[rank].peer.id); peer != peers_.end()) {
        add(peer->second, rank);
      }
    }
    std::vector<const Peer*> others;
    for (const auto& [id, peer] : peers_) {
      if (peer.group == group_id && peer.phase != Phase::member) others.push_back(&peer);
    }
    std::sort(others.begin(), others.end(), [](const Peer* a, const Peer* b) { return a->arrival < b->arrival; });
    for (const Peer* peer : others) add(*peer, 0);
  }
  return out;
}

}  // namespace hawser::protocol
