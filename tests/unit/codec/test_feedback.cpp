// Error feedback: what one round leaves out, the next ones bring, so that the mean over rounds becomes the true value
// and the residual stays bounded; without it a code's error stays for ever.
#include "unit/codec/samples.hpp"

using namespace hawser;
using namespace samples;

namespace {

constexpr std::size_t members = 4;
constexpr std::size_t dimensions = 1000;
constexpr std::size_t rounds = 200;

struct Group {
  std::vector<std::vector<float>> gradient;  // each member's, the same in all rounds
  std::vector<double> mean;                  // of the members
};

Group make_group() {
  Group group;
  group.mean.resize(dimensions);
  for (std::size_t rank = 0; rank < members; ++rank) {
    group.gradient.push_back(gaussian(dimensions, 40 + rank));
    for (std::size_t i = 0; i < dimensions; ++i) {
      group.mean[i] += static_cast<double>(group.gradient[rank][i]) / static_cast<double>(members);
    }
  }
  return group;
}

struct Outcome {
  double error = 0;         // of the mean over rounds, relative L2
  double residual_max = 0;  // greatest magnitude in any member's residual in any round
};

Outcome run(const Group& group, const Format& format, bool feedback, float decay) {
  std::vector<std::vector<float>> residual(members, std::vector<float>(dimensions));
  std::vector<double> total(dimensions);
  Outcome outcome;
  for (std::size_t round = 0; round < rounds; ++round) {
    std::vector<float> sum(dimensions);
    for (std::size_t rank = 0; rank < members; ++rank) {
      std::vector<std::byte> blob(codec::encoded_bytes(format, dimensions));
      const Noise noise{round * members + rank, 0};
      const Variant variant = twin::variants()[rank % twin::variants().size()];
      if (feedback) {
        codec::encode_fed_back(format, group.gradient[rank].data(), residual[rank].data(), decay, dimensions,
                               blob.data(), residual[rank].data(), noise, variant);
        for (const float x : residual[rank]) {
          outcome.residual_max = std::max(outcome.residual_max, static_cast<double>(std::fabs(x)));
        }
      } else {
        codec::encode(format, group.gradient[rank].data(), dimensions, blob.data(), noise, variant);
      }
      codec::decode_add(format, blob.data(), dimensions, sum.data(), 1, variant);
    }
    for (std::size_t i = 0; i < dimensions; ++i) {
      total[i] += static_cast<double>(sum[i]) / static_cast<double>(members * rounds);
    }
  }
  double wrong = 0;
  double size = 0;
  for (std::size_t i = 0; i < dimensions; ++i) {
    wrong += (total[i] - group.mean[i]) * (total[i] - group.mean[i]);
    size += group.mean[i] * group.mean[i];
  }
  outcome.error = std::sqrt(wrong / size);
  return outcome;
}

}  // namespace

TEST_CASE("with error feedback the mean of int4 rounds becomes the true mean", "[codec][feedback]") {
  const Group group = make_group();
  const Format format = format_of(Codec::int4);
  const Outcome with = run(group, format, true, 1);
  const Outcome without = run(group, format, false, 1);
  // The sum of what was sent is that of what was meant less the residual, which is at most half a step: about
  // 3.2 / 7 / 2. So the mean's error falls as 1 / rounds; alone it stays that of one code.
  CHECK(with.error < 0.002);
  CHECK(with.residual_max < 0.5);
  CHECK(without.error > 0.08);
}

TEST_CASE("error feedback also serves stochastic rounding and other codecs", "[codec][feedback]") {
  const Group group = make_group();
  for (const Format& format : {format_of(Codec::int4, 0, Rounding::stochastic), format_of(Codec::int4, 1024)}) {
    const Outcome with = run(group, format, true, 1);
    INFO(name_of(format));
    CHECK(with.error < 0.005);
    CHECK(with.residual_max < 1.5);
  }
  CHECK(run(group, format_of(Codec::int8), true, 1).error < 0.0002);
  CHECK(run(group, format_of(Codec::minmax8), true, 1).error < 0.0002);
  CHECK(run(group, format_of(Codec::bf16), true, 1).error < 0.0001);
}

TEST_CASE("a decay forgets, in between with and without", "[codec][feedback]") {
  const Group group = make_group();
  const Format format = format_of(Codec::int4);
  const double none = run(group, format, false, 1).error;
  const double some = run(group, format, true, 0.9F).error;
  const double all = run(group, format, true, 1).error;
  CHECK(all < 0.5 * some);
  CHECK(some < 0.5 * none);
  // Decay 0 is no feedback at all.
  CHECK(run(group, format, true, 0).error == none);
}

TEST_CASE("the residual is what the code leaves out, and 0 where that is not finite", "[codec][feedback]") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Variant variant : twin::variants()) {
    const auto run_one = [&](const Format& format, const std::vector<float>& in, std::vector<float> residual) {
      std::vector<std::byte> blob(codec::encoded_bytes(format, in.size()));
      codec::encode_fed_back(format, in.data(), residual.data(), 0.5F, in.size(), blob.data(), residual.data(), {},
                             variant);
      return residual;
    };
    CHECK(run_one(format_of(Codec::int8), {127, 3, 5}, {0, 0.5F, 0.875F}) == std::vector<float>{0, 0.25F, 0.4375F});
    CHECK(run_one(format_of(Codec::none), {127, 3, infinity}, {1, 2, 3}) == std::vector<float>{0, 0, 0});
    CHECK(run_one(format_of(Codec::int4), {7, infinity, 1}, {0, 0, 0}) == std::vector<float>{0, 0, 0});
    // f16 overflows where others do not.
    CHECK(run_one(format_of(Codec::f16), {70000, 2049, infinity}, {0, 0, 0}) == std::vector<float>{0, 1, 0});
  }
}
