// The comparison of outcomes. Pure; the supervisor's thread.
#include "stress_judge.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace tool {
namespace {

std::string both(const Outcome& a, const Outcome& b, const std::string& what) {
  return fmt::format("round {} operation {}: {}: peer {} and peer {}", a.round, a.op, what, a.peer, b.peer);
}

bool disjoint(const Outcome& a, const Outcome& b) {
  return std::find_first_of(a.participants.begin(), a.participants.end(), b.participants.begin(),
                            b.participants.end()) == a.participants.end();
}

}  // namespace

std::optional<std::string> Judge::add(const Outcome& outcome) {
  if (outcome.status == HAWSER_EXPELLED || outcome.status == HAWSER_NO_COORDINATOR) return std::nullopt;
  last_round_ = std::max(last_round_, outcome.round);
  while (entries_.size() > entries_kept) entries_.erase(entries_.begin());

  Entry& entry = entries_[{outcome.round, outcome.op}];
  if (outcome.status != HAWSER_OK) {
    if (!entry.failed) entry.failed = outcome;
    if (!entry.committed) return std::nullopt;
    return both(*entry.committed, outcome, fmt::format("OK and {}", hawser_status_name(outcome.status)));
  }
  if (!entry.committed) {
    entry.committed = outcome;
    ++committed_;
    if (!entry.failed) return second_group(outcome);
    return both(outcome, *entry.failed, fmt::format("OK and {}", hawser_status_name(entry.failed->status)));
  }
  const Outcome& first = *entry.committed;
  if (first.participants != outcome.participants || first.identity_digest != outcome.identity_digest) {
    return both(first, outcome,
                fmt::format("participants [{:08x}] and [{:08x}]", fmt::join(first.participants, " "),
                            fmt::join(outcome.participants, " ")));
  }
  if (first.digest != outcome.digest) {
    return both(first, outcome, fmt::format("results with digests {:016x} and {:016x}", first.digest, outcome.digest));
  }
  return second_group(outcome);
}

std::optional<std::string> Judge::second_group(const Outcome& outcome) {
  if (outcome.began_ns == 0) return std::nullopt;
  const auto before = blocking_.find(outcome.peer);
  const bool goes_on = before != blocking_.end() && before->second.id == outcome.id;
  std::optional<std::string> found;
  for (const auto& [peer, other] : blocking_) {
    if (!goes_on || peer == outcome.peer) continue;
    const bool is_between = other.began_ns > before->second.ended_ns && other.ended_ns < outcome.began_ns;
    if (!is_between || !disjoint(other, outcome) || !disjoint(other, before->second)) continue;
    found = fmt::format(
        "two groups at once: peer {} with [{:08x}] in round {}, and before and after it peer {} with [{:08x}] in "
        "rounds "
        "{} and {}",
        peer, fmt::join(other.participants, " "), other.round, outcome.peer, fmt::join(outcome.participants, " "),
        before->second.round, outcome.round);
  }
  blocking_[outcome.peer] = outcome;
  return found;
}

}  // namespace tool
