// Partitions in three under the rule quorum: members in network namespaces know three coordinators, on hosts of their
// own or on those of members. Whoever has a majority goes on, and nobody else; when the network is whole again the
// group is.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "support/group.hpp"
#include "support/namespaces.hpp"
#include "support/starvation.hpp"
#include "support/times.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

constexpr std::uint32_t heartbeat_ms = 100 * slowness;
constexpr std::int64_t timeout_ms = 6 * heartbeat_ms;
constexpr std::uint32_t deadline_ms = 5 * timeout_ms;
constexpr std::int64_t late_ms = 250 * slowness;  // beside what threads wait for a processor: the work itself
constexpr std::uint32_t size = 5;
constexpr std::size_t count = 100000;

using Side = std::vector<std::size_t>;  // hosts

// A member on each host, and coordinators on some; the first of them forms the group, the others are standbys.
struct Cluster {
  explicit Cluster(const std::vector<std::size_t>& coordinator_hosts) : network(size) {
    for (const std::size_t host : coordinator_hosts) {
      const Inside inside = network.enter(host);
      start_coordinator(Network::address(host) + ":0");
    }
    join();
  }
  // One coordinator alone, which all hosts reach by the bridge.
  Cluster() : network(size) {
    {
      const Inside inside = network.enter_bridge();
      start_coordinator(Network::bridge_address() + ":0");
    }
    join();
  }
  ~Cluster() {
    network.heal();
    comms.clear();
    for (hawser_coordinator_t* const one : coordinators) hawser_coordinator_destroy(one);
  }
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  Network network;
  std::vector<hawser_coordinator_t*> coordinators;
  std::string addresses;
  std::vector<Comm> comms;  // by host

 private:
  void start_coordinator(const std::string& listen) {
    hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
    config.listen = listen.c_str();
    config.heartbeat_ms = heartbeat_ms;
    if (!addresses.empty()) config.standby_of = addresses.c_str();
    hawser_coordinator_t* one = nullptr;
    expect(hawser_coordinator_start(&config, &one), HAWSER_OK, "coordinator");
    coordinators.push_back(one);
    std::array<char, 64> text{};
    expect(hawser_coordinator_address(one, text.data(), text.size()), HAWSER_OK, "address");
    addresses += (addresses.empty() ? "" : ",") + std::string(text.data());
  }
  void join() {
    comms.resize(size);
    in_threads(size, [&](std::uint32_t host) {
      const Inside inside = network.enter(host);
      hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
      config.coordinators = addresses.c_str();
      config.min_size = size;
      config.join_timeout_ms = 60000;
      config.op_timeout_ms = 60000;
      comms[host] = Comm(config);
      expect(hawser_comm_join(comms[host].get(), 0), HAWSER_OK, "join");
    });
  }
};

struct Outcome {
  hawser_status_t status = HAWSER_OK;
  std::string said;
  std::uint32_t participants = 0;
  std::uint32_t hosts = 0;  // whose contributions are in the result, a bit each
  std::int64_t took_ms = 0;
};

// All these hosts reduce a vector; without success it must be as it was.
std::vector<Outcome> reduce(const Cluster& cluster, const Side& hosts, std::uint32_t limit_ms) {
  std::vector<Outcome> outcomes(hosts.size());
  in_threads(static_cast<std::uint32_t>(hosts.size()), [&](std::uint32_t i) {
    const std::int32_t mine = 1 << hosts[i];
    std::vector<std::int32_t> data(count, mine);
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.timeout_ms = limit_ms;
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    const auto began = Clock::now();
    Outcome& outcome = outcomes[i];
    outcome.status = hawser_all_reduce(cluster.comms[hosts[i]].get(), data.data(), data.data(), count, HAWSER_I32,
                                       HAWSER_SUM, &options, &info);
    outcome.took_ms = ms_since(began);
    if (outcome.status != HAWSER_OK) outcome.said = hawser_last_error();
    check(std::all_of(data.begin(), data.end(), [&](std::int32_t value) { return value == data[0]; }), "torn");
    check(outcome.status == HAWSER_OK || data[0] == mine, "an input was changed without success");
    outcome.participants = info.participants;
    outcome.hosts = static_cast<std::uint32_t>(data[0]);
  });
  return outcomes;
}

std::uint32_t bits(const Side& hosts) {
  std::uint32_t out = 0;
  for (const std::size_t host : hosts) out |= 1U << host;
  return out;
}

void check_success(const std::vector<Outcome>& outcomes, const Side& participants) {
  for (const Outcome& outcome : outcomes) {
    INFO(outcome.said);
    CHECK(outcome.status == HAWSER_OK);
    CHECK(outcome.hosts == bits(participants));
    CHECK(outcome.participants == participants.size());
  }
}

const Side everybody = {0, 1, 2, 3, 4};

}  // namespace

TEST_CASE("cut in three, no part with a majority: nobody goes on, and when the network is whole again all do",
          "[partition]") {
  if (networks_unavailable()) return;
  const Cluster cluster({0, 2, 4});
  check_success(reduce(cluster, everybody, 60000), everybody);
  for (const std::vector<Side>& sides :
       {std::vector<Side>{{0, 1}, {2, 3}, {4}}, std::vector<Side>{{0}, {1, 4}, {2, 3}}}) {
    cluster.network.partition(sides);
    for (int round = 0; round < 2; ++round) {
      const Starvation starvation;
      for (const Outcome& outcome : reduce(cluster, everybody, deadline_ms)) {
        INFO(outcome.said);
        CHECK(outcome.status == HAWSER_NO_COORDINATOR);
        CHECK(outcome.took_ms - starvation.ms(4) <= deadline_ms + 2 * timeout_ms + late_ms);
      }
    }
    cluster.network.heal();
    check_success(reduce(cluster, everybody, 60000), everybody);
    for (const Comm& comm : cluster.comms) CHECK(metrics_of(comm).peers_lost == 0);
  }
}

TEST_CASE("cut in three, one part with a majority: it goes on alone, wherever the first coordinator is",
          "[partition]") {
  if (networks_unavailable()) return;
  for (const std::size_t first : {0U, 3U}) {
    INFO("the first coordinator is on host " << first);
    const Cluster cluster({first, 1, 4});
    check_success(reduce(cluster, everybody, 60000), everybody);
    cluster.network.partition({{0, 1, 2}, {3}, {4}});
    std::vector<Outcome> alone;
    in_threads(2, [&](std::uint32_t part) {
      if (part == 0) {
        // Twice: the second time without what the first one waited for.
        for (int round = 0; round < 2; ++round) {
          for (const Outcome& outcome : reduce(cluster, {0, 1, 2}, 60000)) {
            check(outcome.status == HAWSER_OK && outcome.hosts == bits({0, 1, 2}), "the majority: " + outcome.said);
          }
        }
      } else {
        alone = reduce(cluster, {3, 4}, deadline_ms);
      }
    });
    for (const Outcome& outcome : alone) {
      INFO(outcome.said);
      CHECK(outcome.status == HAWSER_NO_COORDINATOR);
    }
    cluster.network.heal();
    for (const Outcome& outcome : reduce(cluster, {3, 4}, 60000)) {
      INFO(outcome.said);
      CHECK(outcome.status == HAWSER_EXPELLED);
    }
    check_success(reduce(cluster, {0, 1, 2}, 60000), {0, 1, 2});
  }
}

TEST_CASE("members are cut in three, but all reach the coordinator: some that can talk go on", "[partition]") {
  if (networks_unavailable()) return;
  const Cluster cluster;
  check_success(reduce(cluster, everybody, 60000), everybody);
  cluster.network.partition({{0, 1}, {2, 3}, {4}});
  const std::vector<Outcome> outcomes = reduce(cluster, everybody, 60000);
  Side left;
  for (std::size_t host = 0; host < size; ++host) {
    INFO("host " << host << ": " << outcomes[host].said);
    CHECK((outcomes[host].status == HAWSER_OK || outcomes[host].status == HAWSER_EXPELLED));
    if (outcomes[host].status == HAWSER_OK) left.push_back(host);
  }
  // One of the pairs, whole.
  CHECK((left == Side{0, 1} || left == Side{2, 3}));
  for (const std::size_t host : left) CHECK(outcomes[host].hosts == bits(left));
  cluster.network.heal();
  check_success(reduce(cluster, left, 60000), left);
}

// The coordinator is on the host of the first member. With HAWSER_TEST_ALL=1 every split of the group, else some.
TEST_CASE("cut in two: the side of the only coordinator goes on, and no call of the other has success", "[partition]") {
  if (networks_unavailable()) return;
  const bool all = std::getenv("HAWSER_TEST_ALL") != nullptr;  // NOLINT(concurrency-mt-unsafe)
  for (std::uint32_t with = 0; with + 1 < 1U << (size - 1); with += all ? 1 : 5) {
    Side with_coordinator = {0};
    Side without;
    for (std::size_t host = 1; host < size; ++host) {
      (((with >> (host - 1)) & 1U) != 0 ? with_coordinator : without).push_back(host);
    }
    INFO(with_coordinator.size() << " with the coordinator");
    const Cluster cluster({0});
    check_success(reduce(cluster, everybody, 60000), everybody);
    cluster.network.partition({with_coordinator, without});
    const std::vector<Outcome> outcomes = reduce(cluster, everybody, deadline_ms);
    for (std::size_t host = 0; host < size; ++host) {
      INFO("host " << host << ": " << outcomes[host].said);
      if (std::find(without.begin(), without.end(), host) == without.end()) {
        CHECK(outcomes[host].status == HAWSER_OK);
        CHECK(outcomes[host].hosts == bits(with_coordinator));
      } else {
        CHECK((outcomes[host].status == HAWSER_NO_COORDINATOR || outcomes[host].status == HAWSER_EXPELLED ||
               outcomes[host].status == HAWSER_TIMEOUT));
        CHECK(outcomes[host].took_ms < deadline_ms + 2 * timeout_ms + 20 * late_ms);
      }
    }
    cluster.network.heal();
    check_success(reduce(cluster, with_coordinator, 60000), with_coordinator);
    for (const Outcome& outcome : reduce(cluster, without, 60000)) {
      INFO(outcome.said);
      CHECK(outcome.status == HAWSER_EXPELLED);
    }
  }
}
