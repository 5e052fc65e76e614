// Ways between members that fall silent: network namespaces on a bridge, packets dropped by nft. The coordinator is on
// the bridge and reached by all the time, or gone where nobody is to be removed.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/group.hpp"
#include "support/namespaces.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t heartbeat_ms = 100;
constexpr std::int64_t timeout_ms = 6 * heartbeat_ms;
constexpr std::int64_t late_ms = 250;  // a machine with other work to do
constexpr std::uint32_t bulk = 2;
const std::string coordinator_listen = Network::bridge_address() + ":0";

bool unavailable() {
  const std::string why = Network::unavailable();
  if (!why.empty()) WARN("skipped: " + why);
  return !why.empty();
}

std::int64_t ms_between(Clock::time_point then, Clock::time_point later) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(later - then).count();
}
std::int64_t ms_since(Clock::time_point then) { return ms_between(then, Clock::now()); }

template <typename Condition>
void await(const std::string& what, std::int64_t limit_ms, Condition holds) {
  const auto began = Clock::now();
  while (!holds()) {
    check(ms_since(began) < limit_ms, what + " took too long");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

// A member in each namespace, in rank order.
struct Group {
  std::vector<Comm> comms;
  std::vector<std::size_t> hosts;
};
Group members(const Network& network, const Coordinator& coordinator, std::uint32_t size) {
  std::vector<Comm> joined(size);
  in_threads(size, [&](std::uint32_t i) {
    const Inside inside = network.enter(i);
    hawser_comm_config_t config = config_for(coordinator, size);
    config.strands = bulk;
    config.io_threads = 2;
    joined[i] = Comm(config);
    expect(hawser_comm_join(joined[i].get(), 0), HAWSER_OK, "join");
  });
  Group group{std::vector<Comm>(size), std::vector<std::size_t>(size)};
  for (std::size_t host = 0; host < size; ++host) {
    const std::uint32_t rank = view_of(joined[host]).rank;
    group.comms[rank] = std::move(joined[host]);
    group.hosts[rank] = host;
  }
  return group;
}

void await_strands(const std::vector<Comm>& comms, std::uint32_t wanted) {
  await("connecting", 20000, [&] {
    return std::all_of(comms.begin(), comms.end(), [&](const Comm& c) { return metrics_of(c).strands_open == wanted; });
  });
}

// All reduce a vector and check it.
void reduce(const std::vector<Comm>& comms, std::size_t count) {
  in_threads(static_cast<std::uint32_t>(comms.size()), [&](std::uint32_t i) {
    std::vector<float> data(count, 1.0F);
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, &info),
           HAWSER_OK, "all_reduce");
    check(info.attempts == 1 && info.participants == comms.size(), "began again");
    const auto sum = static_cast<float>(comms.size());
    check(std::all_of(data.begin(), data.end(), [&](float value) { return value == sum; }), "wrong sum");
  });
}

// TCP ports, at the end with the first address, of this process' connections between the two. The later member dials,
// so its ports tell the connections apart.
std::vector<std::uint16_t> ports_between(const std::string& one, const std::string& other) {
  const auto end = [](int fd, auto ask, std::string& host) -> std::uint16_t {
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    std::array<char, INET_ADDRSTRLEN> text{};
    sockaddr_storage any{};
    size = sizeof(any);
    if (ask(fd, reinterpret_cast<sockaddr*>(&any), &size) != 0) return 0;
    if (any.ss_family == AF_INET6) {  // a listener on every address
      sockaddr_in6 v6{};
      std::memcpy(&v6, &any, sizeof(v6));
      std::memcpy(&address.sin_addr, &v6.sin6_addr.s6_addr[12], sizeof(address.sin_addr));
      address.sin_port = v6.sin6_port;
    } else if (any.ss_family == AF_INET) {
      std::memcpy(&address, &any, sizeof(address));
    } else {
      return 0;
    }
    host = inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
    return ntohs(address.sin_port);
  };
  std::vector<std::uint16_t> out;
  for (int fd = 0; fd < 1024; ++fd) {  // more than this process ever has
    std::string local;
    std::string remote;
    const std::uint16_t port = end(fd, getsockname, local);
    if (port != 0 && end(fd, getpeername, remote) != 0 && local == one && remote == other) out.push_back(port);
  }
  return out;
}

}  // namespace

TEST_CASE("a way that is cut is noticed at both ends, and used again when it heals", "[silence]") {
  if (unavailable()) return;
  const Network network(2);
  Coordinator coordinator = [&] {
    const Inside inside = network.enter_bridge();
    return Coordinator(heartbeat_ms, coordinator_listen.c_str());
  }();
  const Group group = members(network, coordinator, 2);
  const auto& comms = group.comms;
  const auto& hosts = group.hosts;
  await_strands(comms, 1 + bulk);
  coordinator.stop();  // so that nobody is removed
  struct Cut {
    const char* name;
    bool forth;
    bool back;
    std::size_t count;  // elements of the operation that runs meanwhile; 0: none
  };
  for (const Cut& cut : {Cut{"forth", true, false, 0}, Cut{"back", false, true, 8U << 20}, Cut{"both", true, true, 0},
                         Cut{"both, busy", true, true, 8U << 20}, Cut{"forth, small", true, false, 10}}) {
    INFO(cut.name);
    std::exception_ptr failure;
    const auto began = Clock::now();
    if (cut.forth) network.cut(hosts[0], hosts[1]);
    if (cut.back) network.cut(hosts[1], hosts[0]);
    const auto silent = Clock::now();
    std::thread busy([&] {
      try {
        if (cut.count != 0) reduce(comms, cut.count);
      } catch (...) {
        failure = std::current_exception();
      }
    });
    std::exception_ptr slow;
    Clock::time_point noticed;
    try {
      await("noticing", 10000,
            [&] { return metrics_of(comms[0]).strands_open == 0 && metrics_of(comms[1]).strands_open == 0; });
      noticed = Clock::now();
      network.heal();
      await_strands(comms, 1 + bulk);
    } catch (...) {
      slow = std::current_exception();
    }
    busy.join();
    if (slow) std::rethrow_exception(slow);
    if (failure) std::rethrow_exception(failure);
    CHECK(ms_between(began, noticed) >= timeout_ms - heartbeat_ms);
    CHECK(ms_between(silent, noticed) <= timeout_ms + 2 * heartbeat_ms + late_ms);
    reduce(comms, 1000);
  }
}

TEST_CASE("a connection whose packets vanish is replaced while the others go on", "[silence]") {
  if (unavailable()) return;
  const Network network(2);
  const Coordinator coordinator = [&] {
    const Inside inside = network.enter_bridge();
    return Coordinator(heartbeat_ms, coordinator_listen.c_str());
  }();
  const Group group = members(network, coordinator, 2);
  const auto& comms = group.comms;
  const auto& hosts = group.hosts;
  await_strands(comms, 1 + bulk);
  std::atomic<bool> over{false};
  std::exception_ptr failure;
  std::thread busy([&] {
    try {
      while (!over) {
        reduce(comms, 1U << 20);
        reduce(comms, 10);
      }
    } catch (...) {
      failure = std::current_exception();
    }
  });
  const std::string dialling = Network::address(hosts[1]);
  const std::string accepting = Network::address(hosts[0]);
  std::exception_ptr slow;
  try {
    for (const bool forth : {true, false}) {
      for (const std::uint16_t port : ports_between(dialling, accepting)) {
        network.cut(hosts[forth ? 0 : 1], hosts[forth ? 1 : 0], port);
        const auto began = Clock::now();
        await("replacing", 10000, [&] {
          const auto ports = ports_between(dialling, accepting);
          return std::find(ports.begin(), ports.end(), port) == ports.end() && ports.size() == 1 + bulk;
        });
        await_strands(comms, 1 + bulk);
        check(ms_since(began) <= timeout_ms + 2 * heartbeat_ms + 200 + late_ms, "noticing or replacing took too long");
        network.heal();
      }
    }
  } catch (...) {
    slow = std::current_exception();
    network.heal();
  }
  over = true;
  busy.join();
  if (slow) std::rethrow_exception(slow);
  if (failure) std::rethrow_exception(failure);
  CHECK(view_of(comms[0]).number == 1);
  CHECK(metrics_of(comms[0]).frames_resent + metrics_of(comms[1]).frames_resent > 0);
}

TEST_CASE("two of three members cannot hear each other: the call goes on without delay beyond the timeout",
          "[silence]") {
  if (unavailable()) return;
  const Network network(3);
  const Coordinator coordinator = [&] {
    const Inside inside = network.enter_bridge();
    return Coordinator(heartbeat_ms, coordinator_listen.c_str());
  }();
  const Group group = members(network, coordinator, 3);
  const auto& comms = group.comms;
  const auto& hosts = group.hosts;
  await_strands(comms, 2 * (1 + bulk));
  network.cut_both(hosts[1], hosts[2]);
  std::atomic<int> served{0};
  in_threads(3, [&](std::uint32_t i) {
    constexpr std::size_t count = 1U << 20;
    std::vector<float> data(count, static_cast<float>(1U << view_of(comms[i]).rank));
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    const auto began = Clock::now();
    const hawser_status_t status =
        hawser_all_reduce(comms[i].get(), data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, &info);
    if (status == HAWSER_EXPELLED) return;  // one of the two has to go
    expect(status, HAWSER_OK, "all_reduce");
    check(ms_since(began) <= timeout_ms + 4 * heartbeat_ms + 2 * late_ms, "took too long");
    check(data[0] == 3.0F || data[0] == 5.0F || data[0] == 7.0F, "wrong sum");
    check(std::all_of(data.begin(), data.end(), [&](float value) { return value == data[0]; }), "torn result");
    ++served;
  });
  REQUIRE(served >= 2);
}
