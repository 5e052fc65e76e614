// Many at once: signals into every caller, members that come back all together.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "process.hpp"
#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

std::atomic<std::uint64_t> signals_taken{0};

// A signal into the thread of its making every millisecond; system calls are not begun again for it.
class Alarms {
 public:
  Alarms() {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR1;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    check(timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0, "timer_create");
    itimerspec every{};
    every.it_interval.tv_nsec = every.it_value.tv_nsec = 1000000;
    check(timer_settime(timer_, 0, &every, nullptr) == 0, "timer_settime");
  }
  ~Alarms() { timer_delete(timer_); }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;

 private:
  timer_t timer_{};
};

}  // namespace

TEST_CASE("signals every millisecond into every caller disturb no call", "[signals]") {
  struct sigaction action {};
  action.sa_handler = [](int) { ++signals_taken; };
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  const Coordinator coordinator;
  for (const std::uint32_t size : {2U, 3U}) {  // by TCP, and by shared memory
    const std::uint64_t before = signals_taken;
    in_threads(size, [&](std::uint32_t i) {
      const Alarms alarms;
      Comm comm(config_for(coordinator, size));
      expect(hawser_comm_join(comm.get(), 0), HAWSER_OK, "join");
      const auto began = std::chrono::steady_clock::now();
      std::int32_t over = 0;
      while (over == 0) {
        for (const std::size_t count : {std::size_t{1}, std::size_t{20000}, std::size_t{500000}}) {
          std::vector<std::int32_t> data(count, 1);
          expect(
              hawser_all_reduce(comm.get(), data.data(), data.data(), count, HAWSER_I32, HAWSER_SUM, nullptr, nullptr),
              HAWSER_OK, "all_reduce");
          for (const std::int32_t value : data) check(value == static_cast<std::int32_t>(size), "wrong sum");
        }
        over = i == 0 && std::chrono::steady_clock::now() - began > std::chrono::milliseconds(700) ? 1 : 0;
        expect(hawser_all_reduce(comm.get(), &over, &over, 1, HAWSER_I32, HAWSER_MAX, nullptr, nullptr), HAWSER_OK,
               "whether to stop");
      }
      float value = 1;
      hawser_state_t* state = nullptr;
      expect(hawser_state_create(&state), HAWSER_OK, "state");
      expect(hawser_state_add_tensor(state, "a", &value, 1, HAWSER_F32), HAWSER_OK, "tensor");
      const hawser_status_t synced = hawser_state_sync(comm.get(), state, HAWSER_SYNC_AGREE, nullptr, nullptr);
      hawser_state_destroy(state);
      expect(synced, HAWSER_OK, "sync");
      expect(hawser_comm_admit(comm.get(), 0), HAWSER_OK, "admit");
      expect(hawser_comm_leave(comm.get(), 0), HAWSER_OK, "leave");
    });
    CHECK(signals_taken - before > 100 * size);
  }
}

// All lose their coordinator at once, and all dial it when it is there again.
TEST_CASE("a crowd of members comes back at once: nobody is lost, and a newcomer is let in", "[crowd]") {
  const char* const asked = std::getenv("HAWSER_TEST_CROWD");  // NOLINT(concurrency-mt-unsafe)
  const std::uint32_t size = asked != nullptr ? static_cast<std::uint32_t>(std::strtoul(asked, nullptr, 10)) : 24;
  rlimit files{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &files) == 0);
  files.rlim_cur = files.rlim_max;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &files) == 0);
  const TemporaryDirectory log;
  CoordinatorProcess coordinator(1000, log.path(), "");
  const auto member = [&](std::uint32_t min_size) {
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = coordinator.address().c_str();
    config.min_size = min_size;
    config.io_threads = 1;
    config.transport = HAWSER_TRANSPORT_TCP;
    Comm comm(config);
    expect(hawser_comm_join(comm.get(), 0), HAWSER_OK, "join");
    return comm;
  };
  std::vector<Comm> comms(size + 1);
  in_threads(size, [&](std::uint32_t i) { comms[i] = member(size); });
  coordinator.send(SIGKILL);
  coordinator.reap();
  coordinator.start();
  const auto began = std::chrono::steady_clock::now();
  in_threads(size + 1, [&](std::uint32_t i) {
    if (i == size) {
      comms[size] = member(1);
    } else {
      // Nobody is let in while a member is away.
      while (view_of(comms[i]).world_size == size) expect(hawser_comm_admit(comms[i].get(), 0), HAWSER_OK, "admit");
    }
    std::int32_t one = 1;
    expect(hawser_all_reduce(comms[i].get(), &one, &one, 1, HAWSER_I32, HAWSER_SUM, nullptr, nullptr), HAWSER_OK,
           "sum");
    check(one == static_cast<std::int32_t>(size + 1), "somebody was lost");
  });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  CHECK(took.count() < 6 + 0.1 * size * slowness);
  for (const Comm& comm : comms) CHECK(metrics_of(comm).peers_lost == 0);
}
