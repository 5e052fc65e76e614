// The rules by which a view change decides open operations.
#include "protocol/round/outcomes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "protocol/mutants.hpp"
#include "protocol/round/sentences.hpp"

namespace hawser::protocol {
namespace {

using wire::FaultReason;
using wire::OpKey;
using wire::OpPhase;
using wire::OpState;
using wire::Outcome;
using wire::Verdict;

// One operation as the survivors see it.
struct Seen {
  std::map<PeerId, const OpState*> states;
};

struct Place {
  std::size_t rank = 0;
  const wire::ViewMember* member = nullptr;
};

std::string who(const Place& place) { return fmt::format("rank {} ({})", place.rank, place.member->peer.name); }

class Decider {
 public:
  Decider(const wire::View& old_view, const std::map<PeerId, wire::SealReply>& survivors) : survivors_(survivors) {
    for (std::size_t rank = 0; rank < old_view.members.size(); ++rank) {
      places_[old_view.members[rank].peer.id] = Place{rank, &old_view.members[rank]};
      ranks_.push_back(old_view.members[rank].peer.id);
    }
    for (const auto& [id, reply] : survivors) {
      for (const OpState& op : reply.ops) ops_[op.key].states[id] = &op;
    }
  }

  std::vector<Outcome> run() {
    for (const auto& [key, seen] : ops_) {
      if (done_.contains(key)) continue;
      if (auto outcome = decide(key, seen)) add(std::move(*outcome));
    }
    // More than an Install may carry, which takes members whose calls have little in common: commits cannot wait, and
    // there are no more of them than one member remembers; votes are repeated after the Install and decided then.
    if (outcomes_.size() > wire::seal_ops_max) {
      std::stable_sort(outcomes_.begin(), outcomes_.end(),
                       [](const Outcome& a, const Outcome& b) { return a.verdict < b.verdict; });
      outcomes_.resize(wire::seal_ops_max);
    }
    return std::move(outcomes_);
  }

 private:
  void add(Outcome outcome) {
    done_.insert(outcome.key);
    outcomes_.push_back(std::move(outcome));
  }

  // Those who take part in an operation: members that were there when its generation began. In rank order.
  [[nodiscard]] std::vector<PeerId> participants(const OpKey& key, bool surviving) const {
    std::vector<PeerId> out;
    for (const PeerId& id : ranks_) {
      if (places_.at(id).member->joined > key.generation) continue;
      if (surviving && !survivors_.contains(id)) continue;
      out.push_back(id);
    }
    return out;
  }

  std::optional<Outcome> decide(const OpKey& key, const Seen& seen) {
    const std::vector<PeerId> staying = participants(key, true);
    bool all_done = true;
    for (const PeerId& id : staying) {
      auto it = seen.states.find(id);
      if (it != seen.states.end() && it->second->phase == OpPhase::committed) {
        return Outcome{key, Verdict::commit, FaultReason::none, ""};
      }
      all_done = all_done && it != seen.states.end() && it->second->phase == OpPhase::done;
    }
    const bool missing = staying.size() != participants(key, false).size();
    if (HAWSER_MUTANT(3) && missing) return Outcome{key, Verdict::rerun, FaultReason::none, ""};
    if (HAWSER_MUTANT(8)) {
      for (const auto& [id, state] : seen.states) {
        if (state->fault != FaultReason::none) return Outcome{key, Verdict::abort, state->fault, state->text};
      }
    }
    if (all_done) return finished(key, seen, staying);  // some may have committed it, whatever others wish
    if (auto outcome = mismatch(key, seen, staying)) return outcome;
    // Somebody is not Done, hence nobody has committed it and every vote may have its way, also of those who are Done.
    for (const PeerId& id : staying) {
      auto it = seen.states.find(id);
      if (it == seen.states.end() || it->second->fault == FaultReason::none) continue;
      const OpState& vote = *it->second;
      if (vote.fault == FaultReason::timeout) return timed_out(key, seen, id, vote, staying);
      // A mismatch and a lack of a majority name all sides themselves; the other reasons are about the voter.
      const bool complete = vote.fault == FaultReason::mismatch || vote.fault == FaultReason::no_majority;
      return Outcome{key, Verdict::abort, vote.fault,
                     complete ? vote.text : fmt::format("{}: {}", who(places_.at(id)), vote.text)};
    }
    const OpState& any = *seen.states.begin()->second;
    if (!any.params.root.is_zero() && !survivors_.contains(any.params.root)) {
      auto root = places_.find(any.params.root);
      return Outcome{key, Verdict::abort, FaultReason::root_lost,
                     fmt::format("the root of the broadcast, {}, was lost before everyone had its data",
                                 root == places_.end() ? to_string(any.params.root) : who(root->second))};
    }
    // Only the strict policy needs to be told: everything open begins again when a member was removed.
    const bool strict = std::any_of(seen.states.begin(), seen.states.end(),
                                    [](const auto& item) { return item.second->params.strict != 0; });
    if (missing && strict) return Outcome{key, Verdict::rerun, FaultReason::none, ""};
    return std::nullopt;
  }

  // The first two that did not make the same call.
  [[nodiscard]] std::optional<Outcome> mismatch(const OpKey& key, const Seen& seen,
                                                const std::vector<PeerId>& staying) const {
    PeerId first_id;
    const OpState* first = nullptr;
    for (const PeerId& id : staying) {
      auto it = seen.states.find(id);
      if (it == seen.states.end()) continue;
      if (first == nullptr) {
        first_id = id;
        first = it->second;
      } else if (it->second->params != first->params) {
        return Outcome{
            key, Verdict::abort, FaultReason::mismatch,
            disagreement(key, who(places_.at(first_id)), first->params, who(places_.at(id)), it->second->params)};
      }
    }
    return std::nullopt;
  }

  // Everybody holds a result: the same one, or a divergence that must be named.
  [[nodiscard]] Outcome finished(const OpKey& key, const Seen& seen, const std::vector<PeerId>& staying) const {
    const OpState& first = *seen.states.at(staying.front());
    for (const PeerId& id : staying) {
      const OpState& state = *seen.states.at(id);
      if (state.digest == first.digest) continue;
      if (auto outcome = mismatch(key, seen, staying)) return *outcome;
      return Outcome{key, Verdict::abort, FaultReason::diverged,
                     fmt::format("results differ: {} has digest {:016x}{:016x}, {} has {:016x}{:016x}",
                                 who(places_.at(staying.front())), first.digest.high, first.digest.low,
                                 who(places_.at(id)), state.digest.high, state.digest.low)};
    }
    return Outcome{key, Verdict::commit, FaultReason::none, ""};
  }

  // A deadline passed: say who never came. When all members stand in one call and nowhere else, some under this tag and
  // some under another, that is the real fault, and both calls end. It is a guess, so it must not be made lightly: who
  // has several calls in flight may yet come to this one.
  Outcome timed_out(const OpKey& key, const Seen& seen, PeerId voter, const OpState& vote,
                    const std::vector<PeerId>& staying) {
    if (const OpKey* other_key = other_tag(key, vote, staying)) {
      const PeerId other_id = ops_.at(*other_key).states.begin()->first;
      std::string text = fmt::format(
          "members wait for one another in the same call under different tags: {} in {}, {} in {}; use the same tag on "
          "all",
          who(places_.at(voter)), describe(key), who(places_.at(other_id)), describe(*other_key));
      add(Outcome{*other_key, Verdict::abort, FaultReason::mismatch, text});
      return Outcome{key, Verdict::abort, FaultReason::mismatch, text};
    }
    std::string missing;
    for (const PeerId& id : staying) {
      if (!seen.states.contains(id)) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", who(places_.at(id)));
    }
    std::string text = fmt::format("{}: {}", who(places_.at(voter)), vote.text);
    if (!missing.empty()) text += fmt::format("; not entered by {}", missing);
    return Outcome{key, Verdict::abort, FaultReason::timeout, text};
  }

  // The call in which those members stand who are not in this one; null when there is no such single call.
  [[nodiscard]] const OpKey* other_tag(const OpKey& key, const OpState& vote,
                                       const std::vector<PeerId>& staying) const {
    const OpKey* other = nullptr;
    for (const PeerId& id : staying) {
      const OpState* only = nullptr;
      for (const OpState& op : survivors_.at(id).ops) {
        if (op.phase == OpPhase::committed) continue;
        if (only != nullptr) return nullptr;
        only = &op;
      }
      // Who is Done with it has the data of all, so all have entered it; and it may be committed.
      if (only == nullptr || only->params != vote.params) return nullptr;
      if (only->phase != OpPhase::open && !HAWSER_MUTANT(29)) return nullptr;
      if (only->key == key) continue;
      if (only->key.tag == key.tag || only->key.generation != key.generation) return nullptr;
      if (other != nullptr && *other != only->key) return nullptr;
      other = &only->key;
    }
    return other != nullptr && !done_.contains(*other) ? other : nullptr;
  }

  const std::map<PeerId, wire::SealReply>& survivors_;
  std::map<PeerId, Place> places_;
  std::vector<PeerId> ranks_;
  std::map<OpKey, Seen> ops_;
  std::set<OpKey> done_;
  std::vector<Outcome> outcomes_;
};

}  // namespace

std::vector<wire::Outcome> decide_outcomes(const wire::View& old_view,
                                           const std::map<PeerId, wire::SealReply>& survivors) {
  return Decider(old_view, survivors).run();
}

}  // namespace hawser::protocol
