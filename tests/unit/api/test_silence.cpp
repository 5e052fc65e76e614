// Ways between members that fall silent: network namespaces on a bridge, packets dropped by nft. The coordinator is on
// the bridge and reached by all the time, or gone where nobody is to be removed.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "support/group.hpp"
#include "support/namespaces.hpp"
#include "support/starvation.hpp"
#include "support/times.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

constexpr std::uint32_t asked_heartbeat_ms = 100;
constexpr std::int64_t heartbeat_ms = asked_heartbeat_ms * slowness;
constexpr std::int64_t timeout_ms = 6 * heartbeat_ms;
constexpr std::int64_t late_ms = 250 * slowness;  // beside what threads wait for a processor: the work itself
constexpr std::uint32_t bulk = 2;
const std::string coordinator_listen = Network::bridge_address() + ":0";

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
  await("connecting", 60000, [&] {
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
  if (networks_unavailable()) return;
  const Network network(2);
  Coordinator coordinator = [&] {
    const Inside inside = network.enter_bridge();
    return Coordinator(asked_heartbeat_ms, coordinator_listen.c_str());
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
    const Starvation starvation;
    std::thread busy([&] {
      try {
        if (cut.count != 0) reduce(comms, cut.count);
      } catch (...) {
        failure = std::current_exception();
      }
    });
    std::exception_ptr slow;
    Clock::time_point noticed;
    std::int64_t starved_ms = 0;
    try {
      await("noticing", 60000,
            [&] { return metrics_of(comms[0]).strands_open == 0 && metrics_of(comms[1]).strands_open == 0; });
      noticed = Clock::now();
      starved_ms = starvation.ms(3);
      network.heal();
      await_strands(comms, 1 + bulk);
    } catch (...) {
      slow = std::current_exception();
    }
    busy.join();
    if (slow) std::rethrow_exception(slow);
    if (failure) std::rethrow_exception(failure);
    CHECK(ms_between(began, noticed) >= timeout_ms - heartbeat_ms);
    // A strand's thread of each end, and this one.
    CHECK(ms_between(silent, noticed) - starved_ms <= timeout_ms + 2 * heartbeat_ms + late_ms);
    reduce(comms, 1000);
  }
}

TEST_CASE("a connection whose packets vanish is replaced while the others go on", "[silence]") {
  if (networks_unavailable()) return;
  const Network network(2);
  const Coordinator coordinator = [&] {
    const Inside inside = network.enter_bridge();
    return Coordinator(asked_heartbeat_ms, coordinator_listen.c_str());
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
        const Starvation starvation;
        await("replacing", 60000, [&] {
          const auto ports = ports_between(dialling, accepting);
          return std::find(ports.begin(), ports.end(), port) == ports.end() && ports.size() == 1 + bulk;
        });
        await_strands(comms, 1 + bulk);
        // Io and control threads of both ends, and this one.
        check(ms_since(began) - starvation.ms(5) <= timeout_ms + 2 * heartbeat_ms + 200 + late_ms,
              "noticing or replacing took too long");
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

namespace {

// What can be done together, with exact results, in one attempt and by all.
void all_operations(const std::vector<Comm>& comms) {
  const auto size = static_cast<std::uint32_t>(comms.size());
  in_threads(size, [&](std::uint32_t rank) {
    hawser_comm_t* const comm = comms[rank].get();
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    const auto ended = [&](hawser_status_t status, const char* what) {
      expect(status, HAWSER_OK, what);
      check(info.attempts == 1 && info.participants == size, std::string(what) + " began again");
    };
    const auto total = static_cast<float>(size * (size + 1) / 2);
    for (const std::size_t count : {std::size_t{3}, std::size_t{1} << 20}) {
      std::vector<float> data(count);
      for (std::size_t i = 0; i < count; ++i) data[i] = static_cast<float>((rank + 1) * (i % 5 + 1));
      ended(hawser_all_reduce(comm, data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, &info),
            "all_reduce");
      for (std::size_t i = 0; i < count; ++i) check(data[i] == total * static_cast<float>(i % 5 + 1), "wrong sum");
    }
    {  // half-width: partial sums travel as f32
      constexpr std::size_t count = 300000;
      constexpr std::array<std::uint16_t, 4> small = {0x3f80, 0x4000, 0x4040, 0x4080};  // 1 to 4 as bf16
      const std::uint16_t sum = size == 3 ? 0x40c0 : 0x4120;                            // 6, 10
      std::vector<std::uint16_t> data(count, small[rank]);
      ended(hawser_all_reduce(comm, data.data(), data.data(), count, HAWSER_BF16, HAWSER_SUM, nullptr, &info), "bf16");
      check(std::all_of(data.begin(), data.end(), [&](std::uint16_t value) { return value == sum; }), "wrong bf16 sum");
    }
    {  // in whole steps of the codes, so that nothing is lost
      constexpr std::size_t count = 1U << 20;
      std::vector<float> data(count);
      for (std::size_t i = 0; i < count; ++i) data[i] = (i % 2 == 0 ? 127.0F : -127.0F) * static_cast<float>(rank + 1);
      hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
      compression.codec = HAWSER_CODEC_INT8;
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.compression = &compression;
      ended(hawser_all_reduce(comm, data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, &options, &info), "int8");
      for (std::size_t i = 0; i < count; ++i) {
        check(data[i] == (i % 2 == 0 ? 127.0F : -127.0F) * total, "wrong compressed sum");
      }
    }
    for (std::uint32_t root = 0; root < size; ++root) {
      for (const std::size_t count : {std::size_t{100}, std::size_t{1} << 20}) {
        std::vector<std::uint32_t> data(count, rank == root ? root + 7 : 0);
        ended(hawser_broadcast(comm, data.data(), data.data(), count, HAWSER_U32, root, nullptr, &info), "broadcast");
        check(std::all_of(data.begin(), data.end(), [&](std::uint32_t value) { return value == root + 7; }),
              "wrong broadcast");
      }
    }
    ended(hawser_barrier(comm, nullptr, &info), "barrier");
    {  // rank 1 is behind
      std::vector<float> tensor(700000, rank == 1 ? 0.0F : 5.0F);
      hawser_state_t* state = nullptr;
      expect(hawser_state_create(&state), HAWSER_OK, "create");
      expect(hawser_state_add_tensor(state, "tensor", tensor.data(), tensor.size(), HAWSER_F32), HAWSER_OK, "add");
      expect(hawser_state_set_revision(state, rank == 1 ? 1 : 2), HAWSER_OK, "revision");
      hawser_sync_info_t synced = HAWSER_SYNC_INFO_INIT;
      const hawser_status_t status = hawser_state_sync(comm, state, HAWSER_SYNC_AGREE, nullptr, &synced);
      hawser_state_destroy(state);
      expect(status, HAWSER_OK, "sync");
      check(synced.participants == size, "a member was lost");
      check(std::all_of(tensor.begin(), tensor.end(), [](float value) { return value == 5.0F; }), "wrong state");
    }
  });
}

std::uint64_t relayed(const std::vector<Comm>& comms) {
  std::uint64_t bytes = 0;
  for (const Comm& comm : comms) bytes += metrics_of(comm).bytes_relayed;
  return bytes;
}

}  // namespace

TEST_CASE("two members cannot reach each other: their traffic goes by way of a third until they can", "[silence]") {
  if (networks_unavailable()) return;
  for (const std::uint32_t size : {3U, 4U}) {
    const Network network(size);
    const Coordinator coordinator = [&] {
      const Inside inside = network.enter_bridge();
      return Coordinator(asked_heartbeat_ms, coordinator_listen.c_str());
    }();
    const Group group = members(network, coordinator, size);
    const auto& comms = group.comms;
    const auto& hosts = group.hosts;
    await("connecting", 60000, [&] { return metrics_of(comms[0]).strands_open >= 2 * (1 + bulk); });
    const auto whole = [&] {
      std::vector<std::uint32_t> strands;
      for (const Comm& comm : comms) strands.push_back(metrics_of(comm).strands_open);
      return strands;
    };
    all_operations(comms);
    const auto strands = whole();
    REQUIRE(relayed(comms) == 0);
    for (const auto& [forth, back] : {std::pair{true, true}, std::pair{true, false}, std::pair{false, true}}) {
      INFO(size << " members, cut forth " << forth << ", back " << back);
      const std::uint64_t before = relayed(comms);
      if (forth) network.cut(hosts[0], hosts[1]);
      if (back) network.cut(hosts[1], hosts[0]);
      const auto began = Clock::now();
      const Starvation starvation;
      reduce(comms, 1U << 20);
      // Two members notice, ask the coordinator, and the sum takes a step at each.
      CHECK(ms_since(began) - starvation.ms(6) <= timeout_ms + 6 * heartbeat_ms + 4 * late_ms);
      all_operations(comms);
      // As long as it lasts; both complain again and again meanwhile.
      const auto lasting = Clock::now();
      while (ms_since(lasting) < 2 * timeout_ms) reduce(comms, 100000);
      CHECK(relayed(comms) > before);
      CHECK(view_of(comms[0]).number == 1);
      network.heal();
      await("connecting again", 60000, [&] { return whole() == strands; });
      const std::uint64_t after = relayed(comms);
      all_operations(comms);
      CHECK(relayed(comms) == after);
    }
  }
}

TEST_CASE("whoever passes frames on loses its way, or dies: another one does it, or one of the two has to go",
          "[silence]") {
  if (networks_unavailable()) return;
  struct Case {
    const char* name;
    std::uint32_t size;
    bool dies;
  };
  for (const Case& one :
       {Case{"loses its way", 4, false}, Case{"dies", 4, true}, Case{"dies, the only one", 3, true}}) {
    INFO(one.name);
    const Network network(one.size);
    const Coordinator coordinator = [&] {
      const Inside inside = network.enter_bridge();
      return Coordinator(asked_heartbeat_ms, coordinator_listen.c_str());
    }();
    const Group group = members(network, coordinator, one.size);
    const auto& comms = group.comms;
    const auto& hosts = group.hosts;
    reduce(comms, 100000);
    network.cut_both(hosts[0], hosts[1]);
    reduce(comms, 1U << 20);
    REQUIRE(relayed(comms) > 0);
    // Everyone until it is lost, the others for a while longer.
    constexpr int rounds = 60;
    std::atomic<std::uint32_t> least{one.size};
    std::atomic<int> expelled{0};
    in_threads(one.size, [&](std::uint32_t rank) {
      constexpr std::size_t count = 300000;
      for (int round = 0; round < rounds; ++round) {
        if (rank == 2 && round == rounds / 4) {
          if (one.dies) {
            expect(hawser_comm_abort(comms[2].get()), HAWSER_OK, "abort");
            return;
          }
          network.cut_both(hosts[1], hosts[2]);
        }
        std::vector<float> data(count, static_cast<float>(1U << rank));
        hawser_op_info_t info = HAWSER_OP_INFO_INIT;
        const hawser_status_t status = hawser_all_reduce(comms[rank].get(), data.data(), data.data(), count, HAWSER_F32,
                                                         HAWSER_SUM, nullptr, &info);
        if (status == HAWSER_EXPELLED) {
          ++expelled;
          return;
        }
        expect(status, HAWSER_OK, "all_reduce");
        const auto sum = static_cast<std::uint32_t>(data[0]);
        check(static_cast<std::uint32_t>(std::popcount(sum)) == info.participants && (sum >> rank & 1) != 0,
              "a sum of others than the participants");
        check(std::all_of(data.begin(), data.end(), [&](float value) { return value == data[0]; }), "torn result");
        if (info.participants < least) least = info.participants;
      }
    });
    if (!one.dies) {
      CHECK(least == 4);
      CHECK(view_of(comms[0]).number == 1);
    } else if (one.size == 4) {
      CHECK(least == 3);
      CHECK(view_of(comms[0]).world_size == 3);
    } else {
      CHECK(least == 1);
      CHECK(expelled == 1);
      CHECK(view_of(comms[0]).world_size == 1);
    }
    CHECK((expelled == 0) == (least != 1));
  }
}
