// How the coordinator lets newcomers in. See coordinator.hpp and docs/protocol.md#admission-points.
#include <algorithm>

#include "protocol/membership/coordinator.hpp"
#include "protocol/mutants.hpp"

namespace hawser::protocol {

void Coordinator::release_members(Group& group, Actions& actions) {
  group.admission.phase = Admission::Phase::idle;
  group.admission.holding = false;
  for (const auto& member : group.view.members) send(member.peer.id, wire::AdmitCancel{0}, actions);
}

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
    const std::size_t members = group.view.members.size();
    if (members + chosen.size() >= wire::members_max) break;
    // Members alone must be able to agree to the view, should the newcomers be lost before they are in it.
    if (group.view.rule == wire::Rule::quorum && members != 0 && chosen.size() >= members) break;
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

void Coordinator::try_form(std::uint32_t group_id, Group& group, const Env& env, Actions& actions) {
  const std::vector<PeerId> ready = candidates(group_id, group);
  std::size_t needed = 1;
  bool several = false;
  for (const PeerId& id : ready) {
    needed = std::max<std::size_t>(needed, peers_.at(id).min_size);
    several = several || peers_.at(id).addresses > 1;
  }
  if (ready.size() < needed) return;
  if (is_over(group)) {
    group.view = {};
    group.last = {};
  }
  wire::Install install;
  group.term = next_term(group);
  install.term = group.term;
  join_view(group, install.view, ready);
  if (install.view.lineage.is_zero()) {
    static_cast<Id128&>(install.view.lineage) = env.random;
    install.view.lineage.low ^= group_id;  // several groups may be formed in one step
    install.view.rule = config_.arbiter ? wire::Rule::arbiter : several ? wire::Rule::quorum : wire::Rule::alone;
  }
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
    // Nobody is asked to stand still while one who must stand with the others is away.
    for (const auto& member : group.view.members) {
      if (peers_.at(member.peer.id).conn != 0) continue;
      if (admission.holding) release_members(group, actions);
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
  // The term stays: another one would first have to be asked for by a Seal.
  wire::Install install;
  install.term = group.term;
  install.admit_target = admission.target;
  join_view(group, install.view, ready);
  persist(group_id, group, std::move(install), actions);
}

}  // namespace hawser::protocol
