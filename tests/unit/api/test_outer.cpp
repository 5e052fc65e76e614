// Outer steps over real groups, against the formulas in plain code: synchronous and delayed, weighted, compressed, with
// members that leave, die and join in the middle; and what is refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "support/group.hpp"

using namespace hawser_test;

namespace {

constexpr std::size_t first_count = 1000;
constexpr std::size_t second_count = 37;

// Two parameters and an outer optimizer over them.
class Peer {
 public:
  Peer(const Comm& comm, std::uint64_t seed, const hawser_outer_config_t& config, hawser_dtype_t dtype = HAWSER_F32)
      : a(first_count), b(second_count) {
    std::mt19937_64 random(seed);
    for (float& v : a) v = static_cast<float>(random() % 1000) / 500 - 1;
    for (float& v : b) v = static_cast<float>(random() % 1000) / 500 - 1;
    half.resize(first_count);
    for (std::size_t i = 0; i < half.size(); ++i) half[i] = static_cast<std::uint16_t>(0x3f00 + random() % 64);
    hawser_outer_param_t params[2] = {HAWSER_OUTER_PARAM_INIT, HAWSER_OUTER_PARAM_INIT};
    params[0].name = "a";
    params[0].data = dtype == HAWSER_F32 ? static_cast<void*>(a.data()) : half.data();
    params[0].count = first_count;
    params[0].dtype = dtype;
    params[1].name = "b";
    params[1].data = b.data();
    params[1].count = second_count;
    expect(hawser_outer_create(comm.get(), params, 2, &config, &handle), HAWSER_OK, "create");
  }
  ~Peer() { hawser_outer_destroy(handle); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // Some inner steps: moves the parameters in a way that depends on who and when.
  void train(std::uint32_t who, std::uint64_t round) {
    std::mt19937_64 random(who * 1000 + round);
    for (float& v : a) v -= static_cast<float>(random() % 100) / 1000;
    for (float& v : b) v -= static_cast<float>(random() % 100) / 1000;
  }
  hawser_status_t sync() { return hawser_outer_sync(handle, nullptr); }
  hawser_status_t step(double weight = 1) {
    info = HAWSER_OUTER_INFO_INIT;
    return hawser_outer_step(handle, weight, &info);
  }
  [[nodiscard]] std::vector<float> all() const {
    std::vector<float> out = a;
    out.insert(out.end(), b.begin(), b.end());
    return out;
  }
  std::vector<float> tensor(hawser_outer_tensor_kind_t kind) const {
    std::vector<float> out(first_count + second_count);
    expect(hawser_outer_read(handle, kind, 0, out.data(), first_count), HAWSER_OK, "read");
    expect(hawser_outer_read(handle, kind, 1, out.data() + first_count, second_count), HAWSER_OK, "read");
    return out;
  }

  hawser_outer_t* handle = nullptr;
  hawser_outer_info_t info = HAWSER_OUTER_INFO_INIT;
  std::vector<float> a;
  std::vector<float> b;
  std::vector<std::uint16_t> half;
};

// What all members do, in one place and in the order of the formulas.
struct Twin {
  std::vector<float> anchor;
  std::vector<float> velocity;
  float lr = 0.7F;
  float momentum = 0.9F;

  explicit Twin(std::vector<float> start) : anchor(std::move(start)), velocity(anchor.size()) {}
  std::vector<float> average(const std::vector<std::vector<float>>& locals, const std::vector<double>& weights) const {
    std::vector<float> out(anchor.size());
    double total = 0;
    for (const double weight : weights) total += weight;
    for (std::size_t i = 0; i < out.size(); ++i) {
      float sum = 0;
      for (std::size_t k = 0; k < locals.size(); ++k) {
        const float scaled = static_cast<float>(weights[k]) * (anchor[i] - locals[k][i]);
        sum = sum + scaled;
      }
      out[i] = sum / static_cast<float>(total);
    }
    return out;
  }
  void apply(const std::vector<float>& delta) {
    for (std::size_t i = 0; i < anchor.size(); ++i) {
      const float scaled = momentum * velocity[i];
      velocity[i] = scaled + delta[i];
      const float ahead = momentum * velocity[i];
      const float step = lr * (delta[i] + ahead);
      anchor[i] = anchor[i] - step;
    }
  }
};

std::string sentence() { return hawser_last_error(); }

// Results of all ranks in one place.
class Board {
 public:
  void put(std::uint32_t rank, std::vector<float> values) {
    const std::lock_guard hold(mutex_);
    if (values_.size() <= rank) values_.resize(rank + 1);
    values_[rank] = std::move(values);
  }
  [[nodiscard]] const std::vector<std::vector<float>>& values() const { return values_; }

 private:
  std::mutex mutex_;
  std::vector<std::vector<float>> values_;
};

}  // namespace

TEST_CASE("synchronous rounds are the formula, bit by bit", "[outer]") {
  constexpr std::uint32_t size = 3;
  constexpr std::uint64_t rounds = 5;
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, size);
  std::vector<Board> locals(rounds);
  std::vector<Board> after(rounds);
  Board start;
  in_threads(size, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    const hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
    Peer peer(comms[i], rank, config);
    expect(peer.sync(), HAWSER_OK, "sync");
    start.put(rank, peer.all());
    for (std::uint64_t round = 0; round < rounds; ++round) {
      peer.train(rank, round);
      locals[round].put(rank, peer.all());
      expect(peer.step(rank + 1.0), HAWSER_OK, "step");
      after[round].put(rank, peer.all());
      check(peer.info.round == round + 1 && peer.info.participants == size && peer.info.contributors == size, "info");
      check(peer.info.total_weight == 6 && peer.info.left_out == 0 && peer.info.synced == 0, "info");
      check(peer.tensor(HAWSER_OUTER_ANCHOR) == peer.all(), "the parameters are the anchor");
    }
  });
  for (std::uint32_t rank = 1; rank < size; ++rank) REQUIRE(start.values()[rank] == start.values()[0]);
  Twin twin(start.values()[0]);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    twin.apply(twin.average(locals[round].values(), {1, 2, 3}));
    for (std::uint32_t rank = 0; rank < size; ++rank) REQUIRE(after[round].values()[rank] == twin.anchor);
  }
}

TEST_CASE("delayed rounds apply the average of the round before", "[outer]") {
  constexpr std::uint32_t size = 2;
  constexpr std::uint64_t rounds = 5;
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, size);
  std::vector<Board> locals(rounds);
  std::vector<Board> after(rounds + 1);
  Board start;
  in_threads(size, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
    config.delayed = 1;
    config.momentum = 0.5;
    Peer peer(comms[i], rank, config);
    expect(peer.sync(), HAWSER_OK, "sync");
    start.put(rank, peer.all());
    for (std::uint64_t round = 0; round < rounds; ++round) {
      peer.train(rank, round);
      locals[round].put(rank, peer.all());
      expect(peer.step(), HAWSER_OK, "step");
      after[round].put(rank, peer.all());
      check(peer.info.round == round, "a round behind");
    }
    expect(hawser_outer_finish(peer.handle, &peer.info), HAWSER_OK, "finish");
    check(peer.info.round == rounds, "all rounds");
    after[rounds].put(rank, peer.all());
    expect(hawser_outer_finish(peer.handle, nullptr), HAWSER_OK, "finish with nothing in flight");
  });
  Twin twin(start.values()[0]);
  twin.momentum = 0.5F;
  std::vector<float> waiting;
  for (std::uint64_t round = 0; round <= rounds; ++round) {
    std::vector<float> next;
    if (round < rounds) next = twin.average(locals[round].values(), {1, 1});
    if (!waiting.empty()) twin.apply(waiting);
    for (std::uint32_t rank = 0; rank < size; ++rank) REQUIRE(after[round].values()[rank] == twin.anchor);
    waiting = next;
  }
}

TEST_CASE("bf16 parameters, int8 with error feedback: members stay equal to the bit", "[outer]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  std::vector<std::vector<std::uint16_t>> halves(3);
  Board anchors;
  in_threads(3, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
    compression.codec = HAWSER_CODEC_INT8;
    hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
    config.compression = &compression;
    config.error_feedback = 1;
    Peer peer(comms[i], 7, config, HAWSER_BF16);
    expect(peer.sync(), HAWSER_OK, "sync");
    for (std::uint64_t round = 0; round < 5; ++round) {
      for (auto& v : peer.half) v = static_cast<std::uint16_t>(v + rank);
      peer.train(rank, round);
      expect(peer.step(), HAWSER_OK, "step");
      check(peer.info.bytes_sent < 2000, "compressed: " + std::to_string(peer.info.bytes_sent));
    }
    halves[rank] = peer.half;
    anchors.put(rank, peer.tensor(HAWSER_OUTER_ANCHOR));
  });
  for (std::uint32_t rank = 1; rank < 3; ++rank) {
    REQUIRE(halves[rank] == halves[0]);
    REQUIRE(anchors.values()[rank] == anchors.values()[0]);
  }
}

TEST_CASE("values that are not finite are left out, or end the round for all", "[outer]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  for (const bool fails : {false, true}) {
    in_threads(3, [&](std::uint32_t i) {
      const std::uint32_t rank = view_of(comms[i]).rank;
      hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
      config.non_finite = fails ? HAWSER_NON_FINITE_FAIL : HAWSER_NON_FINITE_LEAVE_OUT;
      config.tag = 5;
      Peer peer(comms[i], 7, config);
      expect(peer.sync(), HAWSER_OK, "sync");
      const std::vector<float> before = peer.all();
      for (float& v : peer.a) v -= 1;
      if (rank == 1) peer.a[3] = NAN;
      if (fails) {
        expect(peer.step(), HAWSER_NOT_FINITE, "step");
        check(sentence().find("rank 1") != std::string::npos, sentence());
        check(peer.tensor(HAWSER_OUTER_ANCHOR) == before, "the anchor is as it was");
        if (rank == 1) peer.a[3] = peer.a[4];
        expect(peer.step(), HAWSER_OK, "the round is tried again");
      } else {
        expect(peer.step(), HAWSER_OK, "step");
        check(peer.info.left_out == 1 && peer.info.contributors == 2, "one is left out");
        check((peer.info.self_left_out == 1) == (rank == 1), "who");
        check(std::isnan(peer.info.delta_norm) == (rank == 1), "norm");
      }
      check(std::abs(peer.a[5] - (before[5] - 1.33F)) < 1e-4F, "lr (1 + momentum) of the others' 1");
      // All of them: nothing changes.
      const std::vector<float> kept = peer.all();
      if (!fails) {
        peer.a[0] = INFINITY;
        expect(peer.step(), HAWSER_OK, "step");
        check(peer.info.contributors == 0 && peer.info.left_out == 3, "everyone is left out");
        check(peer.all() == kept && peer.info.round == 1, "nothing changed");
      }
    });
  }
}

TEST_CASE("begin and finish, and what is refused", "[outer]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  in_threads(2, [&](std::uint32_t i) {
    hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
    Peer peer(comms[i], 7, config);
    expect(peer.step(), HAWSER_INVALID_ARGUMENT, "before the first sync");
    expect(peer.sync(), HAWSER_OK, "sync");
    expect(hawser_outer_finish(peer.handle, nullptr), HAWSER_INVALID_ARGUMENT, "finish without begin");
    expect(hawser_outer_begin(peer.handle, -1), HAWSER_INVALID_ARGUMENT, "negative weight");
    expect(hawser_outer_begin(peer.handle, std::nan("")), HAWSER_INVALID_ARGUMENT, "weight NaN");
    peer.train(i, 0);
    expect(hawser_outer_begin(peer.handle, 1), HAWSER_OK, "begin");
    expect(hawser_outer_begin(peer.handle, 1), HAWSER_INVALID_ARGUMENT, "begin twice");
    expect(peer.sync(), HAWSER_INVALID_ARGUMENT, "sync in between");
    expect(hawser_outer_finish(peer.handle, &peer.info), HAWSER_OK, "finish");
    check(peer.info.round == 1, "a round");
    hawser_outer_param_t moved = HAWSER_OUTER_PARAM_INIT;
    moved.name = "a";
    std::vector<float> elsewhere = peer.a;
    moved.data = elsewhere.data();
    moved.count = first_count;
    expect(hawser_outer_move_param(peer.handle, &moved), HAWSER_OK, "move");
    moved.dtype = HAWSER_BF16;
    expect(hawser_outer_move_param(peer.handle, &moved), HAWSER_INVALID_ARGUMENT, "another type");
    check(sentence().find("bf16") != std::string::npos, sentence());
    expect(peer.step(), HAWSER_OK, "step");
    const std::vector<float> anchor = peer.tensor(HAWSER_OUTER_ANCHOR);
    check(std::equal(elsewhere.begin(), elsewhere.end(), anchor.begin()), "written where it lives now");
    config.delayed = 1;
    Peer late(comms[i], 7, config);
    expect(late.sync(), HAWSER_OK, "sync");
    expect(hawser_outer_begin(late.handle, 1), HAWSER_INVALID_ARGUMENT, "begin of a delayed one");
    config.delayed = 0;
    for (const auto& change : std::vector<std::function<void(hawser_outer_config_t&)>>{
             [](auto& c) { c.lr = 0; }, [](auto& c) { c.lr = std::nan(""); }, [](auto& c) { c.momentum = 1; },
             [](auto& c) { c.momentum = -0.1; }, [](auto& c) { c.nesterov = 2; },
             [](auto& c) { c.error_feedback = 1; }}) {
      hawser_outer_config_t wrong = config;
      change(wrong);
      hawser_outer_t* handle = nullptr;
      expect(hawser_outer_create(comms[i].get(), nullptr, 0, &wrong, &handle), HAWSER_INVALID_ARGUMENT, "config");
    }
  });
}

TEST_CASE("settings and parameters that differ are named", "[outer]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  in_threads(2, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
    if (rank == 1) config.lr = 0.5;
    Peer settings(comms[i], 7, config);
    expect(settings.sync(), HAWSER_MISMATCH, "settings");
    check(rank == 0 || sentence().find("lr 0.5") != std::string::npos, sentence());
    check(sentence().find("lr 0.7") != std::string::npos, sentence());
    config.lr = 0.7;
    Peer types(comms[i], 7, config, rank == 0 ? HAWSER_F32 : HAWSER_BF16);
    expect(types.sync(), HAWSER_MISMATCH, "types");
    check(sentence().find("parameter/a") != std::string::npos && sentence().find("bf16") != std::string::npos,
          sentence());
    Peer fine(comms[i], 7, config);
    expect(fine.sync(), HAWSER_OK, "sync");
  });
}

// Members train; one dies in the middle of a round, another joins. After every round all members of it are equal.
TEST_CASE("kills and joins: all members are equal to the bit after every round", "[outer]") {
  for (const bool delayed : {false, true}) {
    const Coordinator coordinator(100);
    auto comms = make_group(coordinator, 3);
    comms.resize(5);
    std::mutex mutex;
    std::map<std::uint64_t, std::vector<std::vector<float>>> after;  // anchors by round
    in_threads(5, [&](std::uint32_t i) {
      if (i >= 3) {
        comms[i] = Comm(config_for(coordinator, 1));
        expect(hawser_comm_join(comms[i].get(), 0), HAWSER_OK, "join");
      }
      hawser_outer_config_t config = HAWSER_OUTER_CONFIG_INIT;
      config.delayed = delayed ? 1 : 0;
      config.momentum = delayed ? 0 : 0.9;
      Peer peer(comms[i], i, config);
      expect(peer.sync(), HAWSER_OK, "sync");
      for (;;) {
        std::uint64_t round = 0;
        expect(hawser_outer_round(peer.handle, &round, nullptr), HAWSER_OK, "round");
        if (round >= 60) break;
        peer.train(i, round);
        if (i == 1 && round >= 25) {
          std::thread killer([&] { hawser_comm_abort(comms[1].get()); });
          const hawser_status_t status = peer.step();
          killer.join();
          check(status == HAWSER_OK || status == HAWSER_ABORTED, "the one that ends");
          return;
        }
        expect(peer.step(1 + i), HAWSER_OK, "step");
        const std::lock_guard hold(mutex);
        after[peer.info.round].push_back(peer.all());
      }
    });
    std::size_t most = 0;
    for (const auto& [round, anchors] : after) {
      CAPTURE(delayed, round);
      most = std::max(most, anchors.size());
      for (const auto& anchor : anchors) REQUIRE(anchor == anchors[0]);
    }
    REQUIRE(after.size() >= 59);
    REQUIRE(most >= 4);
  }
}
