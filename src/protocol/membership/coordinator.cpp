// The coordinator's machine; see the header.
#include "protocol/membership/coordinator.hpp"

#include <fmt/format.h>

#include <algorithm>

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

bool contains(const wire::View& view, PeerId id) {
  return std::any_of(view.members.begin(), view.members.end(), [&](const auto& m) { return m.peer.id == id; });
}

}  // namespace

void Coordinator::step(const Event& event, const Env& env, Actions& actions) {
  std::visit([&](const auto& e) { on(e, env, actions); }, event);
}

std::optional<Millis> Coordinator::next_deadline() const {
  if (conns_.empty() && groups_.empty()) return std::nullopt;
  Millis due = next_heartbeat_;
  for (const auto& [id, conn] : conns_) {
    if (conn.peer) due = std::min(due, conn.heard + config_.peer_timeout_ms);
  }
  for (const auto& [id, group] : groups_) {
    if (group.verdict_at) due = std::min(due, *group.verdict_at);
  }
  return due;
}

const wire::View* Coordinator::view(std::uint32_t group) const {
  auto it = groups_.find(group);
  return it == groups_.end() ? nullptr : &it->second.view;
}

void Coordinator::on(const Opened& event, const Env& env, Actions& /*actions*/) {
  // Nobody was there, so nothing ticked: that is no sign of a coordinator that did not run.
  if (!next_deadline()) last_tick_.reset();
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
  if (!it->second.peer) {
    refuse(event.conn, Code::REFUSED, fmt::format("the first message was {}, not Hello", message_name(event.message)),
           actions);
    return;
  }
  on_peer_message(peers_.at(*it->second.peer), event.message, env, actions);
}

void Coordinator::on(const Closed& event, const Env& /*env*/, Actions& actions) {
  auto it = conns_.find(event.conn);
  if (it == conns_.end()) return;
  std::optional<PeerId> peer = it->second.peer;
  conns_.erase(it);
  if (peer) peer_gone(*peer, event.why, actions);
}

void Coordinator::on(const Tick& /*event*/, const Env& env, Actions& actions) {
  // A coordinator that was itself stopped (a paused machine) must not blame its peers for the silence.
  const Millis gap = last_tick_ ? env.now - *last_tick_ : 0;
  if (gap > 3 * static_cast<Millis>(config_.heartbeat_ms)) {
    for (auto& [id, conn] : conns_) conn.heard = env.now;
    actions.push_back(Note{true, fmt::format("this coordinator was not running for {} ms; silence is forgiven", gap)});
  }
  last_tick_ = env.now;
  if (env.now >= next_heartbeat_) {
    next_heartbeat_ = env.now + config_.heartbeat_ms;
    ++heartbeat_sequence_;
    for (const auto& [id, conn] : conns_) {
      if (conn.peer) actions.push_back(Send{id, wire::Heartbeat{heartbeat_sequence_}});
    }
  }
  std::vector<ConnId> silent;
  for (const auto& [id, conn] : conns_) {
    if (conn.peer && env.now - conn.heard >= config_.peer_timeout_ms) silent.push_back(id);
  }
  for (ConnId id : silent) {
    const std::string why = fmt::format("no heartbeat for {} ms (peer_timeout_ms)", env.now - conns_.at(id).heard);
    PeerId peer = *conns_.at(id).peer;
    conns_.erase(id);
    actions.push_back(Close{id, why});
    peer_gone(peer, why, actions);
  }
  for (auto& [id, group] : groups_) {
    if (!group.verdict_at || env.now < *group.verdict_at) continue;
    group.verdict_at.reset();
    weigh_suspicions(group, actions);
    advance(id, actions);
  }
}

void Coordinator::on(const Persisted& event, const Env& /*env*/, Actions& actions) {
  auto it = groups_.find(event.group);
  if (it == groups_.end() || !it->second.pending || it->second.pending->view.number != event.number) return;
  install(event.group, it->second, actions);
  advance(event.group, actions);
}

// ------------------------------------------------------------------------------------------------- peers come and go

void Coordinator::refuse(ConnId conn, Code code, std::string text, Actions& actions) {
  actions.push_back(Note{true, fmt::format("refused a connection from {}: {}", conns_.at(conn).seen_host, text)});
  actions.push_back(Send{conn, wire::Refuse{config_.run, static_cast<std::uint32_t>(code), std::move(text)}});
  actions.push_back(Close{conn, "refused"});
  std::optional<PeerId> peer = conns_.at(conn).peer;
  conns_.erase(conn);
  if (peer) peer_gone(*peer, "protocol error", actions);
}

void Coordinator::on_hello(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions) {
  if (conns_.at(conn).peer) return refuse(conn, Code::REFUSED, "a second Hello on one connection", actions);
  if (hello.view != 0) {
    return refuse(conn, Code::EXPELLED,
                  hello.run == config_.run ? "this peer was removed from the group when its connection broke"
                                           : "this coordinator does not know that run: it was started anew",
                  actions);
  }
  if (hello.peer.is_zero() || peers_.contains(hello.peer)) {
    return refuse(conn, Code::REFUSED, fmt::format("peer id {} is in use", to_string(hello.peer)), actions);
  }
  if (peers_.size() >= config_.peers_max) {
    return refuse(conn, Code::REFUSED,
                  fmt::format("the coordinator has its {} peers already; raise peers_max", config_.peers_max), actions);
  }
  Peer peer;
  peer.id = hello.peer;
  peer.conn = conn;
  peer.group = hello.group;
  peer.min_size = std::max<std::uint32_t>(1, hello.min_size);
  peer.info = wire::PeerInfo{hello.peer, hello.name, "", 0, 0};
  conns_.at(conn).peer = hello.peer;
  conns_.at(conn).heard = env.now;
  peers_.emplace(hello.peer, std::move(peer));
  actions.push_back(RaiseLimit{conn});
  actions.push_back(Send{conn, wire::Welcome{config_.run, config_.heartbeat_ms, config_.peer_timeout_ms,
                                             conns_.at(conn).seen_host, config_.loopback_only}});
}

void Coordinator::on_peer_message(Peer& peer, const wire::Message& message, const Env& env, Actions& actions) {
  if (std::holds_alternative<wire::Heartbeat>(message)) return;
  Group& group = groups_[peer.group];
  const std::uint32_t group_id = peer.group;
  const bool member = peer.phase == Phase::member;
  if (const auto* join = std::get_if<wire::Join>(&message); join != nullptr && peer.phase == Phase::greeted) {
    on_join(peer, *join, env, actions);
  } else if (const auto* connected = std::get_if<wire::Connected>(&message); connected != nullptr) {
    peer.connected.insert(connected->peer);
    peer.unreachable.erase(connected->peer);
  } else if (std::holds_alternative<wire::Leave>(message)) {
    peer.leaving = true;
    if (member) {
      group.change_wanted = true;
    } else {
      const ConnId conn = peer.conn;
      conns_.erase(conn);
      actions.push_back(Close{conn, "left"});
      peer_gone(peer.id, "left", actions);
      return;
    }
  } else if (const auto* suspect = std::get_if<wire::Suspect>(&message); suspect != nullptr && member) {
    on_suspect(peer, *suspect, env);
  } else if (const auto* promise = std::get_if<wire::AdmitPromise>(&message); promise != nullptr && member) {
    if (promise->round == group.admission.round) group.admission.promises[peer.id] = promise->passed;
  } else if (const auto* at = std::get_if<wire::AtPoint>(&message); at != nullptr && member) {
    if (at->round == group.admission.round) group.admission.at_point.insert(peer.id);
  } else if (const auto* fault = std::get_if<wire::OpFault>(&message); fault != nullptr && member) {
    // While a change runs the votes travel in the answers; whoever answered before voting says so again after the
    // Install.
    if (fault->view == group.view.number && !group.change.sealing && !group.pending) group.change_wanted = true;
  } else if (const auto* reply = std::get_if<wire::SealReply>(&message); reply != nullptr && member) {
    if (group.change.sealing && reply->term == group.term && reply->view == group.view.number) {
      group.change.replies[peer.id] = *reply;
    }
  } else {
    refuse(peer.conn, Code::REFUSED, fmt::format("unexpected {}", message_name(message)), actions);
    return;
  }
  advance(group_id, actions);
}

void Coordinator::on_join(Peer& peer, const wire::Join& join, const Env& /*env*/, Actions& actions) {
  peer.phase = Phase::waiting;
  peer.arrival = ++arrivals_;
  peer.info.host = join.host.empty() ? conns_.at(peer.conn).seen_host : join.host;
  peer.info.port = join.port;
  peer.info.codecs = join.codecs;
  for (const auto& [id, other] : peers_) {
    if (id == peer.id || other.group != peer.group || other.phase == Phase::greeted || other.leaving) continue;
    if (groups_[peer.group].doomed.contains(id)) continue;
    const Ticket pass = ticket(id, peer.id);
    send(id, wire::Meet{peer.info, pass, false}, actions);
    send(peer.id, wire::Meet{other.info, pass, true}, actions);
  }
}

void Coordinator::peer_gone(PeerId id, const std::string& why, Actions& actions) {
  Peer& peer = peers_.at(id);
  const std::uint32_t group_id = peer.group;
  Group& group = groups_[group_id];
  peer.conn = 0;
  if (contains(group.view, id) || (group.pending && contains(group.pending->view, id))) {
    group.doomed.emplace(id, why);
  } else {
    const bool met = peer.phase == Phase::waiting;
    peers_.erase(id);
    bool empty = true;
    for (const auto& [other_id, other] : peers_) {
      if (other.group != group_id) continue;
      empty = false;
      if (met) send(other_id, wire::Forget{id}, actions);
    }
    // Group numbers are the peers' choice: one that never had a view is forgotten with its last peer.
    if (empty && group.view.number == 0 && !group.pending) groups_.erase(group_id);
  }
  advance(group_id, actions);
}

void Coordinator::on_suspect(Peer& peer, const wire::Suspect& suspect, const Env& env) {
  Group& group = groups_[peer.group];
  if (suspect.peer == peer.id || !contains(group.view, suspect.peer) || group.doomed.contains(suspect.peer)) return;
  peer.unreachable.insert(suspect.peer);
  if (!group.verdict_at) group.verdict_at = env.now + config_.heartbeat_ms;
}

// Removes the fewest members that leave the rest without a broken edge (greedily: the one with most broken edges first;
// of equals, the latest rank).
void Coordinator::weigh_suspicions(Group& group, Actions& actions) {
  for (;;) {
    std::map<PeerId, std::set<PeerId>> broken;
    for (const auto& member : group.view.members) {
      const PeerId id = member.peer.id;
      if (group.doomed.contains(id)) continue;
      for (const PeerId& other : peers_.at(id).unreachable) {
        if (!contains(group.view, other) || group.doomed.contains(other)) continue;
        broken[id].insert(other);
        broken[other].insert(id);
      }
    }
    const wire::ViewMember* worst = nullptr;
    for (const auto& member : group.view.members) {
      auto it = broken.find(member.peer.id);
      if (it != broken.end() && (worst == nullptr || it->second.size() >= broken[worst->peer.id].size()))
        worst = &member;
    }
    if (worst == nullptr) return;
    const std::string why =
        fmt::format("{} of its connections to other members cannot be kept", broken[worst->peer.id].size());
    actions.push_back(Note{true, fmt::format("removing {}: {}", worst->peer.name, why)});
    group.doomed.emplace(worst->peer.id, why);
  }
}

// ------------------------------------------------------------------------------------------------------------- views

void Coordinator::advance(std::uint32_t group_id, Actions& actions) {
  auto it = groups_.find(group_id);
  if (it == groups_.end()) return;
  Group& group = it->second;
  if (group.pending) return;
  if (group.change.sealing) return finish_change_if_ready(group_id, group, actions);
  if (group.change_wanted || !group.doomed.empty()) {
    start_change(group, actions);
    return finish_change_if_ready(group_id, group, actions);
  }
  if (group.view.members.empty()) {
    try_form(group_id, group, actions);
  } else {
    advance_admission(group_id, group, actions);
  }
}

void Coordinator::start_change(Group& group, Actions& actions) {
  group.change_wanted = false;
  group.change = Change{true, {}};
  ++group.term;
  for (const auto& member : group.view.members) {
    if (!group.doomed.contains(member.peer.id)) send(member.peer.id, wire::Seal{group.term}, actions);
  }
}

void Coordinator::finish_change_if_ready(std::uint32_t group_id, Group& group, Actions& actions) {
  std::map<PeerId, wire::SealReply> survivors;
  wire::Install install;
  install.sealed = true;
  install.term = group.term;
  install.view = group.view;
  install.view.members.clear();
  for (const auto& member : group.view.members) {
    const PeerId id = member.peer.id;
    const bool leaving = peers_.at(id).leaving;
    if (auto doomed = group.doomed.find(id); doomed != group.doomed.end()) {
      install.departures.push_back({id, member.peer.name, leaving, doomed->second});
      continue;
    }
    auto reply = group.change.replies.find(id);
    if (reply == group.change.replies.end() && HAWSER_MUTANT(17)) {
      reply = group.change.replies.emplace(id, wire::SealReply{}).first;
    }
    if (reply == group.change.replies.end()) return;  // all that are not doomed must answer, however long it takes
    if (leaving) {
      install.departures.push_back({id, member.peer.name, true, "left"});
      continue;
    }
    survivors.emplace(id, reply->second);
    install.view.members.push_back(member);
  }
  install.view.number = group.view.number + 1;
  if (!install.departures.empty()) install.view.epoch = install.view.number;
  install.outcomes = decide_outcomes(group.view, survivors);
  group.change = Change{};
  persist(group_id, group, std::move(install), actions);
}

void Coordinator::persist(std::uint32_t group_id, Group& group, wire::Install install, Actions& actions) {
  actions.push_back(Persist{group_id, install.term, install.view});
  group.pending = std::move(install);
}

void Coordinator::install(std::uint32_t group_id, Group& group, Actions& actions) {
  const wire::Install install = std::move(*group.pending);
  group.pending.reset();
  const wire::View old = std::move(group.view);
  group.view = install.view;
  for (const auto& member : group.view.members) {
    peers_.at(member.peer.id).phase = Phase::member;
    send(member.peer.id, install, actions);
  }
  for (const auto& gone : install.departures) {
    group.doomed.erase(gone.id);
    const ConnId conn = peers_.at(gone.id).conn;
    if (conn != 0) {
      send(gone.id, install, actions);
      conns_.erase(conn);
      actions.push_back(Close{conn, gone.text});
    }
    peers_.erase(gone.id);
    for (const auto& member : group.view.members) peers_.at(member.peer.id).unreachable.erase(gone.id);
    // Those who wait have met it too; members learn it from the Install.
    for (const auto& [id, other] : peers_) {
      if (other.group == group_id && other.phase == Phase::waiting) send(id, wire::Forget{gone.id}, actions);
    }
  }
  // Members stand where they stood; those who still wait to be let in are asked about again, else members are released.
  group.admission.phase = Admission::Phase::idle;
  if (install.admit_target != 0) group.admission.holding = false;
  actions.push_back(Note{false, fmt::format("group {}: view {} with {} members ({} departed)", group_id,
                                            group.view.number, group.view.members.size(), install.departures.size())});
}

void Coordinator::release_members(Group& group, Actions& actions) {
  group.admission.phase = Admission::Phase::idle;
  group.admission.holding = false;
  for (const auto& member : group.view.members) send(member.peer.id, wire::AdmitCancel{group.admission.round}, actions);
}

// --------------------------------------------------------------------------------------------------------- admission

bool Coordinator::linked(PeerId a, PeerId b) const {
  return peers_.at(a).connected.contains(b) || peers_.at(b).connected.contains(a);
}

// Those who wait and are connected with every member and with one another; in order of arrival.
std::vector<PeerId> Coordinator::candidates(std::uint32_t group_id, const Group& group) const {
  std::vector<const Peer*> waiting;
  for (const auto& [id, peer] : peers_) {
    if (peer.group == group_id && peer.phase == Phase::waiting && peer.conn != 0) waiting.push_back(&peer);
  }
  std::sort(waiting.begin(), waiting.end(), [](const Peer* a, const Peer* b) { return a->arrival < b->arrival; });
  std::vector<PeerId> chosen;
  for (const Peer* peer : waiting) {
    if (group.view.members.size() + chosen.size() >= wire::members_max) break;
    bool ready = true;
    for (const auto& member : group.view.members) {
      ready = ready && (group.doomed.contains(member.peer.id) || linked(peer->id, member.peer.id));
    }
    for (const PeerId& other : chosen) ready = ready && linked(peer->id, other);
    if (ready) chosen.push_back(peer->id);
  }
  return chosen;
}

void Coordinator::join_view(Group& group, wire::View& view, const std::vector<PeerId>& ids) const {
  const bool formed = group.view.members.empty();
  view = group.view;
  view.number = group.view.number + 1;
  view.generation = view.number;
  if (formed) view.epoch = view.number;
  for (const PeerId& id : ids) view.members.push_back({peers_.at(id).info, view.generation});
}

void Coordinator::try_form(std::uint32_t group_id, Group& group, Actions& actions) {
  const std::vector<PeerId> ready = candidates(group_id, group);
  std::size_t needed = 1;
  for (const PeerId& id : ready) needed = std::max<std::size_t>(needed, peers_.at(id).min_size);
  if (ready.size() < needed) return;
  wire::Install install;
  install.term = ++group.term;
  join_view(group, install.view, ready);
  persist(group_id, group, std::move(install), actions);
}

void Coordinator::advance_admission(std::uint32_t group_id, Group& group, Actions& actions) {
  Admission& admission = group.admission;
  const std::vector<PeerId> ready = candidates(group_id, group);
  if (admission.phase == Admission::Phase::idle) {
    if (ready.empty()) {
      if (admission.holding && !HAWSER_MUTANT(14)) release_members(group, actions);
      return;
    }
    admission = Admission{Admission::Phase::asking, true, admission.round + 1, 0, {}, {}};
    for (const auto& member : group.view.members) send(member.peer.id, wire::AdmitQuery{admission.round}, actions);
    return;
  }
  if (ready.empty()) return release_members(group, actions);
  if (admission.phase == Admission::Phase::asking) {
    if (admission.promises.size() < group.view.members.size()) return;
    for (const auto& [id, passed] : admission.promises) admission.target = std::max(admission.target, passed + 1);
    admission.phase = Admission::Phase::stopping;
    for (const auto& member : group.view.members) {
      send(member.peer.id, wire::AdmitTarget{admission.round, admission.target}, actions);
    }
    return;
  }
  if (admission.at_point.size() < group.view.members.size() && !HAWSER_MUTANT(18)) return;
  wire::Install install;
  install.term = ++group.term;
  install.admit_target = admission.target;
  join_view(group, install.view, ready);
  persist(group_id, group, std::move(install), actions);
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
