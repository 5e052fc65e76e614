// The table by which a view change decides operations.
#include <map>
#include <string>
#include <vector>

#include "fixture.hpp"
#include "protocol/round/outcomes.hpp"
#include "support/catch.hpp"

namespace {

using namespace protocol_test;
using hawser::protocol::decide_outcomes;
using wire::FaultReason;
using wire::OpPhase;
using wire::Verdict;

const wire::OpKey key{1, 0, 3};

using Replies = std::map<PeerId, wire::SealReply>;

wire::SealReply reply(std::vector<wire::OpState> ops) { return {1, 1, std::move(ops)}; }
wire::OpState open_with(const wire::OpParams& params) { return state(key, params, OpPhase::open); }
wire::OpState done_with(const wire::OpParams& params, std::uint64_t value = 7) {
  return state(key, params, OpPhase::done, FaultReason::none, "", value);
}
wire::OpState committed_with(const wire::OpParams& params) { return state(key, params, OpPhase::committed); }
wire::OpState vote(OpPhase phase, FaultReason reason) { return state(key, sum(), phase, reason, "because"); }

struct Case {
  const char* what;
  std::vector<std::vector<wire::OpState>> replies;  // of members 1, 2, ...; those beyond the list are lost
  const char* expected;                             // "none" or verdict and reason
};

std::string decide(const Case& c) {
  Replies survivors;
  for (std::size_t i = 0; i < c.replies.size(); ++i) survivors[peer(i + 1)] = reply(c.replies[i]);
  const auto outcomes = decide_outcomes(view(1, {1, 2, 3}), survivors);
  if (outcomes.empty()) return "none";
  REQUIRE(outcomes.size() == 1);
  CHECK(outcomes[0].key == key);
  switch (outcomes[0].verdict) {
    case Verdict::commit:
      return "commit";
    case Verdict::rerun:
      return "rerun";
    case Verdict::abort:
      CHECK(!outcomes[0].text.empty());
      switch (outcomes[0].reason) {
        case FaultReason::none:
          return "abort none";
        case FaultReason::mismatch:
          return "mismatch";
        case FaultReason::diverged:
          return "diverged";
        case FaultReason::timeout:
          return "timeout";
        case FaultReason::cancelled:
          return "cancelled";
        case FaultReason::resource:
          return "resource";
        case FaultReason::root_lost:
          return "root_lost";
        case FaultReason::no_majority:
          return "no_majority";
        case FaultReason::not_finite:
          return "not_finite";
        case FaultReason::straggler:
          return "straggler";
      }
  }
  return "?";
}

}  // namespace

TEST_CASE("one operation, three members, all kinds of answers", "[protocol]") {
  const wire::OpState open = open_with(sum());
  const wire::OpState held = done_with(sum());
  const wire::OpState strict = open_with(strict_sum());
  const wire::OpState strict_held = done_with(strict_sum());
  const wire::OpState timeout = vote(OpPhase::open, FaultReason::timeout);
  const wire::OpState done_timeout = vote(OpPhase::done, FaultReason::timeout);
  const std::vector<Case> cases = {
      {"all open, nobody lost", {{open}, {open}, {open}}, "none"},
      {"one is Done, nobody lost", {{held}, {open}, {open}}, "none"},
      {"one has not called, nobody lost", {{held}, {held}, {}}, "none"},
      {"all Done", {{held}, {held}, {held}}, "commit"},
      {"all survivors Done", {{held}, {held}}, "commit"},
      {"the only survivor is Done", {{held}}, "commit"},
      {"one survivor is open", {{held}, {open}}, "none"},
      {"one survivor has not called", {{held}, {}}, "none"},
      {"strict, one survivor is open", {{strict_held}, {strict}}, "rerun"},
      {"strict, one survivor has not called", {{strict_held}, {}}, "rerun"},
      {"strict, all survivors Done", {{strict_held}, {strict_held}}, "commit"},
      {"one has committed, the others have forgotten it", {{committed_with(sum())}, {}, {}}, "commit"},
      {"one has committed, the others are Done", {{held}, {committed_with(sum())}, {held}}, "commit"},
      {"one has committed, another wished otherwise", {{done_timeout}, {committed_with(sum())}, {held}}, "commit"},
      {"a deadline", {{open}, {timeout}, {open}}, "timeout"},
      {"a deadline at one, the others Done", {{held}, {timeout}, {held}}, "timeout"},
      {"a deadline after Done, another open", {{done_timeout}, {open}, {held}}, "timeout"},
      {"a deadline after Done, another has not called", {{done_timeout}, {held}, {}}, "timeout"},
      {"a deadline after Done, all Done", {{done_timeout}, {held}, {held}}, "commit"},
      {"a deadline before a loss", {{open}, {timeout}}, "timeout"},
      {"cancelled", {{vote(OpPhase::open, FaultReason::cancelled)}, {open}, {open}}, "cancelled"},
      {"no memory", {{vote(OpPhase::open, FaultReason::resource)}, {open}, {held}}, "resource"},
      {"no majority", {{vote(OpPhase::open, FaultReason::no_majority)}, {open}, {held}}, "no_majority"},
      {"not finite", {{open}, {vote(OpPhase::open, FaultReason::not_finite)}, {open}}, "not_finite"},
      {"a root that somebody missed", {{open}, {vote(OpPhase::open, FaultReason::root_lost)}, {open}}, "root_lost"},
      {"other digests", {{held}, {held}, {done_with(sum(), 8)}}, "diverged"},
      {"other digests among survivors", {{held}, {done_with(sum(), 8)}}, "diverged"},
      {"other digests, but one is open", {{held}, {done_with(sum(), 8)}, {open}}, "none"},
      {"other calls", {{open}, {open}, {open_with(sum(9))}}, "mismatch"},
      {"other calls, complete", {{held}, {done_with(sum(9), 8)}, {held}}, "mismatch"},
      {"other calls, and a deadline", {{open}, {timeout}, {open_with(sum(9))}}, "mismatch"},
      {"a broadcast loses its root", {{open_with(broadcast(3))}, {open_with(broadcast(3))}}, "root_lost"},
      {"a broadcast loses its root, all Done", {{done_with(broadcast(3))}, {done_with(broadcast(3))}}, "commit"},
      {"a broadcast loses another", {{open_with(broadcast(1))}, {open_with(broadcast(1))}}, "none"},
  };
  for (const Case& c : cases) {
    INFO(c.what);
    CHECK(decide(c) == c.expected);
  }
}

TEST_CASE("members that came later do not count", "[protocol]") {
  wire::View old = view(2, {1, 2}, 1, 2);
  old.members.push_back(member(3, 2));
  const Replies survivors = {{peer(1), reply({done_with(sum())})}, {peer(2), reply({done_with(sum())})}, {peer(3), {}}};
  const auto outcomes = decide_outcomes(old, survivors);
  REQUIRE(outcomes.size() == 1);
  CHECK(outcomes[0].verdict == Verdict::commit);
  // Nor does their loss.
  const Replies without = {{peer(1), reply({open_with(strict_sum())})}, {peer(2), reply({open_with(strict_sum())})}};
  CHECK(decide_outcomes(old, without).empty());
}

TEST_CASE("a deadline says who never came", "[protocol]") {
  const Replies survivors = {{peer(1), reply({vote(OpPhase::open, FaultReason::timeout)})},
                             {peer(2), {}},
                             {peer(3), reply({open_with(sum())})}};
  const auto outcomes = decide_outcomes(view(1, {1, 2, 3}), survivors);
  REQUIRE(outcomes.size() == 1);
  CHECK(outcomes[0].text == "rank 0 (p1): because; not entered by rank 1 (p2)");
}

TEST_CASE("members that wait for one another under different tags are told so", "[protocol]") {
  const wire::OpKey other{1, 5, 0};
  const Replies survivors = {{peer(1), reply({vote(OpPhase::open, FaultReason::timeout)})},
                             {peer(2), reply({state(other, sum(), OpPhase::open)})}};
  const auto outcomes = decide_outcomes(view(1, {1, 2}), survivors);
  REQUIRE(outcomes.size() == 2);
  for (const auto& outcome : outcomes) {
    CHECK(outcome.verdict == Verdict::abort);
    CHECK(outcome.reason == FaultReason::mismatch);
    CHECK(outcome.text == outcomes[0].text);
  }
  CHECK(outcomes[0].text.find("rank 0 (p1) in untagged call 3, rank 1 (p2) in call 0 of tag 5") != std::string::npos);
  SECTION("but not when one of them has other calls in flight and may yet come") {
    Replies busy = survivors;
    busy[peer(2)].ops.push_back(state({1, 6, 0}, sum(), OpPhase::open));
    const auto one = decide_outcomes(view(1, {1, 2}), busy);
    REQUIRE(one.size() == 1);
    CHECK(one[0].reason == FaultReason::timeout);
  }
  SECTION("and not when a third stands elsewhere") {
    Replies three = survivors;
    three[peer(3)] = reply({});
    const auto one = decide_outcomes(view(1, {1, 2, 3}), three);
    REQUIRE(one.size() == 1);
    CHECK(one[0].reason == FaultReason::timeout);
  }
  SECTION("but not because of what is committed") {
    const Replies fine = {{peer(1), reply({vote(OpPhase::open, FaultReason::timeout)})},
                          {peer(2), reply({state(other, sum(), OpPhase::committed)})}};
    const auto two = decide_outcomes(view(1, {1, 2}), fine);
    REQUIRE(two.size() == 2);
    CHECK(two[0].reason == FaultReason::timeout);
    CHECK(two[1].verdict == Verdict::commit);
  }
  SECTION("nor of what one has committed and another is Done with") {
    const Replies fine = {
        {peer(1), reply({vote(OpPhase::open, FaultReason::timeout), state(other, sum(), OpPhase::committed)})},
        {peer(2), reply({state(other, sum(), OpPhase::done)})}};
    const auto two = decide_outcomes(view(1, {1, 2}), fine);
    REQUIRE(two.size() == 2);
    CHECK(two[0].reason == FaultReason::timeout);
    CHECK(two[1].key == other);
    CHECK(two[1].verdict == Verdict::commit);
  }
}

TEST_CASE("an Install never carries more outcomes than fit, and commits come first", "[protocol]") {
  Replies survivors;
  for (std::uint64_t id = 1; id <= 4; ++id) {
    wire::SealReply answer = reply({});
    for (std::uint64_t i = 0; i < wire::ops_open_max; ++i) {  // calls of its own that all time out
      answer.ops.push_back(
          state({1, 100 + id, i}, sum(), OpPhase::open, FaultReason::timeout, std::string(wire::text_bytes_max, 'x')));
    }
    for (std::uint64_t i = 0; i < 500; ++i) answer.ops.push_back(state({1, 1000, i}, sum(), OpPhase::done));
    survivors[peer(id)] = answer;
  }
  const auto outcomes = decide_outcomes(view(1, {1, 2, 3, 4}), survivors);
  CHECK(outcomes.size() == wire::seal_ops_max);
  const auto commits = std::count_if(outcomes.begin(), outcomes.end(),
                                     [](const auto& outcome) { return outcome.verdict == Verdict::commit; });
  CHECK(commits == 500);
}
