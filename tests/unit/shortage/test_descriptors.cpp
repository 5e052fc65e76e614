// The limit of open files is reached at every possible place: RESOURCE at the caller, at once and not at its deadline,
// no descriptor left behind, and with fewer connections than wished everything works. The other side runs in a process
// of its own, whose limit is another.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <future>
#include <optional>
#include <string>

#include "failing.hpp"
#include "support/descriptors.hpp"
#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)
using hawser::test::DescriptorLimit;

namespace {

std::size_t open_files() {
  std::size_t count = 0;
  DIR* const folder = opendir("/proc/self/fd");
  while (readdir(folder) != nullptr) ++count;  // NOLINT(concurrency-mt-unsafe): a stream of its own
  closedir(folder);
  return count;
}

// A process with a coordinator and, if wanted, a member that goes on and on with admission points and sums; it takes
// all its own descriptors away or gives them back when told.
class Elsewhere {
 public:
  explicit Elsewhere(bool member) {
    REQUIRE(pipe2(down_.data(), O_CLOEXEC) == 0);
    REQUIRE(pipe2(up_.data(), O_CLOEXEC) == 0);
    child_ = fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      close(down_[1]);
      close(up_[0]);
      run(member);
      _exit(0);
    }
    close(down_[0]);
    close(up_[1]);
    address_ = answer();
    REQUIRE(!address_.empty());
  }
  ~Elsewhere() {
    close(down_[1]);  // which ends it
    close(up_[0]);
    waitpid(child_, nullptr, 0);
  }
  Elsewhere(const Elsewhere&) = delete;
  Elsewhere& operator=(const Elsewhere&) = delete;

  [[nodiscard]] const std::string& address() const { return address_; }
  void tell(char word) {
    REQUIRE(write(down_[1], &word, 1) == 1);
    REQUIRE(answer() == "done");
  }

 private:
  std::string answer() const {
    std::array<char, 64> text{};
    const ssize_t n = read(up_[0], text.data(), text.size());
    return n > 0 ? std::string(text.data(), static_cast<std::size_t>(n)) : "";
  }
  void run(bool member) const {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.heartbeat_ms = 500;
    hawser_coordinator_t* coordinator = nullptr;
    std::array<char, 64> address{};
    if (hawser_coordinator_start(&config, &coordinator) != HAWSER_OK) return;
    if (hawser_coordinator_address(coordinator, address.data(), address.size()) != HAWSER_OK) return;
    if (member) {
      std::promise<void> joined;
      const std::future<void> ready = joined.get_future();
      std::thread(&Elsewhere::reduce_on, address.data(), std::move(joined)).detach();
      ready.wait();
    }
    say(address.data());
    // Few enough to take them all soon. A member keeps what it has and needs more for each peer.
    std::optional<DescriptorLimit> limit;
    if (!member) limit.emplace(DescriptorLimit::above_all() + 8);
    for (char word = 0; read(down_[0], &word, 1) == 1;) {
      word == 'x' ? limit.value().exhaust() : limit.value().release();
      say("done");
    }
  }
  void say(const char* text) const { static_cast<void>(!write(up_[1], text, std::strlen(text))); }
  static void reduce_on(const char* address, std::promise<void> joined) {
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = address;
    hawser_comm_t* comm = nullptr;
    if (hawser_comm_create(&config, &comm) != HAWSER_OK || hawser_comm_join(comm, 0) != HAWSER_OK) _exit(1);
    joined.set_value();
    for (;;) {
      double one = 1;
      hawser_comm_admit(comm, 0);
      hawser_all_reduce(comm, &one, &one, 1, HAWSER_F64, HAWSER_SUM, nullptr, nullptr);
    }
  }

  std::array<int, 2> down_{};
  std::array<int, 2> up_{};
  pid_t child_ = -1;
  std::string address_;
};

// libuv keeps a pair of descriptors from its first loop on, for as long as the process lives.
void first_use() {
  hawser_coordinator_t* coordinator = nullptr;
  REQUIRE(hawser_coordinator_start(nullptr, &coordinator) == HAWSER_OK);
  REQUIRE(hawser_coordinator_destroy(coordinator) == HAWSER_OK);
}

}  // namespace

TEST_CASE("no descriptor for a coordinator", "[shortage]") {
  first_use();
  const std::size_t before = open_files();
  long failures = 0;
  const rlim_t first = DescriptorLimit::first_free();
  DescriptorLimit limit(first);
  for (rlim_t most = first;; ++most) {
    limit.set(most);
    hawser_coordinator_t* coordinator = nullptr;
    const hawser_status_t status = hawser_coordinator_start(nullptr, &coordinator);
    INFO(hawser_last_error());
    if (status == HAWSER_OK) {
      CHECK(hawser_coordinator_destroy(coordinator) == HAWSER_OK);
      break;
    }
    REQUIRE(status == HAWSER_RESOURCE);
    ++failures;
  }
  CHECK(failures > 3);
  CHECK(open_files() == before);
}

TEST_CASE("no descriptor for a member", "[shortage]") {
  Elsewhere elsewhere(true);
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = elsewhere.address().c_str();
  config.min_size = 2;  // with the one that is there
  config.join_timeout_ms = 60000;
  config.op_timeout_ms = 60000;
  config.io_threads = 2;
  config.strands = 3;
  first_use();
  const std::size_t before = open_files();
  std::uint32_t strands = 0;
  long refused = 0;
  long fewer = 0;
  const rlim_t first = DescriptorLimit::first_free();
  DescriptorLimit limit(first + 1);
  for (rlim_t most = first + 1; strands < 1 + config.strands; ++most) {
    REQUIRE(most < first + 100);
    limit.set(most);
    const auto begin = std::chrono::steady_clock::now();
    hawser_comm_t* comm = nullptr;
    REQUIRE(hawser_comm_create(&config, &comm) == HAWSER_OK);
    const hawser_status_t joined = hawser_comm_join(comm, 0);
    INFO("limit " << most << ": " << hawser_status_name(joined) << ": " << hawser_last_error());
    if (joined == HAWSER_OK) {
      for (int round = 0; round < 3; ++round) {
        double one = 1;
        CHECK(hawser_comm_admit(comm, 0) == HAWSER_OK);
        CHECK(hawser_all_reduce(comm, &one, &one, 1, HAWSER_F64, HAWSER_SUM, nullptr, nullptr) == HAWSER_OK);
        CHECK(one == 2);
      }
      hawser_metrics_t metrics = HAWSER_METRICS_INIT;
      CHECK(hawser_comm_metrics(comm, &metrics) == HAWSER_OK);
      strands = metrics.strands_open;
      ++fewer;
      CHECK(hawser_comm_leave(comm, 0) == HAWSER_OK);
    } else {
      CHECK(joined == HAWSER_RESOURCE);
      ++refused;
    }
    CHECK(hawser_comm_destroy(comm) == HAWSER_OK);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
  }
  CHECK(refused > 3);
  CHECK(fewer > 0);
  CHECK(open_files() == before);
}

TEST_CASE("a coordinator without descriptors turns peers away and comes back", "[shortage]") {
  Elsewhere elsewhere(false);
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = elsewhere.address().c_str();
  const Comm comm(config);
  elsewhere.tell('x');
  CHECK(hawser_comm_join(comm.get(), 700) == HAWSER_NO_COORDINATOR);
  INFO(hawser_last_error());
  CHECK(std::string(hawser_last_error()).find("no coordinator answered") != std::string::npos);
  elsewhere.tell('r');
  CHECK(hawser_comm_join(comm.get(), 20000) == HAWSER_OK);
}
