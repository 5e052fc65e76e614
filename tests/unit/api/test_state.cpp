// Shared state over real groups: what decides, what travels, what newcomers get, what a loss in the middle does, and
// what is refused.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "support/group.hpp"

using namespace hawser_test;

namespace {

// A state with its tensors.
class Model {
 public:
  explicit Model(std::uint64_t seed, std::size_t big = 1'000'003) : weights(big), counters(3), half(70001) {
    fill(seed);
    expect(hawser_state_create(&handle), HAWSER_OK, "create");
    add("weights", weights.data(), weights.size(), HAWSER_F32);
    add("empty", nullptr, 0, HAWSER_F64);
    add("counters", counters.data(), counters.size(), HAWSER_U64);
    add("half", half.data(), half.size(), HAWSER_BF16);
  }
  ~Model() { hawser_state_destroy(handle); }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  void fill(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (float& v : weights) v = static_cast<float>(random() % 1000);
    for (auto& v : counters) v = random();
    for (auto& v : half) v = static_cast<std::uint16_t>(random());
  }
  void add(const char* name, void* data, std::size_t count, hawser_dtype_t dtype) {
    expect(hawser_state_add_tensor(handle, name, data, count, dtype), HAWSER_OK, "add_tensor");
  }
  hawser_status_t sync(const Comm& comm, hawser_strategy_t strategy = HAWSER_SYNC_AGREE) {
    info = HAWSER_SYNC_INFO_INIT;
    return hawser_state_sync(comm.get(), handle, strategy, nullptr, &info);
  }
  hawser_status_t check_same(const Comm& comm) {
    info = HAWSER_SYNC_INFO_INIT;
    return hawser_state_check(comm.get(), handle, nullptr, &info);
  }
  void set_revision(std::uint64_t revision) { expect(hawser_state_set_revision(handle, revision), HAWSER_OK, "set"); }
  [[nodiscard]] bool equals(std::uint64_t seed) const {
    Model other(seed, weights.size());
    return other.weights == weights && other.counters == counters && other.half == half;
  }

  hawser_state_t* handle = nullptr;
  std::vector<float> weights;
  std::vector<std::uint64_t> counters;
  std::vector<std::uint16_t> half;
  hawser_sync_info_t info = HAWSER_SYNC_INFO_INIT;
};

std::string sentence() { return hawser_last_error(); }
bool names(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

}  // namespace

TEST_CASE("the majority decides, then the record, and only blocks that differ travel", "[state]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 4);
  in_threads(4, [&](std::uint32_t i) {
    const Comm& comm = comms[i];
    const std::uint32_t rank = view_of(comm).rank;
    Model model(rank == 2 ? 99 : 1);
    expect(model.sync(comm), HAWSER_OK, "first sync");
    check(model.equals(1), "not the majority's content");
    check(model.info.decision == HAWSER_DECIDED_BY_MAJORITY, "decided by a majority");
    check(model.info.behind == 1 && model.info.participants == 4, "one was behind");
    check((model.info.blocks_received > 0) == (rank == 2), "only the odd one receives");
    if (rank == 2) check(model.info.sources > 1, "from more than one source");
    if (rank == 2) check(model.info.tensors_changed == 3, "three tensors changed");

    expect(model.sync(comm), HAWSER_OK, "second sync");
    check(model.info.behind == 0 && model.info.bytes_received == 0, "nothing travels when nothing differs");
    expect(model.check_same(comm), HAWSER_OK, "check");

    // Three of four drift, in one element each; the record decides all the same, and one block goes to each.
    if (rank != 1) model.weights[500'000] += 1 + static_cast<float>(rank);
    expect(model.check_same(comm), HAWSER_DIVERGED, "check");
    check(names(sentence(), "rank"), sentence());
    expect(model.sync(comm), HAWSER_OK, "third sync");
    check(model.equals(1), "not the recorded content");
    check(model.info.decision == HAWSER_DECIDED_BY_RECORD, "decided by the record");
    check(model.info.blocks_received == (rank == 1 ? 0 : 1), "one block");
    check(model.info.behind == 3, "three were behind");

    // A new revision made by all but one.
    if (rank != 3) {
      model.fill(2);
      model.set_revision(7);
    }
    expect(model.sync(comm), HAWSER_OK, "fourth sync");
    check(model.equals(2) && model.info.revision == 7, "the new revision");
    std::uint64_t revision = 0;
    expect(hawser_state_revision(model.handle, &revision), HAWSER_OK, "revision");
    check(revision == 7, "taken over");
  });
}

TEST_CASE("strategies, ties and worlds of one", "[state]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  in_threads(2, [&](std::uint32_t i) {
    const Comm& comm = comms[i];
    const std::uint32_t rank = view_of(comm).rank;
    Model model(rank);
    expect(model.sync(comm), HAWSER_NO_MAJORITY, "a tie");
    check(model.equals(rank), "nothing changed");
    expect(model.sync(comm, HAWSER_SYNC_RECEIVE_ONLY), HAWSER_NO_MAJORITY, "nobody sends");
    expect(model.sync(comm, HAWSER_SYNC_SEND_ONLY), HAWSER_NO_MAJORITY, "both send");
    expect(model.sync(comm, rank == 0 ? HAWSER_SYNC_SEND_ONLY : HAWSER_SYNC_RECEIVE_ONLY), HAWSER_OK, "one sends");
    check(model.equals(0), "rank 0's content");
    if (rank == 0) model.weights[0] += 1;
    expect(model.sync(comm, rank == 0 ? HAWSER_SYNC_SEND_ONLY : HAWSER_SYNC_AGREE), HAWSER_MISMATCH,
           "a send-only member that would have to change");
    check(names(sentence(), "send"), sentence());
  });
  const Coordinator alone;
  const auto one = make_group(alone, 1);
  Model model(5);
  expect(model.sync(one[0]), HAWSER_OK, "alone");
  model.weights[0] += 1;
  expect(model.sync(one[0]), HAWSER_OK, "alone, and free to change");
  check(model.info.participants == 1 && model.info.behind == 0, "decides for itself");
}

TEST_CASE("a newcomer gets everything, from several members, while it has no vote", "[state]") {
  const Coordinator coordinator;
  auto comms = make_group(coordinator, 2);
  comms.emplace_back();
  std::atomic<bool> joined{false};
  in_threads(3, [&](std::uint32_t i) {
    Model model(i < 2 ? 11 : 12);
    if (i == 2) {
      comms[2] = Comm(config_for(coordinator, 1));
      expect(hawser_comm_join(comms[2].get(), 0), HAWSER_OK, "join");
      joined = true;
    } else {
      model.set_revision(3);
      expect(model.sync(comms[i]), HAWSER_OK, "before");
      while (view_of(comms[i]).world_size < 3) expect(hawser_comm_admit(comms[i].get(), 0), HAWSER_OK, "admit");
    }
    if (i == 2) model.set_revision(100);  // whatever it brings along
    expect(model.sync(comms[i]), HAWSER_OK, "sync");
    check(model.equals(11), "the members' content");
    check(model.info.revision == 3, "the members' revision");
    if (i == 2) check(model.info.sources == 2, "two sources");
    expect(model.check_same(comms[i]), HAWSER_OK, "check");
  });
}

TEST_CASE("layouts that differ are named", "[state]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  in_threads(3, [&](std::uint32_t i) {
    const Comm& comm = comms[i];
    const std::uint32_t rank = view_of(comm).rank;
    Model model(1, rank == 1 ? 1000 : 1001);
    expect(model.sync(comm), HAWSER_MISMATCH, "counts");
    check(names(sentence(), "weights") && names(sentence(), "1000") && names(sentence(), "1001"), sentence());
    Model same(1);
    float more = 0;
    if (rank == 2) same.add("more", &more, 1, HAWSER_F32);
    expect(same.sync(comm), HAWSER_MISMATCH, "a tensor more");
    check(names(sentence(), "more"), sentence());
    Model fine(1);
    expect(fine.sync(comm), HAWSER_OK, "the communicator is still of use");
  });
}

TEST_CASE("sources may die in the middle, half-written tensors there are none", "[state]") {
  constexpr std::size_t big = 4'000'000;
  for (int round = 0; round < 3; ++round) {
    const Coordinator coordinator(100);
    auto comms = make_group(coordinator, 3);
    comms.emplace_back();
    const Model wanted(21, big);
    in_threads(4, [&](std::uint32_t i) {
      Model model(i < 3 ? 21 : 22, big);
      if (i == 3) {
        comms[3] = Comm(config_for(coordinator, 1));
        expect(hawser_comm_join(comms[3].get(), 0), HAWSER_OK, "join");
      } else {
        expect(model.sync(comms[i]), HAWSER_OK, "before");
        while (view_of(comms[i]).world_size < 4) expect(hawser_comm_admit(comms[i].get(), 0), HAWSER_OK, "admit");
      }
      if (i == 1) {
        // Ends while the newcomer is being served: its 16 MB take longer than this.
        std::atomic<bool> over{false};  // others served more of it
        std::thread killer([&] {
          hawser_metrics_t metrics = HAWSER_METRICS_INIT;
          const std::uint64_t enough = static_cast<std::uint64_t>(round + 1) << 20;
          do {
            expect(hawser_comm_metrics(comms[1].get(), &metrics), HAWSER_OK, "metrics");
          } while (metrics.bytes_sent < enough && !over);
          hawser_comm_abort(comms[1].get());
        });
        const hawser_status_t status = model.sync(comms[1]);
        over = true;
        killer.join();
        check(status == HAWSER_ABORTED || status == HAWSER_OK, "the one that ends");
        return;
      }
      expect(model.sync(comms[i]), HAWSER_OK, "sync");
      check(model.weights == wanted.weights && model.half == wanted.half, "content");
      expect(model.check_same(comms[i]), HAWSER_OK, "check");
    });
  }
}

TEST_CASE("what a state refuses", "[state]") {
  hawser_state_t* state = nullptr;
  float value = 0;
  REQUIRE(hawser_state_create(nullptr) == HAWSER_INVALID_ARGUMENT);
  REQUIRE(hawser_state_create(&state) == HAWSER_OK);
  CHECK(hawser_state_add_tensor(nullptr, "a", &value, 1, HAWSER_F32) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_state_add_tensor(state, nullptr, &value, 1, HAWSER_F32) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_add_tensor(state, "", &value, 1, HAWSER_F32) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_add_tensor(state, std::string(256, 'x').c_str(), &value, 1, HAWSER_F32) ==
        HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_add_tensor(state, "a", nullptr, 1, HAWSER_F32) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_add_tensor(state, "a", &value, SIZE_MAX, HAWSER_F32) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_add_tensor(state, "a", reinterpret_cast<char*>(&value) + 1, 1, HAWSER_F32) ==
        HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_add_tensor(state, "a", &value, 1, static_cast<hawser_dtype_t>(12)) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_add_tensor(state, "a", &value, 1, HAWSER_F32) == HAWSER_OK);
  CHECK(hawser_state_add_tensor(state, "a", &value, 1, HAWSER_F32) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_move_tensor(state, "b", &value) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_move_tensor(state, "a", &value) == HAWSER_OK);
  CHECK(hawser_state_revision(state, nullptr) == HAWSER_INVALID_ARGUMENT);
  CHECK(hawser_state_sync(nullptr, state, HAWSER_SYNC_AGREE, nullptr, nullptr) == HAWSER_INVALID_HANDLE);
  CHECK(hawser_state_destroy(state) == HAWSER_OK);
  CHECK(hawser_state_destroy(state) == HAWSER_INVALID_HANDLE);
}
