// How the coordinator changes views: seal, decide, make durable, agree, install. See coordinator.hpp.
#include <fmt/format.h>

#include <algorithm>

#include "protocol/membership/coordinator.hpp"
#include "protocol/mutants.hpp"
#include "protocol/round/outcomes.hpp"
#include "protocol/round/sentences.hpp"

namespace hawser::protocol {

bool is_majority(const wire::View& view, const std::set<PeerId>& present) {
  if (view.members.empty()) return true;
  const auto count = static_cast<std::size_t>(std::count_if(
      view.members.begin(), view.members.end(), [&](const auto& m) { return present.contains(m.peer.id); }));
  if (2 * count == view.members.size()) return present.contains(view.members.front().peer.id);
  return 2 * count > view.members.size();
}

bool Coordinator::needs_majority(const Group& group) const {
  if (HAWSER_MUTANT(22)) return false;
  return group.view.rule == wire::Rule::quorum || group.inherited;
}

// All its members have gone, as several coordinators may know: of a view after that each would decide alone. Who comes
// then is told so, and newcomers form another group.
bool Coordinator::is_over(const Group& group) {
  return group.view.number != 0 && group.view.members.empty() && group.view.rule == wire::Rule::quorum;
}

bool Coordinator::majority_present(const Group& group) const {
  std::set<PeerId> present;
  for (const auto& member : group.view.members) {
    if (peers_.at(member.peer.id).conn != 0) present.insert(member.peer.id);
  }
  return is_majority(group.view, present);
}

// Whether those whose agreement the proposal needs are here.
bool Coordinator::can_be_agreed(const Group& group) const {
  std::set<PeerId> present;
  for (const auto& member : group.pending->install.view.members) {
    auto peer = peers_.find(member.peer.id);
    if (peer != peers_.end() && peer->second.conn != 0) present.insert(member.peer.id);
  }
  return is_majority(group.pending->install.view, present);
}

wire::Term Coordinator::next_term(const Group& group) const { return {group.term.count + 1, config_.run.low}; }

// What follows must be above what this peer has promised.
void Coordinator::raise_term(Group& group, const wire::Term& above) const {
  if (group.term < above && !HAWSER_MUTANT(27)) group.term = {above.count, 0};
}

void Coordinator::advance(std::uint32_t group_id, const Env& env, Actions& actions) {
  auto it = groups_.find(group_id);
  if (it == groups_.end()) return;
  Group& group = it->second;
  if (group.recovery) return advance_recovery(group_id, group, env, actions);
  if (group.pending) return install_if_agreed(group_id, group, env, actions);
  if (group.change.sealing) return finish_change_if_ready(group_id, group, env, actions);
  if (group.view.members.empty()) group.change_wanted = false;  // there is nobody to decide anything for
  if (group.change_wanted || !group.doomed.empty()) {
    start_change(group, actions);
    return finish_change_if_ready(group_id, group, env, actions);
  }
  if (group.hold_until && env.now < *group.hold_until) return;
  group.hold_until.reset();
  if (group.view.members.empty()) {
    try_form(group_id, group, env, actions);
  } else {
    advance_admission(group_id, group, actions);
  }
}

void Coordinator::start_change(Group& group, Actions& actions) {
  group.change_wanted = false;
  group.change = Change{true, {}};
  group.term = next_term(group);
  for (const auto& member : group.view.members) seal(group, member.peer.id, actions);
}

// Nobody waits for the answers of those who are to go, but where a majority must answer they count.
void Coordinator::seal(const Group& group, PeerId id, Actions& actions) {
  if (!group.doomed.contains(id) || needs_majority(group)) send(id, wire::Seal{group.term, false}, actions);
}

// Members that others will wait for no longer: all participants that have not entered an operation somebody complained
// about.
void Coordinator::doom_stragglers(Group& group) {
  for (const wire::OpKey& key : std::exchange(group.stragglers, {})) {
    std::vector<PeerId> absent;
    std::size_t entered = 0;
    for (const auto& member : group.view.members) {
      auto reply = group.change.replies.find(member.peer.id);
      if (member.joined > key.generation || reply == group.change.replies.end()) continue;
      const auto& ops = reply->second.ops;
      if (std::any_of(ops.begin(), ops.end(), [&](const auto& op) { return op.key == key; })) {
        ++entered;
      } else if (!peers_.at(member.peer.id).leaving) {
        absent.push_back(member.peer.id);
      }
    }
    if (entered == 0) continue;
    for (const PeerId& id : absent) {
      group.doomed.emplace(
          id, Doom{fmt::format("it had not entered {} when others would wait no longer (straggler_ms)", describe(key)),
                   false});
    }
  }
}

void Coordinator::finish_change_if_ready(std::uint32_t group_id, Group& group, const Env& /*env*/, Actions& actions) {
  std::set<PeerId> answered;
  for (const auto& member : group.view.members) {
    const PeerId id = member.peer.id;
    if (group.change.replies.contains(id)) answered.insert(id);
    if (group.doomed.contains(id)) continue;
    if (!group.change.replies.contains(id) && HAWSER_MUTANT(17)) group.change.replies.emplace(id, wire::SealReply{});
    // All that are not doomed must answer, however long it takes.
    if (!group.change.replies.contains(id)) return;
  }
  if (needs_majority(group) && !is_majority(group.view, answered)) return;
  if (const wire::Install* accepted = best_accepted(group.view, group.change.replies); accepted != nullptr) {
    // A majority may have agreed to it under another coordinator: nothing else can be the next view.
    wire::Install again = *accepted;
    again.term = group.term;
    group.change = Change{};
    group.change_wanted = true;  // those who are doomed now are dealt with in the view after
    persist(group_id, group, std::move(again), actions);
    group.pending->adopted = true;
    return;
  }
  doom_stragglers(group);
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
      install.departures.push_back({id, member.peer.name, leaving, doomed->second.why});
    } else if (leaving) {
      install.departures.push_back({id, member.peer.name, true, "left"});
    } else {
      survivors.emplace(id, group.change.replies.at(id));
      install.view.members.push_back(member);
    }
  }
  install.view.number = group.view.number + 1;
  if (!install.departures.empty()) install.view.epoch = install.view.number;
  install.outcomes = decide_outcomes(group.view, survivors);
  group.change = Change{};
  persist(group_id, group, std::move(install), actions);
}

void Coordinator::persist(std::uint32_t group_id, Group& group, wire::Install install, Actions& actions) {
  actions.push_back(Persist{group_id, install});
  group.pending = Pending{};
  group.pending->install = std::move(install);
  if (HAWSER_MUTANT(24)) {
    for (const auto& member : group.pending->install.view.members)
      send(member.peer.id, group.pending->install, actions);
  }
}

void Coordinator::on(const Persisted& event, const Env& env, Actions& actions) {
  auto it = groups_.find(event.group);
  if (it == groups_.end()) return;
  Group& group = it->second;
  if (group.recovery && group.recovery->is_writing(event.number)) {
    group.recovery->counts = Recovery::Counts::yes;
    return advance(event.group, env, actions);
  }
  if (!group.pending) return;
  Pending& pending = *group.pending;
  if (pending.durable || pending.install.view.number != event.number) return;
  pending.durable = true;
  propose_to_all(group, actions);
  install_if_agreed(event.group, group, env, actions);
}

void Coordinator::on(const PersistFailed& event, const Env& env, Actions& actions) {
  auto it = groups_.find(event.group);
  if (it == groups_.end()) return;
  Group& group = it->second;
  const bool recovers = group.recovery && group.recovery->is_writing(event.number);
  const bool awaited = group.pending && !group.pending->durable && group.pending->install.view.number == event.number;
  if (!recovers && !awaited) return;
  actions.push_back(
      Note{true, fmt::format("group {}: view {} could not be made durable: {}", event.group, event.number, event.why)});
  if (recovers) {
    group.recovery->counts = Recovery::Counts::failed;  // the next heartbeat tries again
    return;
  }
  if (group.pending->install.sealed ||
      group.pending->adopted) {  // members wait for it, and some may be gone: nothing can be done without it
    group.pending->retry = true;
    return;
  }
  // Nobody needs newcomers: the members go on, and the newcomers wait.
  drop_pending(event.group, group, actions);
  group.hold_until = env.now + config_.heartbeat_ms;
  release_members(group, actions);
  advance(event.group, env, actions);  // votes that came meanwhile
}

// Who is asked to agree. Where a majority must, everybody of the old view and of the new one. Where the coordinator
// decides alone, the members that stay, so that one of them can tell the coordinator after this one. A store tells by
// itself.
bool Coordinator::has_a_say(const Group& group, PeerId id) const {
  const wire::View& next = group.pending->install.view;
  switch (next.rule) {
    case wire::Rule::quorum:
      return group.view.contains(id) || next.contains(id);
    case wire::Rule::alone:
      return group.view.contains(id) && next.contains(id) && !HAWSER_MUTANT(28);
    case wire::Rule::arbiter:
      break;
  }
  return false;
}

void Coordinator::propose_to_all(const Group& group, Actions& actions) {
  if (!group.pending->durable) return;
  std::set<PeerId> asked;
  for (const auto* view : {&group.view, &group.pending->install.view}) {
    for (const auto& member : view->members) {
      if (asked.insert(member.peer.id).second) propose(group, member.peer.id, actions);
    }
  }
}

// What is installed must be found again by every coordinator that comes after: a majority of the old view and one of
// the new have accepted it, or all members that stay and live.
bool Coordinator::is_agreed(const Group& group) const {
  const Pending& pending = *group.pending;
  const auto accepted = [&](PeerId id) { return pending.accepted.contains(id) || group.doomed.contains(id); };
  switch (pending.install.view.rule) {
    case wire::Rule::quorum:
      return HAWSER_MUTANT(20) ||
             (is_majority(group.view, pending.accepted) && is_majority(pending.install.view, pending.accepted));
    case wire::Rule::alone:
      return std::all_of(group.view.members.begin(), group.view.members.end(),
                         [&](const auto& m) { return !has_a_say(group, m.peer.id) || accepted(m.peer.id); });
    case wire::Rule::arbiter:
      break;
  }
  return true;
}

void Coordinator::propose(const Group& group, PeerId to, Actions& actions) {
  if (!has_a_say(group, to)) return;
  if (auto peer = peers_.find(to); peer != peers_.end() && peer->second.conn != 0) {
    actions.push_back(Send{peer->second.conn, wire::Propose{group.pending->install}});
  }
}

// It will not be decided upon, not here at least. Newcomers that went away meanwhile are forgotten.
void Coordinator::drop_pending(std::uint32_t group_id, Group& group, Actions& actions) {
  const wire::View view = std::move(group.pending->install.view);
  group.change_wanted = group.change_wanted || group.pending->voted;
  group.stragglers.merge(group.pending->stragglers);
  group.pending.reset();
  for (const auto& member : view.members) {
    const PeerId id = member.peer.id;
    auto peer = peers_.find(id);
    if (peer == peers_.end() || peer->second.phase == Phase::member || peer->second.conn != 0) continue;
    peers_.erase(peer);
    group.doomed.erase(id);
    forget(group_id, id, actions);
  }
}

void Coordinator::install_if_agreed(std::uint32_t group_id, Group& group, const Env& env, Actions& actions) {
  if (!group.pending || !group.pending->durable || !is_agreed(group)) return;
  install(group_id, group, env, actions);
  advance(group_id, env, actions);
}

void Coordinator::install(std::uint32_t group_id, Group& group, const Env& env, Actions& actions) {
  const bool led = !needs_majority(group) || majority_present(group);
  const wire::Install install = std::move(group.pending->install);
  group.pending.reset();
  // Those whom only another coordinator has met may have heard of the view from that one, and notice late that it is
  // gone.
  const Millis time = std::max<Millis>(search_time(group_id, install.view.rule), config_.peer_timeout_ms);
  adopt_view(group_id, group, install, env.now + time);
  for (const auto& member : group.view.members) send(member.peer.id, install, actions);
  for (const auto& gone : install.departures) {
    group.doomed.erase(gone.id);
    auto departed = peers_.find(gone.id);
    if (departed == peers_.end()) continue;
    if (const ConnId conn = departed->second.conn; conn != 0) {
      conns_.erase(conn);
      group.farewells.push_back({conn, install, gone.text});
    }
    peers_.erase(departed);
    for (auto& [id, peer] : peers_) {
      peer.lose(gone.id);
      // Those who wait have met it too; members learn it from the Install.
      if (peer.group == group_id && peer.phase == Phase::waiting) send(id, wire::Forget{gone.id}, actions);
    }
  }
  say_farewell(group, actions);
  // Whoever came to join a group that is over by now asks again: who may form another one is another question.
  const bool over = is_over(group);
  std::vector<PeerId> strangers;
  for (const auto& [id, peer] : peers_) {
    if (peer.group == group_id && (over || peer.phase == Phase::returning)) strangers.push_back(id);
  }
  for (const PeerId& id : strangers) {
    turn_away(id, over ? "all members of the group have gone" : "the proposal it holds was not decided upon", actions);
  }
  // Members stand where they stood; those who still wait to be let in are asked about again, else members are released.
  group.admission.phase = Admission::Phase::idle;
  if (install.admit_target != 0) group.admission.holding = false;
  if (group.inherited) group.admission.holding = true;  // what an earlier coordinator asked of them is not known
  group.inherited = false;
  group.settled = true;
  actions.push_back(Note{false, fmt::format("group {}: view {} with {} members ({} departed)", group_id,
                                            group.view.number, group.view.members.size(), install.departures.size())});
  // Those who are here may be no majority of the view before, and one of this.
  if (!led && majority_present(group)) await_absent(group_id, group, env);
  weigh_absent(group_id, group);
  // A verdict was about the view before: where another coordinator's proposal had to come first, those who accused each
  // other may have gone. And who has gone may have been the one by whom others reached each other.
  std::erase_if(group.doomed, [](const auto& item) { return item.second.suspected; });
  const bool suspicions = std::any_of(group.view.members.begin(), group.view.members.end(), [&](const auto& member) {
    return !peers_.at(member.peer.id).unreachable.empty();
  });
  if (suspicions && !group.verdict_at) group.verdict_at = env.now + config_.heartbeat_ms;
}

// Those who have gone are told when the next coordinator, if this one dies, would hear of their view from the others:
// as members of the view before they may be missed for its majority. If that takes too long they notice this one's
// silence.
void Coordinator::say_farewell(Group& group, Actions& actions) {
  std::erase_if(group.farewells, [&](const Farewell& farewell) {
    const wire::View& view = farewell.install.view;
    std::set<PeerId> have;
    for (const auto& member : group.view.members) {
      if (peers_.at(member.peer.id).view >= view.number) have.insert(member.peer.id);
    }
    const bool known = view.rule != wire::Rule::quorum || group.view.members.empty() || is_majority(group.view, have);
    if (!known && !HAWSER_MUTANT(31)) return false;
    actions.push_back(Send{farewell.conn, farewell.install});
    actions.push_back(Close{farewell.conn, farewell.why});
    return true;
  });
}

// The view is current from now on. Members that are not here have been absent since `absent_at`.
void Coordinator::adopt_view(std::uint32_t group_id, Group& group, wire::Install install, Millis absent_at) {
  group.view = install.view;
  group.last = std::move(install);
  raise_term(group, group.last.term);
  for (const auto& member : group.view.members) {
    Peer& peer = peers_[member.peer.id];
    peer.id = member.peer.id;
    peer.group = group_id;
    peer.phase = Phase::member;
    peer.info = member.peer;
    if (peer.conn != 0 || peer.absent_at) continue;
    peer.absent_at = absent_at;
    if (peer.absent_why.empty()) peer.absent_why = "it did not come back to the coordinator";
  }
}

}  // namespace hawser::protocol
