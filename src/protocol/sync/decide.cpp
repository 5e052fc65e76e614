// Decides a sync; see the header.
#include "protocol/sync/decide.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/assert.hpp"

namespace hawser::protocol {
namespace {

using wire::Digest128;
using wire::SyncStrategy;

constexpr std::size_t named_max = 8;  // members a sentence names before it only counts

struct Version {
  std::uint64_t revision = 0;
  Digest128 root;
  bool operator==(const Version&) const = default;
};

Version version_of(const Candidate& member) { return {member.offer.revision, member.offer.root}; }

std::string describe(const Version& version) {
  return fmt::format("revision {} with root {:08x}...", version.revision, version.root.high >> 32);
}

std::string names(const std::vector<const Candidate*>& members) {
  std::string text;
  for (std::size_t i = 0; i < std::min(members.size(), named_max); ++i) {
    text += (i == 0 ? "" : ", ") + members[i]->who;
  }
  if (members.size() > named_max) text += fmt::format(" and {} more", members.size() - named_max);
  return text;
}

// The versions some members hold, those of most members first, and of as many the lowest rank's.
struct Holders {
  Version version;
  std::vector<const Candidate*> members;
};
std::vector<Holders> versions_of(const std::vector<const Candidate*>& members) {
  std::vector<Holders> out;
  for (const Candidate* member : members) {
    const Version version = version_of(*member);
    auto it = std::find_if(out.begin(), out.end(), [&](const Holders& holders) { return holders.version == version; });
    if (it == out.end()) it = out.insert(out.end(), {version, {}});
    it->members.push_back(member);
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Holders& a, const Holders& b) { return a.members.size() > b.members.size(); });
  return out;
}

std::string list(const std::vector<Holders>& versions) {
  std::string text;
  for (std::size_t i = 0; i < std::min(versions.size(), named_max); ++i) {
    text += fmt::format("{}{} is held by {}", i == 0 ? "" : "; ", describe(versions[i].version),
                        names(versions[i].members));
  }
  if (versions.size() > named_max) text += fmt::format("; {} more versions", versions.size() - named_max);
  return text;
}

std::optional<LayoutsDiffer> layouts_differ(const std::vector<Candidate>& members) {
  for (std::size_t rank = 1; rank < members.size(); ++rank) {
    if (members[rank].offer.layout != members[0].offer.layout) return LayoutsDiffer{0, rank};
  }
  return std::nullopt;
}

std::vector<const Candidate*> voters_of(const std::vector<Candidate>& members) {
  const bool all_new =
      std::all_of(members.begin(), members.end(), [](const Candidate& member) { return member.offer.newcomer; });
  std::vector<const Candidate*> voters;
  for (const Candidate& member : members) {
    const bool continuing = all_new || !member.offer.newcomer;
    if (continuing && member.offer.strategy != SyncStrategy::receive_only) voters.push_back(&member);
  }
  return voters;
}

// What the last sync recorded, as far as voters know: the record of the highest revision. They all have the same one,
// unless they come from different groups; two contents recorded under one revision are no record.
std::optional<Version> record_of(const std::vector<const Candidate*>& voters) {
  std::optional<Version> record;
  bool ambiguous = false;
  for (const Candidate* voter : voters) {
    if (!voter->offer.has_record) continue;
    const Version version{voter->offer.record_revision, voter->offer.record_root};
    if (!record || version.revision > record->revision) {
      record = version;
      ambiguous = false;
    } else if (version.revision == record->revision && version.root != record->root) {
      ambiguous = true;
    }
  }
  if (ambiguous) return std::nullopt;
  return record;
}

struct Choice {
  Version version;
  DecidedBy by = DecidedBy::unanimous;
};
std::variant<Choice, Refusal> choose(const std::vector<Candidate>& members) {
  const std::vector<const Candidate*> voters = voters_of(members);
  if (voters.empty()) {
    return Refusal{wire::FaultReason::no_majority,
                   "nobody has a vote on the shared state: members only receive, or are newcomers beside such"};
  }
  const std::vector<Holders> versions = versions_of(voters);
  if (versions.size() == 1) return Choice{versions.front().version, DecidedBy::unanimous};
  if (const std::optional<Version> record = record_of(voters)) {
    const bool held = std::any_of(versions.begin(), versions.end(),
                                  [&](const Holders& holders) { return holders.version == *record; });
    const bool newest = std::all_of(versions.begin(), versions.end(), [&](const Holders& holders) {
      return holders.version.revision <= record->revision;
    });
    if (held && newest) return Choice{*record, DecidedBy::record};
  }
  if (2 * versions.front().members.size() > voters.size()) return Choice{versions.front().version, DecidedBy::majority};
  return Refusal{wire::FaultReason::no_majority,
                 fmt::format("no version of the shared state has more than half of the {} votes: {}", voters.size(),
                             list(versions))};
}

}  // namespace

SyncVerdict decide_sync(const std::vector<Candidate>& members) {
  HAWSER_ASSERT(!members.empty(), "a sync without members");
  if (const auto differ = layouts_differ(members)) return *differ;
  const std::variant<Choice, Refusal> choice = choose(members);
  if (const auto* refusal = std::get_if<Refusal>(&choice)) return *refusal;
  const auto& [version, by] = std::get<Choice>(choice);
  Decision decision{by, version.revision, version.root, 0, {}, {}};
  for (std::size_t rank = 0; rank < members.size(); ++rank) {
    const wire::SyncOffer& offer = members[rank].offer;
    if (version_of(members[rank]) != version) ++decision.behind;
    if (offer.root != version.root) {
      if (offer.strategy == SyncStrategy::send_only) {
        return Refusal{wire::FaultReason::mismatch,
                       fmt::format("{} only sends, but holds {}, while {} is decided", members[rank].who,
                                   describe(version_of(members[rank])), describe(version))};
      }
      decision.receivers.push_back(rank);
    } else if (offer.strategy != SyncStrategy::receive_only) {
      decision.sources.push_back(rank);
    }
  }
  return decision;
}

SyncVerdict decide_check(const std::vector<Candidate>& members) {
  HAWSER_ASSERT(!members.empty(), "a check without members");
  if (const auto differ = layouts_differ(members)) return *differ;
  std::vector<const Candidate*> all;
  all.reserve(members.size());
  for (const Candidate& member : members) all.push_back(&member);
  const std::vector<Holders> versions = versions_of(all);
  if (versions.size() > 1) {
    return Refusal{wire::FaultReason::diverged, fmt::format("the shared state differs: {}", list(versions))};
  }
  return Decision{DecidedBy::unanimous, versions.front().version.revision, versions.front().version.root, 0, {}, {}};
}

}  // namespace hawser::protocol
