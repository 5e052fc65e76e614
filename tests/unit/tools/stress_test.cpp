// The pure parts of `hawser stress`: the program of a round, the judge of outcomes, the records in the pipe.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "hawser/stress_judge.hpp"
#include "hawser/stress_program.hpp"
#include "hawser/stress_report.hpp"
#include "support/catch.hpp"

namespace {

bool same(const tool::PlannedOp& a, const tool::PlannedOp& b) {
  return a.op == b.op && a.dtype == b.dtype && a.redop == b.redop && a.count == b.count && a.in_place == b.in_place &&
         a.strict == b.strict && a.poll == b.poll && a.tag == b.tag && a.priority == b.priority &&
         a.offset == b.offset && a.root_draw == b.root_draw && a.cancel == b.cancel;
}

tool::Outcome committed(std::uint32_t peer, std::uint64_t round, std::uint32_t op) {
  tool::Outcome outcome;
  outcome.peer = peer;
  outcome.round = round;
  outcome.op = op;
  outcome.digest = 77;
  outcome.identity_digest = 88;
  outcome.participants = {1, 2, 3};
  return outcome;
}

tool::Outcome failed(std::uint32_t peer, std::uint64_t round, std::uint32_t op, hawser_status_t status) {
  tool::Outcome outcome;
  outcome.peer = peer;
  outcome.round = round;
  outcome.op = op;
  outcome.status = status;
  return outcome;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a round is a function of seed and number", "[stress]") {
  bool differs_by_seed = false;
  for (std::uint64_t round = 1; round <= 200; ++round) {
    const auto one = tool::plan_round(7, round, 1 << 20, 10);
    const auto two = tool::plan_round(7, round, 1 << 20, 10);
    REQUIRE(one.size() == two.size());
    for (std::size_t i = 0; i < one.size(); ++i) REQUIRE(same(one[i], two[i]));
    const auto other = tool::plan_round(8, round, 1 << 20, 10);
    differs_by_seed = differs_by_seed || other.size() != one.size() || !same(other[0], one[0]);
  }
  CHECK(differs_by_seed);
}

TEST_CASE("rounds keep the rules that make them safe to issue, and meet every case", "[stress]") {
  constexpr std::uint64_t max_bytes = 1 << 16;
  std::set<int> dtypes;
  std::set<int> redops;
  std::set<tool::StressOp> ops;
  std::size_t empty = 0;
  std::size_t full = 0;
  std::size_t bursts = 0;
  std::size_t strict_bursts = 0;
  std::size_t in_place = 0;
  std::size_t cancelled = 0;
  for (std::uint64_t round = 1; round <= 4000; ++round) {
    const auto planned = tool::plan_round(3, round, max_bytes, 5);
    REQUIRE_FALSE(planned.empty());
    bursts += planned.size() > 1 ? 1U : 0U;
    std::set<std::uint64_t> tags;
    for (const tool::PlannedOp& op : planned) {
      REQUIRE(op.count * hawser_dtype_size(op.dtype) <= max_bytes);
      REQUIRE((op.priority >= -8 && op.priority <= 7));
      if (op.op == tool::StressOp::broadcast) REQUIRE(planned.size() == 1);
      if (op.op == tool::StressOp::barrier) REQUIRE(op.count == 0);
      if (op.op == tool::StressOp::state_sync) REQUIRE((planned.size() == 1 && !op.strict && !op.poll && !op.cancel));
      if (planned.size() > 1 && op.strict) {
        ++strict_bursts;
        REQUIRE(op.tag != 0);
      }
      if (op.tag != 0) REQUIRE(tags.insert(op.tag).second);
      if (op.op == tool::StressOp::all_reduce) {
        dtypes.insert(op.dtype);
        redops.insert(op.redop);
        empty += op.count == 0 ? 1U : 0U;
        full += op.count == max_bytes / hawser_dtype_size(op.dtype) ? 1U : 0U;
      }
      ops.insert(op.op);
      in_place += op.in_place ? 1U : 0U;
      cancelled += op.cancel ? 1U : 0U;
    }
  }
  CHECK(dtypes.size() == 12);
  CHECK(redops.size() == 5);
  CHECK(ops.size() == 4);
  CHECK(empty > 0);
  CHECK(full > 0);
  CHECK(bursts > 0);
  CHECK(strict_bursts > 0);
  CHECK(in_place > 0);
  CHECK(cancelled > 0);
  for (const tool::PlannedOp& op : tool::plan_round(3, 1, 8, 0)) CHECK_FALSE(op.cancel);
}

TEST_CASE("equal outcomes agree and are counted once", "[judge]") {
  tool::Judge judge;
  CHECK_FALSE(judge.add(committed(1, 5, 0)));
  CHECK_FALSE(judge.add(committed(2, 5, 0)));
  CHECK_FALSE(judge.add(committed(1, 5, 1)));
  CHECK(judge.committed() == 2);
  CHECK(judge.last_round() == 5);
}

TEST_CASE("success beside failure is a disagreement, in either order", "[judge]") {
  for (const hawser_status_t status :
       {HAWSER_TIMEOUT, HAWSER_PEER_LOST, HAWSER_CANCELLED, HAWSER_MISMATCH, HAWSER_RESOURCE}) {
    tool::Judge judge;
    CHECK_FALSE(judge.add(committed(1, 5, 2)));
    const auto after = judge.add(failed(2, 5, 2, status));
    REQUIRE(after);
    CHECK(contains(*after, hawser_status_name(status)));
    CHECK(contains(*after, "round 5 operation 2"));

    tool::Judge reversed;
    CHECK_FALSE(reversed.add(failed(2, 5, 2, status)));
    CHECK(reversed.add(committed(1, 5, 2)));
  }
}

TEST_CASE("failures agree with failures, and a peer that cannot know contradicts nobody", "[judge]") {
  tool::Judge judge;
  CHECK_FALSE(judge.add(failed(1, 6, 1, HAWSER_TIMEOUT)));
  CHECK_FALSE(judge.add(failed(2, 6, 1, HAWSER_CANCELLED)));
  CHECK_FALSE(judge.add(committed(1, 7, 1)));
  CHECK_FALSE(judge.add(failed(2, 7, 1, HAWSER_EXPELLED)));
  CHECK_FALSE(judge.add(failed(4, 7, 1, HAWSER_NO_COORDINATOR)));  // cut off; the others go on without it
  CHECK_FALSE(judge.add(committed(3, 7, 1)));
}

TEST_CASE("two groups at once are a disagreement, one after the other are none", "[judge]") {
  const auto blocking = [](std::uint32_t peer, std::uint64_t round, std::uint64_t began_ns, std::uint64_t ended_ns,
                           std::vector<std::uint32_t> participants) {
    tool::Outcome outcome = committed(peer, round, 0);
    outcome.id = peer;
    outcome.began_ns = began_ns;
    outcome.ended_ns = ended_ns;
    outcome.participants = std::move(participants);
    return outcome;
  };
  tool::Judge judge;
  CHECK_FALSE(judge.add(blocking(1, 1, 10, 20, {1, 2})));
  CHECK_FALSE(judge.add(blocking(3, 101, 30, 40, {3, 4})));
  SECTION("the first goes on") {
    const auto found = judge.add(blocking(1, 2, 50, 60, {1}));
    REQUIRE(found);
    CHECK(contains(*found, "two groups at once"));
  }
  SECTION("the second was not over when the first began anew") { CHECK_FALSE(judge.add(blocking(1, 2, 35, 60, {1}))); }
  SECTION("they have met") { CHECK_FALSE(judge.add(blocking(1, 102, 50, 60, {1, 3}))); }
  SECTION("the first is another by now") {
    tool::Outcome again = blocking(1, 102, 50, 60, {7});
    again.id = 7;
    CHECK_FALSE(judge.add(again));
  }
}

TEST_CASE("results that differ in bits or participants are disagreements", "[judge]") {
  tool::Judge judge;
  CHECK_FALSE(judge.add(committed(1, 8, 1)));
  tool::Outcome other = committed(2, 8, 1);
  other.digest = 78;
  CHECK(judge.add(other));
  other = committed(2, 8, 1);
  other.participants = {1, 2};
  CHECK(judge.add(other));
  other = committed(2, 8, 1);
  other.identity_digest = 0;
  CHECK(judge.add(other));
  other = committed(2, 8, 1);
  CHECK_FALSE(judge.add(other));
}

TEST_CASE("records pass a pipe whole, in pieces, and only as long as needed", "[report]") {
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
  tool::Report begin;
  begin.call = tool::ReportCall::admit;
  begin.round = 9;
  tool::Report result;
  result.kind = tool::ReportKind::result;
  result.participant_count = 3;
  result.participants[2] = 0xabcdef01;
  tool::Report error;
  error.kind = tool::ReportKind::error;
  error.set_text(std::string(1000, 'x'));
  for (tool::Report* report : {&begin, &result, &error}) REQUIRE(tool::write_report(ends[1], *report));
  CHECK(begin.size < result.size);
  CHECK(result.size < error.size);

  tool::ReportStream stream;
  std::vector<tool::Report> received;
  std::byte byte{};
  bool is_broken = false;
  while (read(ends[0], &byte, 1) == 1) {
    stream.append(&byte, 1);
    while (const auto report = stream.next(is_broken)) received.push_back(*report);
    REQUIRE_FALSE(is_broken);
  }
  close(ends[0]);
  close(ends[1]);
  REQUIRE(received.size() == 3);
  CHECK(received[0].call == tool::ReportCall::admit);
  CHECK(received[0].round == 9);
  CHECK(received[1].members().size() == 3);
  CHECK(received[1].members()[2] == 0xabcdef01);
  CHECK(std::strlen(received[2].text.data()) == received[2].text.size() - 1);
}

TEST_CASE("bytes that are no record are noticed", "[report]") {
  tool::ReportStream stream;
  const std::array<std::byte, 64> garbage{std::byte{0xff}, std::byte{0xff}};
  stream.append(garbage.data(), garbage.size());
  bool is_broken = false;
  CHECK_FALSE(stream.next(is_broken).has_value());
  CHECK(is_broken);
}
