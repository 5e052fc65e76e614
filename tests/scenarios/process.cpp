// A coordinator or a member as a process of its own, for tests that kill, stop or mislead processes (process.hpp starts
// them). It obeys lines of its standard input, one answer to each, and ends with it.
//
//   coordinator LISTEN HEARTBEAT_MS LOG_DIR|- STANDBY_OF|-     says "listening ADDRESS"
//   member COORDINATORS MIN_SIZE NUMBER [wild-clock]           says "ready MONOTONIC_SECONDS"; obeys
//     join MS            "joined RANK SIZE VIEW"
//     admit MS           "admitted SIZE"
//     reduce COUNT MS    "inside", then "reduced CONTRIBUTORS ATTEMPTS", CONTRIBUTORS a bit for each NUMBER in the sum
//     leave MS           "left"
//     slow               "slow RANKS", a bit for each rank that metrics have named as slow during reductions
//
// What fails says "failed STATUS SENTENCE" instead; "damaged ..." where a buffer holds what it must not.
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "hawser/hawser.h"
#include "support/sanitizers.hpp"

namespace {

constexpr std::int64_t ten_years_s = 10LL * 365 * 86400;

// The wall clock of a process with a wild one jumps by ten years, forth or back, each time it is looked at.
std::atomic<bool> is_wild{false};
[[maybe_unused]] std::int64_t wall_offset_s() {
  static std::atomic<unsigned> looks{0};
  if (!is_wild) return 0;
  return looks++ % 2 == 0 ? ten_years_s : -ten_years_s;
}

}  // namespace

// The sanitizers have functions of these names themselves.
#ifndef HAWSER_TEST_SANITIZED
extern "C" {
int clock_gettime(clockid_t clock, timespec* out) noexcept {
  const auto status = static_cast<int>(syscall(SYS_clock_gettime, clock, out));
  if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += wall_offset_s();
  return status;
}
int gettimeofday(timeval* out, void* /*zone*/) noexcept {
  timespec now{};
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  *out = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}
time_t time(time_t* out) noexcept {
  timespec now{};
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}
}
#endif

namespace {

void say(const std::string& line) {
  std::cout << line << std::endl;
}  // NOLINT(performance-avoid-endl): it is waited for

bool failed(hawser_status_t status) {
  if (status == HAWSER_OK) return false;
  std::string sentence = hawser_last_error();
  std::replace(sentence.begin(), sentence.end(), '\n', ' ');
  say(std::string("failed ") + hawser_status_name(status) + " " + sentence);
  return true;
}

int coordinate(char** arguments) {
  hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
  config.listen = arguments[0];
  config.heartbeat_ms = static_cast<std::uint32_t>(std::strtoul(arguments[1], nullptr, 10));
  if (std::strcmp(arguments[2], "-") != 0) config.log_dir = arguments[2];
  if (std::strcmp(arguments[3], "-") != 0) config.standby_of = arguments[3];
  hawser_coordinator_t* coordinator = nullptr;
  if (failed(hawser_coordinator_start(&config, &coordinator))) return EXIT_FAILURE;
  std::array<char, 64> address{};
  if (failed(hawser_coordinator_address(coordinator, address.data(), address.size()))) return EXIT_FAILURE;
  say(std::string("listening ") + address.data());
  for (std::string line; std::getline(std::cin, line);) {
  }
  return hawser_coordinator_destroy(coordinator) == HAWSER_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

// Whom the metrics name while something else goes on.
class Watch {
 public:
  explicit Watch(hawser_comm_t* comm)
      : thread_([this, comm] {
          while (!over_) {
            hawser_metrics_t metrics = HAWSER_METRICS_INIT;
            if (hawser_comm_metrics(comm, &metrics) == HAWSER_OK && metrics.slow_rank >= 0)
              named |= 1U << metrics.slow_rank;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
        }) {}
  ~Watch() {
    over_ = true;
    thread_.join();
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  std::atomic<std::uint32_t> named{0};

 private:
  std::atomic<bool> over_{false};
  std::thread thread_;
};

void reduce(hawser_comm_t* comm, std::int32_t contribution, std::size_t count, std::uint32_t limit_ms,
            std::uint32_t& slow) {
  std::vector<std::int32_t> data(count, contribution);
  hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
  options.timeout_ms = limit_ms;
  hawser_op_info_t info = HAWSER_OP_INFO_INIT;
  say("inside");
  hawser_status_t status = HAWSER_OK;
  {
    const Watch watch(comm);
    status = hawser_all_reduce(comm, data.data(), data.data(), count, HAWSER_I32, HAWSER_SUM, &options, &info);
    slow |= watch.named;
  }
  const std::int32_t sum = data.front();
  const bool is_whole = std::all_of(data.begin(), data.end(), [&](std::int32_t value) { return value == sum; });
  if (!is_whole) {
    say("damaged: elements differ");
  } else if (status != HAWSER_OK && sum != contribution) {
    say("damaged: no success, and the input is another");
  } else if (status == HAWSER_OK &&
             static_cast<std::uint32_t>(__builtin_popcount(static_cast<unsigned>(sum))) != info.participants) {
    say("damaged: a sum of others than the participants");
  } else if (!failed(status)) {
    say("reduced " + std::to_string(sum) + " " + std::to_string(info.attempts));
  }
}

int be_member(int count, char** arguments) {
  is_wild = count > 3 && std::strcmp(arguments[3], "wild-clock") == 0;
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = arguments[0];
  config.min_size = static_cast<std::uint32_t>(std::strtoul(arguments[1], nullptr, 10));
  config.name = arguments[2];
  config.io_threads = 1;
  const std::int32_t contribution = 1 << std::strtol(arguments[2], nullptr, 10);
  hawser_comm_t* comm = nullptr;
  if (failed(hawser_comm_create(&config, &comm))) return EXIT_FAILURE;
  const auto view = [&] {
    hawser_view_t out = HAWSER_VIEW_INIT;
    hawser_comm_view(comm, &out);
    return out;
  };
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  say("ready " + std::to_string(now.tv_sec));
  std::uint32_t slow = 0;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string verb;
    std::size_t elements = 0;
    std::uint32_t limit_ms = 0;
    words >> verb;
    if (verb == "reduce") words >> elements;
    words >> limit_ms;
    if (verb == "join") {
      if (!failed(hawser_comm_join(comm, limit_ms)))
        say("joined " + std::to_string(view().rank) + " " + std::to_string(view().world_size) + " " +
            std::to_string(view().number));
    } else if (verb == "admit") {
      if (!failed(hawser_comm_admit(comm, limit_ms))) say("admitted " + std::to_string(view().world_size));
    } else if (verb == "reduce") {
      reduce(comm, contribution, elements, limit_ms, slow);
    } else if (verb == "leave") {
      if (!failed(hawser_comm_leave(comm, limit_ms))) say("left");
    } else if (verb == "slow") {
      say("slow " + std::to_string(slow));
    } else {
      say("failed: no such word: " + verb);
    }
  }
  hawser_comm_destroy(comm);
  return EXIT_SUCCESS;
}

}  // namespace

int main(int count, char** arguments) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (count == 6 && std::strcmp(arguments[1], "coordinator") == 0) return coordinate(arguments + 2);
  if (count >= 5 && std::strcmp(arguments[1], "member") == 0) return be_member(count - 2, arguments + 2);
  std::cerr << "see the head of process.cpp\n";
  return EXIT_FAILURE;
}
