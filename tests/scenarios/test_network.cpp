// Networks that do to packets and addresses what they may: small packets and windows, packets that are lost, packets
// that are too large for some link and vanish without a word, ways that work in one direction, or now and then, an
// address that changes, a translator of addresses that forgets its connections.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/group.hpp"
#include "support/namespaces.hpp"
#include "support/starvation.hpp"
#include "support/times.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

// Whoever lost all its ways has a heartbeat, after the others have noticed, to make one again.
constexpr std::uint32_t heartbeat_ms = 400;
constexpr std::int64_t timeout_ms = 6 * heartbeat_ms * slowness;
constexpr std::uint32_t size = 3;

// A member in each namespace, in rank order; the coordinator is on the bridge.
struct Group {
  explicit Group(std::uint32_t beat_ms = heartbeat_ms, const std::string& prepare = "") : network(size) {
    for (std::size_t host = 0; host < size && !prepare.empty(); ++host) network.run(host, prepare);
    {
      const Inside inside = network.enter_bridge();
      coordinator = std::make_unique<Coordinator>(beat_ms, (Network::bridge_address() + ":0").c_str());
    }
    comms.resize(size);
    hosts.resize(size);
    std::vector<Comm> joined(size);
    in_threads(size, [&](std::uint32_t i) {
      const Inside inside = network.enter(i);
      hawser_comm_config_t config = config_for(*coordinator, size);
      config.strands = 2;
      config.io_threads = 1;
      joined[i] = Comm(config);
      expect(hawser_comm_join(joined[i].get(), 0), HAWSER_OK, "join");
    });
    for (std::size_t host = 0; host < size; ++host) {
      const std::uint32_t rank = view_of(joined[host]).rank;
      comms[rank] = std::move(joined[host]);
      hosts[rank] = host;
    }
  }
  Network network;
  std::unique_ptr<Coordinator> coordinator;
  std::vector<Comm> comms;         // by rank
  std::vector<std::size_t> hosts;  // by rank
};

// All reduce a vector; nothing may begin again.
void reduce(const Group& group, std::size_t count) {
  in_threads(size, [&](std::uint32_t rank) {
    std::vector<float> data(count, static_cast<float>(rank + 1));
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    expect(hawser_all_reduce(group.comms[rank].get(), data.data(), data.data(), count, HAWSER_F32, HAWSER_SUM, nullptr,
                             &info),
           HAWSER_OK, "all_reduce");
    check(info.attempts == 1 && info.participants == size, "began again");
    check(std::all_of(data.begin(), data.end(), [](float value) { return value == 6.0F; }), "wrong sum");
  });
}

void reduce_for(const Group& group, std::int64_t ms) {
  const auto began = Clock::now();
  do {
    reduce(group, 300000);
    reduce(group, 10);
  } while (ms_since(began) < ms);
}

}  // namespace

TEST_CASE("small packets and small windows only cost time", "[network]") {
  if (networks_unavailable()) return;
  const Group group(heartbeat_ms / 2,
                    "ip link set eth0 mtu 576 && echo '4096 4096 4096' >/proc/sys/net/ipv4/tcp_rmem && "
                    "echo '4096 4096 4096' >/proc/sys/net/ipv4/tcp_wmem");
  reduce(group, 1);
  reduce(group, 300000);
  reduce_for(group, timeout_ms / 2);
  CHECK(view_of(group.comms[0]).number == 1);
}

TEST_CASE("lost packets only cost time", "[network]") {
  if (networks_unavailable()) return;
  const std::uint32_t per_mille = GENERATE(1U, 10U, 50U);
  const Group group(2 * heartbeat_ms);
  reduce(group, 300000);
  for (std::size_t host = 0; host < size; ++host) {  // also of what is said to the coordinator, in one direction
    group.network.run(host, "nft add rule inet cuts input meta l4proto tcp numgen random mod 1000 lt " +
                                std::to_string(per_mille) + " drop");
  }
  reduce_for(group, 2000);
  CHECK(view_of(group.comms[0]).number == 1);
  for (const Comm& comm : group.comms) CHECK(metrics_of(comm).peers_lost == 0);
}

// A policer: what is over the rate is lost.
TEST_CASE("a way that carries 2 Mbit/s only costs time", "[network]") {
  if (networks_unavailable()) return;
  const Group group(2 * heartbeat_ms);
  reduce(group, 300000);
  group.network.run(group.hosts[1], "nft add rule inet cuts input ip saddr " + Network::address(group.hosts[0]) +
                                        " limit rate over 250 kbytes/second burst 64 kbytes drop");
  const auto began = Clock::now();
  reduce(group, 300000);
  CHECK(ms_since(began) > 1000);  // else the way was not slow
  for (int k = 0; k < 10; ++k) reduce(group, 10);
  CHECK(view_of(group.comms[0]).number == 1);
  for (const Comm& comm : group.comms) CHECK(metrics_of(comm).peers_lost == 0);
}

// The kernel does not look at the checksums of packets that never left it, so they are damaged past TCP.
TEST_CASE("bytes change on the way: they come again, and no sum is wrong", "[network]") {
  if (networks_unavailable()) return;
  const Group group(2 * heartbeat_ms);
  reduce(group, 300000);
  for (std::size_t host = 0; host < size; ++host) {
    group.network.run(host,
                      "nft add rule inet cuts input meta l4proto tcp meta length gt 1000 numgen random mod 100 eq 0 "
                      "@th,3200,32 set 0x41424344 counter");
  }
  reduce_for(group, 3000);
  group.network.heal();
  CHECK(view_of(group.comms[0]).number == 1);
  std::uint64_t again = 0;
  for (const Comm& comm : group.comms) {
    CHECK(metrics_of(comm).peers_lost == 0);
    again += metrics_of(comm).frames_resent;
  }
  CHECK(again > 0);
}

TEST_CASE("a way that is there for four fifths of the time is used for most of it", "[network]") {
  if (networks_unavailable()) return;
  const Group group(2 * heartbeat_ms);
  int cuts = 0;
  std::exception_ptr failure;
  std::jthread flapping([&](const std::stop_token& over) {
    try {
      while (!over.stop_requested()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2000));
        group.network.cut_both(group.hosts[0], group.hosts[1]);
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        group.network.heal();
        ++cuts;
      }
    } catch (...) {
      failure = std::current_exception();
    }
  });
  // A cut costs its own time and what TCP takes to try again, no more.
  constexpr std::int64_t pause_ms = 10;
  const auto began = Clock::now();
  std::int64_t at_work = 0;
  while (ms_since(began) < 10000) {
    const auto call = Clock::now();
    reduce(group, 10000);
    if (ms_since(call) < 200 * slowness) at_work += ms_since(call) + pause_ms;
    std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
  }
  flapping.request_stop();
  flapping.join();
  if (failure) std::rethrow_exception(failure);
  CHECK(cuts >= 3);
  CHECK(at_work * 2 >= ms_since(began));
  CHECK(view_of(group.comms[0]).number == 1);
}

TEST_CASE("one direction between a member and the coordinator is cut: the others go on, the member hears of it later",
          "[network]") {
  if (networks_unavailable()) return;
  const bool heard = GENERATE(false, true);  // the member by the coordinator
  const Group group(heartbeat_ms / 2);
  constexpr std::uint32_t beat_ms = heartbeat_ms / 2;
  constexpr std::int64_t limit_ms = std::int64_t{6} * beat_ms;
  reduce(group, 10000);
  const std::size_t host = group.hosts[2];
  if (heard) {
    group.network.run(host, "nft add rule inet cuts input ip saddr " + Network::bridge_address() + " drop");
  } else {
    group.network.run_on_bridge("nft add rule inet cuts input ip saddr " + Network::address(host) + " drop");
  }
  const auto began = Clock::now();
  // Operations need no coordinator; then it is removed, and whatever was begun goes on among the rest.
  std::vector<hawser_status_t> statuses(size, HAWSER_OK);
  in_threads(size, [&](std::uint32_t rank) {
    std::vector<float> data(1000);
    for (;;) {
      std::fill(data.begin(), data.end(), static_cast<float>(rank + 1));
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.timeout_ms = static_cast<std::uint32_t>(2 * limit_ms * slowness);
      hawser_op_info_t info = HAWSER_OP_INFO_INIT;
      statuses[rank] = hawser_all_reduce(group.comms[rank].get(), data.data(), data.data(), data.size(), HAWSER_F32,
                                         HAWSER_SUM, &options, &info);
      if (statuses[rank] != HAWSER_OK) return;
      const float wanted = info.participants == size ? 6.0F : 3.0F;
      check(info.participants >= size - 1, "too few");
      check(std::all_of(data.begin(), data.end(), [&](float value) { return value == wanted; }), "wrong sum");
      if (info.participants < size) return;
      if (ms_since(began) > 20000 * slowness) return check(false, "it was never removed");
    }
  });
  CHECK(statuses[0] == HAWSER_OK);
  CHECK(statuses[1] == HAWSER_OK);
  CHECK(statuses[2] != HAWSER_OK);
  // Noticed after one timeout, a call until two more, and two for a coordinator to decide it.
  CHECK(ms_since(began) < (6 * limit_ms + 2 * beat_ms) * slowness + 1000);
  CHECK(view_of(group.comms[0]).world_size == size - 1);
  group.network.heal();
  const auto status = [&] {
    hawser_view_t view = HAWSER_VIEW_INIT;
    return hawser_comm_view(group.comms[2].get(), &view);
  };
  while (status() != HAWSER_EXPELLED && ms_since(began) < 60000) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  CHECK(status() == HAWSER_EXPELLED);
}

// Handshakes and heartbeats pass, and nothing that is large.
TEST_CASE("large packets vanish between two members: connections with small ones take their place", "[network]") {
  if (networks_unavailable()) return;
  const bool by_the_one_that_dials = GENERATE(false, true);
  const Group group(heartbeat_ms / 2, "ip link set eth0 gso_max_segs 1");
  reduce(group, 300000);
  const std::size_t from = by_the_one_that_dials ? 1 : 0;  // the one of the later rank dials
  group.network.run(group.hosts[1 - from], "nft add rule inet cuts input ip saddr " +
                                               Network::address(group.hosts[from]) + " meta length gt 1000 drop");
  const auto began = Clock::now();
  reduce(group, 300000);
  CHECK(ms_since(began) < 4 * timeout_ms);
  reduce_for(group, timeout_ms);
  CHECK(view_of(group.comms[0]).number == 1);
  for (const Comm& comm : group.comms) CHECK(metrics_of(comm).peers_lost == 0);
  // A call is not slow for long.
  const auto again = Clock::now();
  reduce(group, 300000);
  CHECK(ms_since(again) < timeout_ms);
}

namespace {

void change_address(const Group& group, std::uint32_t rank) {
  const std::size_t host = group.hosts[rank];
  group.network.run(host, "ip addr del " + Network::address(host) + "/24 dev eth0 && ip addr add 10.77.0." +
                              std::to_string(100 + host) + "/24 dev eth0");
}

}  // namespace

TEST_CASE("the address of a member that dials the others changes: nobody is removed, and nothing begins again",
          "[network]") {
  if (networks_unavailable()) return;
  const Group group;
  reduce(group, 300000);
  change_address(group, size - 1);
  reduce_for(group, 2 * timeout_ms);
  CHECK(view_of(group.comms[0]).number == 1);
  for (const Comm& comm : group.comms) CHECK(metrics_of(comm).peers_lost == 0);
}

TEST_CASE("the address that others dial a member at changes: it is removed, and joins again with the new one",
          "[network]") {
  if (networks_unavailable()) return;
  const Group group;
  reduce(group, 300000);
  change_address(group, 0);
  const auto began = Clock::now();
  in_threads(size, [&](std::uint32_t i) {
    hawser_comm_t* const comm = group.comms[i].get();
    const Inside inside = group.network.enter(group.hosts[i]);
    hawser_status_t status = HAWSER_OK;
    while (status == HAWSER_OK && (i == 0 || view_of(group.comms[i]).world_size == size)) {
      std::vector<float> data(100000, 1.0F);
      hawser_op_info_t info = HAWSER_OP_INFO_INIT;
      status = hawser_all_reduce(comm, data.data(), data.data(), data.size(), HAWSER_F32, HAWSER_SUM, nullptr, &info);
      const float wanted = status == HAWSER_OK ? static_cast<float>(info.participants) : 1.0F;
      check(std::all_of(data.begin(), data.end(), [&](float value) { return value == wanted; }), "wrong values");
    }
    expect(status, i == 0 ? HAWSER_EXPELLED : HAWSER_OK, "all_reduce");
    check(ms_since(began) < 4 * timeout_ms + 3000, "took too long");
    if (i == 0) {
      expect(hawser_comm_join(comm, 0), HAWSER_OK, "join");
    } else {
      while (view_of(group.comms[i]).world_size < size) expect(hawser_comm_admit(comm, 0), HAWSER_OK, "admit");
    }
  });
  // It is the last one now.
  in_threads(size, [&](std::uint32_t i) {
    std::int32_t value = 1;
    expect(hawser_all_reduce(group.comms[i].get(), &value, &value, 1, HAWSER_I32, HAWSER_SUM, nullptr, nullptr),
           HAWSER_OK, "afterwards");
    check(value == static_cast<std::int32_t>(size), "somebody is missing");
  });
}

// As a translator of addresses does that was started again.
TEST_CASE("every connection of a member is forgotten on the way, without a word: it makes them anew", "[network]") {
  if (networks_unavailable()) return;
  const Group group;
  reduce(group, 300000);
  for (const std::uint32_t rank : {0U, 2U}) {
    group.network.run(group.hosts[rank],
                      "nft 'add chain inet cuts output { type filter hook output priority 0\n policy accept\n }\n'\n"
                      "ss -Htn state established | sed 's/.*:\\([0-9]*\\) .*:\\([0-9]*\\) *$/\\1 \\2/' | while read -r "
                      "here there; do nft \"add rule inet cuts output tcp sport $here tcp dport $there drop\nadd rule "
                      "inet cuts input tcp sport $there tcp dport $here drop\n\" || exit 1; done");
    const Starvation starvation;
    try {
      reduce_for(group, timeout_ms + timeout_ms / 2);
    } catch (const std::exception& error) {
      if (starvation.ms(4) < std::int64_t{heartbeat_ms} * slowness) throw;  // in which it has to dial again
      WARN("left out, for want of processor time: " << error.what());
      return;
    }
    CHECK(view_of(group.comms[0]).number == 1);
    for (const Comm& comm : group.comms) CHECK(metrics_of(comm).peers_lost == 0);
    group.network.heal();
  }
}
