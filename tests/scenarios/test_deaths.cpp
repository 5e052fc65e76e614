// Several processes die in one moment: half of the members, the coordinator and some members, all of them.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "process.hpp"
#include "support/group.hpp"
#include "support/starvation.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

#ifdef HAWSER_TEST_SANITIZED
constexpr std::uint32_t heartbeat_ms = 500;
constexpr int rounds = 1;
#else
constexpr std::uint32_t heartbeat_ms = 200;
constexpr int rounds = 2;
#endif
constexpr std::uint32_t timeout_ms = 6 * heartbeat_ms;
constexpr std::size_t large = 4U << 20;  // elements: long enough to die in the middle

// Kills them while the others are inside an operation that all have entered, or, `early`, that those who die have not.
std::vector<Reduced> kill_meanwhile(const Members& dying, const CoordinatorProcess* coordinator, const Members& rest,
                                    bool early, int pause_ms, std::uint32_t limit_ms) {
  Members inside = rest;
  if (!early) inside.insert(inside.end(), dying.begin(), dying.end());
  begin_reduce(inside, large, limit_ms);
  if (!early) usleep(static_cast<useconds_t>(pause_ms) * 1000);  // another place each time
  if (coordinator != nullptr) coordinator->send(SIGKILL);
  for (const MemberProcess* one : dying) one->process->send(SIGKILL);
  std::vector<Reduced> out;
  for (const MemberProcess* one : rest) out.push_back(end_reduce(*one));
  return out;
}

// Of an operation that everybody had entered: all who are left have the same, that of all or that of the rest.
void check_same(const std::vector<Reduced>& all, std::uint32_t everybody, std::uint32_t rest) {
  for (const Reduced& one : all) {
    INFO(one.said);
    CHECK(one.ok);
    CHECK((one.contributors == everybody || one.contributors == rest));
    CHECK(one.contributors == all[0].contributors);
  }
}

}  // namespace

// Its connections end with it, so nobody waits for a silence.
TEST_CASE("an idle member that is killed is out of the view at once", "[deaths]") {
  const CoordinatorProcess coordinator(heartbeat_ms, "", "");
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = coordinator.address().c_str();
  config.join_timeout_ms = config.op_timeout_ms = 60000;
  const Comm observer(config);
  expect(hawser_comm_join(observer.get(), 0), HAWSER_OK, "join");
  std::vector<std::int64_t> gone_ms;
  for (int kill = 0; kill < 15 * rounds; ++kill) {
    Process other({"member", coordinator.address(), "1", "1"});
    other.hear_words("ready");
    other.tell("join 60000");
    while (view_of(observer).world_size == 1) {
      expect(hawser_comm_admit(observer.get(), 0), HAWSER_OK, "admit");
      usleep(1000);
    }
    other.hear_words("joined");
    const auto began = Clock::now();
    other.send(SIGKILL);
    while (view_of(observer).world_size == 2 && ms_since(began) < 10000) usleep(500);
    gone_ms.push_back(ms_since(began));
  }
  std::sort(gone_ms.begin(), gone_ms.end());
  CHECK(gone_ms[gone_ms.size() / 2] <= 50 * slowness);
  CHECK(gone_ms.back() < heartbeat_ms * slowness);
}

TEST_CASE("half of the members die at once: with one coordinator the others go on", "[deaths]") {
  for (int round = 0; round < rounds; ++round) {
    const TemporaryDirectory log;
    const CoordinatorProcess coordinator(heartbeat_ms, round % 2 == 0 ? log.path() : "", "");
    const auto members = start_group(coordinator.address(), 4);
    const Members all = some(members, {0, 1, 2, 3});
    const Members dying = round == 0 ? some(members, {0, 1}) : some(members, {1, 3});
    const Members rest = round == 0 ? some(members, {2, 3}) : some(members, {0, 2});
    check_sum_of(reduce(all, 1000), bits(all));
    const bool early = round % 2 == 1;
    check_same(kill_meanwhile(dying, nullptr, rest, early, 5, 60000), early ? bits(rest) : bits(all), bits(rest));
    check_sum_of(reduce(rest, 1000), bits(rest));
  }
}

TEST_CASE("half of the members die at once, with a standby: the half with the first rank goes on", "[deaths]") {
  const CoordinatorProcess first(heartbeat_ms, "", "");
  const CoordinatorProcess second(heartbeat_ms, "", first.address());
  const auto members = start_group(first.address() + "," + second.address(), 4);
  const Members all = some(members, {0, 1, 2, 3});
  const Members rest = some(members, {0, 1});
  check_sum_of(reduce(all, 1000), bits(all));
  check_sum_of(kill_meanwhile(some(members, {2, 3}), nullptr, rest, true, 0, 60000), bits(rest));
  check_sum_of(reduce(rest, 1000), bits(rest));
}

TEST_CASE("half of the members die at once, with a standby: the other half stops, and who joins is told what to do",
          "[deaths]") {
  CoordinatorProcess first(heartbeat_ms, "", "");
  CoordinatorProcess second(heartbeat_ms, "", first.address());
  const std::string addresses = first.address() + "," + second.address();
  {
    const auto members = start_group(addresses, 4);
    const Members all = some(members, {0, 1, 2, 3});
    const Members rest = some(members, {1, 2});
    check_sum_of(reduce(all, 1000), bits(all));
    constexpr std::uint32_t limit_ms = 2 * timeout_ms;
    const auto began = Clock::now();
    for (const Reduced& one : kill_meanwhile(some(members, {0, 3}), nullptr, rest, true, 0, limit_ms)) {
      INFO(one.said);
      CHECK(one.said.find("failed NO_COORDINATOR ") == 0);
    }
    CHECK(ms_since(began) >= limit_ms);
    CHECK(ms_since(began) < limit_ms + 2 * timeout_ms + 3000);
    Process newcomer({"member", addresses, "1", "9"});
    newcomer.hear_words("ready");
    newcomer.tell("join " + std::to_string(8 * timeout_ms));
    const std::string said = newcomer.hear();
    INFO(said);
    CHECK(said.find("failed ") == 0);
    CHECK(said.find("no majority of the members") != std::string::npos);
    CHECK(said.find("if they are gone for good, start the coordinators again") != std::string::npos);
  }
  for (CoordinatorProcess* one : {&first, &second}) {
    one->send(SIGKILL);
    one->reap();
    one->start();
  }
  const auto members = start_group(addresses, 2);
  const Members all = some(members, {0, 1});
  check_sum_of(reduce(all, 1000), bits(all));
}

TEST_CASE("the coordinator and two of five members die at once: it comes back with its log", "[deaths]") {
  for (int round = 0; round < rounds; ++round) {
    const TemporaryDirectory log;
    CoordinatorProcess coordinator(heartbeat_ms, log.path(), "");
    const auto members = start_group(coordinator.address(), 5);
    const Members all = some(members, {0, 1, 2, 3, 4});
    const Members dying = some(members, {0, 3});
    const Members rest = some(members, {1, 2, 4});
    check_sum_of(reduce(all, 1000), bits(all));
    const bool early = round % 2 == 1;
    begin_reduce(early ? rest : all, large, 60000);
    usleep(5000);
    coordinator.send(SIGKILL);
    for (const MemberProcess* one : dying) one->process->send(SIGKILL);
    coordinator.reap();
    coordinator.start();
    const auto began = Clock::now();
    std::vector<Reduced> outcomes;
    for (const MemberProcess* one : rest) outcomes.push_back(end_reduce(*one));
    check_same(outcomes, early ? bits(rest) : bits(all), bits(rest));
    check_sum_of(reduce(rest, 1000), bits(rest));
    CHECK(ms_since(began) < 2 * timeout_ms + 5000);
  }
}

TEST_CASE("the coordinator and two of five members die at once: a standby takes over", "[deaths]") {
  for (int round = 0; round < rounds; ++round) {
    const CoordinatorProcess first(heartbeat_ms, "", "");
    const CoordinatorProcess second(heartbeat_ms, "", first.address());
    const auto members = start_group(first.address() + "," + second.address(), 5);
    const Members all = some(members, {0, 1, 2, 3, 4});
    const Members dying = some(members, {0, 3});
    const Members rest = some(members, {1, 2, 4});
    check_sum_of(reduce(all, 1000), bits(all));
    const bool early = round % 2 == 1;
    const auto began = Clock::now();
    check_same(kill_meanwhile(dying, &first, rest, early, 5, 60000), early ? bits(rest) : bits(all), bits(rest));
    check_sum_of(reduce(rest, 1000), bits(rest));
    CHECK(ms_since(began) < 4 * timeout_ms + 5000);
  }
}

TEST_CASE("all members and the coordinator die at once: the next ones form the group anew", "[deaths]") {
  for (const bool with_log : {true, false}) {
    INFO("with a log: " << with_log);
    const TemporaryDirectory log;
    CoordinatorProcess coordinator(heartbeat_ms, with_log ? log.path() : "", "");
    {
      const auto members = start_group(coordinator.address(), 3);
      const Members all = some(members, {0, 1, 2});
      begin_reduce(all, large, 60000);
      coordinator.send(SIGKILL);
      for (const MemberProcess* one : all) one->process->send(SIGKILL);
    }
    coordinator.reap();
    coordinator.start();
    const auto began = Clock::now();
    const auto members = start_group(coordinator.address(), 2);
    // Those of before could be alive, for all that a log says.
    CHECK(ms_since(began) < 2 * timeout_ms + 3000);
    if (with_log) CHECK(ms_since(began) >= timeout_ms / 2);
    const Members all = some(members, {0, 1});
    check_sum_of(reduce(all, 1000), bits(all));
  }
}
