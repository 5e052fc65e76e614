// The checks; see the header.
#include "sim/checkers.hpp"

#include <algorithm>

#include "sim/world.hpp"

namespace hawser::sim {
namespace {

bool is_definite(Code code) {
  switch (code) {
    case Code::PEER_LOST:
    case Code::MISMATCH:
    case Code::DIVERGED:
    case Code::TIMEOUT:
    case Code::CANCELLED:
    case Code::TOO_FEW:
      return true;
    default:
      return false;
  }
}

bool is_straggler(const wire::Departure& gone) {
  return !gone.left && gone.text.find("straggler_ms") != std::string::npos;
}

}  // namespace

LineageIndex Checker::lineage_of(const LineageId& id) {
  auto [it, fresh] = indices_.try_emplace(id, static_cast<LineageIndex>(lineages_.size() + 1));
  if (fresh) {
    lineages_.emplace_back();
    lineages_.back().id = id;
  }
  return it->second;
}

const wire::View* Checker::newest_view(LineageIndex lineage) const {
  if (lineage == 0) return nullptr;
  auto it = decisions_.find({lineage, lineages_[lineage - 1].newest});
  return it == decisions_.end() ? nullptr : &it->second.install.view;
}

// Whoever decides, every number of a lineage has one view with one list of outcomes.
void Checker::decided(std::uint32_t group, const wire::Install& install) {
  const wire::View& view = install.view;
  const LineageIndex index = lineage_of(view.lineage);
  Lineage& lineage = lineages_[index - 1];
  const bool formed = view.epoch == view.number && view.generation == view.number;
  if (lineage.outside) {
    // Its first members may have been those of a view in the log that nobody had heard of.
    if (formed && !world_.has_formation(index, view.number)) world_.formed(index, group, view.number);
    return;
  }
  lineage.group = group;
  auto it = decisions_.find({index, view.number});
  if (it != decisions_.end()) {
    const wire::Install& known = it->second.install;
    const bool same = known.view == view && known.sealed == install.sealed && known.outcomes == install.outcomes &&
                      known.departures == install.departures && known.admit_target == install.admit_target;
    if (same) return;
    violation("view {} of lineage {} is decided twice: {} members and {} outcomes, {} members and {} outcomes",
              view.number, index, known.view.members.size(), known.outcomes.size(), view.members.size(),
              install.outcomes.size());
  }
  if (auto before = decisions_.find({index, view.number - 1}); before != decisions_.end()) {
    check_succession(before->second.install.view, view);
    // Those who stay and live, or fewer where one was given up before it could accept.
    std::set<PeerId> stay;
    for (const auto& member : view.members) {
      if (world_.scheduler.alive(world_.peer(member.peer.id).actor())) stay.insert(member.peer.id);
    }
    const std::set<PeerId>& agreed = proposals_[{install.term, view.number}].accepted;
    const wire::View& old = before->second.install.view;
    // What a coordinator found in its log it does not ask about; if the log is lost after that, so may be the view.
    const bool kept = agreed.empty() ? !world_.settings.log : protocol::is_majority(old, agreed);
    const bool found = protocol::is_majority(old, stay) && kept;
    if (!found) lineage.halved = true;
  } else if (view.number == 1 && (view.epoch != 1 || view.generation != 1 || view.members.empty())) {
    violation("the first view has epoch {}, generation {} and {} members", view.epoch, view.generation,
              view.members.size());
  } else if (view.number > 1) {
    lineage.halved = true;  // the one before was in the log, and nobody heard of it
  }
  lineage.newest = std::max(lineage.newest, view.number);
  decisions_[{index, view.number}] = Decision{install, 0};
  if (formed) world_.formed(index, group, view.number);
  if (formed && view.number == 1) check_only(index, group);
}

// A coordinator with its log knows that there was a group, and waits for its members, where they can come to it.
void Checker::check_only(LineageIndex formed, std::uint32_t group) const {
  const Settings& s = world_.settings;
  if (s.group_rule() != wire::Rule::quorum || !s.standbys) return;
  const bool kept_away =
      s.has_any({Fault::long_pause, Fault::control_cut, Fault::control_one_way, Fault::slow_control, Fault::cut_way,
                 Fault::partition, Fault::partition_at_accept, Fault::coordinator_pause});
  if (kept_away) return;
  for (std::size_t i = 0; i < lineages_.size(); ++i) {
    const auto other = static_cast<LineageIndex>(i + 1);
    const wire::View* newest = newest_view(other);
    if (other == formed || lineages_[i].group != group || !lineages_[i].logged || newest == nullptr) continue;
    std::set<PeerId> stay;
    for (const auto& member : newest->members) {
      const Peer& peer = world_.peer(member.peer.id);
      if (is_member_of(peer, other) && !peer.asked_to_leave()) stay.insert(member.peer.id);
    }
    if (!newest->members.empty() && protocol::is_majority(*newest, stay)) {
      violation("lineage {} is formed, and {} of the same group has a majority that lives", formed, other);
    }
  }
}

void Checker::check_succession(const wire::View& before, const wire::View& view) const {
  std::set<PeerId> ids;
  for (const auto& member : view.members) {
    if (!ids.insert(member.peer.id).second) violation("view {} names a member twice", view.number);
    if (member.joined > view.generation) violation("view {}: a member joined after its generation", view.number);
  }
  bool lost = false;
  for (const auto& member : before.members) lost = lost || !ids.contains(member.peer.id);
  bool gained = false;
  std::set<PeerId> old;
  for (const auto& member : before.members) old.insert(member.peer.id);
  for (const PeerId& id : ids) gained = gained || !old.contains(id);
  const bool formed = before.members.empty() && !ids.empty();
  if ((view.epoch == view.number) != (lost || formed) || (view.generation == view.number) != gained) {
    violation("view {}: epoch {} and generation {} do not tell what changed", view.number, view.epoch, view.generation);
  }
  if (view.epoch != view.number && view.epoch != before.epoch) violation("view {}: epoch {}", view.number, view.epoch);
  if (view.generation != view.number && view.generation != before.generation) {
    violation("view {}: generation {}", view.number, view.generation);
  }
  if (lost && gained) violation("view {} removes and admits", view.number);
  if (view.rule != before.rule) violation("view {} changes the rule", view.number);
  // The ranks of those who stay keep their order, newcomers follow.
  auto at = view.members.begin();
  for (const auto& member : before.members) {
    if (!ids.contains(member.peer.id)) continue;
    if (at == view.members.end() || *at != member) violation("view {} changes the order of members", view.number);
    ++at;
  }
}

void Checker::announced(std::uint32_t coordinator, std::uint32_t group, const wire::Install& install) {
  const std::pair<LineageIndex, std::uint64_t> key{lineage_of(install.view.lineage), install.view.number};
  const bool first = !decisions_.contains(key);
  decided(group, install);
  if (auto it = decisions_.find(key); first && it != decisions_.end()) it->second.decider = coordinator;
}

// Before anybody hears of it: whoever is removed may learn so first, from a coordinator that comes after.
void Checker::ordered(const wire::Install& install) {
  const LineageIndex index = lineage_of(install.view.lineage);
  for (const auto& gone : install.departures) {
    if (is_straggler(gone) && stragglers_.contains(index)) world_.peer(gone.id).disturb();
  }
}

void Checker::installed(const Peer& peer, const wire::View& before, const wire::Install& install) {
  const LineageIndex index = lineage_of(install.view.lineage);
  decided(peer.group(), install);
  if (lineages_[index - 1].outside) return;
  if (before.number != 0 && before.lineage == install.view.lineage && install.view.number != before.number + 1) {
    violation("{} goes from view {} to view {}", peer.name(), before.number, install.view.number);
  }
  for (const auto& gone : install.departures) {
    if (gone.left) continue;
    losses_.insert(index);
    const Peer& lost = world_.peer(gone.id);
    if (is_straggler(gone)) {
      if (!stragglers_.contains(index)) violation("{} was removed as a straggler: {}", lost.name(), gone.text);
      world_.counters.count(Sometimes::straggler_removed);
    } else if (!lost.disturbed() && lost.lineage() == index) {
      violation("{} was removed though nothing happened to it: {}", lost.name(), gone.text);
    }
  }
}

void Checker::judged(const protocol::Coordinator& coordinator, const std::string& name) {
  const auto found =
      std::find_if(world_.peers.begin(), world_.peers.end(), [&](const auto& peer) { return peer->name() == name; });
  if (found == world_.peers.end()) violation("nobody is called {}", name);
  Peer& judged = **found;
  world_.counters.count(Sometimes::suspected);
  // A suspicion counts until two timeouts after it was last said; where messages are held up, longer.
  const bool late =
      world_.settings.has_any({Fault::coordinator_pause, Fault::cut_way, Fault::partition, Fault::partition_at_accept});
  const Micros timeout = world_.settings.timeout();
  const Micros since = world_.scheduler.now() - (late ? 8 * timeout : 7 * timeout / 2);
  std::vector<const Peer*> members;
  for (const auto& member : coordinator.view(judged.group())->members) members.push_back(&world_.peer(member.peer.id));
  const auto stood = [&](const Peer& a, const Peer& b) {
    return world_.network.has_stood(a.index(), b.index(), since);
  };
  const auto serves = [&](const Peer& third, const Peer& other) {
    const bool sound = world_.scheduler.alive(third.actor()) && !third.disturbed() && !third.asked_to_leave();
    return &third != &judged && &third != &other && sound && stood(third, judged) && stood(third, other);
  };
  for (const Peer* other : members) {
    if (other == &judged || stood(judged, *other)) continue;
    if (std::any_of(members.begin(), members.end(), [&](const Peer* third) { return serves(*third, *other); })) {
      continue;
    }
    return judged.disturb();
  }
  violation("{} is removed, but wherever it has no strand a third serves", name);
}

void Checker::proposed(std::uint32_t group, const wire::Install& install) {
  lineages_[lineage_of(install.view.lineage) - 1].group = group;
  proposals_[{install.term, install.view.number}].install = install;
}

void Checker::accepted(const Peer& peer, const wire::Accept& accept) {
  auto it = proposals_.find({accept.term, accept.view});
  if (it == proposals_.end()) return;
  it->second.accepted.insert(peer.id());
  const wire::Install& install = it->second.install;
  Lineage& lineage = lineages_[lineage_of(install.view.lineage) - 1];
  // A view that admits keeps the term of the one before it.
  const auto age = [](const wire::Install& one) { return std::pair{one.view.number, one.term}; };
  if (!lineage.agreed_to || age(*lineage.agreed_to) < age(install)) lineage.agreed_to = install;
}

void Checker::memory_lost(bool wrong) {
  for (Lineage& lineage : lineages_) {
    lineage.forgotten = true;
    if (lineage.halved || wrong) lineage.outside = true;
  }
}

bool Checker::is_found_again(const wire::Install& install) const {
  return std::any_of(found_again_.begin(), found_again_.end(), [&](const wire::Install& found) {
    return found.view == install.view && found.admit_target == install.admit_target;
  });
}

std::set<PeerId> Checker::living(const wire::View& view) const {
  std::set<PeerId> living;
  for (const auto& member : view.members) {
    const Peer& peer = world_.peer(member.peer.id);
    // A newcomer that has not heard of it may be a member of another group by now.
    const bool elsewhere = peer.lineage() != 0 && lineages_[peer.lineage() - 1].id != view.lineage;
    if (world_.scheduler.alive(peer.actor()) && !elsewhere) living.insert(member.peer.id);
  }
  return living;
}

bool Checker::has_majority(const wire::View& view) const { return protocol::is_majority(view, living(view)); }

bool Checker::is_member_of(const Peer& peer, LineageIndex lineage) const {
  return peer.is_member() && peer.lineage() == lineage && world_.scheduler.alive(peer.actor());
}

// Whether those who live are a majority of the newest view of which one of them has heard; these have voices, too.
bool Checker::can_go_on(LineageIndex index, const std::set<PeerId>& besides) const {
  const wire::View* heard = nullptr;
  for (const auto& peer : world_.peers) {
    if (!is_member_of(*peer, index) || (heard != nullptr && heard->number >= peer->machine().view().number)) continue;
    heard = &peer->machine().view();
  }
  if (heard == nullptr) return true;
  std::set<PeerId> voices = living(*heard);
  voices.insert(besides.begin(), besides.end());
  return protocol::is_majority(*heard, voices);
}

bool Checker::lacks_majority(LineageIndex index) const {
  const Lineage& lineage = lineages_[index - 1];
  const wire::View* newest = newest_view(index);
  // Of a group that has ended nobody may be there to tell those who were removed before.
  if (newest != nullptr && (newest->members.empty() || !has_majority(*newest))) return true;
  // Its coordinator died before anybody heard of it, and those who should have heard that they had left did not wait.
  if (newest != nullptr && !can_go_on(index, left_)) return true;
  return lineage.agreed_to && lineage.agreed_to->view.number > lineage.newest && !has_majority(lineage.agreed_to->view);
}

bool Checker::group_lacks_majority(std::uint32_t group) const {
  for (std::size_t i = 0; i < lineages_.size(); ++i) {
    if (lineages_[i].group == group && lacks_majority(static_cast<LineageIndex>(i + 1))) return true;
  }
  return false;
}

bool Checker::is_stranded(LineageIndex lineage) const {
  const wire::View* newest = newest_view(lineage);
  return newest != nullptr && is_forgotten(lineage) && (!has_majority(*newest) || !can_go_on(lineage, {}));
}

bool Checker::group_is_stranded(std::uint32_t group) const {
  return std::any_of(world_.peers.begin(), world_.peers.end(), [&](const auto& peer) {
    if (peer->group() != group || !peer->is_member() || !world_.scheduler.alive(peer->actor())) return false;
    return is_stranded(peer->lineage());
  });
}

bool Checker::is_outside(std::uint32_t group) const {
  return std::any_of(lineages_.begin(), lineages_.end(),
                     [&](const Lineage& lineage) { return lineage.group == group && lineage.outside; });
}

bool Checker::in_newest_view(const Peer& peer) const {
  for (std::size_t i = 0; i < lineages_.size(); ++i) {
    if (lineages_[i].group != peer.group()) continue;
    const wire::View* newest = newest_view(static_cast<LineageIndex>(i + 1));
    if (newest == nullptr) continue;
    if (std::any_of(newest->members.begin(), newest->members.end(),
                    [&](const auto& m) { return m.peer.id == peer.id(); })) {
      return true;
    }
  }
  return false;
}

void Checker::called(const OpId& id, const CallSpec& spec, const wire::OpParams& params) {
  Op& op = ops_[id];
  op.broadcast = params.kind == wire::OpKind::broadcast;
  if (op.broadcast) op.roots.insert(params.root);
  op.deviated = op.deviated || spec.deviation != Deviation::none;
  op.min_participants = std::max(op.min_participants, params.min_participants);
}

void Checker::succeeded(const Peer& peer, const OpId& id, const Success& success) {
  if (is_outside_lineage(id.lineage)) return;
  Op& op = ops_.at(id);
  if (op.failure) {
    violation("not uniform: {} has SUCCESS, {} has {}", peer.name(), op.failure_at, code_name(*op.failure));
  }
  std::uint64_t expected = 0;
  // In this view the attempt began, or could have.
  const wire::View& view = decisions_.at({id.lineage, std::max(success.epoch, id.key.generation)}).install.view;
  for (const auto& member : view.members) {
    if (member.joined <= id.key.generation) expected |= world_.peer(member.peer.id).bit();
  }
  if (success.contributions != expected) {
    violation("{} has the contributions {:x}, the participants are {:x}", peer.name(), success.contributions, expected);
  }
  if (op.success) {
    const Success& other = *op.success;
    if (other.contributions != success.contributions || other.epoch != success.epoch ||
        other.digest != success.digest || (other.call != success.call && !unaligned(id))) {
      violation("values differ: {} has {:x} of epoch {} (call {}), {} has {:x} of epoch {} (call {})", peer.name(),
                success.contributions, success.epoch, success.call, op.success_at, other.contributions, other.epoch,
                other.call);
    }
  }
  op.success = success;
  op.success_at = peer.name();
}

void Checker::failed(const Peer& peer, const OpId& id, Code code, const std::string& text) {
  Op& op = ops_[id];
  Counters& counters = world_.counters;
  if (is_outside_lineage(id.lineage)) return;
  const bool lossless = !losses_.contains(id.lineage);
  switch (code) {
    case Code::PEER_LOST:
      if (lossless && !op.broadcast) violation("{}: PEER_LOST, but nobody was lost: {}", peer.name(), text);
      counters.count(op.broadcast && text.find("root") != std::string::npos ? Sometimes::root_lost
                                                                            : Sometimes::strict_lost);
      break;
    case Code::MISMATCH:
      if (text.find("different tags") != std::string::npos) {
        // A guess from who waits where; it needs a deadline.
        if (!timed_out_.contains(id.lineage)) violation("{}: MISMATCH without a cause: {}", peer.name(), text);
        counters.count(Sometimes::tags_apart);
        unaligned_.insert({id.lineage, id.key.generation});
      } else if (!op.deviated && op.roots.size() < 2 && !unaligned(id)) {
        violation("{}: MISMATCH, but all made the same call: {}", peer.name(), text);
      }
      counters.count(Sometimes::mismatch);
      break;
    case Code::DIVERGED:
      if (!op.diverged) violation("{}: DIVERGED, but all have the same bits: {}", peer.name(), text);
      counters.count(Sometimes::diverged);
      break;
    case Code::TIMEOUT:
      if (!op.timed_out) violation("{}: TIMEOUT, but no deadline has passed: {}", peer.name(), text);
      counters.count(Sometimes::timeout);
      break;
    case Code::CANCELLED:
      if (!op.cancelled) violation("{}: CANCELLED, but nobody has cancelled: {}", peer.name(), text);
      counters.count(Sometimes::cancelled);
      break;
    case Code::TOO_FEW:
      if (op.min_participants < 2) violation("{}: TOO_FEW without a minimum: {}", peer.name(), text);
      counters.count(Sometimes::too_few);
      break;
    case Code::NO_COORDINATOR:
    case Code::EXPELLED:
    case Code::ABORTED:
      break;
    default:
      violation("{}: an operation ends with {}: {}", peer.name(), code_name(code), text);
  }
  if (text.empty()) violation("{}: {} without a sentence", peer.name(), code_name(code));
  if (!is_definite(code)) return;
  if (op.success) {
    violation("not uniform: {} has {}, {} has SUCCESS", peer.name(), code_name(code), op.success_at);
  }
  if (op.failure && *op.failure != code && !unaligned(id)) {
    violation("{} has {}, {} has {}", peer.name(), code_name(code), op.failure_at, code_name(*op.failure));
  }
  op.failure = code;
  op.failure_at = peer.name();
}

void Checker::ended(const Peer& peer, Code code, const std::string& text) {
  if (code == Code::OK) left_.insert(peer.id());
  if (is_outside_lineage(peer.lineage())) return;
  switch (code) {
    case Code::TIMEOUT:  // no coordinator took the word of it
      if (world_.settings.coordinators == 1) violation("{} ends with TIMEOUT: {}", peer.name(), text);
      [[fallthrough]];
    case Code::OK:
      if (!peer.asked_to_leave()) violation("{} has left but never asked to", peer.name());
      break;
    case Code::EXPELLED: {
      // Several groups were formed under one number, and no coordinator leads its own.
      const bool led_nowhere =
          text.starts_with("every coordinator leads another group") && world_.led_view(peer) == nullptr;
      if (!peer.disturbed() && !led_nowhere)
        violation("{} is EXPELLED though nothing happened to it: {}", peer.name(), text);
      world_.counters.count(Sometimes::expelled);
      if (peer.was_stopped()) world_.counters.count(Sometimes::zombie);
      break;
    }
    case Code::NO_COORDINATOR:
      if (!peer.disturbed()) violation("{}: NO_COORDINATOR though nothing happened: {}", peer.name(), text);
      break;
    case Code::ABORTED:
      break;
    default:
      violation("{} ends with {}: {}", peer.name(), code_name(code), text);
  }
}

void Checker::memory(const Peer& peer) {
  const auto sizes = peer.machine().ledger().sizes();
  if (sizes.open + sizes.unstable > wire::seal_ops_max) {
    violation("{} holds {} open and {} unstable operations", peer.name(), sizes.open, sizes.unstable);
  }
  // Of this history: some dozens are in flight at most, and every call that the others made and this one did not may
  // have left an entry.
  constexpr std::size_t in_flight_max = 400;
  if (sizes.unstable > in_flight_max || sizes.early > in_flight_max || sizes.announce > in_flight_max) {
    violation("{} remembers {} unstable, {} early, {} unannounced operations", peer.name(), sizes.unstable, sizes.early,
              sizes.announce);
  }
}

}  // namespace hawser::sim
