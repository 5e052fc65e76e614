// The coordinator ends and comes back, with its log, without it, or as a standby; the members lose nothing.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "hawser/hawser.h"
#include "support/catch.hpp"
#include "support/group.hpp"
#include "support/temporary_directory.hpp"

namespace {

using namespace hawser_test;

// A coordinator that can be ended and started again at the same address. In this process ending closes the connections
// as the end of a process does.
class Restartable {
 public:
  explicit Restartable(std::string log_dir = "", std::string standby_of = "")
      : log_dir_(std::move(log_dir)), standby_of_(std::move(standby_of)) {
    start();
  }
  ~Restartable() { stop(); }
  Restartable(const Restartable&) = delete;
  Restartable& operator=(const Restartable&) = delete;

  void start() {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.heartbeat_ms = 200 * slowness;
    config.peer_timeout_ms = 1200 * slowness;
    if (!address_.empty()) config.listen = address_.c_str();
    if (!log_dir_.empty()) config.log_dir = log_dir_.c_str();
    if (!standby_of_.empty()) config.standby_of = standby_of_.c_str();
    expect(hawser_coordinator_start(&config, &handle_), HAWSER_OK, "coordinator");
    char text[64];
    expect(hawser_coordinator_address(handle_, text, sizeof(text)), HAWSER_OK, "address");
    address_ = text;
  }
  void stop() {
    if (handle_ != nullptr) hawser_coordinator_destroy(handle_);
    handle_ = nullptr;
  }
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  const std::string log_dir_;
  const std::string standby_of_;
  hawser_coordinator_t* handle_ = nullptr;
  std::string address_;
};

Comm joined(const std::string& coordinators, std::uint32_t min_size) {
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = coordinators.c_str();
  config.min_size = min_size;
  config.join_timeout_ms = 60000;
  config.op_timeout_ms = 60000;
  Comm comm(config);
  expect(hawser_comm_join(comm.get(), 0), HAWSER_OK, "join");
  return comm;
}

// Every member adds ones and passes admission points until `stop` is seen by all; returns the largest size seen.
std::uint32_t work(hawser_comm_t* comm, const std::atomic<bool>& stop, std::atomic<int>& rounds) {
  std::uint32_t largest = 0;
  for (;;) {
    expect(hawser_comm_admit(comm, 0), HAWSER_OK, "admit");
    // What one member has seen all know in the same round.
    std::vector<std::int32_t> data(1000, 1);
    data[0] = stop ? 1 : 0;
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    expect(hawser_all_reduce(comm, data.data(), data.data(), data.size(), HAWSER_I32, HAWSER_SUM, nullptr, &info),
           HAWSER_OK, "all_reduce");
    check(data[1] == static_cast<std::int32_t>(info.participants), "the sum is not that of the participants");
    largest = std::max(largest, info.participants);
    ++rounds;
    if (data[0] != 0) return largest;
  }
}

// Three members work; something happens; then a fourth joins them, and all stop. Nobody may see an error.
void goes_on(const std::string& coordinators, const std::function<void(const Comm&)>& happens) {
  std::vector<Comm> comms(4);
  in_threads(3, [&](std::uint32_t i) { comms[i] = joined(coordinators, 3); });
  std::atomic<bool> stop = false;
  std::atomic<int> rounds = 0;
  std::atomic<int> working = 3;
  in_threads(4, [&](std::uint32_t i) {
    if (i < 3) {
      struct Out {
        std::atomic<int>& count;
        ~Out() { --count; }
      } out{working};
      check(work(comms[i].get(), stop, rounds) == 4, "nobody came");
      return;
    }
    happens(comms[0]);
    const int before = rounds;
    while (rounds < before + 30 && working == 3) std::this_thread::yield();  // without a coordinator, too
    comms[3] = joined(coordinators, 4);                                      // alone it would form no group
    stop = true;
    work(comms[3].get(), stop, rounds);
  });
  for (const Comm& comm : comms) {
    CHECK(view_of(comm).world_size == 4);
    CHECK(metrics_of(comm).peers_lost == 0);
  }
}

}  // namespace

TEST_CASE("a coordinator with a log is started again and goes on", "[coordinator-loss]") {
  const TemporaryDirectory log;
  Restartable coordinator(log.path());
  goes_on(coordinator.address(), [&](const Comm&) {
    coordinator.stop();
    coordinator.start();
  });
}

TEST_CASE("a coordinator without a log learns the view from its members", "[coordinator-loss]") {
  Restartable coordinator;
  goes_on(coordinator.address(), [&](const Comm&) {
    coordinator.stop();
    coordinator.start();
  });
}

TEST_CASE("a standby takes over", "[coordinator-loss]") {
  Restartable first;
  Restartable second("", first.address());
  goes_on(first.address() + "," + second.address(), [&](const Comm&) { first.stop(); });
}

TEST_CASE("the first coordinator comes back after a standby took over, and does not form another group",
          "[coordinator-loss]") {
  Restartable first;
  Restartable second("", first.address());
  goes_on(first.address() + "," + second.address(), [&](const Comm& member) {
    const std::uint64_t before = view_of(member).number;
    first.stop();
    while (view_of(member).number == before) std::this_thread::yield();  // the standby has installed a view
    first.start();
  });
}

TEST_CASE("members lost while there was no coordinator are removed when it is back", "[coordinator-loss]") {
  const TemporaryDirectory log;
  Restartable coordinator(log.path());
  std::vector<Comm> comms(3);
  in_threads(3, [&](std::uint32_t i) { comms[i] = joined(coordinator.address(), 3); });
  coordinator.stop();
  comms[1].destroy();
  std::atomic<bool> called = false;
  in_threads(3, [&](std::uint32_t i) {
    if (i == 1) {
      while (!called) std::this_thread::yield();
      coordinator.start();
      return;
    }
    called = true;
    std::vector<double> data(100000, 1.0);
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_F64, HAWSER_SUM, nullptr,
                             &info),
           HAWSER_OK, "all_reduce");
    check(info.participants == 2 && data[0] == 2.0, "not the sum of the two that are left");
  });
}

TEST_CASE("a log directory is used by one coordinator at a time", "[coordinator-loss]") {
  const TemporaryDirectory log;
  const Restartable coordinator(log.path());
  hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
  config.log_dir = log.path().c_str();
  hawser_coordinator_t* second = nullptr;
  CHECK(hawser_coordinator_start(&config, &second) == HAWSER_RESOURCE);
  CHECK(std::string(hawser_last_error()).find(log.path()) != std::string::npos);
  config.etcd = "http://127.0.0.1:1";
  CHECK(hawser_coordinator_start(&config, &second) == HAWSER_INVALID_ARGUMENT);
}

// The call stands where newcomers may have been let in without its knowing. It ends when somebody can say so.
TEST_CASE("the coordinator is lost while a member stands at an admission point", "[coordinator-loss]") {
  const TemporaryDirectory directory;
  Restartable coordinator(directory.path());
  std::vector<Comm> comms(3);
  in_threads(2, [&](std::uint32_t i) { comms[i] = joined(coordinator.address(), 2); });
  std::thread newcomer([&] { comms[2] = joined(coordinator.address(), 1); });
  // It passes points until it is held at one, for the other does not come there.
  while (hawser_comm_admit(comms[0].get(), 50) == HAWSER_OK) std::this_thread::yield();
  std::atomic<bool> is_back{false};
  std::exception_ptr failure;
  try {
    in_threads(3, [&](std::uint32_t i) {
      if (i == 2) {
        coordinator.stop();
        coordinator.start();
        is_back = true;
        return;
      }
      while (i == 1 && !is_back) std::this_thread::yield();
      while (view_of(comms[i]).world_size < 3) expect(hawser_comm_admit(comms[i].get(), 15000), HAWSER_OK, "admit");
    });
  } catch (...) {
    failure = std::current_exception();
  }
  newcomer.join();
  if (failure) std::rethrow_exception(failure);
  for (const Comm& comm : comms) {
    CHECK(view_of(comm).world_size == 3);
    CHECK(metrics_of(comm).peers_lost == 0);
  }
}
