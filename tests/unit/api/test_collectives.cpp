// What collectives compute, over real connections of one process: every element of every result is compared with the
// value that the inputs make, which are chosen so that it is exact in every type.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "support/group.hpp"

using namespace hawser_test;  // NOLINT(google-build-using-namespace)

namespace {

// Small whole numbers as elements of any type.
std::uint16_t half_bits(double value) {  // exact for |value| < 2048
  if (value == 0) return 0;
  int exponent = 0;
  const double fraction = std::frexp(std::fabs(value), &exponent);
  const auto mantissa = static_cast<std::uint16_t>((fraction * 2 - 1) * 1024);
  return static_cast<std::uint16_t>((value < 0 ? 0x8000 : 0) | ((exponent - 1 + 15) << 10) | mantissa);
}
std::uint16_t bfloat_bits(double value) {
  const auto narrow = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &narrow, sizeof(bits));
  return static_cast<std::uint16_t>(bits >> 16);
}

template <typename T>
void put(std::byte* at, double value) {
  const T element = static_cast<T>(value);
  std::memcpy(at, &element, sizeof(element));
}

void store(hawser_dtype_t dtype, std::byte* at, double value) {
  switch (dtype) {
    case HAWSER_U8:
      return put<std::uint8_t>(at, value);
    case HAWSER_I8:
      return put<std::int8_t>(at, value);
    case HAWSER_U16:
      return put<std::uint16_t>(at, value);
    case HAWSER_I16:
      return put<std::int16_t>(at, value);
    case HAWSER_U32:
      return put<std::uint32_t>(at, value);
    case HAWSER_I32:
      return put<std::int32_t>(at, value);
    case HAWSER_U64:
      return put<std::uint64_t>(at, value);
    case HAWSER_I64:
      return put<std::int64_t>(at, value);
    case HAWSER_F32:
      return put<float>(at, value);
    case HAWSER_F64:
      return put<double>(at, value);
    case HAWSER_F16: {
      const std::uint16_t bits = half_bits(value);
      std::memcpy(at, &bits, sizeof(bits));
      return;
    }
    case HAWSER_BF16: {
      const std::uint16_t bits = bfloat_bits(value);
      std::memcpy(at, &bits, sizeof(bits));
      return;
    }
  }
}

constexpr std::size_t period = 22;  // of the inputs, in elements

double input(std::uint32_t rank, std::size_t index, hawser_redop_t redop) {
  const std::size_t mixed = index * 7 + rank * 5;
  return redop == HAWSER_PROD ? static_cast<double>(1 + mixed % 2) : static_cast<double>(mixed % 11);
}

double expected(std::uint32_t size, std::size_t index, hawser_redop_t redop, bool whole) {
  double value = input(0, index, redop);
  for (std::uint32_t rank = 1; rank < size; ++rank) {
    const double other = input(rank, index, redop);
    switch (redop) {
      case HAWSER_SUM:
      case HAWSER_AVG:
        value += other;
        break;
      case HAWSER_PROD:
        value *= other;
        break;
      case HAWSER_MIN:
        value = std::min(value, other);
        break;
      case HAWSER_MAX:
        value = std::max(value, other);
        break;
    }
  }
  if (redop != HAWSER_AVG) return value;
  return whole ? std::trunc(value / size) : value / size;
}

// One period of values, again and again.
template <typename Value>
std::vector<std::byte> repeated(hawser_dtype_t dtype, std::size_t count, Value value) {
  const std::size_t element = hawser_dtype_size(dtype);
  std::vector<std::byte> out(count * element);
  for (std::size_t k = 0; k < std::min(count, period); ++k) store(dtype, &out[k * element], value(k));
  for (std::size_t done = period * element; done < out.size(); done *= 2) {
    std::memcpy(&out[done], out.data(), std::min(done, out.size() - done));
  }
  return out;
}

struct Case {
  hawser_dtype_t dtype;
  hawser_redop_t redop;
  std::size_t count;
  bool in_place;
};

// Runs one case on every rank and compares every element.
void run_case(const std::vector<Comm>& comms, const Case& what) {
  const auto size = static_cast<std::uint32_t>(comms.size());
  const std::size_t element = hawser_dtype_size(what.dtype);
  const bool whole = what.dtype < HAWSER_F16;
  std::vector<std::vector<std::byte>> results(size);
  in_threads(size, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    auto send = repeated(what.dtype, what.count, [&](std::size_t k) { return input(rank, k, what.redop); });
    send.push_back({});
    const std::vector<std::byte> kept = send;
    std::vector<std::byte> recv(what.count * element + 1, std::byte{0xee});
    std::byte* out = what.in_place ? send.data() : recv.data();
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    expect(hawser_all_reduce(comms[i].get(), send.data(), out, what.count, what.dtype, what.redop, nullptr, &info),
           HAWSER_OK, "all_reduce");
    check(info.participants == size && info.attempts == 1, "participants and attempts");
    if (!what.in_place) check(send == kept, "an input was written");
    check(out[what.count * element] == (what.in_place ? kept.back() : std::byte{0xee}), "written behind the end");
    results[rank].assign(out, out + what.count * element);
  });
  const auto value = [&](std::size_t k) { return expected(size, k, what.redop, whole); };
  const auto wanted = repeated(what.dtype, what.count, value);
  const bool same = results[0] == wanted;
  for (std::size_t k = 0; k < what.count && !same; ++k) {
    // Compared between ranks below.
    if (what.redop == HAWSER_AVG && !whole && value(k) != std::trunc(value(k))) continue;
    if (std::memcmp(&wanted[k * element], &results[0][k * element], element) != 0) {
      CAPTURE(size, what.dtype, what.redop, what.count, what.in_place, k, value(k));
      FAIL("wrong element");
    }
  }
  for (std::uint32_t rank = 1; rank < size; ++rank) REQUIRE(results[rank] == results[0]);
}

}  // namespace

TEST_CASE("all_reduce: 12 types, 5 reductions, in place and not", "[collectives]") {
  for (const std::uint32_t size : {1U, 2U, 3U, 5U}) {
    const Coordinator coordinator;
    const auto comms = make_group(coordinator, size);
    for (int dtype = 0; dtype < 12; ++dtype) {
      for (int redop = 0; redop < 5; ++redop) {
        for (const bool in_place : {false, true}) {
          // In one exchange, in two, and along the ring.
          for (const std::size_t count : {std::size_t{1003}, std::size_t{20011}, (std::size_t{1} << 20) + 5}) {
            if (count > 20011 && size != 3) continue;
            run_case(comms, {static_cast<hawser_dtype_t>(dtype), static_cast<hawser_redop_t>(redop), count, in_place});
          }
        }
      }
    }
  }
}

TEST_CASE("all_reduce: counts of every kind", "[collectives]") {
  for (const std::uint32_t size : {2U, 4U}) {
    const Coordinator coordinator;
    const auto comms = make_group(coordinator, size);
    for (const std::size_t count : {0U, 1U, 2U, 3U, 4U, 5U, 63U, 64U, 65U, 16384U, 262144U, 1000003U}) {
      run_case(comms, {HAWSER_F32, HAWSER_SUM, count, false});
      run_case(comms, {HAWSER_F32, HAWSER_SUM, count, true});
    }
    for (const std::size_t count : {1U, 131072U, 700001U}) {  // wide partial sums, in pieces that do not fit
      run_case(comms, {HAWSER_BF16, HAWSER_SUM, count, true});
      run_case(comms, {HAWSER_F16, HAWSER_AVG, count, false});
      run_case(comms, {HAWSER_U8, HAWSER_MAX, count, true});
    }
  }
}

TEST_CASE("half-width sums are accumulated in f32 and rounded once", "[collectives]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 4);
  in_threads(4, [&](std::uint32_t i) {
    // 1 + 3 x 2^-9: rounding to bf16 after each addition would stay at 1.
    const std::uint32_t rank = view_of(comms[i]).rank;
    std::vector<std::uint16_t> values(64, rank == 0 ? bfloat_bits(1.0) : bfloat_bits(1.0 / 512));
    expect(hawser_all_reduce(comms[i].get(), values.data(), values.data(), values.size(), HAWSER_BF16, HAWSER_SUM,
                             nullptr, nullptr),
           HAWSER_OK, "all_reduce");
    for (const std::uint16_t value : values) check(value == bfloat_bits(1.0078125), "rounded on the way");
  });
}

TEST_CASE("broadcast from every root", "[collectives]") {
  for (const std::uint32_t size : {1U, 2U, 4U}) {
    const Coordinator coordinator;
    const auto comms = make_group(coordinator, size);
    for (std::uint32_t root = 0; root < size; ++root) {
      for (const std::size_t count : {0U, 1U, 1000U, 300000U}) {
        in_threads(size, [&](std::uint32_t i) {
          const std::uint32_t rank = view_of(comms[i]).rank;
          std::vector<std::uint32_t> send(count);
          std::iota(send.begin(), send.end(), root * 1000);
          std::vector<std::uint32_t> recv(count, 77);
          const bool source = rank == root;
          expect(hawser_broadcast(comms[i].get(), source ? send.data() : nullptr, recv.data(), count, HAWSER_U32, root,
                                  nullptr, nullptr),
                 HAWSER_OK, "broadcast");
          check(recv == send, "not the root's values");
        });
      }
    }
  }
}

TEST_CASE("a barrier holds until the last one comes", "[collectives]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  std::atomic<int> inside{0};
  in_threads(3, [&](std::uint32_t i) {
    for (int round = 1; round <= 20; ++round) {
      ++inside;
      expect(hawser_barrier(comms[i].get(), nullptr, nullptr), HAWSER_OK, "barrier");
      check(inside >= 3 * round, "left before all had entered");
    }
  });
}

TEST_CASE("64 operations in flight from several threads, by tag", "[collectives]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  constexpr std::uint32_t threads = 4;
  constexpr std::uint32_t each = 16;
  in_threads(3 * threads, [&](std::uint32_t i) {
    const Comm& comm = comms[i / threads];
    const std::uint32_t rank = view_of(comm).rank;
    const std::uint32_t thread = i % threads;
    std::vector<std::vector<std::int64_t>> data;
    std::vector<hawser_op_t*> ops(each);
    for (std::uint32_t k = 0; k < each; ++k) data.emplace_back(1 + 997 * k, rank + thread * 100 + k);
    for (std::uint32_t n = 0; n < each; ++n) {
      const std::uint32_t k = (n * 5 + rank * 3) % each;  // another order on every rank: the tags match them
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.tag = 1 + thread * each + k;
      options.priority = static_cast<std::int32_t>(k % 4);
      expect(hawser_all_reduce_start(comm.get(), data[k].data(), data[k].data(), data[k].size(), HAWSER_I64, HAWSER_SUM,
                                     &options, &ops[k]),
             HAWSER_OK, "start");
    }
    for (std::uint32_t k = 0; k < each; ++k) {
      expect(hawser_op_wait(ops[k], 0, nullptr), HAWSER_OK, "wait");
      expect(hawser_op_test(ops[k], nullptr), HAWSER_OK, "test after wait");
      expect(hawser_op_release(ops[k]), HAWSER_OK, "release");
      const std::int64_t sum = 3 + 3 * (thread * 100 + k);
      check(std::all_of(data[k].begin(), data[k].end(), [&](std::int64_t v) { return v == sum; }), "wrong sum");
    }
  });
}

TEST_CASE("operations of one thread match in call order", "[collectives]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  in_threads(2, [&](std::uint32_t i) {
    constexpr std::uint32_t many = 100;
    std::vector<std::vector<double>> data;
    std::vector<hawser_op_t*> ops(many);
    for (std::uint32_t k = 0; k < many; ++k) data.emplace_back(k % 7 * 50, k);
    for (std::uint32_t k = 0; k < many; ++k) {
      expect(hawser_all_reduce_start(comms[i].get(), data[k].data(), data[k].data(), data[k].size(), HAWSER_F64,
                                     HAWSER_SUM, nullptr, &ops[k]),
             HAWSER_OK, "start");
    }
    for (std::uint32_t k = 0; k < many; ++k) {
      expect(hawser_op_wait(ops[k], 0, nullptr), HAWSER_OK, "wait");
      expect(hawser_op_release(ops[k]), HAWSER_OK, "release");
      check(std::all_of(data[k].begin(), data[k].end(), [&](double v) { return v == 2.0 * k; }), "wrong sum");
    }
  });
}

// What is sent to a member that has not made the call takes credit, and gives it back when the call is made.
TEST_CASE("small operations go on while every member has large ones open that the others have not entered",
          "[collectives]") {
  const std::uint32_t size = GENERATE(2U, 3U);
  const bool shared = GENERATE(true, false);
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, size, [&](hawser_comm_config_t& config) {
    config.transport = shared ? HAWSER_TRANSPORT_AUTO : HAWSER_TRANSPORT_TCP;
  });
  constexpr std::size_t large = 8U << 20;
  in_threads(size, [&](std::uint32_t i) {
    hawser_comm_t* const comm = comms[i].get();
    std::vector<std::vector<float>> data(size, std::vector<float>(large, 1.0F));
    std::vector<hawser_op_t*> open(size);
    const auto start = [&](std::uint32_t which) {
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.tag = which + 1;
      expect(hawser_all_reduce_start(comm, data[which].data(), data[which].data(), large, HAWSER_F32, HAWSER_SUM,
                                     &options, &open[which]),
             HAWSER_OK, "start");
    };
    start(i);
    expect(hawser_barrier(comm, nullptr, nullptr), HAWSER_OK, "barrier");
    for (int round = 0; round < 50; ++round) {
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.timeout_ms = 20000;
      std::vector<float> few(256, static_cast<float>(i + 1));
      expect(hawser_all_reduce(comm, few.data(), few.data(), few.size(), HAWSER_F32, HAWSER_SUM, &options, nullptr),
             HAWSER_OK, "small");
      const auto sum = static_cast<float>(size * (size + 1) / 2);
      check(std::all_of(few.begin(), few.end(), [&](float value) { return value == sum; }), "wrong sum");
    }
    for (std::uint32_t which = 0; which < size; ++which) {
      if (which != i) start(which);
    }
    for (std::uint32_t which = 0; which < size; ++which) {
      expect(hawser_op_wait(open[which], 0, nullptr), HAWSER_OK, "large");
      expect(hawser_op_release(open[which]), HAWSER_OK, "release");
      check(data[which].front() == static_cast<float>(size) && data[which].back() == static_cast<float>(size), "wrong");
    }
  });
}

TEST_CASE("one strand, many strands, several threads, shared memory or not give the same bits", "[collectives]") {
  std::vector<float> first;
  struct Setting {
    std::uint32_t strands;
    std::uint32_t threads;
    std::uint32_t tcp_only;  // that many members
  };
  for (const Setting& setting : {Setting{1, 1, 0}, Setting{8, 1, 3}, Setting{5, 3, 0}, Setting{2, 1, 1}}) {
    const Coordinator coordinator;
    std::atomic<std::uint32_t> made{0};
    const auto comms = make_group(coordinator, 3, [&](hawser_comm_config_t& config) {
      config.strands = setting.strands;
      config.io_threads = setting.threads;
      config.transport = made++ < setting.tcp_only ? HAWSER_TRANSPORT_TCP : HAWSER_TRANSPORT_AUTO;
    });
    std::vector<std::vector<float>> results(3);
    in_threads(3, [&](std::uint32_t i) {
      const std::uint32_t rank = view_of(comms[i]).rank;
      std::vector<float>& data = results[rank];
      data.resize(900001);
      for (std::size_t k = 0; k < data.size(); ++k)
        data[k] = std::sin(static_cast<float>(k + 1) * static_cast<float>(rank + 1));
      expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_F32, HAWSER_AVG, nullptr,
                               nullptr),
             HAWSER_OK, "all_reduce");
      expect(hawser_barrier(comms[i].get(), nullptr, nullptr), HAWSER_OK, "barrier");
    });
    std::uint32_t sharing = 0;
    for (const Comm& comm : comms) {
      hawser_metrics_t metrics = HAWSER_METRICS_INIT;
      expect(hawser_comm_metrics(comm.get(), &metrics), HAWSER_OK, "metrics");
      if (metrics.strands_shared > 0) ++sharing;
    }
    CHECK(sharing == (setting.tcp_only == 3 ? 0 : 3 - setting.tcp_only));
    if (first.empty()) first = results[0];
    for (const auto& result : results)
      REQUIRE(std::memcmp(result.data(), first.data(), first.size() * sizeof(float)) == 0);
  }
}
