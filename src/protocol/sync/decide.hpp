// What becomes of a sync of shared state, as a function of the members' offers alone: every member applies it to the
// same offers, in rank order, and comes to the same. Pure; any thread. The rules are those of
// docs/protocol.md#shared-state.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "wire/sync.hpp"

namespace hawser::protocol {

// Values of hawser_decision_t.
enum class DecidedBy : std::uint8_t { record = 0, majority = 1, unanimous = 2 };

// This revision with this content it is.
struct Decision {
  DecidedBy by = DecidedBy::unanimous;
  std::uint64_t revision = 0;
  wire::Digest128 root;
  std::size_t behind = 0;              // members that held another revision or content
  std::vector<std::size_t> sources;    // ranks of those who hold the content and send it
  std::vector<std::size_t> receivers;  // ranks of those who hold other content
};
// Nothing can be decided; the same sentence at every member.
struct Refusal {
  wire::FaultReason reason = wire::FaultReason::none;
  std::string text;
};
// These two, the first in rank order, have different layouts and are to compare them.
struct LayoutsDiffer {
  std::size_t one = 0;
  std::size_t other = 0;
};
using SyncVerdict = std::variant<Decision, Refusal, LayoutsDiffer>;

struct Candidate {
  std::string who;  // "rank 2 (name)"
  wire::SyncOffer offer;
};

// In rank order, at least one.
SyncVerdict decide_sync(const std::vector<Candidate>& members);
// Of a check, which moves nothing: the content all of them hold, or the refusal that says who differs.
SyncVerdict decide_check(const std::vector<Candidate>& members);

}  // namespace hawser::protocol
