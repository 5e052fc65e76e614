// Groups: who is a member and when, deadlines, cancelling, aborting, disagreements.
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "support/group.hpp"
#include "support/times.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

std::string last_error() { return hawser_last_error(); }

void check_says(const std::string& part) {
  check(last_error().find(part) != std::string::npos, "no '" + part + "' in: " + last_error());
}

hawser_op_options_t options_with(std::uint64_t tag, std::uint32_t timeout_ms) {
  hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
  options.tag = tag;
  options.timeout_ms = timeout_ms;
  return options;
}

}  // namespace

TEST_CASE("a group forms when min_size peers are there, and ranks and members agree", "[group]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 4);
  std::vector<std::string> first;
  for (const Comm& comm : comms) {
    const hawser_view_t view = view_of(comm);
    CHECK(view.world_size == 4);
    CHECK(view.number == view_of(comms[0]).number);
    std::vector<std::string> members;
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
      hawser_member_t member = HAWSER_MEMBER_INIT;
      REQUIRE(hawser_comm_member(comm.get(), rank, &member) == HAWSER_OK);
      members.emplace_back(std::string(member.name) + "@" + member.address);
      CHECK(std::string(member.address).find("127.0.0.1:") == 0);
    }
    if (first.empty()) first = members;
    CHECK(members == first);
  }
}

TEST_CASE("too few peers: the join ends at its deadline and says why", "[group]") {
  const Coordinator coordinator;
  const hawser_comm_config_t config = config_for(coordinator, 2);
  const Comm comm(config);
  const auto start = Clock::now();
  CHECK(hawser_comm_join(comm.get(), 300) == HAWSER_TIMEOUT);
  CHECK(last_error().find("min_size") != std::string::npos);
  CHECK(ms_since(start) >= 300);
  CHECK(ms_since(start) < 5000);
  // The call may be made again, and succeeds once the other is there.
  const Comm other(config);
  in_threads(2, [&](std::uint32_t i) {
    expect(hawser_comm_join(i == 0 ? comm.get() : other.get(), 10000), HAWSER_OK, "join");
  });
  CHECK(view_of(comm).world_size == 2);
}

TEST_CASE("newcomers are let in at admission points and take part from there", "[group]") {
  const Coordinator coordinator;
  auto comms = make_group(coordinator, 2);
  std::atomic<bool> joined{false};
  std::atomic<int> steps_of_veterans{0};
  in_threads(4, [&](std::uint32_t i) {
    Comm newcomer;
    hawser_comm_t* comm = nullptr;
    if (i < 2) {
      comm = comms[i].get();
    } else {
      newcomer = Comm(config_for(coordinator, 1));
      comm = newcomer.get();
      expect(hawser_comm_join(comm, 0), HAWSER_OK, "join");
    }
    // The same loop for all: it ends for everybody at the same step, some steps after the last newcomer came.
    for (int left = -1; left != 0;) {
      expect(hawser_comm_admit(comm, 0), HAWSER_OK, "admit");
      std::int32_t values[2] = {1, left};
      hawser_op_info_t info = HAWSER_OP_INFO_INIT;
      expect(hawser_all_reduce(comm, values, values, 2, HAWSER_I32, HAWSER_MAX, nullptr, &info), HAWSER_OK,
             "all_reduce");
      if (i == 0) ++steps_of_veterans;
      if (values[1] > 0) {
        left = values[1] - 1;
      } else if (info.participants == 4) {
        left = 5;
        joined = true;
      }
    }
    if (i >= 2) expect(hawser_comm_leave(comm, 0), HAWSER_OK, "leave");
  });
  CHECK(joined);
  CHECK(steps_of_veterans > 5);
  // The newcomers have left; the others go on without a failure.
  in_threads(2, [&](std::uint32_t i) {
    std::int32_t one = 1;
    expect(hawser_all_reduce(comms[i].get(), &one, &one, 1, HAWSER_I32, HAWSER_SUM, nullptr, nullptr), HAWSER_OK,
           "after");
    check(one == 2, "sum of the two that stayed");
  });
  hawser_metrics_t metrics = HAWSER_METRICS_INIT;
  REQUIRE(hawser_comm_metrics(comms[0].get(), &metrics) == HAWSER_OK);
  CHECK(metrics.peers_lost == 0);
  CHECK(metrics.ops_failed == 0);
  CHECK(metrics.views >= 3);
}

TEST_CASE("groups never wait for one another", "[group]") {
  const Coordinator coordinator;
  const auto one = make_group(coordinator, 2, [](hawser_comm_config_t& config) { config.group = 1; });
  // Group 2 waits for peers that never come; group 1 works.
  const Comm lonely([&] {
    hawser_comm_config_t config = config_for(coordinator, 3);
    config.group = 2;
    return config;
  }());
  in_threads(3, [&](std::uint32_t i) {
    if (i == 2) return expect(hawser_comm_join(lonely.get(), 800), HAWSER_TIMEOUT, "lonely join");
    for (int k = 0; k < 50; ++k) {
      expect(hawser_comm_admit(one[i].get(), 0), HAWSER_OK, "admit");
      expect(hawser_barrier(one[i].get(), nullptr, nullptr), HAWSER_OK, "barrier");
    }
  });
}

TEST_CASE("IPv6, names and configured addresses", "[group]") {
  hawser_coordinator_config_t service = HAWSER_COORDINATOR_CONFIG_INIT;
  service.listen = "[::1]:0";
  hawser_coordinator_t* coordinator = nullptr;
  REQUIRE(hawser_coordinator_start(&service, &coordinator) == HAWSER_OK);
  char address[64];
  REQUIRE(hawser_coordinator_address(coordinator, address, sizeof(address)) == HAWSER_OK);
  std::vector<Comm> comms(2);
  in_threads(2, [&](std::uint32_t i) {
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = address;
    config.min_size = 2;
    config.name = i == 0 ? "left" : "right";
    if (i == 0) config.listen = "[::1]";
    if (i == 1) config.advertise = "::1";
    comms[i] = Comm(config);
    expect(hawser_comm_join(comms[i].get(), 20000), HAWSER_OK, "join");
    std::uint64_t x = i + 1;
    expect(hawser_all_reduce(comms[i].get(), &x, &x, 1, HAWSER_U64, HAWSER_PROD, nullptr, nullptr), HAWSER_OK,
           "all_reduce");
    check(x == 2, "product");
  });
  comms.clear();
  hawser_coordinator_destroy(coordinator);
}

TEST_CASE("an operation that nobody else enters ends at its deadline for all", "[group]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  in_threads(3, [&](std::uint32_t i) {
    std::vector<float> data(1000, static_cast<float>(i));
    const std::vector<float> kept = data;
    const hawser_op_options_t options = options_with(0, 300);
    if (view_of(comms[i]).rank == 1) {
      const auto start = Clock::now();
      expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_F32, HAWSER_SUM, &options,
                               nullptr),
             HAWSER_TIMEOUT, "alone");
      check(ms_since(start) < 5000, "much later than its deadline");
      check_says("rank 1");
      check_says("not entered by rank 0");
      check(data == kept, "an input was changed");
    }
  });
  // The call is used up at every member: those who make it now get the same answer at once.
  in_threads(3, [&](std::uint32_t i) {
    if (view_of(comms[i]).rank == 1) return;
    const auto start = Clock::now();
    float x = 1;
    expect(hawser_all_reduce(comms[i].get(), &x, &x, 1, HAWSER_F32, HAWSER_SUM, nullptr, nullptr), HAWSER_TIMEOUT,
           "late");
    check(ms_since(start) < 5000, "the late one waited");
  });
  in_threads(3,
             [&](std::uint32_t i) { expect(hawser_barrier(comms[i].get(), nullptr, nullptr), HAWSER_OK, "usable"); });
}

TEST_CASE("members that disagree all get the same clear error, and go on", "[group]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  alignas(8) static std::byte buffers[3][4096];
  const auto differing = [&](const std::string& word,
                             const std::function<hawser_status_t(hawser_comm_t*, std::byte*, bool)>& call) {
    std::vector<std::string> sentences(3);
    in_threads(3, [&](std::uint32_t i) {
      const std::uint32_t rank = view_of(comms[i]).rank;
      expect(call(comms[i].get(), buffers[rank], rank == 2), HAWSER_MISMATCH, "a call that differs in " + word);
      sentences[rank] = last_error().substr(last_error().find("MISMATCH"));
      check(last_error().find("rank") != std::string::npos, "names nobody: " + last_error());
    });
    CAPTURE(word);
    CHECK(sentences[0] == sentences[1]);
    CHECK(sentences[0] == sentences[2]);
    in_threads(3, [&](std::uint32_t i) {
      // Every member counts every call once: the one that went under another tag gets the same answer for this one too.
      const bool odd = view_of(comms[i]).rank == 2;
      if (word == "tag" && odd) expect(hawser_barrier(comms[i].get(), nullptr, nullptr), HAWSER_MISMATCH, "its number");
      expect(hawser_barrier(comms[i].get(), nullptr, nullptr), HAWSER_OK, "usable");
    });
  };
  differing("count", [](hawser_comm_t* comm, std::byte* at, bool odd) {
    return hawser_all_reduce(comm, at, at, odd ? 10 : 20, HAWSER_F32, HAWSER_SUM, nullptr, nullptr);
  });
  differing("dtype", [](hawser_comm_t* comm, std::byte* at, bool odd) {
    return hawser_all_reduce(comm, at, at, 16, odd ? HAWSER_F32 : HAWSER_I32, HAWSER_SUM, nullptr, nullptr);
  });
  differing("redop", [](hawser_comm_t* comm, std::byte* at, bool odd) {
    return hawser_all_reduce(comm, at, at, 16, HAWSER_F32, odd ? HAWSER_SUM : HAWSER_AVG, nullptr, nullptr);
  });
  differing("kind", [](hawser_comm_t* comm, std::byte* at, bool odd) {
    return odd ? hawser_barrier(comm, nullptr, nullptr)
               : hawser_all_reduce(comm, at, at, 0, HAWSER_F32, HAWSER_SUM, nullptr, nullptr);
  });
  differing("root", [](hawser_comm_t* comm, std::byte* at, bool odd) {
    return hawser_broadcast(comm, at, at, 100, HAWSER_F32, odd ? 0 : 1, nullptr, nullptr);
  });
  differing("policy", [](hawser_comm_t* comm, std::byte* at, bool odd) {
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.policy = odd ? HAWSER_POLICY_STRICT : HAWSER_POLICY_RETRY;
    return hawser_all_reduce(comm, at, at, 16, HAWSER_F32, HAWSER_SUM, &options, nullptr);
  });
  differing("tag", [](hawser_comm_t* comm, std::byte* at, bool odd) {
    const hawser_op_options_t options = options_with(odd ? 5 : 0, 500);
    return hawser_all_reduce(comm, at, at, 16, HAWSER_F32, HAWSER_SUM, &options, nullptr);
  });
}

TEST_CASE("cancel from another thread ends the operation at every member", "[group]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  hawser_op_t* op = nullptr;
  const std::uint32_t victim = view_of(comms[0]).rank == 0 ? 0 : 1;
  std::vector<double> data(100000, 3.0);
  REQUIRE(hawser_all_reduce_start(comms[victim].get(), data.data(), data.data(), data.size(), HAWSER_F64, HAWSER_SUM,
                                  nullptr, &op) == HAWSER_OK);
  CHECK(hawser_op_test(op, nullptr) == HAWSER_PENDING);
  CHECK(hawser_op_wait(op, 20, nullptr) == HAWSER_PENDING);
  in_threads(2, [&](std::uint32_t i) {
    if (i == 0) {
      expect(hawser_op_wait(op, 0, nullptr), HAWSER_CANCELLED, "wait");
    } else {
      expect(hawser_op_cancel(op), HAWSER_OK, "cancel");
    }
  });
  CHECK(data == std::vector<double>(100000, 3.0));
  CHECK(hawser_op_release(op) == HAWSER_OK);
  CHECK(hawser_op_release(op) == HAWSER_INVALID_HANDLE);
  double x = 1;
  CHECK(hawser_all_reduce(comms[1 - victim].get(), &x, &x, 1, HAWSER_F64, HAWSER_SUM, nullptr, nullptr) ==
        HAWSER_CANCELLED);
  // Releasing a running operation gives the buffers back too.
  REQUIRE(hawser_all_reduce_start(comms[victim].get(), data.data(), data.data(), data.size(), HAWSER_F64, HAWSER_SUM,
                                  nullptr, &op) == HAWSER_OK);
  CHECK(hawser_op_release(op) == HAWSER_OK);
  CHECK(data == std::vector<double>(100000, 3.0));
}

TEST_CASE("abort and destroy free whoever is blocked", "[group]") {
  const Coordinator coordinator;
  const hawser_comm_config_t config = config_for(coordinator, 2);
  Comm comm(config);
  std::atomic<bool> started{false};
  in_threads(2, [&](std::uint32_t i) {
    if (i == 0) {
      started = true;
      expect(hawser_comm_join(comm.get(), 20000), HAWSER_ABORTED, "join");
    } else {
      while (!started) std::this_thread::yield();
      expect(hawser_comm_abort(comm.get()), HAWSER_OK, "abort");
    }
  });
  auto comms = make_group(coordinator, 2);
  hawser_op_t* op = nullptr;
  float x = 1;
  REQUIRE(hawser_all_reduce_start(comms[0].get(), &x, &x, 1, HAWSER_F32, HAWSER_SUM, nullptr, &op) == HAWSER_OK);
  comms[0].destroy();
  CHECK(hawser_op_wait(op, 0, nullptr) == HAWSER_ABORTED);
  CHECK(x == 1);
  CHECK(hawser_op_release(op) == HAWSER_OK);
}

TEST_CASE("operations go on while no coordinator is there", "[group]") {
  Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  coordinator.stop();
  in_threads(2, [&](std::uint32_t i) {
    for (int k = 0; k < 20; ++k) {
      expect(hawser_comm_admit(comms[i].get(), 2000), HAWSER_OK, "admit");
      std::int64_t x = k;
      expect(hawser_all_reduce(comms[i].get(), &x, &x, 1, HAWSER_I64, HAWSER_SUM, nullptr, nullptr), HAWSER_OK,
             "all_reduce");
      check(x == 2 * k, "sum");
    }
  });
  // What cannot be decided without one ends at its deadline.
  float x = 1;
  const hawser_op_options_t options = options_with(0, 200);
  CHECK(hawser_all_reduce(comms[0].get(), &x, &x, 1, HAWSER_F32, HAWSER_SUM, &options, nullptr) ==
        HAWSER_NO_COORDINATOR);
  CHECK(x == 1);
}
