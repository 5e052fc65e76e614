// Processes that lose time, or are told another one: stopped, starved, with clocks that jump.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "process.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

#ifdef HAWSER_TEST_SANITIZED
constexpr std::uint32_t heartbeat_ms = 500;
#else
constexpr std::uint32_t heartbeat_ms = 200;
#endif
constexpr std::uint32_t timeout_ms = 6 * heartbeat_ms;
#ifdef HAWSER_TEST_UNDER_TSAN
constexpr std::size_t large = 1U << 20;  // elements: what a starved process can do is the less
#else
constexpr std::size_t large = 8U << 20;
#endif

void sleep_ms(std::int64_t ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

bool has_time_namespaces() {
  static const bool has =
      std::system("unshare -T --monotonic 86400 --fork true 2>/dev/null >/dev/null") == 0;  // NOLINT(cert-env33-c)
  return has;
}

}  // namespace

TEST_CASE(
    "a member is stopped in the middle of its data for longer than the timeout: nothing that it sends when it wakes "
    "counts",
    "[time]") {
  const CoordinatorProcess coordinator(heartbeat_ms, "", "");
  for (int round = 0; round < 3; ++round) {
    INFO("round " << round);
    const auto members = start_group(coordinator.address(), 3);
    const Members all = some(members, {0, 1, 2});
    const MemberProcess& zombie = members[static_cast<std::size_t>(round)];
    Members rest;
    for (const MemberProcess* one : all) {
      if (one != &zombie) rest.push_back(one);
    }
    check_sum_of(reduce(all, 1000), bits(all));
    begin_reduce({&zombie}, large, 60000);  // alone in it yet: what it may send early is under way
    zombie.process->send(SIGSTOP);
    begin_reduce(rest, large, 60000);
    for (const MemberProcess* one : rest) {
      const Reduced outcome = end_reduce(*one);
      INFO(outcome.said);
      CHECK(outcome.ok);
      CHECK(outcome.contributors == bits(rest));
    }
    // It wakes in the middle of another one.
    begin_reduce(rest, large, 60000);
    zombie.process->send(SIGCONT);
    for (const MemberProcess* one : rest) {
      const Reduced outcome = end_reduce(*one);
      INFO(outcome.said);
      CHECK(outcome.ok);
      CHECK(outcome.contributors == bits(rest));
    }
    const Reduced woken = end_reduce(zombie);
    INFO(woken.said);
    CHECK_FALSE(woken.ok);
    CHECK(woken.said.find("EXPELLED") != std::string::npos);
    for (const Reduced& again : reduce({&zombie}, 1000)) CHECK(again.said.find("EXPELLED") != std::string::npos);
    check_sum_of(reduce(rest, 1000), bits(rest));
    // And it is welcome again.
    zombie.process->tell("join 60000");
    std::size_t there = 0;
    while (there < all.size()) {
      for (const MemberProcess* one : rest) one->process->tell("admit 60000");
      for (const MemberProcess* one : rest) there = std::stoul(one->process->hear_words("admitted").at(1));
    }
    zombie.process->hear_words("joined");
    check_sum_of(reduce(all, 1000), bits(all));
    for (const MemberProcess* one : all) {
      one->process->tell("leave 60000");
      one->process->hear_words("left");
    }
  }
}

TEST_CASE("a member stopped again and again for less than half of the timeout costs its time and no more", "[time]") {
  const CoordinatorProcess coordinator(heartbeat_ms, "", "");
  const auto members = start_group(coordinator.address(), 3);
  const Members all = some(members, {0, 1, 2});
  std::atomic<bool> over{false};
  const std::jthread stops([&] {
    for (std::uint32_t k = 0; k < 24; ++k) {
      const Process& victim = *members[k % 3].process;
      victim.send(SIGSTOP);
      sleep_ms(timeout_ms / 2 * (k * 7 % 24) / 24);
      victim.send(SIGCONT);
      sleep_ms(20 + k % 5 * 10);
    }
    over = true;
  });
  std::vector<Reduced> outcomes;
  while (!over) {
    for (const Reduced& one : reduce(all, large / 8)) outcomes.push_back(one);
  }
  check_sum_of(outcomes, bits(all));
  CHECK(outcomes.size() >= 30);
}

TEST_CASE("a member with a fiftieth of a processor, or less, is waited for, and named, and not removed", "[time]") {
  const CoordinatorProcess coordinator(5 * heartbeat_ms, "", "");
  const auto members = start_group(coordinator.address(), 3);
  const Members all = some(members, {0, 1, 2});
  for (int k = 0; k < 6; ++k) check_sum_of(reduce(all, large), bits(all));  // what is usual
  const MemberProcess& starved = members[1];
  std::atomic<int> period_ms{100};
  // As the kernel's own quota does: so long of each period, and not at all else.
  std::jthread quota([&](const std::stop_token& over) {
    while (!over.stop_requested()) {
      starved.process->send(SIGSTOP);
      sleep_ms(period_ms - 2);
      starved.process->send(SIGCONT);
      sleep_ms(2);
    }
  });
  const auto is_named = [&] {
    bool by_both = true;
    for (const std::size_t rank : {std::size_t{0}, std::size_t{2}}) {
      members[rank].process->tell("slow");
      by_both = (std::stoul(members[rank].process->hear_words("slow").at(1)) >> 1 & 1) != 0 && by_both;
    }
    return by_both;
  };
  std::vector<Reduced> outcomes;
  bool named = false;
  // Slower and slower: what is usual here depends on what else this machine does.
  for (; !named && period_ms <= 800; period_ms = 2 * period_ms) {
    for (const Reduced& one : reduce(all, large)) outcomes.push_back(one);
    named = is_named();
  }
  quota.request_stop();
  quota.join();
  check_sum_of(outcomes, bits(all));
  CHECK(named);
  CHECK(outcomes.size() >= 3);
}

TEST_CASE("clocks of a member that are a day ahead, and a wall clock that jumps by years, change nothing", "[time]") {
  const CoordinatorProcess coordinator(heartbeat_ms, "", "");
  std::vector<Odd> odd = {{0, {}, {"wild-clock"}}};
  if (has_time_namespaces()) {
    odd.push_back({1, {"unshare", "-T", "--monotonic", "86400", "--fork", "--kill-child"}, {}});
  } else {
    WARN("no time namespaces here: only the wall clock jumps");
  }
  const auto members = start_group(coordinator.address(), 3, odd);
  const Members all = some(members, {0, 1, 2});
  // Longer than the timeout, so that silence is measured, too.
  const auto began = Clock::now();
  while (ms_since(began) < 2 * static_cast<std::int64_t>(timeout_ms)) check_sum_of(reduce(all, 100000), bits(all));
  // A deadline is as long as it says.
  const auto called = Clock::now();
  begin_reduce(some(members, {0, 1}), 1000, 500);
  for (const MemberProcess* one : some(members, {0, 1})) {
    const Reduced outcome = end_reduce(*one);
    INFO(outcome.said);
    CHECK(outcome.said.find("TIMEOUT") != std::string::npos);
  }
  CHECK(ms_since(called) >= 500);
  CHECK(ms_since(called) < 500 + 2 * timeout_ms + 3000);
}
