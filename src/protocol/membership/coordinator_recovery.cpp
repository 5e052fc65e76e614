// Members that come back: after their connection broke, to a coordinator that was started again, or to another one. See
// coordinator.hpp and docs/protocol.md#the-coordinator-may-die.
#include <fmt/format.h>

#include <algorithm>

#include "protocol/membership/coordinator.hpp"
#include "protocol/mutants.hpp"

namespace hawser::protocol {
namespace {

constexpr std::uint32_t addresses_max = 8;  // no member is waited for much longer than it takes to ask at so many

}  // namespace

bool Coordinator::Recovery::is_named(PeerId id) const {
  return named.contains(id) || (logged && logged->view.contains(id));
}

void Coordinator::on(const Restored& event, const Env& env, Actions& actions) {
  Group& group = groups_[event.group];
  if (event.install.view.rule == wire::Rule::quorum) {
    // What was written may never have been agreed to, and others may have gone on: the members have the word.
    group.term = event.install.term;
    if (event.install.view.members.empty()) return;  // nor is there anybody to wait for
    start_recovery(event.group, group, event.install.view.lineage, env);
    group.recovery->addresses = 2;  // at least
    return;
  }
  wire::Install install = event.install;
  if (install.admit_target != 0 && !install.sealed) {
    // The write may have failed and left this behind: then the members were told that nobody is let in, and have gone
    // on from where they stood.
    group.term = install.term;
    start_recovery(event.group, group, install.view.lineage, env);
    group.recovery->logged = std::move(install);
    return;
  }
  if (install.admit_target != 0) install.sealed = false;  // as `confirm` marks it
  // Where members know several addresses they may ask at others first.
  adopt_view(event.group, group, std::move(install), env.now + (config_.arbiter ? config_.peer_timeout_ms : 0));
  group.admission.holding = true;
  group.change_wanted = true;  // whatever was begun is decided anew, with those who come back
  actions.push_back(Note{false, fmt::format("group {}: view {} with {} members, from the log", event.group,
                                            group.view.number, group.view.members.size())});
}

void Coordinator::on_return(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions) {
  Group& group = groups_[hello.group];
  const bool idle = group.recovery && group.recovery->idle;
  const bool unknown = idle || (group.view.number == 0 && !group.recovery && !group.pending);
  const LineageId lineage = group.recovery           ? group.recovery->lineage
                            : group.view.number != 0 ? group.view.lineage
                            : group.pending          ? group.pending->install.view.lineage
                                                     : LineageId{};
  const bool same = unknown || hello.lineage.is_zero() || hello.lineage == lineage;
  if (!same || (unknown && config_.arbiter)) {
    // One that knows no other coordinator would ask for ever. One that knows several has to hear it of all of them:
    // this one has no word about that lineage, and names its own.
    const bool last_word = hello.addresses <= 1 && !config_.arbiter;
    const bool occupied = hello.view != 0 && !config_.arbiter && group.view.number != 0;
    actions.push_back(Note{true, fmt::format("refused {}: it belongs to another group {}", hello.name, hello.group)});
    actions.push_back(Send{
        conn, wire::Refuse{last_word || !occupied ? hello.lineage : group.view.lineage,
                           static_cast<std::uint32_t>(last_word || occupied ? Code::EXPELLED : Code::NO_COORDINATOR),
                           fmt::format("another group was formed here under the number {}: the coordinator lost its "
                                       "memory of this one (give it a --log-dir)",
                                       hello.group)}});
    actions.push_back(Close{conn, "refused"});
    conns_.erase(conn);
    if (unknown) groups_.erase(hello.group);
    return;
  }
  // A coordinator that decides alone and has decided knows best.
  const bool deposed = group.view.rule == wire::Rule::quorum || !group.settled;
  if (unknown || (!group.recovery && hello.view > group.view.number && deposed)) {
    // Nothing is known here, or less than this member knows (the log was cut, another coordinator led): the members
    // have the word.
    start_recovery(hello.group, group, hello.lineage, env);
  }
  if (group.recovery && group.recovery->logged && hello.view != 0) {
    // Whoever is further behind than that was removed, or missed what it may not miss.
    const wire::View& logged = group.recovery->logged->view;
    if (hello.view + 1 < logged.number || (hello.view < logged.number && !logged.contains(hello.peer))) {
      return refuse_removed(conn, hello, logged.lineage, actions);
    }
  }
  if (!group.recovery) {
    const bool inside = group.view.contains(hello.peer);
    const bool next = group.pending && group.pending->install.view.contains(hello.peer);
    // More than one view behind, it could not know what became of its operations. A newcomer had none.
    const bool behind = hello.view != 0 && hello.view + 1 < group.view.number;
    if ((inside || next) && !behind) return attach(conn, hello, group, env, actions);
    if (hello.view == 0 && !inside) return on_undecided(conn, hello, group, env, actions);
    const auto& departures = group.last.departures;
    const auto gone = std::find_if(departures.begin(), departures.end(),
                                   [&](const wire::Departure& departure) { return departure.id == hello.peer; });
    if (gone != departures.end() && hello.view + 1 == group.view.number)
      return on_departed(conn, group, gone->text, actions);
    return refuse_removed(conn, hello, group.view.lineage, actions);
  }
  group.recovery->seen_at = env.now;
  group.recovery->addresses = std::max(group.recovery->addresses, std::min(hello.addresses, addresses_max));
  group.recovery->replies.erase(hello.peer);
  group.recovery->away.erase(hello.peer);
  if (const auto& logged = group.recovery->logged; logged && hello.view + 1 == logged->view.number) {
    group.recovery->gone_on = group.recovery->gone_on || hello.passed >= logged->admit_target;
  }
  // Whoever came last is to be heard before all are sent on.
  const Millis quarter = config_.peer_timeout_ms / 4;
  group.recovery->patience =
      std::max(group.recovery->patience, std::min(env.now - group.recovery->since + quarter, 2 * quarter));
  add_returning(conn, hello, env, actions);
  raise_term(group, hello.promised);
  ask_returning(group, hello.group, actions);
}

void Coordinator::refuse_removed(ConnId conn, const wire::Hello& hello, LineageId lineage, Actions& actions) {
  actions.push_back(Note{false, fmt::format("refused {}: removed from group {}", hello.name, hello.group)});
  actions.push_back(Send{conn, wire::Refuse{lineage, static_cast<std::uint32_t>(Code::EXPELLED),
                                            "this peer was removed from the group while its connection was broken"}});
  actions.push_back(Close{conn, "refused"});
  conns_.erase(conn);
}

// It has gone with the last view and did not hear so, or lost its connection before it could be told.
void Coordinator::on_departed(ConnId conn, Group& group, const std::string& why, Actions& actions) {
  welcome(conn, actions);
  conns_.erase(conn);
  group.farewells.push_back({conn, group.last, why});
  say_farewell(group, actions);
}

// A newcomer that has accepted a proposal which would make it a member. If a decision is due it may be this one.
void Coordinator::on_undecided(ConnId conn, const wire::Hello& hello, Group& group, const Env& env, Actions& actions) {
  if (!group.change.sealing && !group.pending) {
    actions.push_back(Send{
        conn, wire::Refuse{
                  {}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), "the proposal it holds was not decided upon"}});
    actions.push_back(Close{conn, "refused"});
    conns_.erase(conn);
    return;
  }
  add_returning(conn, hello, env, actions);
}

void Coordinator::add_returning(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions) {
  Peer& peer = peers_[hello.peer];
  if (peer.conn != 0 && peer.conn != conn) {
    conns_.erase(peer.conn);
    actions.push_back(Close{peer.conn, "replaced by a new connection"});
  }
  peer = Peer{};
  peer.id = hello.peer;
  peer.conn = conn;
  peer.group = hello.group;
  peer.phase = Phase::returning;
  peer.addresses = hello.addresses;
  peer.view = hello.view;
  peer.info.name = hello.name;
  peer.back_at = env.now;
  conns_.at(conn).peer = hello.peer;
  welcome(conn, actions);
}

// Where members know several coordinators, one that has lost its connection may first be held by others that have no
// majority, by each for half the timeout; and it has to come to them.
Millis Coordinator::search_time(std::uint32_t group_id, wire::Rule rule) const {
  std::uint32_t addresses = 1;
  for (const auto& [id, peer] : peers_) {
    if (peer.group == group_id) addresses = std::max(addresses, std::min(peer.addresses, addresses_max));
  }
  const bool searches = rule == wire::Rule::quorum && addresses > 1;
  return searches ? static_cast<Millis>(config_.peer_timeout_ms) * addresses / 2 : 0;
}

// How long members are kept together without a majority: not as long as it takes to be removed elsewhere, and never the
// same, else members of two coordinators might change places for ever.
Millis Coordinator::patience(const Env& env) const {
  const Millis quarter = config_.peer_timeout_ms / 4;
  return quarter + static_cast<Millis>(env.random.high % static_cast<std::uint64_t>(quarter + 1));
}

void Coordinator::start_recovery(std::uint32_t group_id, Group& group, LineageId lineage, const Env& env) {
  const wire::Term term = group.term;
  Admission admission;
  admission.round = group.admission.round;
  group = Group{};
  group.term = term;
  group.admission = admission;
  group.recovery = Recovery{};
  Recovery& recovery = *group.recovery;
  recovery.since = recovery.seen_at = recovery.told_at = env.now;
  recovery.patience = patience(env);
  recovery.lineage = lineage;
  for (auto it = peers_.begin(); it != peers_.end();) {
    Peer& peer = it->second;
    if (peer.group == group_id && peer.phase == Phase::member) {
      if (peer.conn == 0) {
        it = peers_.erase(it);
        continue;
      }
      peer.phase = Phase::returning;
    }
    ++it;
  }
}

// Every one of them, whenever one has come: answers count only when all were given to the same Seal.
void Coordinator::ask_returning(Group& group, std::uint32_t group_id, Actions& actions) {
  group.term = next_term(group);
  group.recovery->replies.clear();
  for (const auto& [id, peer] : peers_) {
    if (peer.group == group_id && peer.phase == Phase::returning) send(id, wire::Seal{group.term, true}, actions);
  }
}

// The last record of the log may be one that nobody was told of. Now it counts; but the next process might hear only
// members who have gone on without it. So that it needs to ask nobody, the record is written again, as if a Seal had
// gone before, which it never has where newcomers are let in.
void Coordinator::confirm(std::uint32_t group_id, Recovery& recovery, Actions& actions) {
  recovery.counts = Recovery::Counts::writing;
  wire::Install marked = *recovery.logged;
  marked.sealed = true;
  actions.push_back(Persist{group_id, std::move(marked)});
}

// What the members that have answered say is the newest view; nothing while it cannot be known.
const wire::Install* Coordinator::newest_known(std::uint32_t group_id, const Recovery& recovery, const Env& env) const {
  const wire::Install* newest = nullptr;
  for (const auto& [id, reply] : recovery.replies) {
    for (const wire::Install& last : reply.last) {
      if (newest == nullptr || last.view.number > newest->view.number) newest = &last;
    }
  }
  if (newest != nullptr || !recovery.logged) return newest;
  const auto timeout = static_cast<Millis>(config_.peer_timeout_ms);
  const bool expected = std::any_of(recovery.away.begin(), recovery.away.end(),
                                    [&](const auto& item) { return env.now - item.second.since < timeout; });
  const bool asked = std::any_of(peers_.begin(), peers_.end(), [&](const auto& item) {
    return item.second.group == group_id && item.second.phase == Phase::returning;
  });
  // None of them is left. Who is here has said how far it is, but may not have answered the last Seal.
  return env.now - recovery.since >= timeout && !expected && !asked ? &*recovery.logged : nullptr;
}

Coordinator::Gathering Coordinator::gathering(const Recovery& recovery, const wire::Install& newest) const {
  Gathering out;
  const auto is_here = [&](PeerId id) {
    auto peer = peers_.find(id);
    // A newcomer that never heard that it was let in says no more than Hello.
    return peer != peers_.end() && peer->second.conn != 0 &&
           (peer->second.phase != Phase::returning || recovery.replies.contains(id));
  };
  for (const auto& member : newest.view.members) {
    const bool here = is_here(member.peer.id);
    if (here) out.present.insert(member.peer.id);
    if (!here) out.missing += (out.missing.empty() ? "" : ", ") + member.peer.name;
  }
  out.enough = is_majority(newest.view, out.present) || HAWSER_MUTANT(22);
  // What they have accepted would have to be proposed again: those who must agree to it may be at the coordinator
  // that has decided upon it.
  const wire::Install* accepted = best_accepted(newest.view, recovery.replies);
  if (accepted != nullptr && accepted->view.rule == wire::Rule::quorum) {
    std::set<PeerId> next;
    for (const auto& member : accepted->view.members) {
      if (is_here(member.peer.id)) next.insert(member.peer.id);
    }
    out.enough = out.enough && is_majority(accepted->view, next);
  }
  // Who has the log knows that nobody has decided on anything later.
  out.enough = out.enough || recovery.logged.has_value();
  return out;
}

void Coordinator::advance_recovery(std::uint32_t group_id, Group& group, const Env& env, Actions& actions) {
  Recovery& recovery = *group.recovery;
  const auto timeout = static_cast<Millis>(config_.peer_timeout_ms);
  const bool waited = env.now - recovery.since >= timeout;
  const wire::Install* newest = newest_known(group_id, recovery, env);
  Gathering here;
  if (newest != nullptr) {
    here = gathering(recovery, *newest);
    // Who is here and in a later view has not answered yet.
    const bool later = std::any_of(peers_.begin(), peers_.end(), [&](const auto& item) {
      const Peer& peer = item.second;
      return peer.group == group_id && peer.phase == Phase::returning && peer.view > newest->view.number;
    });
    if (!later && (here.missing.empty() || (waited && here.enough))) {
      if (recovery.logged && newest->view.number + 1 == recovery.logged->view.number) {
        // It cannot have been announced if they have gone on; else it may have been, and they still stand there.
        if (!recovery.gone_on || recovery.counts != Recovery::Counts::unknown) newest = &*recovery.logged;
      }
      if (recovery.logged && newest == &*recovery.logged && recovery.counts != Recovery::Counts::yes) {
        if (recovery.counts == Recovery::Counts::unknown) confirm(group_id, recovery, actions);
        return;
      }
      return take_over(group_id, group, *newest, here.present.size(), env, actions);
    }
  }
  const bool quorum = !recovery.logged && (newest == nullptr || newest->view.rule == wire::Rule::quorum);
  if (quorum && !here.enough && env.now - recovery.since >= recovery.patience) {
    return end_patience(group_id, group, env, actions);
  }
  if (!waited || newest == nullptr) return;
  if (env.now - recovery.told_at < timeout) return;
  recovery.told_at = env.now;
  actions.push_back(
      Note{true, fmt::format("group {}: {} of {} members of view {} are back, no majority; waiting for {}", group_id,
                             here.present.size(), newest->view.members.size(), newest->view.number, here.missing)});
}

void Coordinator::take_over(std::uint32_t group_id, Group& group, const wire::Install& newest, std::size_t present,
                            const Env& env, Actions& actions) {
  const wire::Install install = newest;  // it lies in the recovery, which ends here
  Recovery& recovery = *group.recovery;
  // Whoever noticed late that its coordinator was gone, and then asked others, comes later than those who are here.
  // Another one may have been there until now, and may have had those who are not here.
  const bool logged = recovery.logged.has_value();
  const Millis least = logged && !config_.arbiter ? 0 : static_cast<Millis>(config_.peer_timeout_ms);
  const Millis time = std::max(least, search_time(group_id, install.view.rule));
  const Millis missed = recovery.since + time;
  const Millis since = install.view.rule == wire::Rule::quorum ? env.now + time : missed;
  const auto away = std::move(recovery.away);
  group.recovery.reset();
  adopt_view(group_id, group, install, since);
  for (const auto& member : group.view.members) {
    if (Peer& peer = peers_.at(member.peer.id); peer.conn == 0) peer.missed_at = missed;
  }
  // Whoever was here has its time from when it went; unless the others saw its process end.
  for (const auto& [id, last] : away) {
    auto peer = peers_.find(id);
    if (peer == peers_.end() || peer->second.conn != 0 || !group.view.contains(id)) continue;
    peer->second.absent_at = std::max(since, last.since + search_time(group_id, install.view.rule));
    peer->second.conn_ended_at = last.conn_ended_at;
    peer->second.absent_why = last.why;
  }
  weigh_absent(group_id, group);
  actions.push_back(Note{true, fmt::format("group {}: took over view {} from {} of its {} members", group_id,
                                           install.view.number, present, install.view.members.size())});
  for (const auto& member : group.view.members) {
    Peer& peer = peers_.at(member.peer.id);
    if (peer.conn != 0) send(peer.id, install, actions);  // whoever has it ignores it
    for (const auto& [id, other] : peers_) {
      if (other.group == group_id && other.phase == Phase::waiting) introduce(peer, other, actions);
    }
  }
  group.inherited = !logged;
  group.admission.holding = true;  // they may stand at a point at which newcomers may have been let in
  group.change_wanted = true;
  advance(group_id, env, actions);
}

// Somewhere else there may be a coordinator that has the others.
void Coordinator::end_patience(std::uint32_t group_id, Group& group, const Env& env, Actions& actions) {
  Recovery& recovery = *group.recovery;
  std::vector<PeerId> here;
  for (const auto& [id, peer] : peers_) {
    if (peer.group != group_id || peer.phase == Phase::member) continue;
    here.push_back(id);
    if (peer.phase == Phase::returning) recovery.seen_at = env.now;
  }
  for (const PeerId& id : here) turn_away(id, "no majority of its group's members has come here", actions);
  recovery.idle = true;
  recovery.replies.clear();
  recovery.named.clear();
  recovery.away.clear();
  // Group numbers and lineages are the peers' choice.
  if (recovery.addresses <= 1 || groups_.size() > config_.peers_max || HAWSER_MUTANT(30)) groups_.erase(group_id);
}

// Whether another group may be formed in the place of one whose members are not here. Each of them may first be held by
// other coordinators, and has to notice that one is gone.
bool Coordinator::is_forgotten(const Recovery& recovery, const Env& env) const {
  const Millis time = static_cast<Millis>(config_.peer_timeout_ms) * (4 + recovery.addresses) / 2;
  return recovery.idle && env.now - recovery.seen_at >= time;
}

// A member is back.
void Coordinator::attach(ConnId conn, const wire::Hello& hello, Group& group, const Env& env, Actions& actions) {
  Peer& peer = peers_[hello.peer];  // one that another coordinator wanted to let in is new here
  const std::uint32_t group_id = hello.group;
  peer.id = hello.peer;
  peer.group = group_id;
  if (peer.info.id.is_zero()) peer.info = wire::PeerInfo{hello.peer, hello.name, "", 0, 0};
  const bool led = !needs_majority(group) || majority_present(group);
  if (peer.conn != 0) {
    conns_.erase(peer.conn);
    actions.push_back(Close{peer.conn, "replaced by a new connection"});
  }
  peer.conn = conn;
  peer.absent_at.reset();
  peer.missed_at.reset();
  peer.absent_why.clear();
  peer.conn_ended_at.reset();
  peer.back_at = env.now;
  peer.addresses = hello.addresses;
  peer.view = hello.view;
  // A newcomer says Join again, unless it has heard from another coordinator that it is a member.
  if (peer.phase != Phase::member) peer.phase = hello.view == 0 ? Phase::greeted : Phase::returning;
  conns_.at(conn).peer = peer.id;
  // That it can reach others again it may have said elsewhere; whoever still cannot says so again before that counts.
  peer.unreachable.clear();
  for (const auto& member : group.view.members) {
    if (auto other = peers_.find(member.peer.id); other != peers_.end()) other->second.unreachable.erase(peer.id);
  }
  if (auto doomed = group.doomed.find(peer.id); doomed != group.doomed.end() && doomed->second.absent) {
    group.doomed.erase(doomed);
  }
  if (!led && majority_present(group)) await_absent(group_id, group, env);
  // The others may be on their way here, too.
  if (needs_majority(group) && !majority_present(group)) wait_for_majority(group, patience(env), env);
  welcome(conn, actions);
  const bool above = group.term < hello.promised;
  raise_term(group, hello.promised);
  if (hello.view < group.view.number && group.view.contains(peer.id) && !HAWSER_MUTANT(25))
    send(peer.id, group.last, actions);
  say_farewell(group, actions);
  for (const auto& [id, other] : peers_) {
    if (other.group == group_id && other.phase == Phase::waiting) {
      send(peer.id, wire::Meet{other.info, ticket(id, peer.id), false}, actions);
    }
  }
  const bool quorum = group.pending && group.pending->install.view.rule == wire::Rule::quorum;
  // NOLINTNEXTLINE(bugprone-branch-clone): in this order, for different reasons
  if (group.pending && above && group.view.members.empty()) {
    // Nobody else can have formed this group.
    group.term = group.pending->install.term = next_term(group);
    group.pending->accepted.clear();
    propose_to_all(group, actions);
  } else if (group.pending && above && quorum) {
    // Somebody else has sealed members since. What they may have agreed to must be heard before anything is proposed;
    // what was proposed here is among the answers if any of them holds it.
    drop_pending(group_id, group, actions);
    start_change(group, actions);
  } else if (group.pending && above) {
    // An earlier process of this coordinator has sealed members since. What it decided upon was among the answers; but
    // what it only proposed must not look newer than this.
    group.term = group.pending->install.term = next_term(group);
    group.pending->accepted.clear();
    propose_to_all(group, actions);
  } else if (group.pending) {
    if (group.pending->durable) propose(group, peer.id, actions);
  } else if (group.change.sealing && !above && !group.change_wanted) {
    group.change.replies.erase(peer.id);
    seal(group, peer.id, actions);
  } else if (group.change.sealing) {
    start_change(group, actions);
  } else if (hello.sealed || above) {
    group.change_wanted = true;  // by a coordinator that did not finish
  }
  // It may have passed points since, and not have heard of a round.
  if (group.admission.phase != Admission::Phase::idle) {
    group.admission.phase = Admission::Phase::idle;
  } else if (!group.admission.holding) {
    send(peer.id, wire::AdmitCancel{0}, actions);
  }
  advance(group_id, env, actions);
}

// Without a majority here members were sent to look for one elsewhere: those who are still away have their time again.
// So have those who could not reach each other, as all in different parts of a network that was cut.
void Coordinator::await_absent(std::uint32_t group_id, Group& group, const Env& env) {
  std::erase_if(group.doomed, [](const auto& item) { return item.second.absent || item.second.suspected; });
  if (group.change.sealing) group.change_wanted = true;  // who is here and was to go has got no Seal
  const Millis time = std::max<Millis>(search_time(group_id, group.view.rule), config_.peer_timeout_ms / 2);
  for (const auto& member : group.view.members) {
    Peer& peer = peers_.at(member.peer.id);
    if (peer.absent_at) peer.absent_at = env.now + time;
    peer.missed_at.reset();
  }
}

// Of proposals for the view after this one, the one of the highest term.
const wire::Install* Coordinator::best_accepted(const wire::View& view,
                                                const std::map<PeerId, wire::SealReply>& replies) {
  const wire::Install* best = nullptr;
  if (view.rule == wire::Rule::arbiter || HAWSER_MUTANT(21)) return nullptr;
  for (const auto& [id, reply] : replies) {
    for (const wire::Install& accepted : reply.accepted) {
      if (accepted.view.number != view.number + 1 || accepted.view.lineage != view.lineage) continue;
      if (best == nullptr || accepted.term > best->term) best = &accepted;
    }
  }
  return best;
}

}  // namespace hawser::protocol
