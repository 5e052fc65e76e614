// A member's operations; see the header for the rules.
#include "protocol/round/ledger.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/mutants.hpp"
#include "protocol/round/sentences.hpp"

namespace hawser::protocol {
namespace {

using wire::FaultReason;
using wire::OpKey;
using wire::OpParams;
using wire::OpPhase;

bool takes_part(const wire::ViewMember& member, std::uint64_t generation) {
  return member.joined <= generation || HAWSER_MUTANT(9);
}

}  // namespace

Code fault_code(FaultReason reason) {
  switch (reason) {
    case FaultReason::none:
      return Code::INTERNAL;
    case FaultReason::mismatch:
      return Code::MISMATCH;
    case FaultReason::diverged:
      return Code::DIVERGED;
    case FaultReason::timeout:
    case FaultReason::straggler:
      return Code::TIMEOUT;
    case FaultReason::cancelled:
      return Code::CANCELLED;
    case FaultReason::resource:
      return Code::RESOURCE;
    case FaultReason::root_lost:
      return Code::PEER_LOST;
    case FaultReason::no_majority:
      return Code::NO_MAJORITY;
    case FaultReason::not_finite:
      return Code::NOT_FINITE;
  }
  return Code::INTERNAL;
}

std::string Ledger::who(PeerId id) const {
  for (std::size_t rank = 0; rank < view_.members.size(); ++rank) {
    if (view_.members[rank].peer.id == id) return fmt::format("rank {} ({})", rank, view_.members[rank].peer.name);
  }
  return short_name(id);
}

std::vector<PeerId> Ledger::participants(std::uint64_t generation) const {
  std::vector<PeerId> out;
  for (const auto& member : view_.members) {
    if (takes_part(member, generation)) out.push_back(member.peer.id);
  }
  return out;
}

bool Ledger::said_done(const OpKey& key) const {
  auto it = ops_.find(key);
  return it != ops_.end() && it->second.phase == OpPhase::done;
}

bool Ledger::heard_done(const OpKey& key, PeerId from) const {
  auto it = ops_.find(key);
  return it != ops_.end() && it->second.dones.contains(from);
}

bool Ledger::is_future(const OpKey& key) const {
  if (key.generation != view_.generation) return false;
  auto it = next_.find(key.tag);
  return key.sequence >= (it == next_.end() ? 0 : it->second) && !ended_.contains(key);
}

Result<OpKey> Ledger::start(std::uint64_t tag, const OpParams& params, Actions& actions) {
  // The second limit keeps the answer to a Seal within its own: an open operation may become an unstable one.
  if (ops_.size() >= wire::ops_open_max || ops_.size() + unstable_.size() >= wire::seal_ops_max) {
    return Status(Code::RESOURCE, fmt::format("{} operations are open already; wait for some first", ops_.size()));
  }
  const OpKey key{view_.generation, tag, next_[tag]++};
  if (auto it = ended_.find(key); it != ended_.end()) {
    Status status = it->second;
    ended_.erase(it);
    return status;
  }
  if (auto it = interrupted_.find(key); it != interrupted_.end()) {
    std::string lost = it->second;
    interrupted_.erase(it);
    if (params.strict != 0) {
      early_.erase(key);
      return Status(Code::PEER_LOST, lost);
    }
  }
  const auto present = std::count_if(view_.members.begin(), view_.members.end(),
                                     [&](const auto& member) { return takes_part(member, key.generation); });
  if (present < params.min_participants) {
    early_.erase(key);
    return Status(Code::TOO_FEW,
                  fmt::format("{} members would take part, min_participants is {}", present, params.min_participants));
  }
  Op& op = ops_[key];
  op.params = params;
  if (auto it = early_.find(key); it != early_.end()) {
    Early early = std::move(it->second);
    early_.erase(it);
    if (!HAWSER_MUTANT(12)) op.dones = std::move(early.dones);
    for (const auto& [from, theirs] : early.begins) {
      if (!compare(key, params, from, theirs, actions)) break;
    }
  }
  return key;
}

OpKey Ledger::next_key(std::uint64_t tag) const {
  auto it = next_.find(tag);
  return {view_.generation, tag, it == next_.end() ? 0 : it->second};
}

void Ledger::skip_to(const OpKey& next) {
  if (next.generation != view_.generation || next.sequence <= next_key(next.tag).sequence) return;
  next_[next.tag] = next.sequence;
  const auto skipped = [&](const auto& entry) {
    const OpKey& key = entry.first;
    return key.generation == next.generation && key.tag == next.tag && key.sequence < next.sequence;
  };
  std::erase_if(ended_, skipped);
  std::erase_if(interrupted_, skipped);
  std::erase_if(early_, skipped);
}

bool Ledger::compare(const OpKey& key, const OpParams& mine, PeerId from, const OpParams& theirs, Actions& actions) {
  if (mine == theirs) return true;
  vote(key, FaultReason::mismatch, disagreement(key, who(self_), mine, who(from), theirs), actions);
  return false;
}

void Ledger::finished(const OpKey& key, std::uint64_t epoch, const wire::Digest128& digest, Actions& actions) {
  auto it = ops_.find(key);
  if (it == ops_.end() || epoch != view_.epoch) return;
  Op& op = it->second;
  if (op.phase == OpPhase::done || op.fault != FaultReason::none) return;
  if (sealed_ && !HAWSER_MUTANT(1)) {
    op.held = digest;
    return;
  }
  say_done(key, op, digest, actions);
  commit_if_all_done(key, actions);
}

void Ledger::say_done(const OpKey& key, Op& op, const wire::Digest128& digest, Actions& actions) {
  op.phase = OpPhase::done;
  op.digest = digest;
  op.held.reset();
  SayDone say;
  say.key = key;
  say.epoch = view_.epoch;
  say.done.digest = digest;
  say.to.reserve(view_.members.size());
  for (const auto& member : view_.members) {
    if (member.peer.id != self_ && takes_part(member, key.generation)) say.to.push_back(member.peer.id);
  }
  // Only those who hear this Done learn of the commits it carries, so it must not carry those of a larger audience.
  while (!announce_.empty() && say.done.committed.size() < wire::done_committed_max &&
         announce_.front().generation <= key.generation) {
    say.done.committed.push_back(announce_.front());
    announce_.pop_front();
  }
  actions.push_back(std::move(say));
}

void Ledger::commit_if_all_done(const OpKey& key, Actions& actions) {
  auto it = ops_.find(key);
  if (it == ops_.end() || it->second.phase != OpPhase::done) return;
  Op& op = it->second;
  bool equal = true;
  for (const auto& member : view_.members) {
    if (member.peer.id == self_ || !takes_part(member, key.generation)) continue;
    auto done = op.dones.find(member.peer.id);
    if (done == op.dones.end()) return;
    equal = equal && (done->second == op.digest || HAWSER_MUTANT(13));
  }
  if (!equal) {  // the coordinator compares the digests and ends it everywhere
    if (op.divergence_reported) return;
    op.divergence_reported = true;
    actions.push_back(ReportFault{{view_.number, key, FaultReason::diverged, "digests differ"}});
    return;
  }
  commit(key, actions);
}

void Ledger::commit(const OpKey& key, Actions& actions) {
  auto it = ops_.find(key);
  Unstable record{it->second.params, it->second.digest, {}};
  const bool given_up = it->second.given_up;
  for (const auto& member : view_.members) {
    if (member.peer.id != self_ && takes_part(member, key.generation)) record.waiting.insert(member.peer.id);
  }
  ops_.erase(it);
  if (!record.waiting.empty()) {
    unstable_.emplace(key, std::move(record));
    announce_.push_back(key);
  }
  if (!given_up) actions.push_back(OpCommitted{key});
}

bool Ledger::vote(const OpKey& key, FaultReason reason, const std::string& text, Actions& actions) {
  auto it = ops_.find(key);
  if (it == ops_.end()) return false;
  Op& op = it->second;
  const bool done = op.phase == OpPhase::done;
  if (op.fault != FaultReason::none) return !done;
  op.fault = reason;
  op.text = text;
  op.held.reset();
  actions.push_back(ReportFault{{view_.number, key, reason, text}});
  return !done;
}

void Ledger::begin_from(PeerId from, std::uint64_t epoch, const OpKey& key, const OpParams& params, Actions& actions) {
  // Members of another lineage may have the same numbers.
  if (epoch != view_.epoch || !view_.contains(from)) return;
  if (auto it = ops_.find(key); it != ops_.end()) {
    compare(key, it->second.params, from, params, actions);
  } else if (is_future(key) && (early_.contains(key) || early_.size() < wire::ops_open_max)) {
    early_[key].begins[from] = params;
  }
}

void Ledger::done_from(PeerId from, std::uint64_t epoch, const OpKey& key, const wire::Done& done, Actions& actions) {
  for (const OpKey& committed : done.committed) {
    auto it = unstable_.find(committed);
    if (it == unstable_.end()) continue;
    it->second.waiting.erase(from);
    if (it->second.waiting.empty()) unstable_.erase(it);
  }
  if ((epoch != view_.epoch && !HAWSER_MUTANT(6)) || !view_.contains(from)) return;
  if (auto it = ops_.find(key); it != ops_.end()) {
    it->second.dones[from] = done.digest;
    commit_if_all_done(key, actions);
  } else if (is_future(key) && (early_.contains(key) || early_.size() < wire::ops_open_max)) {
    early_[key].dones[from] = done.digest;
  }
}

wire::SealReply Ledger::seal(const wire::Term& term) {
  sealed_ = true;
  wire::SealReply reply;
  reply.term = term;
  reply.view = view_.number;
  for (const auto& [key, op] : ops_) reply.ops.push_back({key, op.params, op.phase, op.digest, op.fault, op.text});
  for (const auto& [key, record] : unstable_) {
    if (HAWSER_MUTANT(4)) break;
    reply.ops.push_back({key, record.params, OpPhase::committed, record.digest, FaultReason::none, ""});
  }
  return reply;
}

void Ledger::fail(const OpKey& key, Code code, const std::string& text, Actions& actions) {
  auto it = ops_.find(key);
  const bool given_up = it->second.given_up;
  ops_.erase(it);
  if (!given_up) actions.push_back(OpFailed{key, code, text});
}

// `lost` says who was lost; empty when members only left, which is no failure under either policy.
void Ledger::apply(const wire::Outcome& outcome, const std::string& lost, Actions& actions) {
  auto it = ops_.find(outcome.key);
  const bool open = it != ops_.end();
  const bool future = !open && is_future(outcome.key);
  switch (outcome.verdict) {
    case wire::Verdict::commit:
      // A member of the view reported Done for it, this one too: it is open here, or committed already.
      if (open) commit(outcome.key, actions);
      // All members learn of it before they can be sealed again. (Not so what was committed here after the answer to
      // the Seal, with the Done of members that this Install reached earlier: that stays unstable.)
      unstable_.erase(outcome.key);
      std::erase(announce_, outcome.key);
      break;
    case wire::Verdict::abort:
      if (open) fail(outcome.key, fault_code(outcome.reason), outcome.text, actions);
      if (future && !HAWSER_MUTANT(2)) ended_.emplace(outcome.key, Status(fault_code(outcome.reason), outcome.text));
      break;
    case wire::Verdict::rerun:
      if (lost.empty()) break;
      if (open && it->second.params.strict != 0) fail(outcome.key, Code::PEER_LOST, lost, actions);
      if (future && !HAWSER_MUTANT(10)) interrupted_.emplace(outcome.key, lost);
      break;
  }
}

void Ledger::install(const wire::Install& install, Actions& actions, bool unseals) {
  std::string lost;
  for (const auto& gone : install.departures) {
    if (!gone.left || HAWSER_MUTANT(15))
      lost += fmt::format("{}{} was lost: {}", lost.empty() ? "" : "; ", who(gone.id), gone.text);
  }
  const bool epoch_changed = install.view.epoch != view_.epoch;
  const bool strangers = install.view.generation != view_.generation;
  if (install.sealed) {
    for (const auto& outcome : install.outcomes) apply(outcome, lost, actions);
    if (HAWSER_MUTANT(7)) unstable_.clear();
    if (unseals) sealed_ = false;
  }
  view_ = install.view;
  for (auto it = unstable_.begin(); it != unstable_.end();) {
    std::erase_if(it->second.waiting, [&](const PeerId& id) { return !view_.contains(id); });
    it = it->second.waiting.empty() ? unstable_.erase(it) : std::next(it);
  }
  if (strangers) {
    next_.clear();
    ended_.clear();
    interrupted_.clear();
    early_.clear();
  }
  if (epoch_changed) early_.clear();
  std::vector<OpKey> open;
  for (const auto& [key, op] : ops_) open.push_back(key);
  for (const OpKey& key : open) {
    Op& op = ops_.at(key);
    if (epoch_changed) {
      restart(key, op, actions);
    } else if (op.held && !sealed_ && !HAWSER_MUTANT(5)) {
      say_done(key, op, *op.held, actions);
    }
    if (!ops_.contains(key)) continue;  // too few are left for it
    op.divergence_reported = false;     // the report may have come while a change was running that did not see it
    commit_if_all_done(key, actions);
    auto it = ops_.find(key);
    if (it == ops_.end()) continue;
    if (it->second.fault != FaultReason::none && !HAWSER_MUTANT(11)) {  // voted too late for the answer to the Seal
      actions.push_back(ReportFault{{view_.number, key, it->second.fault, it->second.text}});
    }
  }
}

void Ledger::repeat_faults(Actions& actions) {
  for (const auto& [key, op] : ops_) {
    if (op.fault != FaultReason::none) actions.push_back(ReportFault{{view_.number, key, op.fault, op.text}});
    if (op.divergence_reported) {
      actions.push_back(ReportFault{{view_.number, key, FaultReason::diverged, "digests differ"}});
    }
  }
}

void Ledger::restart(const OpKey& key, Op& op, Actions& actions) {
  const std::vector<PeerId> staying = participants(key.generation);
  if (staying.size() < op.params.min_participants) {
    return fail(key, Code::TOO_FEW,
                fmt::format("{} members are left, min_participants is {}", staying.size(), op.params.min_participants),
                actions);
  }
  op.phase = OpPhase::open;
  op.digest = {};
  op.held.reset();
  op.dones.clear();
  if (op.given_up) {  // it cannot take part again: its buffers are the caller's
    if (op.fault != FaultReason::none) return;
    op.fault = FaultReason::timeout;
    op.text = "gave up when it could not learn what became of it";
    return;
  }
  if (!op.params.root.is_zero() && std::find(staying.begin(), staying.end(), op.params.root) == staying.end()) {
    // It began here after the answer to the Seal. Others may call with a new root, or have not called yet: a view
    // change has to end it for all.
    if (HAWSER_MUTANT(16)) return fail(key, Code::PEER_LOST, "the root was lost", actions);
    if (op.fault == FaultReason::none) {
      op.fault = FaultReason::root_lost;
      op.text = "the root of its broadcast was lost";
    }
    return;
  }
  actions.push_back(OpRestarted{key});
}

void Ledger::end_all(Code code, const std::string& text, Actions& actions) {
  for (const auto& [key, op] : ops_) {
    if (!op.given_up) actions.push_back(OpFailed{key, code, text});
  }
  ops_.clear();
  early_.clear();
  unstable_.clear();
  announce_.clear();
}

void Ledger::abandon(const OpKey& key, Code code, const std::string& text, Actions& actions) {
  auto it = ops_.find(key);
  if (it == ops_.end() || it->second.given_up) return;
  Op& op = it->second;
  op.given_up = true;
  op.held.reset();
  if (op.phase != OpPhase::done && op.fault == FaultReason::none) {
    op.fault = FaultReason::timeout;
    op.text = text;
  }
  actions.push_back(OpFailed{key, code, text});
}

}  // namespace hawser::protocol
