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

}  // namespace

void Checker::decided(std::uint32_t run, std::uint32_t group, const wire::View& view) {
  std::uint64_t& newest = newest_[{run, group}];
  if (view.number != newest + 1) violation("view {} of group {} follows view {}", view.number, group, newest);
  newest = view.number;
  std::set<PeerId> ids;
  for (const auto& member : view.members) {
    if (!ids.insert(member.peer.id).second) violation("view {} names a member twice", view.number);
    if (member.joined > view.generation) violation("view {}: a member joined after its generation", view.number);
  }
  if (view.number > 1) {
    const wire::View& before = views_.at({run, group, view.number - 1});
    bool lost = false;
    for (const auto& member : before.members) lost = lost || !ids.contains(member.peer.id);
    bool gained = false;
    std::set<PeerId> old;
    for (const auto& member : before.members) old.insert(member.peer.id);
    for (const PeerId& id : ids) gained = gained || !old.contains(id);
    const bool formed = before.members.empty() && !ids.empty();
    if ((view.epoch == view.number) != (lost || formed) || (view.generation == view.number) != gained) {
      violation("view {}: epoch {} and generation {} do not tell what changed", view.number, view.epoch,
                view.generation);
    }
    if (view.epoch != view.number && view.epoch != before.epoch)
      violation("view {}: epoch {}", view.number, view.epoch);
    if (view.generation != view.number && view.generation != before.generation) {
      violation("view {}: generation {}", view.number, view.generation);
    }
    if (lost && gained) violation("view {} removes and admits", view.number);
    // The ranks of those who stay keep their order, newcomers follow.
    auto at = view.members.begin();
    for (const auto& member : before.members) {
      if (!ids.contains(member.peer.id)) continue;
      if (at == view.members.end() || *at != member) violation("view {} changes the order of members", view.number);
      ++at;
    }
  }
  views_[{run, group, view.number}] = view;
}

void Checker::installed(const Peer& peer, const wire::View& before, const wire::Install& install) {
  auto it = views_.find({peer.run(), peer.group(), install.view.number});
  if (it == views_.end() || it->second != install.view) {
    violation("{} installs a view {} that nobody decided on", peer.name(), install.view.number);
  }
  if (before.number != 0 && install.view.number != before.number + 1) {
    violation("{} goes from view {} to view {}", peer.name(), before.number, install.view.number);
  }
  for (const auto& gone : install.departures) {
    if (gone.left) continue;
    losses_.insert({peer.run(), peer.group()});
    const Peer& lost = world_.peer(gone.id);
    if (!lost.disturbed()) {
      violation("{} was removed though nothing happened to it: {}", lost.name(), gone.text);
    }
  }
}

bool Checker::in_newest_view(const Peer& peer) const {
  auto newest = newest_.find({peer.run(), peer.group()});
  if (newest == newest_.end()) return false;
  const auto& members = views_.at({peer.run(), peer.group(), newest->second}).members;
  return std::any_of(members.begin(), members.end(), [&](const auto& m) { return m.peer.id == peer.id(); });
}

void Checker::called(const OpId& id, const CallSpec& spec, const wire::OpParams& params) {
  Op& op = ops_[id];
  op.broadcast = params.kind == wire::OpKind::broadcast;
  if (op.broadcast) op.roots.insert(params.root);
  op.deviated = op.deviated || spec.deviation != Deviation::none;
  op.min_participants = std::max(op.min_participants, params.min_participants);
}

void Checker::succeeded(const Peer& peer, const OpId& id, const Success& success) {
  Op& op = ops_.at(id);
  if (op.failure) {
    violation("not uniform: {} has SUCCESS, {} has {}", peer.name(), op.failure_at, code_name(*op.failure));
  }
  std::uint64_t expected = 0;
  // In this view the attempt began, or could have.
  const wire::View& view = views_.at({id.run, id.group, std::max(success.epoch, id.key.generation)});
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
  const bool lossless = !losses_.contains({id.run, id.group});
  switch (code) {
    case Code::PEER_LOST:
      if (lossless && !op.broadcast) violation("{}: PEER_LOST, but nobody was lost: {}", peer.name(), text);
      counters.count(op.broadcast && text.find("root") != std::string::npos ? Sometimes::root_lost
                                                                            : Sometimes::strict_lost);
      break;
    case Code::MISMATCH:
      if (text.find("different tags") != std::string::npos) {
        // A guess from who waits where; it needs a deadline.
        if (!timed_out_.contains({id.run, id.group})) violation("{}: MISMATCH without a cause: {}", peer.name(), text);
        counters.count(Sometimes::tags_apart);
        unaligned_.insert({id.run, id.group, id.key.generation});
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
  switch (code) {
    case Code::OK:
      if (!peer.asked_to_leave()) violation("{} has left but never asked to", peer.name());
      break;
    case Code::EXPELLED:
      if (!peer.disturbed()) violation("{} is EXPELLED though nothing happened to it: {}", peer.name(), text);
      world_.counters.count(Sometimes::expelled);
      if (peer.was_stopped()) world_.counters.count(Sometimes::zombie);
      break;
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
