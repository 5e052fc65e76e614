// Connections that part while they carry data: nothing is lost, nothing begins again, nobody is removed.
#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "support/group.hpp"

using namespace hawser_test;

namespace {

std::uint16_t port_of(int fd, bool remote) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  const int error = remote ? getpeername(fd, generic, &size) : getsockname(fd, generic, &size);
  if (error != 0 || address.ss_family != AF_INET) return 0;
  sockaddr_in v4{};
  std::memcpy(&v4, &address, sizeof(v4));
  return ntohs(v4.sin_port);
}

// What the kernel is asked with: an end as ss writes it.
std::string end_of(int fd, bool remote) { return "127.0.0.1:" + std::to_string(port_of(fd, remote)); }

// Kills a connection as `ss -K` does: this end fails at once, the other is reset. False: not allowed here, or gone.
bool kill_connection(const std::string& local, const std::string& remote) {
  const std::string command = "ss -HKtn src " + local + " dst " + remote + " 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> out(popen(command.c_str(), "r"), pclose);
  std::array<char, 256> line{};
  return out && fgets(line.data(), line.size(), out.get()) != nullptr;
}

// Whether this process may: it kills a connection of its own and looks.
bool may_kill_connections() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int dialled = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  const bool connected = bind(listener, generic, size) == 0 && listen(listener, 1) == 0 &&
                         getsockname(listener, generic, &size) == 0 && connect(dialled, generic, size) == 0;
  bool dead = false;
  if (connected) {
    (void)kill_connection(end_of(dialled, false), end_of(dialled, true));
    char byte = 0;
    dead = recv(dialled, &byte, 1, MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != EWOULDBLOCK;
  }
  close(dialled);
  close(listener);
  return dead;
}

// This process' ends of connections between peers: both are here, and neither port is the coordinator's.
std::vector<int> strands(std::uint16_t coordinator_port) {
  std::vector<int> out;
  for (int fd = 0; fd < 1024; ++fd) {  // more than this process ever has
    const std::uint16_t remote = port_of(fd, true);
    if (remote != 0 && remote != coordinator_port && port_of(fd, false) != coordinator_port) out.push_back(fd);
  }
  return out;
}

std::uint64_t bytes_sent(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0, "TCP_INFO");
  return info.tcpi_bytes_acked;
}

// Until every member has so many strands, all of them connected: the loss of one may not have been noticed yet.
void await_strands(const std::vector<Comm>& comms, std::uint16_t coordinator_port, std::uint32_t wanted) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto whole = [&] {
    return strands(coordinator_port).size() == comms.size() * wanted &&
           std::all_of(comms.begin(), comms.end(), [&](const Comm& c) { return metrics_of(c).strands_open == wanted; });
  };
  while (!whole()) {
    check(std::chrono::steady_clock::now() < deadline, "a strand was not replaced");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

TEST_CASE("strands part under all_reduces, compressed ones and syncs", "[strands]") {
  const Coordinator coordinator;
  const auto port =
      static_cast<std::uint16_t>(std::stoi(coordinator.address().substr(coordinator.address().rfind(':') + 1)));
  const auto comms =
      make_group(coordinator, 3, [](hawser_comm_config_t& config) { config.strands = config.io_threads = 3; });
  std::atomic<bool> over{false};
  std::atomic<int> cut{0};
  std::thread scissors([&] {
    std::mt19937 random(7);
    while (!over) {
      const auto all = strands(port);
      // Never more than one at a time, and not faster than they are dialled again.
      if (!all.empty() && shutdown(all[random() % all.size()], SHUT_RDWR) == 0) ++cut;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the pace of the faults, not a wait for anything
    }
  });
  try {
    in_threads(3, [&](std::uint32_t i) {
      const std::uint32_t rank = view_of(comms[i]).rank;
      constexpr std::size_t count = 2'000'000;
      std::vector<float> data(count);
      hawser_state_t* state = nullptr;
      expect(hawser_state_create(&state), HAWSER_OK, "create");
      expect(hawser_state_add_tensor(state, "data", data.data(), count, HAWSER_F32), HAWSER_OK, "add");
      for (int round = 0; round < 8; ++round) {
        hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
        compression.codec = HAWSER_CODEC_BF16;
        hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
        for (const bool compressed : {false, true}) {
          for (std::size_t k = 0; k < count; ++k) data[k] = static_cast<float>((k + rank) % 64);
          options.compression = compressed ? &compression : nullptr;
          hawser_op_info_t info = HAWSER_OP_INFO_INIT;
          expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, &options,
                                   &info),
                 HAWSER_OK, "all_reduce");
          check(info.attempts == 1, "began again");
          for (std::size_t k = 0; k < count; ++k) {
            const auto sum = static_cast<float>(k % 64 + (k + 1) % 64 + (k + 2) % 64);
            check(data[k] == sum, "wrong sum");
          }
        }
        if (rank != 0) std::fill(data.begin(), data.end(), -1.0F);
        expect(hawser_state_sync(comms[i].get(), state, rank == 0 ? HAWSER_SYNC_SEND_ONLY : HAWSER_SYNC_RECEIVE_ONLY,
                                 nullptr, nullptr),
               HAWSER_OK, "sync");
        check(data[5] == 5 + 6 + 7 && data[count - 1] >= 0, "not the first member's content");
      }
      expect(hawser_state_destroy(state), HAWSER_OK, "destroy");
      const hawser_view_t view = view_of(comms[i]);
      check(view.world_size == 3 && view.number == 1, "the view changed");
    });
  } catch (...) {
    over = true;
    scissors.join();
    throw;
  }
  over = true;
  scissors.join();
  REQUIRE(cut > 8);
}

TEST_CASE("within a host the first strand of an io thread carries what is large", "[strands]") {
  constexpr std::uint32_t bulk = 3;
  constexpr std::size_t count = 4'000'000;
  const auto threads = GENERATE(1U, 3U);
  const Coordinator coordinator;
  const auto port =
      static_cast<std::uint16_t>(std::stoi(coordinator.address().substr(coordinator.address().rfind(':') + 1)));
  const auto comms = make_group(coordinator, 2, [&](hawser_comm_config_t& config) {
    config.strands = bulk;
    config.io_threads = threads;
  });
  await_strands(comms, port, 1 + bulk);
  for (int op = 0; op < 3; ++op) {
    in_threads(2, [&](std::uint32_t i) {
      std::vector<float> data(count, 1.0F);
      expect(
          hawser_all_reduce(comms[i].get(), data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, nullptr),
          HAWSER_OK, "all_reduce");
      check(data.front() == 2.0F && data.back() == 2.0F, "wrong sum");
    });
  }
  const std::vector<int> ends = strands(port);
  const auto busy = std::count_if(ends.begin(), ends.end(), [](int fd) { return bytes_sent(fd) > 1'000'000; });
  CHECK(busy == 2 * threads);  // each connection has two ends here
}

// The kernel kills each connection in turn, the light ones among them, in the middle of every sort of operation.
TEST_CASE("any single connection may be killed: results are exact and the strand is replaced", "[strands]") {
  if (!may_kill_connections()) {
    WARN("skipped: killing connections takes root, ss, and a kernel with INET_DIAG_DESTROY");
    return;
  }
  constexpr std::uint32_t size = 3;
  constexpr std::uint32_t bulk = 2;
  constexpr std::uint32_t wanted = (size - 1) * (1 + bulk);  // in a ring of three all are neighbours
  const auto threads = GENERATE(1U, 2U);                     // with one the second bulk strand stands by
  const Coordinator coordinator;
  const auto port =
      static_cast<std::uint16_t>(std::stoi(coordinator.address().substr(coordinator.address().rfind(':') + 1)));
  const auto comms = make_group(coordinator, size, [threads](hawser_comm_config_t& config) {
    config.strands = bulk;
    config.io_threads = threads;
  });
  await_strands(comms, port, wanted);
  std::atomic<bool> over{false};
  std::atomic<std::uint64_t> rounds{0};
  std::atomic<int> killed{0};
  std::exception_ptr failure;
  std::thread killer([&] {
    try {
      for (int pass = 0; pass < 3; ++pass) {
        std::vector<std::pair<std::string, std::string>> ends;
        for (const int fd : strands(port)) ends.emplace_back(end_of(fd, false), end_of(fd, true));
        for (const auto& [local, remote] : ends) {
          // Its other end is in the list too, and died with it.
          if (!kill_connection(local, remote)) continue;
          ++killed;
          await_strands(comms, port, wanted);
        }
      }
    } catch (...) {
      failure = std::current_exception();
    }
    over = true;
  });
  try {
    in_threads(size, [&](std::uint32_t i) {
      const std::uint32_t rank = view_of(comms[i]).rank;
      constexpr std::size_t count = 1'000'000;
      std::vector<float> data(count);
      std::vector<float> shared(count);
      hawser_state_t* state = nullptr;
      expect(hawser_state_create(&state), HAWSER_OK, "create");
      expect(hawser_state_add_tensor(state, "shared", shared.data(), count, HAWSER_F32), HAWSER_OK, "add");
      hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
      compression.codec = HAWSER_CODEC_BF16;
      const auto reduce = [&](std::size_t elements, bool coded, hawser_redop_t redop) {
        hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
        options.compression = coded ? &compression : nullptr;
        hawser_op_info_t info = HAWSER_OP_INFO_INIT;
        expect(
            hawser_all_reduce(comms[i].get(), data.data(), data.data(), elements, HAWSER_F32, redop, &options, &info),
            HAWSER_OK, "all_reduce");
        check(info.attempts == 1 && info.participants == size, "began again");
      };
      for (bool last = false; !last;) {
        for (const auto& [elements, coded] :
             {std::pair<std::size_t, bool>{count, false}, {100, false}, {count, true}}) {
          for (std::size_t k = 0; k < elements; ++k) data[k] = static_cast<float>((k + rank) % 64);
          reduce(elements, coded, HAWSER_SUM);
          for (std::size_t k = 0; k < elements; ++k) {
            check(data[k] == static_cast<float>(k % 64 + (k + 1) % 64 + (k + 2) % 64), "wrong sum");
          }
        }
        const auto mark = static_cast<float>(rounds.load() % 1000);
        std::fill(shared.begin(), shared.end(), rank == 0 ? mark : -1.0F);
        expect(hawser_state_sync(comms[i].get(), state, rank == 0 ? HAWSER_SYNC_SEND_ONLY : HAWSER_SYNC_RECEIVE_ONLY,
                                 nullptr, nullptr),
               HAWSER_OK, "sync");
        check(shared[0] >= 0 && shared[count - 1] == shared[0], "not the first member's content");
        // All stop after the same round.
        data[0] = over ? 1.0F : 0.0F;
        reduce(1, false, HAWSER_MAX);
        last = data[0] == 1.0F;
        if (rank == 0) ++rounds;
      }
      expect(hawser_state_destroy(state), HAWSER_OK, "destroy");
      const hawser_view_t view = view_of(comms[i]);
      check(view.world_size == size && view.number == 1, "the view changed");
    });
  } catch (...) {
    over = true;
    killer.join();
    throw;
  }
  killer.join();
  if (failure) std::rethrow_exception(failure);
  std::uint64_t resent = 0;
  for (const Comm& comm : comms) resent += metrics_of(comm).frames_resent;
  REQUIRE(killed >= 3 * static_cast<int>(size * (1 + bulk)));
  REQUIRE(resent > 0);
}

// What was sent ahead of a call that the receiver has not made is kept there within a limit, also when it comes twice.
TEST_CASE("connections are killed while data waits for the call it belongs to", "[strands]") {
  if (!may_kill_connections()) {
    WARN("skipped: killing connections takes root, ss, and a kernel with INET_DIAG_DESTROY");
    return;
  }
  constexpr std::uint32_t wanted = 3;
  const Coordinator coordinator;
  const auto port =
      static_cast<std::uint16_t>(std::stoi(coordinator.address().substr(coordinator.address().rfind(':') + 1)));
  const auto comms =
      make_group(coordinator, 2, [](hawser_comm_config_t& config) { config.strands = config.io_threads = wanted - 1; });
  await_strands(comms, port, wanted);
  constexpr std::size_t count = 2'000'000;
  std::vector<float> early(count, 1.0F);
  std::vector<float> late(count, 2.0F);
  hawser_op_t* op = nullptr;
  REQUIRE(hawser_all_reduce_start(comms[0].get(), early.data(), early.data(), count, HAWSER_F32, HAWSER_SUM, nullptr,
                                  &op) == HAWSER_OK);
  while (metrics_of(comms[0]).bytes_sent < (768U << 10)) std::this_thread::yield();
  int killed = 0;
  for (int pass = 0; pass < 4; ++pass) {
    std::vector<std::pair<std::string, std::string>> ends;
    for (const int fd : strands(port)) ends.emplace_back(end_of(fd, false), end_of(fd, true));
    for (const auto& [local, remote] : ends) {
      if (!kill_connection(local, remote)) continue;
      ++killed;
      await_strands(comms, port, wanted);
    }
  }
  CHECK(killed == 4 * wanted);
  hawser_op_info_t info = HAWSER_OP_INFO_INIT;
  REQUIRE(hawser_all_reduce(comms[1].get(), late.data(), late.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, &info) ==
          HAWSER_OK);
  REQUIRE(info.attempts == 1);
  REQUIRE(hawser_op_wait(op, 0, &info) == HAWSER_OK);
  REQUIRE(info.attempts == 1);
  REQUIRE(hawser_op_release(op) == HAWSER_OK);
  REQUIRE(std::all_of(early.begin(), early.end(), [](float value) { return value == 3.0F; }));
  REQUIRE(late == early);
}

TEST_CASE("the kernel asks silent connections whether they live, and sets no deadline of its own", "[strands]") {
  const Coordinator coordinator;
  const auto port =
      static_cast<std::uint16_t>(std::stoi(coordinator.address().substr(coordinator.address().rfind(':') + 1)));
  const auto comms = make_group(coordinator, 2, [](hawser_comm_config_t& config) { config.strands = 2; });
  await_strands(comms, port, 3);
  const auto option = [](int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof(value);
    return getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
  };
  for (const int fd : strands(port)) {
    CHECK(option(fd, SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(option(fd, IPPROTO_TCP, TCP_KEEPIDLE) == 10);
    CHECK(option(fd, IPPROTO_TCP, TCP_KEEPINTVL) == 3);
    CHECK(option(fd, IPPROTO_TCP, TCP_KEEPCNT) == 3);
    CHECK(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 0);
  }
}

namespace {

// On one processor, so that each end often waits for the other one.
class OneProcessor {
 public:
  OneProcessor() {
    REQUIRE(sched_getaffinity(0, sizeof(before_), &before_) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(sched_getcpu()), &one);
    REQUIRE(sched_setaffinity(0, sizeof(one), &one) == 0);
  }
  ~OneProcessor() { sched_setaffinity(0, sizeof(before_), &before_); }
  OneProcessor(const OneProcessor&) = delete;
  OneProcessor& operator=(const OneProcessor&) = delete;

 private:
  cpu_set_t before_{};
};

double processor_seconds() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

double seconds_to_reduce(std::uint32_t transport) {
  constexpr std::size_t count = 4U << 20;
  const OneProcessor one;  // whose threads inherit it
  Coordinator coordinator;
  auto comms = make_group(coordinator, 2, [&](hawser_comm_config_t& config) { config.transport = transport; });
  std::vector<std::vector<float>> buffers(2, std::vector<float>(count, 1));
  double used = 0;
  for (int i = 0; i < 6; ++i) {
    const double before = processor_seconds();
    in_threads(2, [&](std::uint32_t rank) {
      float* const data = buffers[rank].data();
      expect(hawser_all_reduce(comms[rank].get(), data, data, count, HAWSER_F32, HAWSER_AVG, nullptr, nullptr),
             HAWSER_OK, "all_reduce");
      check(data[0] == 1 && data[count - 1] == 1, "a wrong average");
    });
    if (i > 0) used += processor_seconds() - before;  // the first one is done with the memory when it ends
  }
  return used;
}

}  // namespace

TEST_CASE("to wait for room in shared memory takes no processor time", "[strands]") {
  const double tcp = seconds_to_reduce(HAWSER_TRANSPORT_TCP);
  const double shared = seconds_to_reduce(HAWSER_TRANSPORT_AUTO);
  INFO("tcp " << tcp << " s, shared memory " << shared << " s");
  CHECK(shared < 2 * tcp);
}

// Bulk strands are dialled when a view is there, so the first operations begin on them while they are still TCP. A
// wake-up that is lost there would be made up for by the next heartbeat only, which here is later than the deadline.
TEST_CASE("connections come to share memory in the middle of operations", "[strands]") {
  constexpr std::uint32_t size = 3;
  constexpr std::size_t count = 2'000'000;
  const Coordinator coordinator(10000);
  in_threads(size, [&](std::uint32_t) {
    std::vector<float> data(count);
    for (std::uint32_t round = 0; round < 30; ++round) {
      hawser_comm_config_t config = config_for(coordinator, size);
      config.group = round;
      config.strands = config.io_threads = 2;
      config.transport = HAWSER_TRANSPORT_AUTO;
      config.op_timeout_ms = 8000;
      const Comm comm(config);
      expect(hawser_comm_join(comm.get(), 0), HAWSER_OK, "join");
      const std::uint32_t rank = view_of(comm).rank;
      for (int op = 0; op < 3; ++op) {
        for (std::size_t k = 0; k < count; ++k) data[k] = static_cast<float>((k + rank) % 64);
        expect(hawser_all_reduce(comm.get(), data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, nullptr),
               HAWSER_OK, "all_reduce");
        for (std::size_t k = 0; k < count; ++k) {
          check(data[k] == static_cast<float>(k % 64 + (k + 1) % 64 + (k + 2) % 64), "wrong sum");
        }
      }
      check(metrics_of(comm).frames_resent == 0, "a strand was lost");
      expect(hawser_barrier(comm.get(), nullptr, nullptr), HAWSER_OK, "barrier");
    }
  });
}
