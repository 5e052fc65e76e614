// The decision of a sync, rule by rule. A member is written as a few words: what it holds, and what is special about
// it.
#include <optional>
#include <string>
#include <vector>

#include "protocol/sync/decide.hpp"
#include "support/catch.hpp"

using namespace hawser;
using namespace hawser::protocol;
using wire::SyncStrategy;

namespace {

// A version: 'x7' is content x under revision 7.
struct Version {
  char content = 'a';
  std::uint64_t revision = 0;
};
wire::Digest128 root_of(char content) { return {static_cast<std::uint64_t>(content) << 56, 1}; }

struct M {
  Version holds;
  std::optional<Version> record = std::nullopt;
  SyncStrategy strategy = SyncStrategy::agree;
  bool newcomer = false;
  std::uint64_t layout = 5;

  M recorded(char content, std::uint64_t revision) const {
    M out = *this;
    out.record = Version{content, revision};
    return out;
  }
  M fresh() const {
    M out = *this;
    out.newcomer = true;
    return out;
  }
  M sends() const {
    M out = *this;
    out.strategy = SyncStrategy::send_only;
    return out;
  }
  M receives() const {
    M out = *this;
    out.strategy = SyncStrategy::receive_only;
    return out;
  }
  M other_layout(std::uint64_t layout_number) const {
    M out = *this;
    out.layout = layout_number;
    return out;
  }
};
M m(char content, std::uint64_t revision) { return M{{content, revision}}; }

std::vector<Candidate> candidates(const std::vector<M>& members) {
  std::vector<Candidate> out;
  for (const M& member : members) {
    Candidate candidate;
    candidate.who = "rank " + std::to_string(out.size());
    wire::SyncOffer& offer = candidate.offer;
    offer.layout = {member.layout, 0};
    offer.revision = member.holds.revision;
    offer.root = root_of(member.holds.content);
    offer.strategy = member.strategy;
    offer.newcomer = member.newcomer;
    if (member.record) {
      offer.has_record = true;
      offer.record_revision = member.record->revision;
      offer.record_root = root_of(member.record->content);
    }
    out.push_back(candidate);
  }
  return out;
}

std::string show(const SyncVerdict& verdict) {
  if (const auto* refusal = std::get_if<Refusal>(&verdict)) {
    const char* reason = refusal->reason == wire::FaultReason::no_majority ? "no majority"
                         : refusal->reason == wire::FaultReason::mismatch  ? "mismatch"
                         : refusal->reason == wire::FaultReason::diverged  ? "diverged"
                                                                           : "?";
    CHECK(!refusal->text.empty());
    CHECK(refusal->text.size() <= wire::text_bytes_max);
    return reason;
  }
  if (const auto* differ = std::get_if<LayoutsDiffer>(&verdict)) {
    return "layouts " + std::to_string(differ->one) + " " + std::to_string(differ->other);
  }
  const auto& decision = std::get<Decision>(verdict);
  std::string text = decision.by == DecidedBy::record     ? "record "
                     : decision.by == DecidedBy::majority ? "majority "
                                                          : "unanimous ";
  text += static_cast<char>(decision.root.high >> 56);
  text += std::to_string(decision.revision) + ", behind " + std::to_string(decision.behind) + ", ";
  for (const std::size_t rank : decision.sources) text += std::to_string(rank);
  text += " to ";
  for (const std::size_t rank : decision.receivers) text += std::to_string(rank);
  return text;
}

std::string sync(const std::vector<M>& members) { return show(decide_sync(candidates(members))); }
std::string check(const std::vector<M>& members) { return show(decide_check(candidates(members))); }

std::string sentence(const SyncVerdict& verdict) { return std::get<Refusal>(verdict).text; }

}  // namespace

TEST_CASE("a sync of equal members changes nothing", "[protocol][sync]") {
  CHECK(sync({m('a', 3)}) == "unanimous a3, behind 0, 0 to ");
  CHECK(sync({m('a', 3).fresh()}) == "unanimous a3, behind 0, 0 to ");
  CHECK(sync({m('a', 3), m('a', 3), m('a', 3)}) == "unanimous a3, behind 0, 012 to ");
  CHECK(sync({m('a', 3).recorded('a', 3), m('a', 3).recorded('a', 3)}) == "unanimous a3, behind 0, 01 to ");
}

TEST_CASE("more than half of the votes decide", "[protocol][sync]") {
  CHECK(sync({m('a', 3), m('b', 3), m('a', 3)}) == "majority a3, behind 1, 02 to 1");
  CHECK(sync({m('b', 3), m('a', 3), m('a', 3)}) == "majority a3, behind 1, 12 to 0");
  CHECK(sync({m('a', 3), m('b', 3)}) == "no majority");
  CHECK(sync({m('a', 3), m('b', 3), m('c', 3)}) == "no majority");
  CHECK(sync({m('a', 3), m('a', 3), m('b', 3), m('b', 3)}) == "no majority");
  CHECK(sync({m('a', 3), m('a', 3), m('b', 3), m('c', 3)}) == "no majority");  // two of four are not more than half
  CHECK(sync({m('a', 3), m('a', 3), m('a', 3), m('c', 3), m('b', 3)}) == "majority a3, behind 2, 012 to 34");
  CHECK(sync({m('a', 3), m('a', 4), m('b', 4), m('b', 4), m('b', 4)}) == "majority b4, behind 2, 234 to 01");
}

TEST_CASE("revision and content make one version", "[protocol][sync]") {
  // The same content under three revisions is three versions, but who has it need not be sent it, and can send it.
  CHECK(sync({m('a', 3), m('a', 4)}) == "no majority");
  CHECK(sync({m('a', 3), m('a', 4), m('a', 4)}) == "majority a4, behind 1, 012 to ");
  CHECK(sync({m('a', 3), m('a', 4), m('a', 4), m('b', 4).fresh()}) == "majority a4, behind 2, 012 to 3");
  // A higher revision is no argument by itself.
  CHECK(sync({m('a', 3), m('a', 3), m('b', 9)}) == "majority a3, behind 1, 01 to 2");
  CHECK(sync({m('a', ~std::uint64_t{0}), m('a', ~std::uint64_t{0}), m('b', 0)}) ==
        "majority a18446744073709551615, behind 1, 01 to 2");
}

TEST_CASE("newcomers have no vote beside others", "[protocol][sync]") {
  CHECK(sync({m('a', 3), m('b', 3).fresh()}) == "unanimous a3, behind 1, 0 to 1");
  CHECK(sync({m('a', 3), m('b', 7).fresh(), m('b', 7).fresh(), m('b', 7).fresh()}) ==
        "unanimous a3, behind 3, 0 to 123");
  CHECK(sync({m('a', 3), m('b', 3), m('a', 3).fresh()}) == "no majority");
  // One that happens to have the content helps to send it.
  CHECK(sync({m('a', 3), m('a', 0).fresh(), m('b', 0).fresh()}) == "unanimous a3, behind 2, 01 to 2");
  // Among themselves they vote.
  CHECK(sync({m('a', 0).fresh(), m('a', 0).fresh()}) == "unanimous a0, behind 0, 01 to ");
  CHECK(sync({m('a', 0).fresh(), m('b', 0).fresh()}) == "no majority");
  CHECK(sync({m('a', 0).fresh(), m('b', 0).fresh(), m('b', 0).fresh()}) == "majority b0, behind 1, 12 to 0");
  // The record of a newcomer counts as little as its vote.
  CHECK(sync({m('a', 3), m('c', 3), m('b', 9).recorded('b', 9).fresh()}) == "no majority");
}

TEST_CASE("who only receives has no vote and sends nothing", "[protocol][sync]") {
  CHECK(sync({m('a', 3), m('b', 3).receives()}) == "unanimous a3, behind 1, 0 to 1");
  CHECK(sync({m('b', 3).receives(), m('b', 3).receives(), m('a', 3)}) == "unanimous a3, behind 2, 2 to 01");
  CHECK(sync({m('a', 3).receives(), m('a', 3), m('b', 3).receives()}) == "unanimous a3, behind 1, 1 to 2");
  CHECK(sync({m('a', 3).receives(), m('a', 3).receives()}) == "no majority");
  CHECK(sync({m('a', 3).receives()}) == "no majority");
  CHECK(sync({m('a', 3).receives(), m('a', 3).fresh()}) == "no majority");  // a newcomer beside somebody who is none
  CHECK(sync({m('b', 3).recorded('b', 3).receives(), m('a', 3), m('c', 3)}) == "no majority");
}

TEST_CASE("who only sends has a vote and is never written", "[protocol][sync]") {
  CHECK(sync({m('a', 3).sends(), m('b', 3).receives()}) == "unanimous a3, behind 1, 0 to 1");
  CHECK(sync({m('a', 3).sends(), m('b', 3)}) == "no majority");
  CHECK(sync({m('a', 3), m('b', 3).sends(), m('a', 3)}) == "mismatch");
  CHECK(sync({m('a', 3), m('b', 3).sends().fresh()}) == "mismatch");
  CHECK(sync({m('a', 3), m('a', 2).sends(), m('a', 3)}) == "majority a3, behind 1, 012 to ");  // no tensor is written
  CHECK(sync({m('a', 0).sends().fresh(), m('b', 0).receives().fresh(), m('c', 0).receives().fresh()}) ==
        "unanimous a0, behind 2, 0 to 12");
}

TEST_CASE("the content of record comes before any majority", "[protocol][sync]") {
  const M record = m('r', 5).recorded('r', 5);
  CHECK(sync({record, m('x', 5).recorded('r', 5), m('x', 5).recorded('r', 5)}) == "record r5, behind 2, 0 to 12");
  CHECK(sync({m('x', 5).recorded('r', 5), m('x', 4).recorded('r', 5), record}) == "record r5, behind 2, 2 to 01");
  CHECK(sync({record, m('x', 5).recorded('r', 5)}) == "record r5, behind 1, 0 to 1");  // which would be a tie
  // A newer revision among the voters: the record is of the past.
  CHECK(sync({record, m('x', 6).recorded('r', 5), m('x', 6).recorded('r', 5)}) == "majority x6, behind 1, 12 to 0");
  CHECK(sync({record, m('x', 6).recorded('r', 5)}) == "no majority");
  CHECK(sync({record, record, m('x', 6).recorded('r', 5)}) == "majority r5, behind 1, 01 to 2");
  // A newer revision of a newcomer, or of one who only receives, is none of a voter.
  CHECK(sync({record, m('y', 5).recorded('r', 5), m('x', 9).fresh(), m('z', 9).receives()}) ==
        "record r5, behind 3, 0 to 123");
  // Nobody holds it any more.
  CHECK(sync({m('x', 5).recorded('r', 5), m('y', 5).recorded('r', 5)}) == "no majority");
  CHECK(sync({m('x', 5).recorded('r', 5), m('y', 5).recorded('r', 5), m('y', 5).recorded('r', 5)}) ==
        "majority y5, behind 1, 12 to 0");
  // Nobody with a vote holds it.
  CHECK(sync({m('x', 5).recorded('r', 5), m('y', 5).recorded('r', 5), record.receives()}) == "no majority");
  // The content is there, but under another revision.
  CHECK(sync({m('r', 4).recorded('r', 5), m('y', 5).recorded('r', 5)}) == "no majority");
  // All agree on something else: it is a decision of all.
  CHECK(sync({m('x', 6).recorded('r', 5), m('x', 6).recorded('r', 5)}) == "unanimous x6, behind 0, 01 to ");
  CHECK(sync({m('x', 5).recorded('r', 5), m('x', 5).recorded('r', 5)}) == "unanimous x5, behind 0, 01 to ");
  CHECK(sync({m('x', 4).recorded('r', 5)}) == "unanimous x4, behind 0, 0 to ");
}

TEST_CASE("records of members that come from different groups", "[protocol][sync]") {
  // The newest one counts.
  CHECK(sync({m('r', 5).recorded('r', 5).fresh(), m('s', 4).recorded('s', 4).fresh()}) ==
        "record r5, behind 1, 0 to 1");
  // Two contents of the same revision: none does.
  CHECK(sync({m('r', 5).recorded('r', 5), m('s', 5).recorded('s', 5)}) == "no majority");
  CHECK(sync({m('r', 5).recorded('r', 5), m('s', 5).recorded('s', 5), m('s', 5).recorded('s', 5)}) ==
        "majority s5, behind 1, 12 to 0");
  CHECK(sync({m('r', 5).recorded('r', 5), m('s', 5).recorded('s', 5), m('t', 6).recorded('t', 6)}) ==
        "record t6, behind 2, 2 to 01");
  // One without a record is no argument against one.
  CHECK(sync({m('r', 5).recorded('r', 5), m('s', 5)}) == "record r5, behind 1, 0 to 1");
}

TEST_CASE("layouts are compared first, in rank order", "[protocol][sync]") {
  CHECK(sync({m('a', 3), m('a', 3).other_layout(6)}) == "layouts 0 1");
  CHECK(sync({m('a', 3), m('b', 3), m('c', 3).other_layout(6), m('d', 3).other_layout(7)}) == "layouts 0 2");
  CHECK(sync({m('a', 3).receives(), m('b', 3).receives().other_layout(6)}) == "layouts 0 1");
  CHECK(check({m('a', 3), m('a', 3), m('a', 3).other_layout(6)}) == "layouts 0 2");
}

TEST_CASE("a check compares everybody", "[protocol][sync]") {
  CHECK(check({m('a', 3)}) == "unanimous a3, behind 0,  to ");
  CHECK(check({m('a', 3).receives()}) == "unanimous a3, behind 0,  to ");
  CHECK(check({m('a', 3), m('a', 3).fresh(), m('a', 3).receives()}) == "unanimous a3, behind 0,  to ");
  CHECK(check({m('a', 3), m('b', 3)}) == "diverged");
  CHECK(check({m('a', 3), m('a', 4)}) == "diverged");
  CHECK(check({m('a', 3), m('a', 3), m('b', 3).fresh()}) == "diverged");
  CHECK(check({m('a', 3).recorded('a', 3), m('b', 3).receives()}) == "diverged");
}

TEST_CASE("sentences name versions and members", "[protocol][sync]") {
  CHECK(sentence(decide_sync(candidates({m('a', 3), m('b', 3), m('a', 4), m('a', 3), m('c', 9).fresh()}))) ==
        "no version of the shared state has more than half of the 4 votes: revision 3 with root 61000000... is held by "
        "rank 0, rank 3; revision 3 with root 62000000... is held by rank 1; revision 4 with root 61000000... is held "
        "by rank 2");
  CHECK(sentence(decide_sync(candidates({m('a', 3), m('b', 2).sends(), m('a', 3)}))) ==
        "rank 1 only sends, but holds revision 2 with root 62000000..., while revision 3 with root 61000000... is "
        "decided");
  CHECK(sentence(decide_check(candidates({m('a', 3), m('b', 3), m('a', 3)}))) ==
        "the shared state differs: revision 3 with root 61000000... is held by rank 0, rank 2; revision 3 with root "
        "62000000... is held by rank 1");
  CHECK(sentence(decide_sync(candidates({m('a', 3).receives()}))).find("nobody has a vote") == 0);
  // Of many, some are named and the rest is counted.
  std::vector<M> many;
  for (std::uint64_t i = 0; i < 40; ++i) many.push_back(m(i % 2 == 0 ? 'a' : 'b', 3));
  const std::string text = sentence(decide_check(candidates(many)));
  CHECK(text.find("rank 14 and 12 more; ") != std::string::npos);
  for (std::uint64_t i = 0; i < 40; ++i) many[i].holds.revision = i;
  CHECK(sentence(decide_check(candidates(many))).find("; 32 more versions") != std::string::npos);
}
