// Members that are slow to enter an operation: named, and removed where a communicator asks for it.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "support/group.hpp"
#include "support/stderr_capture.hpp"
#include "support/times.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

TEST_CASE("whoever enters no operation for straggler_ms holds nobody up", "[slow]") {
  constexpr std::uint32_t straggler_ms = 300 * slowness;
  const Coordinator coordinator(100);
  const auto comms =
      make_group(coordinator, 4, [](hawser_comm_config_t& config) { config.straggler_ms = straggler_ms; });
  std::atomic<int> over{0};
  in_threads(4, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    std::vector<float> data(1000, 1.0F);
    expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_F32, HAWSER_SUM, nullptr,
                             nullptr),
           HAWSER_OK, "all have entered");
    check(data[0] == 4.0F, "sum of all");
    if (rank == 2) {
      while (over < 3) std::this_thread::yield();
      return;
    }
    data.assign(data.size(), 1.0F);
    const auto began = Clock::now();
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    const hawser_status_t status = hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_F32,
                                                     HAWSER_SUM, nullptr, &info);
    const std::string said = hawser_last_error();
    ++over;
    // The coordinator decides whether the others finish without it or none does.
    if (status == HAWSER_OK) {
      check(info.participants == 3 && data[0] == 3.0F, "sum of those who came");
    } else {
      expect(status, HAWSER_TIMEOUT, said);
      check(said.find("rank 2 (") != std::string::npos && said.find("did not enter") != std::string::npos, said);
      check(data[0] == 1.0F, "input");
    }
    check(ms_since(began) >= straggler_ms - 50, "too early");
    check(ms_since(began) < 10 * straggler_ms, "too late");
  });
}

TEST_CASE("a member that keeps the others waiting is named", "[slow]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3, [](hawser_comm_config_t& config) { config.name = "a trainer"; });
  const auto reduce = [&](std::uint32_t i, std::size_t count) {
    std::vector<float> data(count, 1.0F);
    expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_F32, HAWSER_SUM, nullptr,
                             nullptr),
           HAWSER_OK, "all_reduce");
  };
  const hawser::test::StderrCapture log;
  std::atomic<int> noticed{0};
  std::array<std::int64_t, 3> noticed_ms{};
  in_threads(3, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    for (int k = 0; k < 5; ++k) reduce(i, 1000);  // what is usual
    check(metrics_of(comms[i]).slow_rank == -1 && metrics_of(comms[i]).slow_ms == 0, "nothing is slow yet");
    if (rank == 1) {
      while (noticed < 2) std::this_thread::yield();
      reduce(i, 1000);
      return;
    }
    const auto began = Clock::now();
    std::thread watch([&] {
      while (ms_since(began) < 5000 && metrics_of(comms[i]).slow_rank == -1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      noticed_ms[i] = ms_since(began);
      const hawser_metrics_t metrics = metrics_of(comms[i]);
      if (metrics.slow_rank != 1 || metrics.slow_ms < 1000) noticed_ms[i] = -1;
      // The line follows at once.
      const std::string wanted = "rank 1 (a trainer, 127.0.0.1:";
      while (ms_since(began) < 5000 && log.text().find(wanted) == std::string::npos) std::this_thread::yield();
      ++noticed;
    });
    try {
      reduce(i, 1000);
    } catch (...) {
      watch.join();
      throw;
    }
    watch.join();
    check(noticed_ms[i] >= 990, "not named, or another, or too early");
    check(noticed_ms[i] < 3000, "named too late");
    check(metrics_of(comms[i]).slow_rank == -1, "it is over");
  });
  const std::string text = log.text();
  INFO(text);
  CHECK(text.find("all_reduce(count 1000, f32, sum), untagged call 5, is open for 1") != std::string::npos);
  CHECK(text.find(") has not entered it") != std::string::npos);
  CHECK(text.find("rank 2") == std::string::npos);
}
