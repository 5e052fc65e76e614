// Peers of the coordinator: how they come, what they may say, how they are lost. See the header.
#include "protocol/membership/coordinator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "protocol/membership/edges.hpp"
#include "protocol/mutants.hpp"
#include "protocol/round/outcomes.hpp"

namespace hawser::protocol {
namespace {

// Scrambles a secret and two identities into a ticket. The ticket's secrecy rests on the secret being random and never
// sent; it keeps strangers out, not an attacker who can read the wire (that is what TLS is for).
std::uint64_t mix(std::uint64_t x) {  // the finaliser of splitmix64 (Steele, Lea, Flood 2014)
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

}  // namespace

void Coordinator::step(const Event& event, const Env& env, Actions& actions) {
  if (!began_at_) began_at_ = env.now;
  std::visit([&](const auto& e) { on(e, env, actions); }, event);
}

std::optional<Millis> Coordinator::next_deadline() const {
  if (conns_.empty() && groups_.empty()) return std::nullopt;
  Millis due = next_heartbeat_;
  for (const auto& [id, conn] : conns_) {
    if (conn.peer) due = std::min(due, conn.heard + config_.peer_timeout_ms);
  }
  for (const auto& [id, peer] : peers_) {
    if (!peer.absent_at || peer.phase != Phase::member) continue;
    const Group& group = groups_.at(peer.group);
    if (group.doomed.contains(id) || (needs_majority(group) && !majority_present(group))) continue;
    due = std::min(due, *peer.absent_at + config_.peer_timeout_ms);
  }
  // Members that are kept for nothing are missed elsewhere. What a tick has left as it was waits for the heartbeat.
  const auto once = [&](Millis at) {
    if (!last_tick_ || at > *last_tick_) due = std::min(due, at);
  };
  for (const auto& [id, group] : groups_) {
    if (group.verdict_at) due = std::min(due, *group.verdict_at);
    if (group.recovery && !group.recovery->idle) once(group.recovery->since + group.recovery->patience);
    if (group.minority_since) once(*group.minority_since + group.minority_patience);
  }
  return due;
}

const wire::View* Coordinator::view(std::uint32_t group) const {
  auto it = groups_.find(group);
  return it == groups_.end() ? nullptr : &it->second.view;
}

bool Coordinator::leads(std::uint32_t group) const {
  auto it = groups_.find(group);
  if (it == groups_.end() || it->second.recovery || it->second.view.number == 0) return false;
  const Group& known = it->second;
  if (needs_majority(known) && !majority_present(known)) return false;
  return !known.pending || known.pending->install.view.rule != wire::Rule::quorum || can_be_agreed(known);
}

void Coordinator::on(const Opened& event, const Env& env, Actions& /*actions*/) {
  // Nobody was there, so nothing ticked: that is no sign of a coordinator that did not run. From now on it would be
  // one.
  if (!next_deadline()) last_tick_ = env.now;
  conns_[event.conn] = Conn{event.seen_host, std::nullopt, env.now};
}

void Coordinator::on(const Received& event, const Env& env, Actions& actions) {
  auto it = conns_.find(event.conn);
  if (it == conns_.end()) return;  // closed by us while this was on its way
  it->second.heard = env.now;
  if (const auto* hello = std::get_if<wire::Hello>(&event.message)) {
    on_hello(event.conn, *hello, env, actions);
    return;
  }
  if (!it->second.peer && std::holds_alternative<wire::StatusQuery>(event.message)) {
    actions.push_back(Send{event.conn, report(env)});
    actions.push_back(Close{event.conn, "told who is here"});
    conns_.erase(it);
    return;
  }
  if (!it->second.peer) {
    refuse(event.conn, Code::REFUSED, fmt::format("the first message was {}, not Hello", message_name(event.message)),
           env, actions);
    return;
  }
  on_peer_message(peers_.at(*it->second.peer), event.message, env, actions);
}

void Coordinator::on(const Closed& event, const Env& env, Actions& actions) {
  auto it = conns_.find(event.conn);
  if (it == conns_.end()) {
    // It may wait to be told that it has gone; it comes again.
    for (auto& [id, group] : groups_) {
      std::erase_if(group.farewells, [&](const Farewell& farewell) { return farewell.conn == event.conn; });
    }
    return;
  }
  std::optional<PeerId> peer = it->second.peer;
  conns_.erase(it);
  if (peer) peer_gone(*peer, event.why, false, env, actions);
}

// A coordinator that was itself stopped (a paused machine) must not blame its peers for the silence: that time does not
// count.
void Coordinator::forgive(Millis stopped, const Env& env) {
  const auto shift = [&](Millis& since) { since = std::max(since, std::min(env.now, since + stopped)); };
  for (auto& [id, conn] : conns_) shift(conn.heard);
  for (auto& [id, peer] : peers_) {
    if (peer.absent_at) shift(*peer.absent_at);
    if (peer.missed_at) shift(*peer.missed_at);
  }
  for (auto& [id, group] : groups_) {
    if (group.recovery) {
      shift(group.recovery->since);
      shift(group.recovery->seen_at);
      for (auto& [peer, away] : group.recovery->away) shift(away.since);
    }
    if (group.minority_since) shift(*group.minority_since);
  }
}

bool Coordinator::was_asleep(const Env& env) const {
  const auto heartbeat = static_cast<Millis>(config_.heartbeat_ms);
  return (last_tick_ && env.now - *last_tick_ > 3 * heartbeat) || (awake_since_ && env.now - *awake_since_ < heartbeat);
}

void Coordinator::on(const Tick& /*event*/, const Env& env, Actions& actions) {
  const Millis timeout = config_.peer_timeout_ms;
  const Millis gap = last_tick_ ? env.now - *last_tick_ : 0;
  const auto heartbeat = static_cast<Millis>(config_.heartbeat_ms);
  if (gap > heartbeat) forgive(gap - heartbeat / 2, env);
  if (gap > 3 * heartbeat) {
    awake_since_ = env.now;
    actions.push_back(Note{true, fmt::format("this coordinator was not running for {} ms; silence is forgiven", gap)});
  }
  last_tick_ = env.now;
  if (env.now >= next_heartbeat_) {
    next_heartbeat_ = env.now + config_.heartbeat_ms;
    ++heartbeat_sequence_;
    for (const auto& [id, conn] : conns_) {
      if (conn.peer) actions.push_back(Send{id, wire::Heartbeat{heartbeat_sequence_}});
    }
    for (auto& [id, group] : groups_) {
      if (group.recovery && group.recovery->counts == Recovery::Counts::failed) confirm(id, *group.recovery, actions);
      if (!group.pending || !group.pending->retry) continue;
      group.pending->retry = false;
      actions.push_back(Persist{id, group.pending->install});
    }
  }
  std::vector<ConnId> silent;
  for (const auto& [id, conn] : conns_) {
    if (conn.peer && env.now - conn.heard >= timeout) silent.push_back(id);
  }
  for (ConnId id : silent) {
    auto conn = conns_.find(id);
    if (conn == conns_.end()) continue;
    const std::string why = fmt::format("no heartbeat for {} ms (peer_timeout_ms)", env.now - conn->second.heard);
    const PeerId peer = *conn->second.peer;
    conns_.erase(conn);
    actions.push_back(Close{id, why});
    peers_.at(peer).absent_at = env.now - timeout;
    peer_gone(peer, why, false, env, actions);
  }
  for (auto& [id, peer] : peers_) {
    if (!peer.absent_at) continue;
    Group& group = groups_.at(peer.group);
    if (!group.view.contains(id) || group.doomed.contains(id) || !is_overdue(peer, group, env)) continue;
    // Without a majority nobody can be removed, and those who are away look for one.
    if (needs_majority(group) && !majority_present(group)) continue;
    group.doomed.emplace(id, Doom{peer.absent_why, true});
  }
  std::vector<std::uint32_t> ids;
  for (auto& [id, group] : groups_) {
    ids.push_back(id);
    const bool led = group.view.members.empty() || group.recovery || leads(id);
    if (led) {
      group.minority_since.reset();
    } else if (!group.minority_since) {
      wait_for_majority(group, 2 * patience(env), env);
    }
    if (group.verdict_at && env.now >= *group.verdict_at) {
      group.verdict_at.reset();
      weigh_suspicions(group, env, actions);
    }
  }
  for (const std::uint32_t id : ids) {
    advance(id, env, actions);
    auto it = groups_.find(id);
    if (it == groups_.end() || !it->second.minority_since) continue;
    if (env.now - *it->second.minority_since < it->second.minority_patience) continue;
    // Another coordinator may lead meanwhile: all had better look for it. Members may still come back here.
    wait_for_majority(it->second, 2 * patience(env), env);
    const std::string why = "this coordinator has no majority of the members";
    std::vector<PeerId> here;
    for (const auto& [peer_id, peer] : peers_) {
      if (peer.group == id && peer.conn != 0 && peer.addresses > 1) here.push_back(peer_id);
    }
    for (const PeerId& peer_id : here) {
      Peer& peer = peers_.at(peer_id);
      if (peer.phase != Phase::member) {
        turn_away(peer_id, why, actions);
        continue;
      }
      send(peer_id, wire::Refuse{{}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), why}, actions);
      actions.push_back(Close{peer.conn, why});
      conns_.erase(peer.conn);
      peer.conn = 0;
      peer.absent_at = env.now;
      peer.absent_why = why;
    }
  }
}

bool Coordinator::is_overdue(const Peer& peer, const Group& group, const Env& env) const {
  const Millis timeout = config_.peer_timeout_ms;
  if (env.now - *peer.absent_at >= timeout) return true;
  if (!peer.missed_at || env.now - *peer.missed_at < timeout) return false;
  const Millis fresh = env.now - 2 * timeout;
  return std::all_of(group.view.members.begin(), group.view.members.end(), [&](const auto& member) {
    const Peer& other = peers_.at(member.peer.id);
    if (other.conn == 0 || group.doomed.contains(other.id)) return true;
    const auto said = other.unreachable.find(peer.id);
    return said != other.unreachable.end() && said->second >= fresh;
  });
}

void Coordinator::wait_for_majority(Group& group, Millis time, const Env& env) {
  group.minority_since = env.now;
  group.minority_patience = time;
}

// ------------------------------------------------------------------------------------------------- peers come and go

void Coordinator::welcome(ConnId conn, Actions& actions) {
  actions.push_back(RaiseLimit{conn});
  actions.push_back(Send{conn, wire::Welcome{config_.run, config_.heartbeat_ms, config_.peer_timeout_ms,
                                             conns_.at(conn).seen_host, config_.loopback_only}});
}

void Coordinator::refuse(ConnId conn, Code code, std::string text, const Env& env, Actions& actions,
                         LineageId lineage) {
  actions.push_back(Note{code != Code::NO_COORDINATOR,
                         fmt::format("refused a connection from {}: {}", conns_.at(conn).seen_host, text)});
  std::optional<PeerId> peer = conns_.at(conn).peer;
  if (peer) {
    if (auto group = groups_.find(peers_.at(*peer).group); group != groups_.end()) lineage = group->second.view.lineage;
  }
  actions.push_back(Send{conn, wire::Refuse{lineage, static_cast<std::uint32_t>(code), std::move(text)}});
  actions.push_back(Close{conn, "refused"});
  conns_.erase(conn);
  if (peer) peer_gone(*peer, "protocol error", true, env, actions);
}

// Somebody who is no member here: let it ask another coordinator.
void Coordinator::turn_away(PeerId id, const std::string& text, Actions& actions) {
  const Peer peer = peers_.at(id);
  send(id, wire::Refuse{{}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), text}, actions);
  if (peer.conn != 0) actions.push_back(Close{peer.conn, "turned away"});
  conns_.erase(peer.conn);
  peers_.erase(id);
  if (peer.phase == Phase::waiting) forget(peer.group, id, actions);
}

// For those who have met it. Were it to come again it would have to prove its connections again.
void Coordinator::forget(std::uint32_t group_id, PeerId id, Actions& actions) {
  for (auto& [other_id, other] : peers_) {
    if (other.group != group_id) continue;
    other.lose(id);
    send(other_id, wire::Forget{id}, actions);
  }
}

void Coordinator::on_hello(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions) {
  if (conns_.at(conn).peer) return refuse(conn, Code::REFUSED, "a second Hello on one connection", env, actions);
  if (hello.peer.is_zero()) return refuse(conn, Code::REFUSED, "a peer without an id", env, actions);
  auto known = peers_.find(hello.peer);
  if (known != peers_.end() && known->second.group != hello.group) {
    return refuse(conn, Code::REFUSED, fmt::format("peer id {} is in use", to_string(hello.peer)), env, actions);
  }
  if (known == peers_.end() && peers_.size() >= config_.peers_max) {
    return refuse(conn, Code::REFUSED,
                  fmt::format("the coordinator has its {} peers already; raise peers_max", config_.peers_max), env,
                  actions);
  }
  const bool member = known != peers_.end() && known->second.phase == Phase::member;
  if (member && hello.lineage.is_zero() && known->second.conn != 0) {
    // If it is the newcomer that has not heard that it was let in, it may try again when the old connection has ended.
    return refuse(conn, Code::NO_COORDINATOR,
                  fmt::format("peer {} has another connection here, which still stands", to_string(hello.peer)), env,
                  actions);
  }
  auto group = groups_.find(hello.group);
  const bool next = known != peers_.end() && group != groups_.end() && group->second.pending &&
                    group->second.pending->install.view.contains(hello.peer);
  if (!hello.lineage.is_zero() || member || next) return on_return(conn, hello, env, actions);
  if (known != peers_.end()) {
    // The same process with a new connection, before the end of the old one was noticed: it begins again.
    if (known->second.info.name != hello.name) {
      return refuse(conn, Code::REFUSED, fmt::format("peer id {} is in use", to_string(hello.peer)), env, actions);
    }
    if (const ConnId old = known->second.conn; old != 0) {
      conns_.erase(old);
      actions.push_back(Close{old, "replaced by a new connection"});
    }
    peer_gone(hello.peer, "replaced", true, env, actions);
  }
  on_first_hello(conn, hello, env, actions);
  if (auto it = conns_.find(conn); it != conns_.end()) it->second.heard = env.now;
}

void Coordinator::on_first_hello(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions) {
  const bool several = hello.addresses > 1;
  auto it = groups_.find(hello.group);
  if (it != groups_.end() && it->second.recovery && is_forgotten(*it->second.recovery, env)) {
    if (several && hello.asked != wire::Asked::all && config_.standby_of.empty()) {
      return refuse(
          conn, Code::NO_COORDINATOR,
          fmt::format("group {} had members when this coordinator last heard of it. One of the coordinators that "
                      "do not answer may lead it; if they and the members are gone for good, start this one "
                      "again, without its log",
                      hello.group),
          env, actions);
    }
    groups_.erase(it);
    it = groups_.end();
  }
  const bool known = it != groups_.end() && it->second.view.number != 0 && !is_over(it->second);
  const bool recovering = it != groups_.end() && it->second.recovery.has_value();
  if (!known && !recovering && !config_.standby_of.empty() && !config_.arbiter) {
    return refuse(conn, Code::NO_COORDINATOR,
                  fmt::format("this is a standby and leads no group {}; new groups are formed by {}", hello.group,
                              config_.standby_of),
                  env, actions);
  }
  if (!known && !recovering && several && hello.asked == wire::Asked::some && !config_.arbiter) {
    return refuse(conn, Code::NO_COORDINATOR, fmt::format("no group {} is led here yet", hello.group), env, actions);
  }
  if (recovering && several && !it->second.recovery->is_named(hello.peer)) {
    return refuse(conn, Code::NO_COORDINATOR, fmt::format("group {} is not led here yet", hello.group), env, actions,
                  it->second.recovery->lineage);
  }
  if (known && !leads(hello.group) && several) {
    return refuse(conn, Code::NO_COORDINATOR,
                  fmt::format("this coordinator has no majority of the members of group {}; if they are gone for good, "
                              "start the coordinators again",
                              hello.group),
                  env, actions, it->second.view.lineage);
  }
  if (known && several && it->second.view.rule == wire::Rule::alone) {
    return refuse(conn, Code::REFUSED,
                  "the members of this group know one coordinator address and this peer knows several; give every peer "
                  "the same list",
                  env, actions);
  }
  Peer peer;
  peer.id = hello.peer;
  peer.conn = conn;
  peer.group = hello.group;
  peer.min_size = std::max<std::uint32_t>(1, hello.min_size);
  peer.info = wire::PeerInfo{hello.peer, hello.name, "", 0, 0};
  peer.addresses = hello.addresses;
  conns_.at(conn).peer = hello.peer;
  peers_.emplace(hello.peer, std::move(peer));
  welcome(conn, actions);
}

void Coordinator::on_peer_message(Peer& peer, const wire::Message& message, const Env& env, Actions& actions) {
  if (const auto* heartbeat = std::get_if<wire::Heartbeat>(&message)) {
    peer.progress_before = std::exchange(peer.progress, heartbeat->progress);
    peer.progress_between = peer.progress_at ? env.now - *peer.progress_at : 0;
    peer.progress_at = env.now;
    return;
  }
  const std::uint32_t group_id = peer.group;
  Group& group = groups_[group_id];
  if (const auto* join = std::get_if<wire::Join>(&message); join != nullptr) {
    if (peer.phase == Phase::greeted) {
      on_join(peer, *join, actions);
    } else if (peer.phase == Phase::waiting) {
      return refuse(peer.conn, Code::REFUSED, "unexpected Join", env, actions);
    }  // of a peer that became a member meanwhile: it learns so by the Install
  } else if (const auto* connected = std::get_if<wire::Connected>(&message); connected != nullptr) {
    peer.connected.insert(connected->peer);
    peer.unreachable.erase(connected->peer);
    peer.links_lost.erase(connected->peer);
    if (auto other = peers_.find(connected->peer); other != peers_.end()) {
      other->second.unreachable.erase(peer.id);
      other->second.links_lost.erase(peer.id);
    }
  } else if (const auto* lost = std::get_if<wire::LinkLost>(&message); lost != nullptr) {
    // Of the end that dialled only: the other's word may be older than what that end has said since.
    peer.connected.erase(lost->peer);
    peer.links_lost[lost->peer] = env.now;
    weigh_absent(group_id, group);
  } else if (const auto* leave = std::get_if<wire::Leave>(&message); leave != nullptr) {
    return on_leave(peer, *leave, env, actions);
  } else if (const auto* accept = std::get_if<wire::Accept>(&message); accept != nullptr) {
    if (group.pending && accept->term == group.pending->install.term &&
        accept->view == group.pending->install.view.number) {
      group.pending->accepted.insert(peer.id);
      return install_if_agreed(group_id, group, env, actions);
    }
  } else if (!on_member_message(peer, group, message, env, actions)) {
    refuse(peer.conn, Code::REFUSED, fmt::format("unexpected {}", message_name(message)), env, actions);
    return;
  }
  advance(group_id, env, actions);
}

// What only members say, and those who say that they are. False: this peer may not.
bool Coordinator::on_member_message(Peer& peer, Group& group, const wire::Message& message, const Env& env,
                                    Actions& actions) {
  if (peer.phase == Phase::returning) {
    if (const auto* reply = std::get_if<wire::SealReply>(&message)) {
      if (group.recovery && reply->term == group.term) {
        group.recovery->replies[peer.id] = *reply;
        for (const wire::Install& accepted : reply->accepted) {
          for (const auto& member : accepted.view.members) group.recovery->named.insert(member.peer.id);
        }
      }
    }
    return std::get_if<wire::SealReply>(&message) != nullptr || std::get_if<wire::Suspect>(&message) != nullptr ||
           std::get_if<wire::OpFault>(&message) != nullptr || std::get_if<wire::AtPoint>(&message) != nullptr ||
           std::get_if<wire::AdmitPromise>(&message) != nullptr || std::get_if<wire::Installed>(&message) != nullptr;
  }
  if (peer.phase != Phase::member) return false;
  if (const auto* suspect = std::get_if<wire::Suspect>(&message)) {
    on_suspect(peer, *suspect, env);
  } else if (const auto* promise = std::get_if<wire::AdmitPromise>(&message)) {
    if (promise->round == group.admission.round) group.admission.promises[peer.id] = promise->passed;
  } else if (const auto* at = std::get_if<wire::AtPoint>(&message)) {
    if (at->round == group.admission.round) group.admission.at_point.insert(peer.id);
  } else if (const auto* fault = std::get_if<wire::OpFault>(&message)) {
    // While a change runs the votes travel in the answers; whoever answered before voting says so again after the
    // Install.
    if (fault->view == group.view.number && !group.change.sealing) {
      (group.pending ? group.pending->voted : group.change_wanted) = true;
      if (fault->reason == wire::FaultReason::straggler) {
        (group.pending ? group.pending->stragglers : group.stragglers).insert(fault->key);
      }
    }
  } else if (const auto* reply = std::get_if<wire::SealReply>(&message)) {
    if (group.change.sealing && reply->term == group.term && reply->view == group.view.number) {
      group.change.replies[peer.id] = *reply;
    }
  } else if (const auto* installed = std::get_if<wire::Installed>(&message)) {
    peer.view = std::max(peer.view, installed->view);
    say_farewell(group, actions);
  } else {
    return false;
  }
  return true;
}

void Coordinator::on_join(Peer& peer, const wire::Join& join, Actions& actions) {
  peer.phase = Phase::waiting;
  peer.arrival = ++arrivals_;
  peer.info.host = join.host.empty() ? conns_.at(peer.conn).seen_host : join.host;
  peer.info.port = join.port;
  peer.info.codecs = join.codecs;
  for (const auto& [id, other] : peers_) {
    if (id == peer.id || other.group != peer.group || other.leaving) continue;
    if (other.phase == Phase::greeted || other.phase == Phase::returning) continue;
    if (groups_[peer.group].doomed.contains(id)) continue;
    introduce(other, peer, actions);
  }
}

// The newcomer dials.
void Coordinator::introduce(const Peer& there, const Peer& newcomer, Actions& actions) {
  const Ticket pass = ticket(there.id, newcomer.id);
  send(there.id, wire::Meet{newcomer.info, pass, false}, actions);
  send(newcomer.id, wire::Meet{there.info, pass, true}, actions);
}

void Coordinator::on_leave(Peer& peer, const wire::Leave& leave, const Env& env, Actions& actions) {
  Group& group = groups_[peer.group];
  const std::uint32_t group_id = peer.group;
  if (!leave.aborted && (peer.phase == Phase::member || peer.phase == Phase::returning)) {
    peer.leaving = true;  // until that is decided its voice counts like any other
    group.change_wanted = group.change_wanted || peer.phase == Phase::member;
    return advance(group_id, env, actions);
  }
  const ConnId conn = peer.conn;
  conns_.erase(conn);
  actions.push_back(Close{conn, "left"});
  peer_gone(peer.id, leave.aborted ? "it was aborted" : "left", true, env, actions);
}

void Coordinator::peer_gone(PeerId id, const std::string& why, bool final, const Env& env, Actions& actions) {
  Peer& peer = peers_.at(id);
  const std::uint32_t group_id = peer.group;
  Group& group = groups_[group_id];
  peer.conn = 0;
  if (group.view.contains(id) || (group.pending && group.pending->install.view.contains(id))) {
    peer.absent_why = why;
    if (!peer.absent_at) peer.absent_at = env.now + search_time(group_id, group.view.rule);
    peer.missed_at.reset();
    if (was_asleep(env)) {
      peer.conn_ended_at.reset();
    } else {
      peer.conn_ended_at = env.now;
    }
    if (final || (peer.leaving && peer.addresses <= 1)) {  // who knows others comes back to say it again
      Doom& doom = group.doomed.emplace(id, Doom{why}).first->second;
      doom.absent = doom.suspected = false;  // whatever it was lost for before, it will not be back
    }
    weigh_absent(group_id, group);
    // A group that is being formed needs no one in particular; those who are left form another.
    const bool forming =
        group.view.members.empty() && group.pending && group.pending->install.view.rule == wire::Rule::quorum;
    if (forming) drop_pending(group_id, group, actions);
  } else {
    const bool met = peer.phase == Phase::waiting;
    if (group.recovery) {
      group.recovery->replies.erase(id);
      if (peer.phase == Phase::returning && !final && group.recovery->away.size() < config_.peers_max) {
        group.recovery->away[id] = {env.now, was_asleep(env) ? std::nullopt : std::optional(env.now), why};
      }
    }
    peers_.erase(id);
    if (met) forget(group_id, id, actions);
    const bool empty =
        std::none_of(peers_.begin(), peers_.end(), [&](const auto& other) { return other.second.group == group_id; });
    // Group numbers are the peers' choice: one that never had a view is forgotten with its last peer.
    // What the log says nobody else may know; and where there are other coordinators members may be on their way.
    const bool kept = group.recovery && (group.recovery->logged || group.recovery->addresses > 1);
    if (empty && group.view.number == 0 && !group.pending && !kept) groups_.erase(group_id);
  }
  advance(group_id, env, actions);
}

// A connection that ended may come back, a process that ended does not. When a process dies, the others' links with it
// break in the same moment: most of them say so, and nobody waits. A link that broke at another time is no sign.
void Coordinator::weigh_absent(std::uint32_t group_id, Group& group) {
  for (const auto& member : group.view.members) {
    const PeerId id = member.peer.id;
    const Peer& absent = peers_.at(id);
    if (absent.conn != 0 || !absent.conn_ended_at || group.doomed.contains(id)) continue;
    const auto says_so = [&](const Peer& peer) {
      auto lost = peer.links_lost.find(id);
      return lost != peer.links_lost.end() &&
             std::abs(lost->second - *absent.conn_ended_at) <= 2 * static_cast<Millis>(config_.heartbeat_ms);
    };
    std::size_t others = 0;
    std::size_t lost = 0;
    for (const auto& other : group.view.members) {
      const Peer& peer = peers_.at(other.peer.id);
      if (peer.id == id || peer.conn == 0 || group.doomed.contains(peer.id)) continue;
      ++others;
      if (says_so(peer)) ++lost;
    }
    const bool newcomers =
        others == 0 && std::any_of(peers_.begin(), peers_.end(), [&](const auto& item) {
          return item.second.group == group_id && item.second.phase == Phase::waiting && says_so(item.second);
        });
    if (2 * lost > others || newcomers) group.doomed.emplace(id, Doom{absent.absent_why, true});
  }
}

void Coordinator::on_suspect(Peer& peer, const wire::Suspect& suspect, const Env& env) {
  Group& group = groups_[peer.group];
  if (suspect.peer == peer.id || !group.view.contains(suspect.peer) || group.doomed.contains(suspect.peer)) return;
  peer.unreachable[suspect.peer] = env.now;
  if (!group.verdict_at) group.verdict_at = env.now + config_.heartbeat_ms;
}

// Removes the fewest members that leave the rest able to reach one another, if need be by way of a third. Who is away
// is judged by that alone: the two who miss two dead ones look just like these. A suspicion that is not repeated is
// over: who has it says so every peer timeout.
void Coordinator::weigh_suspicions(Group& group, const Env& env, Actions& actions) {
  const Millis fresh = env.now - 2 * static_cast<Millis>(config_.peer_timeout_ms) - config_.heartbeat_ms;
  std::vector<PeerId> members;
  std::vector<std::string> names;
  std::vector<bool> away;
  for (const auto& member : group.view.members) {
    const PeerId id = member.peer.id;
    Peer& peer = peers_.at(id);
    if (group.doomed.contains(id) || peer.leaving) continue;
    if (group.pending && !group.pending->install.view.contains(id)) continue;  // it goes already
    names.push_back(fmt::format("rank {} ({})", &member - group.view.members.data(), member.peer.name));
    members.push_back(id);
    // Who has just fallen silent is on its way out, like those who are away: they would outvote the ones who stay.
    const bool silent =
        peer.conn != 0 && env.now - conns_.at(peer.conn).heard > 2 * static_cast<Millis>(config_.heartbeat_ms);
    if (silent) group.verdict_at = env.now + config_.heartbeat_ms;
    away.push_back(peer.conn == 0 || silent);
    std::erase_if(peer.unreachable, [&](const auto& item) { return item.second < fresh; });
  }
  const std::size_t size = members.size();
  std::vector<std::vector<bool>> broken(size, std::vector<bool>(size, false));
  const auto suspects = [&](std::size_t a, std::size_t b) {
    return peers_.at(members[a]).unreachable.contains(members[b]);
  };
  // Where a network was cut, members come back to the coordinator sooner than to one another.
  const auto counts_at = [&](std::size_t one) {
    const std::optional<Millis>& back = peers_.at(members[one]).back_at;
    return back ? *back + config_.peer_timeout_ms + config_.heartbeat_ms : env.now;
  };
  bool any = false;
  for (std::size_t a = 0; a < size; ++a) {
    for (std::size_t b = a + 1; b < size; ++b) {
      if (!suspects(a, b) && !suspects(b, a)) continue;
      const Millis since = std::max(counts_at(a), counts_at(b));
      if (since > env.now) {
        group.verdict_at = group.verdict_at ? std::min(*group.verdict_at, since) : since;
        continue;
      }
      broken[a][b] = broken[b][a] = any = true;
    }
  }
  const auto told = std::exchange(group.served, {});
  if (!any) return;
  std::set<std::size_t> gone;
  for (const std::size_t one : removable(group, members, broken, away, actions)) {
    const auto pairs = std::count(broken[one].begin(), broken[one].end(), true);
    const std::string why =
        fmt::format("{} of its connections to other members cannot be kept, nor can others take their place", pairs);
    actions.push_back(Note{true, fmt::format("removing {}: {}", names[one], why)});
    group.doomed.emplace(members[one], Doom{why, false, true});
    gone.insert(one);
  }
  for (std::size_t a = 0; a < size; ++a) {
    for (std::size_t b = a + 1; b < size; ++b) {
      if (!broken[a][b] || away[a] || away[b] || gone.contains(a) || gone.contains(b)) continue;
      const std::pair pair{members[a], members[b]};
      group.served.insert(pair);
      if (told.contains(pair)) continue;
      actions.push_back(Note{true, fmt::format("{} and {} cannot reach each other; their traffic goes through others",
                                               names[a], names[b])});
    }
  }
}

// Those whom the rest has to do without; where a majority must agree to that, one has to be left. Of two parts of the
// group that cannot reach each other that is one or the other.
std::vector<std::size_t> Coordinator::removable(const Group& group, const std::vector<PeerId>& members,
                                                const std::vector<std::vector<bool>>& broken,
                                                const std::vector<bool>& away, Actions& actions) const {
  std::vector<std::size_t> gone = unserved(broken, away);
  if (!needs_majority(group) || gone.empty()) return gone;
  std::vector<std::size_t> rest;
  for (std::size_t one = 0; one < members.size(); ++one) {
    if (!away[one] && std::find(gone.begin(), gone.end(), one) == gone.end()) rest.push_back(one);
  }
  const auto decides = [&](const std::vector<std::size_t>& some) {
    std::set<PeerId> ids;
    for (const std::size_t one : some) ids.insert(members[one]);
    return is_majority(group.view, ids);
  };
  if (decides(rest)) return gone;
  std::vector<std::vector<bool>> among(gone.size(), std::vector<bool>(gone.size()));
  for (std::size_t a = 0; a < gone.size(); ++a) {
    for (std::size_t b = 0; b < gone.size(); ++b) among[a][b] = broken[gone[a]][gone[b]];
  }
  if (decides(gone) && unserved(among, std::vector<bool>(gone.size(), false)).empty()) return rest;
  actions.push_back(
      Note{true, fmt::format("{} of {} members cannot be reached by the others, who are no majority without "
                             "them: nobody is removed",
                             gone.size(), group.view.members.size())});
  return {};
}

Ticket Coordinator::ticket(PeerId a, PeerId b) const {
  const auto [low, high] = std::minmax(a, b);
  std::uint64_t h = config_.secret.high;
  std::uint64_t l = config_.secret.low;
  for (std::uint64_t part : {low.high, low.low, high.high, high.low}) {
    h = mix(h ^ part);
    l = mix(l + h);
  }
  Ticket out;
  out.high = mix(h ^ config_.secret.low);
  out.low = mix(l ^ config_.secret.high);
  return out;
}

void Coordinator::send(PeerId id, wire::Message message, Actions& actions) {
  if (ConnId conn = peers_.at(id).conn; conn != 0) actions.push_back(Send{conn, std::move(message)});
}

}  // namespace hawser::protocol
