// Connections that part while they carry data: nothing is lost, nothing begins again, nobody is removed.
#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
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

// This process' ends of connections between peers: both are here, and neither port is the coordinator's.
std::vector<int> strands(std::uint16_t coordinator_port) {
  std::vector<int> out;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir("/proc/self/fd"), closedir);
  while (const dirent* entry = readdir(directory.get())) {  // NOLINT(concurrency-mt-unsafe): this stream is our own
    const int fd = std::atoi(entry->d_name);
    const std::uint16_t remote = port_of(fd, true);
    if (remote != 0 && remote != coordinator_port && port_of(fd, false) != coordinator_port) out.push_back(fd);
  }
  return out;
}

}  // namespace

TEST_CASE("strands part under all_reduces, compressed ones and syncs", "[strands]") {
  const Coordinator coordinator;
  const auto port =
      static_cast<std::uint16_t>(std::stoi(coordinator.address().substr(coordinator.address().rfind(':') + 1)));
  const auto comms = make_group(coordinator, 3, [](hawser_comm_config_t& config) { config.strands = 3; });
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
