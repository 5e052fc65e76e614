// Compares what peers report of the same operation. Pure: it is told results and says what contradicts; the
// supervisor's only thread owns it.
//
// The rule: if any peer has an operation's result, no other peer has a failure of it, and all have the same
// participants and bits. A peer that was expelled, or whom no coordinator could tell before its deadline, does not know
// and contradicts nobody: the others may have gone on without it. Operations that a strict policy ended with PEER_LOST
// and that were then made again count by their last outcome. An operation is known by the number that the program gave
// it, which holds across views, terms and lineages: members agree on the next one from the highest that any of them
// knows, and newcomers come with numbers that nobody has used, should all who knew better be gone before they meet.
// View numbers may differ:
// an operation that was complete when a peer was lost ends in the old view where that was known, and in the new one
// elsewhere.
#pragma once

#include <hawser/hawser.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace tool {

struct Outcome {
  std::uint32_t peer = 0;  // any number that tells peers apart in messages
  std::uint64_t round = 0;
  std::uint32_t op = 0;
  hawser_status_t status = HAWSER_OK;
  std::uint64_t digest = 0;
  std::uint64_t identity_digest = 0;
  std::vector<std::uint32_t> participants;
  // Of blocking operations: its own short id as participant, and when it called and returned. 0: not known.
  std::uint32_t id = 0;
  std::uint64_t began_ns = 0;
  std::uint64_t ended_ns = 0;
};

class Judge {
 public:
  // A sentence when this outcome contradicts an earlier one of the same operation.
  std::optional<std::string> add(const Outcome& outcome);
  // Operations that at least one peer committed.
  [[nodiscard]] std::uint64_t committed() const { return committed_; }
  [[nodiscard]] std::uint64_t last_round() const { return last_round_; }

 private:
  struct Entry {
    std::optional<Outcome> committed;  // the first report of success
    std::optional<Outcome> failed;     // the first report of a failure
  };
  [[nodiscard]] std::optional<std::string> second_group(const Outcome& outcome);

  // Members are never further apart than one operation, so older ones need not be kept.
  static constexpr std::size_t entries_kept = 20000;

  std::map<std::pair<std::uint64_t, std::uint32_t>, Entry> entries_;
  std::map<std::uint32_t, Outcome> blocking_;  // by peer, its last committed one of known times
  std::uint64_t committed_ = 0;
  std::uint64_t last_round_ = 0;
};

}  // namespace tool
