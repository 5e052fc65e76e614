// What a member's ledger says and does, event by event.
#include <string>
#include <vector>

#include "fixture.hpp"
#include "protocol/round/ledger.hpp"
#include "support/catch.hpp"

namespace {

using namespace protocol_test;
using namespace hawser::protocol;
using wire::FaultReason;
using wire::OpPhase;
using wire::Outcome;
using wire::Verdict;

// Peer 1 of a group of three (or what a test says), in view 1.
struct Fixture {
  explicit Fixture(wire::View first = view(1, {1, 2, 3})) { ledger.install(install(std::move(first), false), actions); }

  wire::OpKey start(const wire::OpParams& params = sum(), std::uint64_t tag = 0) {
    auto key = ledger.start(tag, params, actions);
    REQUIRE(key.ok());
    return key.value();
  }
  void finish(const wire::OpKey& key, std::uint64_t value = 7) {
    ledger.finished(key, ledger.view().epoch, digest(value), actions);
  }
  void hear(std::uint64_t from, const wire::OpKey& key, std::uint64_t value = 7,
            std::vector<wire::OpKey> committed = {}) {
    ledger.done_from(peer(from), ledger.view().epoch, key, done(value, std::move(committed)), actions);
  }
  void commit(const wire::OpKey& key) {
    finish(key);
    hear(2, key);
    hear(3, key);
    REQUIRE(take<OpCommitted>().size() == 1);
  }
  void seal(std::uint64_t term) { CHECK(ledger.seal(term).term == term); }
  // Member 3 is lost.
  wire::Install loss(std::uint64_t number, std::vector<Outcome> outcomes = {}, bool left = false) {
    wire::Install out = install(view(number, {1, 2}, number), true, std::move(outcomes));
    out.departures.push_back({peer(3), "p3", left, "it is dead"});
    return out;
  }
  template <typename T>
  std::vector<T> take() {
    auto out = all<T>(actions);
    actions.clear();
    return out;
  }

  Ledger ledger{peer(1)};
  Ledger::Actions actions;
};

}  // namespace

TEST_CASE("calls are numbered by generation and tag", "[protocol]") {
  Fixture f;
  CHECK(f.start() == wire::OpKey{1, 0, 0});
  CHECK(f.start(sum(), 7) == wire::OpKey{1, 7, 0});
  CHECK(f.start() == wire::OpKey{1, 0, 1});
  f.ledger.install(install(view(2, {1, 2, 3, 4}, 1, 2), false), f.actions);
  CHECK(f.start() == wire::OpKey{2, 0, 0});
  CHECK(f.ledger.open_count() == 4);
}

TEST_CASE("calls that are skipped count as made, and nothing of them is kept", "[protocol]") {
  Fixture f;
  f.start();
  CHECK(f.ledger.next_key(0) == wire::OpKey{1, 0, 1});
  CHECK(f.ledger.next_key(7) == wire::OpKey{1, 7, 0});
  for (std::uint64_t sequence = 1; sequence < 4; ++sequence) f.hear(2, {1, 0, sequence});
  f.ledger.skip_to({1, 0, 3});
  CHECK(f.ledger.sizes().early == 1);
  CHECK(!f.ledger.is_future({1, 0, 2}));
  CHECK(f.ledger.is_future({1, 0, 3}));
  f.ledger.skip_to({1, 0, 2});  // nothing goes back
  f.ledger.skip_to({0, 0, 9});  // of an earlier generation
  CHECK(f.ledger.next_key(0) == wire::OpKey{1, 0, 3});
  CHECK(f.ledger.next_key(7) == wire::OpKey{1, 7, 0});
  CHECK(f.start() == wire::OpKey{1, 0, 3});
}

TEST_CASE("an operation commits when every participant is Done", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  f.finish(key);
  const auto said = f.take<SayDone>();
  REQUIRE(said.size() == 1);
  CHECK(said[0].to == std::vector<PeerId>{peer(2), peer(3)});
  CHECK(said[0].epoch == 1);
  CHECK(said[0].done.digest == digest());
  CHECK(f.ledger.said_done(key));
  f.hear(2, key);
  f.hear(2, key);  // again
  CHECK(f.actions.empty());
  f.hear(3, key);
  CHECK(f.take<OpCommitted>().size() == 1);
  CHECK(!f.ledger.is_open(key));
  f.hear(3, key);  // again, after the end
  f.finish(key);
  CHECK(f.actions.empty());
}

TEST_CASE("alone, what is complete is committed", "[protocol]") {
  Fixture f(view(1, {1}));
  const auto key = f.start();
  f.finish(key);
  CHECK(f.take<OpCommitted>().size() == 1);
  CHECK(f.ledger.sizes().unstable == 0);
}

TEST_CASE("Done and Begin that come before the call are kept", "[protocol]") {
  Fixture f;
  const wire::OpKey key{1, 0, 0};
  CHECK(f.ledger.is_future(key));
  f.hear(2, key);
  f.hear(3, key);
  f.ledger.begin_from(peer(2), 1, key, sum(), f.actions);
  CHECK(f.ledger.sizes().early == 1);
  f.start();
  CHECK(f.ledger.sizes().early == 0);
  f.finish(key);
  CHECK(f.take<OpCommitted>().size() == 1);
  SECTION("but not across an epoch") {
    f.hear(2, {1, 0, 1});
    f.ledger.install(f.loss(2), f.actions);
    CHECK(f.ledger.sizes().early == 0);
  }
  SECTION("and not without a limit") {
    for (std::uint64_t i = 1; i < 2 * wire::ops_open_max; ++i) {
      f.ledger.begin_from(peer(2), 1, {1, 9, i}, sum(), f.actions);
    }
    CHECK(f.ledger.sizes().early == wire::ops_open_max);
  }
}

TEST_CASE("what belongs to another epoch counts for nothing", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  f.ledger.install(f.loss(2), f.actions);
  CHECK(f.take<OpRestarted>().size() == 1);
  f.ledger.finished(key, 1, digest(), f.actions);
  CHECK(!f.ledger.said_done(key));
  f.finish(key);
  f.actions.clear();
  f.ledger.done_from(peer(2), 1, key, done(), f.actions);
  CHECK(f.actions.empty());
  f.ledger.done_from(peer(2), 3, key, done(), f.actions);
  CHECK(f.actions.empty());
  f.ledger.begin_from(peer(2), 1, key, sum(99), f.actions);
  CHECK(f.actions.empty());
  f.hear(2, key);
  CHECK(f.take<OpCommitted>().size() == 1);
}

TEST_CASE("between Seal and Install no Done is said", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  const auto reply = f.ledger.seal(4);
  CHECK(reply.term == 4);
  CHECK(reply.view == 1);
  REQUIRE(reply.ops.size() == 1);
  CHECK(reply.ops[0] == state(key, sum(), OpPhase::open));
  f.finish(key);
  CHECK(f.actions.empty());
  SECTION("it is said after the Install") {
    f.ledger.install(install(view(2, {1, 2, 3})), f.actions);
    CHECK(f.take<SayDone>().size() == 1);
  }
  SECTION("unless the operation begins again") {
    f.ledger.install(f.loss(2), f.actions);
    CHECK(all<SayDone>(f.actions).empty());
    CHECK(all<OpRestarted>(f.actions).size() == 1);
  }
  SECTION("or this peer has voted against it") {
    CHECK(f.ledger.vote(key, FaultReason::cancelled, "no", f.actions));
    f.actions.clear();
    f.ledger.install(install(view(2, {1, 2, 3})), f.actions);
    CHECK(all<SayDone>(f.actions).empty());
    const auto faults = all<ReportFault>(f.actions);
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].fault.view == 2);
  }
}

TEST_CASE("a vote keeps this peer from saying Done, and counts after it too", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  SECTION("before") {
    CHECK(f.ledger.vote(key, FaultReason::timeout, "late", f.actions));
    CHECK(f.take<ReportFault>().size() == 1);
    CHECK(f.ledger.vote(key, FaultReason::cancelled, "too", f.actions));  // the first reason stays
    CHECK(f.actions.empty());
    f.finish(key);
    CHECK(f.actions.empty());
    CHECK(f.ledger.seal(2).ops[0].fault == FaultReason::timeout);
  }
  SECTION("after") {
    f.finish(key);
    f.actions.clear();
    CHECK(!f.ledger.vote(key, FaultReason::timeout, "late", f.actions));
    CHECK(f.take<ReportFault>().size() == 1);
    const auto reply = f.ledger.seal(2);
    CHECK(reply.ops[0].phase == OpPhase::done);
    CHECK(reply.ops[0].fault == FaultReason::timeout);
    f.hear(2, key);
    f.hear(3, key);
    CHECK(f.take<OpCommitted>().size() == 1);
  }
  SECTION("for what is not open") { CHECK(!f.ledger.vote({1, 3, 3}, FaultReason::timeout, "late", f.actions)); }
}

TEST_CASE("other parameters are a mismatch that names both sides", "[protocol]") {
  Fixture f;
  SECTION("the call comes first") {
    const auto key = f.start();
    f.ledger.begin_from(peer(2), 1, key, sum(9), f.actions);
  }
  SECTION("the Begin comes first") {
    f.ledger.begin_from(peer(2), 1, {1, 0, 0}, sum(9), f.actions);
    CHECK(f.actions.empty());
    f.start();
  }
  const auto faults = f.take<ReportFault>();
  REQUIRE(faults.size() == 1);
  CHECK(faults[0].fault.reason == FaultReason::mismatch);
  CHECK(faults[0].fault.text ==
        "members disagree on untagged call 0: rank 0 (p1) calls all_reduce(count 8, f32, sum), rank 1 (p2) calls "
        "all_reduce(count 9, f32, sum)");
}

TEST_CASE("different digests are reported once all are Done", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  f.finish(key);
  f.actions.clear();
  f.hear(2, key, 8);
  CHECK(f.actions.empty());  // the third may still be open: nothing could be decided
  f.hear(3, key);
  auto faults = f.take<ReportFault>();
  REQUIRE(faults.size() == 1);
  CHECK(faults[0].fault.reason == FaultReason::diverged);
  f.hear(3, key);
  CHECK(f.actions.empty());
  wire::View wider = view(2, {1, 2, 3}, 1, 2);
  wider.members.push_back(member(4, 2));
  f.ledger.install(install(wider, false), f.actions);  // the report may have been lost to it
  CHECK(f.take<ReportFault>().size() == 1);
  f.seal(3);
  wider.number = 3;
  f.ledger.install(install(wider, true, {{key, Verdict::abort, FaultReason::diverged, "differ"}}), f.actions);
  const auto failed = f.take<OpFailed>();
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].code == Code::DIVERGED);
}

TEST_CASE("an abort reaches calls that come later", "[protocol]") {
  Fixture f;
  f.seal(2);
  const Outcome outcome{{1, 0, 0}, Verdict::abort, FaultReason::timeout, "nobody came"};
  f.ledger.install(install(view(2, {1, 2, 3}), true, {outcome}), f.actions);
  CHECK(!f.ledger.is_future({1, 0, 0}));
  const auto result = f.ledger.start(0, sum(), f.actions);
  REQUIRE(!result.ok());
  CHECK(result.status().code() == Code::TIMEOUT);
  CHECK(result.status().text() == "nobody came");
  CHECK(f.start() == wire::OpKey{1, 0, 1});  // the number was used up
  CHECK(f.ledger.sizes().ended == 0);
}

TEST_CASE("a call under two tags: every member still counts every call once", "[protocol]") {
  Fixture f;
  const auto mine = f.start(sum(), 5);
  f.seal(2);
  const std::string text = "different tags";
  f.ledger.install(install(view(2, {1, 2, 3}), true,
                           {{{1, 0, 0}, Verdict::abort, FaultReason::mismatch, text},
                            {mine, Verdict::abort, FaultReason::mismatch, text}}),
                   f.actions);
  CHECK(f.take<OpFailed>().size() == 1);
  const auto own = f.ledger.start(0, sum(), f.actions);  // the number that the others used for it
  REQUIRE(!own.ok());
  CHECK(own.status().code() == Code::MISMATCH);
  CHECK(f.start() == wire::OpKey{1, 0, 1});
  CHECK(f.start(sum(), 5) == wire::OpKey{1, 5, 1});
}

TEST_CASE("every reason becomes a status of its own", "[protocol]") {
  CHECK(fault_code(FaultReason::mismatch) == Code::MISMATCH);
  CHECK(fault_code(FaultReason::diverged) == Code::DIVERGED);
  CHECK(fault_code(FaultReason::timeout) == Code::TIMEOUT);
  CHECK(fault_code(FaultReason::cancelled) == Code::CANCELLED);
  CHECK(fault_code(FaultReason::resource) == Code::RESOURCE);
  CHECK(fault_code(FaultReason::root_lost) == Code::PEER_LOST);
  CHECK(fault_code(FaultReason::no_majority) == Code::NO_MAJORITY);
  CHECK(fault_code(FaultReason::not_finite) == Code::NOT_FINITE);
  CHECK(fault_code(FaultReason::straggler) == Code::TIMEOUT);
  CHECK(fault_code(FaultReason::none) == Code::INTERNAL);
}

TEST_CASE("a loss under the strict policy is PEER_LOST, also for calls that come later", "[protocol]") {
  Fixture f;
  const auto key = f.start(strict_sum());
  const auto lenient = f.start(sum(), 4);
  f.seal(2);
  f.ledger.install(f.loss(2, {{key, Verdict::rerun, FaultReason::none, ""},
                              {{1, 0, 1}, Verdict::rerun, FaultReason::none, ""},
                              {{1, 0, 2}, Verdict::rerun, FaultReason::none, ""}}),
                   f.actions);
  const auto failed = all<OpFailed>(f.actions);
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].key == key);
  CHECK(failed[0].code == Code::PEER_LOST);
  CHECK(failed[0].text == "rank 2 (p3) was lost: it is dead");
  REQUIRE(all<OpRestarted>(f.actions).size() == 1);
  CHECK(all<OpRestarted>(f.actions)[0].key == lenient);
  const auto later = f.ledger.start(0, strict_sum(), f.actions);
  REQUIRE(!later.ok());
  CHECK(later.status().code() == Code::PEER_LOST);
  CHECK(f.start() == wire::OpKey{1, 0, 2});  // not strict: it simply begins
  CHECK(f.ledger.sizes().interrupted == 0);
}

TEST_CASE("who leaves is no loss", "[protocol]") {
  Fixture f;
  const auto key = f.start(strict_sum());
  f.seal(2);
  f.ledger.install(f.loss(2, {{key, Verdict::rerun, FaultReason::none, ""}}, true), f.actions);
  CHECK(all<OpFailed>(f.actions).empty());
  CHECK(all<OpRestarted>(f.actions).size() == 1);
}

TEST_CASE("too few members", "[protocol]") {
  Fixture f;
  wire::OpParams three = sum();
  three.min_participants = 3;
  f.start(three);
  f.ledger.install(f.loss(2), f.actions);
  const auto failed = f.take<OpFailed>();
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].code == Code::TOO_FEW);
  const auto result = f.ledger.start(0, three, f.actions);
  REQUIRE(!result.ok());
  CHECK(result.status().code() == Code::TOO_FEW);
  CHECK(f.start() == wire::OpKey{1, 0, 2});  // the number was used up
}

TEST_CASE("a broadcast that began while sealed and lost its root is put to all", "[protocol]") {
  Fixture f;
  f.seal(2);
  const auto key = f.start(broadcast(3));
  f.ledger.install(f.loss(2), f.actions);
  CHECK(all<OpFailed>(f.actions).empty());
  CHECK(all<OpRestarted>(f.actions).empty());
  const auto faults = f.take<ReportFault>();
  REQUIRE(faults.size() == 1);
  CHECK(faults[0].fault.reason == FaultReason::root_lost);
  f.seal(3);
  f.ledger.install(install(view(3, {1, 2}, 2), true, {{key, Verdict::abort, FaultReason::root_lost, "gone"}}),
                   f.actions);
  const auto failed = f.take<OpFailed>();
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].code == Code::PEER_LOST);
}

TEST_CASE("what is committed is told to the coordinator until all know", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  f.commit(key);
  CHECK(f.ledger.seal(2).ops[0].phase == OpPhase::committed);
  SECTION("those who say that they committed it know") {
    f.hear(2, {1, 0, 1}, 7, {key});
    CHECK(f.ledger.sizes().unstable == 1);
    f.hear(3, {1, 0, 1}, 7, {key});
    CHECK(f.ledger.sizes().unstable == 0);
  }
  SECTION("an Install that says commit tells all") {
    f.ledger.install(install(view(2, {1, 2, 3}), true, {{key, Verdict::commit, FaultReason::none, ""}}), f.actions);
    CHECK(f.actions.empty());
    CHECK(f.ledger.sizes().unstable == 0);
    CHECK(f.ledger.sizes().announce == 0);
  }
  SECTION("an Install that does not know of it tells nobody") {  // found by the simulator
    f.ledger.install(install(view(2, {1, 2, 3})), f.actions);
    CHECK(f.ledger.sizes().unstable == 1);
    CHECK(f.ledger.seal(3).ops[0].phase == OpPhase::committed);
  }
  SECTION("those who are gone need not know") {
    f.hear(2, {1, 0, 1}, 7, {key});
    f.ledger.install(f.loss(2), f.actions);
    CHECK(f.ledger.sizes().unstable == 0);
  }
}

TEST_CASE("a Done carries what was committed, and only to those whom it concerns", "[protocol]") {
  Fixture f;
  const auto first = f.start();
  const auto second = f.start();
  f.commit(first);
  f.finish(second);
  auto said = f.take<SayDone>();
  REQUIRE(said.size() == 1);
  CHECK(said[0].done.committed == std::vector<wire::OpKey>{first});
  // Generation 2 has another member: a Done among the old ones does not reach it.
  wire::View wider = view(2, {1, 2, 3}, 1, 2);
  wider.members.push_back(member(4, 2));
  f.ledger.install(install(wider, false), f.actions);
  const auto wide = f.start();
  f.finish(wide);
  for (std::uint64_t id : {2U, 3U, 4U}) f.hear(id, wide);
  f.actions.clear();
  CHECK(f.ledger.sizes().announce == 1);
  f.hear(2, second);
  f.hear(3, second);
  CHECK(f.take<OpCommitted>().size() == 1);
  const auto next = f.start();
  f.finish(next);
  said = f.take<SayDone>();
  REQUIRE(said.size() == 1);
  CHECK(said[0].to.size() == 3);
  CHECK(said[0].done.committed == std::vector<wire::OpKey>{wide, second});
}

TEST_CASE("a Done carries no more than fits", "[protocol]") {
  Fixture f;
  std::vector<wire::OpKey> keys;
  for (std::size_t i = 0; i < 2 * wire::done_committed_max; ++i) keys.push_back(f.start());
  for (const auto& key : keys) f.finish(key);
  f.actions.clear();
  for (const auto& key : keys) {
    f.hear(2, key);
    f.hear(3, key);
  }
  CHECK(f.take<OpCommitted>().size() == keys.size());
  for (const std::size_t left : {std::size_t{1}, std::size_t{0}}) {
    f.finish(f.start());
    const auto said = f.take<SayDone>();
    REQUIRE(said.size() == 1);
    CHECK(said[0].done.committed.size() == wire::done_committed_max);
    CHECK(f.ledger.sizes().announce == left * wire::done_committed_max);
  }
}

TEST_CASE("what is open and what is unstable never exceeds the answer to a Seal", "[protocol]") {
  Fixture f;
  for (std::size_t round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < wire::ops_open_max; ++i) f.start();
    const auto full = f.ledger.start(0, sum(), f.actions);
    REQUIRE(!full.ok());
    CHECK(full.status().code() == Code::RESOURCE);
    if (round == 1) break;
    for (std::uint64_t i = 0; i < wire::ops_open_max; ++i) {
      f.finish({1, 0, i});
      f.hear(2, {1, 0, i});
      f.hear(3, {1, 0, i});
    }
    CHECK(f.ledger.sizes().open == 0);
  }
  const auto sizes = f.ledger.sizes();
  CHECK(sizes.open + sizes.unstable <= wire::seal_ops_max);
  CHECK(f.ledger.seal(9).ops.size() <= wire::seal_ops_max);
}

TEST_CASE("giving up and the end", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  const auto other = f.start();
  f.ledger.abandon(key, Code::NO_COORDINATOR, "nobody to ask", f.actions);
  f.ledger.abandon(key, Code::NO_COORDINATOR, "again", f.actions);
  auto failed = f.take<OpFailed>();
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].code == Code::NO_COORDINATOR);
  f.ledger.end_all(Code::EXPELLED, "out", f.actions);
  failed = f.take<OpFailed>();
  REQUIRE(failed.size() == 1);
  CHECK(failed[0].key == other);
  CHECK(f.ledger.open_count() == 0);
}

TEST_CASE("giving up without a coordinator is a vote for the next one to hear", "[protocol]") {
  Fixture f;
  const auto key = f.start();
  const bool cancelled = GENERATE(false, true);
  if (cancelled) f.ledger.vote(key, FaultReason::cancelled, "cancelled", f.actions);
  f.ledger.abandon(key, Code::NO_COORDINATOR, "nobody to ask", f.actions);
  REQUIRE(f.take<OpFailed>().size() == 1);
  f.actions.clear();
  f.finish(key);  // what comes too late
  CHECK(f.take<SayDone>().empty());
  const FaultReason reason = cancelled ? FaultReason::cancelled : FaultReason::timeout;
  f.ledger.repeat_faults(f.actions);
  const auto faults = f.take<ReportFault>();
  REQUIRE(faults.size() == 1);
  CHECK((faults[0].fault.key == key && faults[0].fault.reason == reason));
  const auto reply = f.ledger.seal(2);
  REQUIRE(reply.ops.size() == 1);
  CHECK((reply.ops[0].phase == OpPhase::open && reply.ops[0].fault == reason));
  f.actions.clear();
  f.ledger.install(f.loss(2, {{key, Verdict::abort, reason, "x"}}), f.actions);
  CHECK(f.actions.empty());  // its caller was told
  CHECK(f.ledger.open_count() == 0);
}

TEST_CASE("giving up after Done takes the Done not back", "[protocol]") {  // found by the model
  Fixture f;
  const auto key = f.start();
  f.finish(key);
  f.take<SayDone>();
  f.ledger.abandon(key, Code::EXPELLED, "cannot know", f.actions);
  f.ledger.abandon(key, Code::EXPELLED, "again", f.actions);
  REQUIRE(f.take<OpFailed>().size() == 1);
  REQUIRE(f.ledger.seal(2).ops.size() == 1);
  CHECK(f.ledger.seal(2).ops[0].phase == OpPhase::done);
  SECTION("all are Done: it is committed, but nobody here asks any more") {
    f.hear(2, key);
    f.hear(3, key);
    CHECK(f.take<OpCommitted>().empty());
    CHECK(f.ledger.seal(2).ops.at(0).phase == OpPhase::committed);
  }
  SECTION("a view change commits it") {
    f.ledger.install(f.loss(2, {{key, Verdict::commit, FaultReason::none, ""}}), f.actions);
    CHECK(f.actions.empty());
    CHECK(f.ledger.seal(3).ops.empty());
  }
  SECTION("it begins again without this member, which can only end it") {
    f.ledger.install(f.loss(2), f.actions);
    CHECK(f.take<OpRestarted>().empty());
    const auto reply = f.ledger.seal(3);
    REQUIRE(reply.ops.size() == 1);
    CHECK(reply.ops[0].phase == OpPhase::open);
    CHECK(reply.ops[0].fault == FaultReason::timeout);
    f.ledger.install(install(view(3, {1, 2}, 2), true, {{key, Verdict::abort, FaultReason::timeout, "late"}}),
                     f.actions);
    CHECK(f.take<OpFailed>().empty());
    CHECK(f.ledger.open_count() == 0);
  }
}
