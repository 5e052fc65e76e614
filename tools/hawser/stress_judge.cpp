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

}  // namespace

std::optional<std::string> Judge::add(const Outcome& outcome) {
  if (outcome.status == HAWSER_EXPELLED || outcome.status == HAWSER_NO_COORDINATOR) return std::nullopt;
  last_round_ = std::max(last_round_, outcome.round);
  while (!entries_.empty() && entries_.begin()->first.first + rounds_kept < last_round_)
    entries_.erase(entries_.begin());

  Entry& entry = entries_[{outcome.round, outcome.op}];
  if (outcome.status != HAWSER_OK) {
    if (!entry.failed) entry.failed = outcome;
    if (!entry.committed) return std::nullopt;
    return both(*entry.committed, outcome, fmt::format("OK and {}", hawser_status_name(outcome.status)));
  }
  if (!entry.committed) {
    entry.committed = outcome;
    ++committed_;
    if (!entry.failed) return std::nullopt;
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
  return std::nullopt;
}

}  // namespace tool
