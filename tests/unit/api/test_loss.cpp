// The loss of a peer: the step is kept under the default policy, reported to all under the strict one; inputs are never
// damaged. Peers are lost here by abort, which breaks their connections as a kill does; real kills:
// bindings/python/tests and the stress command.
#include <atomic>
#include <chrono>
#include <cstring>
#include <latch>
#include <thread>
#include <vector>

#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

constexpr std::size_t large = 4U << 20;  // elements: long enough to be hit in the middle

std::vector<float> input_of(std::uint32_t rank) {
  std::vector<float> data(large);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>((i % 13) * (rank + 1));
  return data;
}

}  // namespace

TEST_CASE("default policy: survivors finish among themselves with the same bits", "[loss]") {
  for (const bool in_place : {false, true}) {
    const Coordinator coordinator(200);
    const auto comms = make_group(coordinator, 4);
    std::vector<std::vector<float>> results(4);
    std::latch looked(4);  // ranks move up when one goes
    in_threads(4, [&](std::uint32_t i) {
      const std::uint32_t rank = view_of(comms[i]).rank;
      looked.arrive_and_wait();
      std::vector<float> send = input_of(rank);
      const std::vector<float> kept = send;
      std::vector<float> recv(send.size());
      float* out = in_place ? send.data() : recv.data();
      if (rank == 2) {  // goes away while its operation runs
        hawser_op_t* op = nullptr;
        expect(hawser_all_reduce_start(comms[i].get(), send.data(), out, large, HAWSER_F32, HAWSER_SUM, nullptr, &op),
               HAWSER_OK, "start");
        hawser_op_wait(op, 3, nullptr);
        expect(hawser_comm_abort(comms[i].get()), HAWSER_OK, "abort");
        const hawser_status_t status = hawser_op_wait(op, 0, nullptr);
        check(status == HAWSER_ABORTED || status == HAWSER_OK, "the lost one");
        if (status != HAWSER_OK) check(send == kept, "the lost one's input");
        hawser_op_release(op);
        return;
      }
      hawser_op_info_t info = HAWSER_OP_INFO_INIT;
      hawser_peer_id_t ids[4];
      info.participant_ids = ids;
      info.participant_capacity = 4;
      expect(hawser_all_reduce(comms[i].get(), send.data(), out, large, HAWSER_F32, HAWSER_SUM, nullptr, &info),
             HAWSER_OK, "all_reduce");
      check(info.participants == 3 || info.participants == 4, "participants");
      if (info.participants == 4) check(info.attempts == 1, "attempts");
      if (!in_place) check(send == kept, "input");
      const float ranks = info.participants == 4 ? 10.0F : 7.0F;  // 1 + 2 + 4 without rank 2
      for (std::size_t k = 0; k < large; ++k) check(out[k] == static_cast<float>(k % 13) * ranks, "wrong sum");
      results[rank].assign(out, out + large);
    });
    for (const std::uint32_t rank : {1U, 3U}) {
      REQUIRE(std::memcmp(results[rank].data(), results[0].data(), large * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("strict policy: every survivor gets PEER_LOST, inputs intact, and the next call works", "[loss]") {
  const Coordinator coordinator(200);
  const auto comms =
      make_group(coordinator, 4, [](hawser_comm_config_t& config) { config.policy = HAWSER_POLICY_STRICT; });
  std::atomic<int> started{0};
  in_threads(4, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    if (rank == 1) {  // never enters the call, and goes away when the others have
      while (started < 3) std::this_thread::yield();
      expect(hawser_comm_abort(comms[i].get()), HAWSER_OK, "abort");
      return;
    }
    std::vector<float> data = input_of(rank);
    const std::vector<float> kept = data;
    hawser_op_t* op = nullptr;
    expect(
        hawser_all_reduce_start(comms[i].get(), data.data(), data.data(), large, HAWSER_F32, HAWSER_SUM, nullptr, &op),
        HAWSER_OK, "start");
    ++started;
    hawser_status_t status = hawser_op_wait(op, 0, nullptr);
    expect(status, HAWSER_PEER_LOST, "all_reduce");
    check(std::string(hawser_last_error()).find("rank 1") != std::string::npos, hawser_last_error());
    check(data == kept, "input");
    expect(hawser_op_release(op), HAWSER_OK, "release");
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    status = hawser_all_reduce(comms[i].get(), data.data(), data.data(), large, HAWSER_F32, HAWSER_SUM, nullptr, &info);
    expect(status, HAWSER_OK, "again");
    check(info.participants == 3, "participants");
    for (std::size_t k = 0; k < large; ++k) check(data[k] == static_cast<float>(k % 13) * 8.0F, "wrong sum");
  });
}

TEST_CASE("the root of a broadcast is lost: all survivors learn it", "[loss]") {
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 3);
  std::atomic<int> started{0};
  in_threads(3, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    if (rank == 0) {
      while (started < 2) std::this_thread::yield();
      expect(hawser_comm_abort(comms[i].get()), HAWSER_OK, "abort");
      return;
    }
    std::vector<float> data(1000);
    hawser_op_t* op = nullptr;
    expect(hawser_broadcast_start(comms[i].get(), nullptr, data.data(), data.size(), HAWSER_F32, 0, nullptr, &op),
           HAWSER_OK, "start");
    ++started;
    expect(hawser_op_wait(op, 0, nullptr), HAWSER_PEER_LOST, "broadcast");
    expect(hawser_op_release(op), HAWSER_OK, "release");
    expect(hawser_barrier(comms[i].get(), nullptr, nullptr), HAWSER_OK, "afterwards");
  });
}

TEST_CASE("survivors dwindle to one, who still has its step", "[loss]") {
  const Coordinator coordinator(200);
  const auto comms = make_group(coordinator, 3);
  std::latch looked(3);  // ranks move up when one goes
  in_threads(3, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    looked.arrive_and_wait();
    if (rank != 1) {
      expect(hawser_comm_abort(comms[i].get()), HAWSER_OK, "abort");
      return;
    }
    std::vector<double> in(100000, 4.0);
    std::vector<double> out(in.size());
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    expect(hawser_all_reduce(comms[i].get(), in.data(), out.data(), in.size(), HAWSER_F64, HAWSER_AVG, nullptr, &info),
           HAWSER_OK, "all_reduce");
    check(info.participants == 1, "participants");
    check(out == in, "the average of one");
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.min_participants = 2;
    expect(hawser_barrier(comms[i].get(), &options, nullptr), HAWSER_TOO_FEW, "min_participants");
  });
}

// What of a frame is not sent when its sender gives up must not look like data: the other one could have all it needs
// by then and decide alone that the result counts.
TEST_CASE("a member that gives up in the middle of its last frame spoils nothing", "[loss]") {
  constexpr std::size_t count = 1U << 20;
  const Coordinator coordinator(200);
  std::uint32_t moment = 1;
  for (int round = 0; round < 60; ++round) {
    const auto comms = make_group(coordinator, 2, [&](hawser_comm_config_t& config) {
      config.transport = round % 2 == 0 ? HAWSER_TRANSPORT_TCP : HAWSER_TRANSPORT_AUTO;
    });
    moment = moment * 1664525U + 1013904223U;
    in_threads(2, [&, moment](std::uint32_t i) {
      const std::vector<float> send(count, i == 0 ? 1.0F : 2.0F);
      std::vector<float> recv(count, -1.0F);
      expect(hawser_barrier(comms[i].get(), nullptr, nullptr), HAWSER_OK, "barrier");
      if (i == 1) {
        hawser_op_t* op = nullptr;
        expect(hawser_all_reduce_start(comms[i].get(), send.data(), recv.data(), count, HAWSER_F32, HAWSER_SUM, nullptr,
                                       &op),
               HAWSER_OK, "start");
        const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(moment % 4000);
        while (std::chrono::steady_clock::now() < until) std::this_thread::yield();
        expect(hawser_comm_abort(comms[i].get()), HAWSER_OK, "abort");
        hawser_op_release(op);
        return;
      }
      hawser_op_info_t info = HAWSER_OP_INFO_INIT;
      expect(hawser_all_reduce(comms[i].get(), send.data(), recv.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, &info),
             HAWSER_OK, "all_reduce");
      const float sum = info.participants == 2 ? 3.0F : 1.0F;
      for (const float value : recv) {
        if (value != sum) check(false, "an element is " + std::to_string(value));
      }
    });
  }
}
