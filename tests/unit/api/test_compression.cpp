// Compressed and weighted all-reduces over real groups: the same bits everywhere, errors within the codec's bounds,
// bytes as the formula says, residuals that change only when the operation commits, and what is refused.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "support/group.hpp"

using namespace hawser_test;

namespace {

struct Run {
  std::vector<std::vector<float>> results;  // by rank
  std::vector<hawser_op_info_t> infos;
};

std::vector<float> inputs(std::uint32_t rank, std::size_t count) {
  std::mt19937_64 random(1000 + rank);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& value : out) value = normal(random);
  return out;
}

struct Setting {
  std::uint32_t codec = HAWSER_CODEC_INT8;
  std::uint32_t rounding = HAWSER_ROUND_NEAREST;
  hawser_redop_t redop = HAWSER_AVG;
  bool in_place = false;
  bool weighted = false;
};

Run reduce(const std::vector<Comm>& comms, std::size_t count, const Setting& setting) {
  const auto size = static_cast<std::uint32_t>(comms.size());
  Run run{std::vector<std::vector<float>>(size), std::vector<hawser_op_info_t>(size)};
  in_threads(size, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    std::vector<float> send = inputs(rank, count);
    const std::vector<float> kept = send;
    std::vector<float> recv(count, -7.0F);
    hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
    compression.codec = setting.codec;
    compression.rounding = setting.rounding;
    compression.seed = 42;
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.compression = &compression;
    options.weighted = setting.weighted ? 1 : 0;
    options.weight = setting.weighted ? rank * 1.5 : 0.0;
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    std::vector<float>& out = setting.in_place ? send : recv;
    expect(
        hawser_all_reduce(comms[i].get(), send.data(), out.data(), count, HAWSER_F32, setting.redop, &options, &info),
        HAWSER_OK, "all_reduce");
    if (!setting.in_place) check(send == kept, "an input was written");
    run.results[rank] = out;
    run.infos[rank] = info;
  });
  return run;
}

double relative_error(const std::vector<float>& result, std::uint32_t size, const Setting& setting) {
  double error = 0;
  double norm = 0;
  std::vector<std::vector<float>> in;
  double total = 0;
  for (std::uint32_t rank = 0; rank < size; ++rank) {
    in.push_back(inputs(rank, result.size()));
    total += setting.weighted ? rank * 1.5 : 1.0;
  }
  for (std::size_t i = 0; i < result.size(); ++i) {
    double sum = 0;
    for (std::uint32_t rank = 0; rank < size; ++rank)
      sum += static_cast<double>(in[rank][i]) * (setting.weighted ? rank * 1.5 : 1.0);
    if (setting.redop == HAWSER_AVG) sum = total > 0 ? sum / total : 0;
    error += std::pow(static_cast<double>(result[i]) - sum, 2);
    norm += sum * sum;
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

void same_bits(const Run& run) {
  for (const auto& result : run.results) {
    REQUIRE(result.size() == run.results[0].size());
    REQUIRE((result.empty() || std::memcmp(result.data(), run.results[0].data(), result.size() * sizeof(float)) == 0));
  }
}

constexpr std::array<double, 6> bounds = {2e-7, 0.006, 0.0008, 0.0135, 0.19, 0.013};

}  // namespace

TEST_CASE("every codec: the same bits at all ranks, errors within bounds, any count and size", "[compression]") {
  for (const std::uint32_t size : {1U, 2U, 3U, 5U}) {
    const Coordinator coordinator;
    const auto comms = make_group(coordinator, size);
    for (std::uint32_t codec = HAWSER_CODEC_BF16; codec <= HAWSER_CODEC_MINMAX8; ++codec) {
      for (const std::size_t count : {0U, 1U, 7U, 255U, 257U, 100003U}) {
        for (const bool in_place : {false, true}) {
          const Setting setting{codec, HAWSER_ROUND_NEAREST, in_place ? HAWSER_SUM : HAWSER_AVG, in_place, false};
          const Run run = reduce(comms, count, setting);
          CAPTURE(size, codec, count, in_place);
          same_bits(run);
          if (count > 200) REQUIRE(relative_error(run.results[0], size, setting) < bounds[codec]);
          for (const auto& info : run.infos) {
            REQUIRE(info.participants == size);
            REQUIRE(info.contributors == size);
            REQUIRE(info.total_weight == size);
            REQUIRE(info.attempts == 1);
          }
        }
      }
    }
  }
}

TEST_CASE("many slices and a window that moves", "[compression]") {
  const Coordinator coordinator;
  for (const std::uint32_t strands : {1U, 3U}) {
    const auto comms = make_group(coordinator, 3, [strands](hawser_comm_config_t& config) {
      config.strands = strands;
      config.io_threads = strands;
      config.group = strands;
    });
    const Setting setting{HAWSER_CODEC_NONE, HAWSER_ROUND_NEAREST, HAWSER_AVG, true, true};
    const Run run = reduce(comms, 8'000'003, setting);  // 41 slices of plain f32
    same_bits(run);
    REQUIRE(relative_error(run.results[0], 3, setting) < bounds[0]);
  }
}

TEST_CASE("the bytes on the wire are 2(n-1)/n of the encoded vector", "[compression]") {
  for (const std::uint32_t size : {2U, 4U}) {
    const Coordinator coordinator;
    const auto comms = make_group(coordinator, size);
    constexpr std::size_t count = 1'000'000;
    for (std::uint32_t codec = HAWSER_CODEC_BF16; codec <= HAWSER_CODEC_MINMAX8; ++codec) {
      const Run run = reduce(comms, count, {codec});
      hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
      compression.codec = codec;
      const double formula =
          2.0 * (size - 1) / size * static_cast<double>(hawser_compressed_bytes(&compression, count));
      for (const auto& info : run.infos) {
        CHECK(std::abs(static_cast<double>(info.bytes_sent) / formula - 1) < 0.03);
        CHECK(std::abs(static_cast<double>(info.bytes_received) / formula - 1) < 0.03);
      }
    }
  }
}

TEST_CASE("weights: the weighted average, left-out values are not looked at", "[compression]") {
  for (const std::uint32_t size : {1U, 2U, 4U}) {
    const Coordinator coordinator;
    const auto comms = make_group(coordinator, size);
    for (const std::uint32_t codec : {HAWSER_CODEC_NONE, HAWSER_CODEC_INT8}) {
      for (const std::size_t count : {0U, 5U, 70001U}) {
        const Setting setting{codec, HAWSER_ROUND_NEAREST, HAWSER_AVG, false, true};
        const Run run = reduce(comms, count, setting);
        same_bits(run);
        if (count > 5) REQUIRE(relative_error(run.results[0], size, setting) < bounds[codec] * 2);
        for (const auto& info : run.infos) {
          REQUIRE(info.contributors == size - 1);  // rank 0 has weight 0
          REQUIRE(info.total_weight == 1.5 * (size * (size - 1) / 2));
        }
      }
    }
    // A NaN where the weight is 0 harms nobody; the weights are reported.
    in_threads(size, [&](std::uint32_t i) {
      const std::uint32_t rank = view_of(comms[i]).rank;
      std::vector<float> data(3000, rank == 0 ? NAN : 2.0F);
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.weighted = 1;
      options.weight = rank == 0 ? 0.0 : 3.0;
      std::vector<double> weights(size, -1);
      hawser_op_info_t info = HAWSER_OP_INFO_INIT;
      info.participant_capacity = size;
      info.participant_weights = weights.data();
      expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_F32, HAWSER_AVG, &options,
                               &info),
             HAWSER_OK, "weighted");
      const float wanted = size == 1 ? 0.0F : 2.0F;
      check(std::all_of(data.begin(), data.end(), [&](float v) { return v == wanted; }), "wrong average");
      for (std::uint32_t r = 0; r < size; ++r) check(weights[r] == (r == 0 ? 0.0 : 3.0), "wrong weight reported");
    });
  }
}

TEST_CASE("half-width inputs are compressed through f32", "[compression]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 3);
  in_threads(3, [&](std::uint32_t i) {
    std::vector<std::uint16_t> data(5000, 0x3f80);  // 1 in bf16
    hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
    compression.codec = HAWSER_CODEC_INT8;
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.compression = &compression;
    expect(hawser_all_reduce(comms[i].get(), data.data(), data.data(), data.size(), HAWSER_BF16, HAWSER_SUM, &options,
                             nullptr),
           HAWSER_OK, "all_reduce");
    check(std::all_of(data.begin(), data.end(), [](std::uint16_t v) { return v == 0x4040; }), "not 3");
  });
}

TEST_CASE("error feedback: what is left out comes later, and only commits change it", "[compression]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  constexpr std::size_t count = 4096;
  constexpr int rounds = 64;
  in_threads(2, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    const std::vector<float> send = inputs(rank, count);
    hawser_residual_t* residual = nullptr;
    expect(hawser_residual_create(count, &residual), HAWSER_OK, "create");
    for (const bool feedback : {false, true}) {
      std::vector<double> sum(count, 0);
      for (int round = 0; round < rounds; ++round) {
        hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
        compression.codec = HAWSER_CODEC_INT4;
        compression.residual = feedback ? residual : nullptr;
        hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
        options.compression = &compression;
        std::vector<float> out(count);
        expect(hawser_all_reduce(comms[i].get(), send.data(), out.data(), count, HAWSER_F32, HAWSER_AVG, &options,
                                 nullptr),
               HAWSER_OK, "all_reduce");
        for (std::size_t k = 0; k < count; ++k) sum[k] += static_cast<double>(out[k]);
      }
      const std::vector<float> a = inputs(0, count);
      const std::vector<float> b = inputs(1, count);
      double error = 0;
      for (std::size_t k = 0; k < count; ++k) {
        const double wanted = (static_cast<double>(a[k]) + static_cast<double>(b[k])) / 2;
        error += std::pow(sum[k] / rounds - wanted, 2);
      }
      error = std::sqrt(error / count);
      // The owner's quantization of the result has no feedback, so it stays; the contributions' part goes away.
      check(feedback ? error < 0.09 : error > 0.09, "error " + std::to_string(error));
    }
    // A call that ends without a result leaves the residual as it is.
    std::vector<float> before(count);
    expect(hawser_residual_read(residual, before.data(), count), HAWSER_OK, "read");
    check(std::any_of(before.begin(), before.end(), [](float v) { return v != 0; }), "the residual is still empty");
    hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
    compression.codec = HAWSER_CODEC_INT4;
    compression.residual = residual;
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.compression = &compression;
    options.min_participants = 3;
    std::vector<float> out(count);
    expect(hawser_all_reduce(comms[i].get(), send.data(), out.data(), count, HAWSER_F32, HAWSER_AVG, &options, nullptr),
           HAWSER_TOO_FEW, "all_reduce");
    options.min_participants = 0;
    hawser_op_t* op = nullptr;
    if (rank == 0) {  // the other one never comes: cancelled
      options.tag = 9;
      expect(hawser_all_reduce_start(comms[i].get(), send.data(), out.data(), count, HAWSER_F32, HAWSER_AVG, &options,
                                     &op),
             HAWSER_OK, "start");
      expect(hawser_residual_write(residual, before.data(), count), HAWSER_INVALID_ARGUMENT, "write while in use");
      expect(hawser_op_cancel(op), HAWSER_OK, "cancel");
      expect(hawser_op_wait(op, 0, nullptr), HAWSER_CANCELLED, "wait");
      expect(hawser_op_release(op), HAWSER_OK, "release");
    }
    std::vector<float> after(count);
    expect(hawser_residual_read(residual, after.data(), count), HAWSER_OK, "read");
    check(after == before, "the residual changed without a commit");
    expect(hawser_residual_destroy(residual), HAWSER_OK, "destroy");
  });
}

TEST_CASE("codecs that differ are named, what cannot be compressed is refused", "[compression]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  in_threads(2, [&](std::uint32_t i) {
    const std::uint32_t rank = view_of(comms[i]).rank;
    std::vector<float> data(1000, 1.0F);
    const auto call = [&](hawser_compression_t compression, hawser_dtype_t dtype, hawser_redop_t redop, double weight) {
      hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
      options.compression = &compression;
      options.weight = weight;
      options.weighted = weight != 0 ? 1 : 0;
      return hawser_all_reduce(comms[i].get(), data.data(), data.data(), 100, dtype, redop, &options, nullptr);
    };
    hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
    compression.codec = rank == 0 ? HAWSER_CODEC_INT8 : HAWSER_CODEC_INT4;
    expect(call(compression, HAWSER_F32, HAWSER_AVG, 0), HAWSER_MISMATCH, "codecs");
    const std::string sentence = hawser_last_error();
    check(sentence.find("int8 in blocks of 256") != std::string::npos, sentence);
    check(sentence.find("int4 in blocks of 64") != std::string::npos, sentence);
    check(std::all_of(data.begin(), data.end(), [](float v) { return v == 1.0F; }), "inputs changed");
    compression.codec = HAWSER_CODEC_INT8;
    compression.block = rank == 0 ? 128 : 0;
    expect(call(compression, HAWSER_F32, HAWSER_AVG, 0), HAWSER_MISMATCH, "blocks");
    compression.block = 100;
    expect(call(compression, HAWSER_F32, HAWSER_AVG, 0), HAWSER_INVALID_ARGUMENT, "block 100");
    compression.block = 0;
    expect(call(compression, HAWSER_F64, HAWSER_AVG, 0), HAWSER_INVALID_ARGUMENT, "f64");
    expect(call(compression, HAWSER_I32, HAWSER_SUM, 0), HAWSER_INVALID_ARGUMENT, "i32");
    expect(call(compression, HAWSER_F32, HAWSER_MAX, 0), HAWSER_INVALID_ARGUMENT, "max");
    expect(call(compression, HAWSER_F32, HAWSER_SUM, 2.0), HAWSER_INVALID_ARGUMENT, "weighted sum");
    expect(call(compression, HAWSER_F32, HAWSER_AVG, -1.0), HAWSER_INVALID_ARGUMENT, "negative weight");
    expect(call(compression, HAWSER_F32, HAWSER_AVG, std::nan("")), HAWSER_INVALID_ARGUMENT, "weight NaN");
    compression.codec = 17;
    expect(call(compression, HAWSER_F32, HAWSER_AVG, 0), HAWSER_INVALID_ARGUMENT, "codec 17");
    compression.codec = HAWSER_CODEC_INT8;
    expect(call(compression, HAWSER_F32, HAWSER_AVG, 0), HAWSER_OK, "the communicator is still of use");
  });
}

TEST_CASE("stochastic rounding: the average over operations comes near, whatever the seeds", "[compression]") {
  const Coordinator coordinator;
  const auto comms = make_group(coordinator, 2);
  for (const int seeds : {1, 0}) {  // one each, which count as the operations do; one for all
    in_threads(2, [&](std::uint32_t i) {
      constexpr std::size_t count = 1024;
      constexpr int rounds = 100;
      const std::vector<float> send = inputs(view_of(comms[i]).rank, count);
      std::vector<double> sum(count, 0);
      for (int round = 0; round < rounds; ++round) {
        hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
        compression.codec = HAWSER_CODEC_INT4;
        compression.rounding = HAWSER_ROUND_STOCHASTIC;
        compression.seed = static_cast<std::uint64_t>(seeds * round);
        hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
        options.compression = &compression;
        std::vector<float> out(count);
        expect(hawser_all_reduce(comms[i].get(), send.data(), out.data(), count, HAWSER_F32, HAWSER_AVG, &options,
                                 nullptr),
               HAWSER_OK, "all_reduce");
        for (std::size_t k = 0; k < count; ++k) sum[k] += static_cast<double>(out[k]);
      }
      const std::vector<float> a = inputs(0, count);
      const std::vector<float> b = inputs(1, count);
      double error = 0;
      double norm = 0;
      for (std::size_t k = 0; k < count; ++k) {
        const double wanted = (static_cast<double>(a[k]) + static_cast<double>(b[k])) / 2;
        error += std::pow(sum[k] / rounds - wanted, 2);
        norm += wanted * wanted;
      }
      // One operation errs by about 0.25; a hundred independent ones by a tenth of that.
      check(std::sqrt(error / norm) < 0.04, "error " + std::to_string(std::sqrt(error / norm)));
    });
  }
}
