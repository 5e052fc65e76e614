// The error of a two-shot all-reduce made of these functions: each contribution is quantized once, the owner adds what
// the codes say in the order of ranks in f32, divides, quantizes once more, and everyone decodes the same bytes.
#include "unit/codec/samples.hpp"

using namespace hawser;
using namespace samples;

namespace {

constexpr std::size_t dimensions = 65536;

std::vector<float> two_shot(const Format& format, const std::vector<std::vector<float>>& inputs, Variant variant) {
  const std::size_t count = inputs[0].size();
  std::vector<std::byte> blob(codec::encoded_bytes(format, count));
  std::vector<float> sum(count);
  for (std::size_t rank = 0; rank < inputs.size(); ++rank) {
    codec::encode(format, inputs[rank].data(), count, blob.data(), Noise{rank + 1, 0}, variant);
    codec::decode_add(format, blob.data(), count, sum.data(), 1, variant);
  }
  kernels::divide(Dtype::f32, sum.data(), count, static_cast<std::uint32_t>(inputs.size()), variant);
  codec::encode(format, sum.data(), count, blob.data(), Noise{1000, 0}, variant);
  std::vector<float> out(count);
  codec::decode(format, blob.data(), count, out.data(), variant);
  return out;
}

struct Outcome {
  double error = 0;  // relative, L2
  double gain = 0;   // <out, true> / <true, true>
};

// Inputs are a common signal and noise of the same power.
Outcome measure(const Format& format, std::size_t members, std::uint64_t seed) {
  const std::vector<float> common = gaussian(dimensions, seed);
  std::vector<std::vector<float>> inputs;
  for (std::size_t rank = 0; rank < members; ++rank) {
    inputs.push_back(gaussian(dimensions, seed + 100 + rank));
    for (std::size_t i = 0; i < dimensions; ++i) inputs.back()[i] += common[i];
  }
  const std::vector<float> out = two_shot(format, inputs, kernels::best_variant());
  double wrong = 0;
  double size = 0;
  double along = 0;
  for (std::size_t i = 0; i < dimensions; ++i) {
    double truth = 0;
    for (const auto& input : inputs) truth += static_cast<double>(input[i]);
    truth /= static_cast<double>(members);
    const double difference = static_cast<double>(out[i]) - truth;
    wrong += difference * difference;
    size += truth * truth;
    along += static_cast<double>(out[i]) * truth;
  }
  return {std::sqrt(wrong / size), along / size};
}

}  // namespace

TEST_CASE("a two-shot average has the errors that are documented", "[codec][two-shot]") {
  struct Row {
    Format format;
    double error[4];  // of 2, 4, 8 and 16 members
  };
  const Rounding random = Rounding::stochastic;
  const Row rows[] = {
      {format_of(Codec::int8, 256), {0.0091, 0.0082, 0.0077, 0.0073}},
      {format_of(Codec::int8, 256, random), {0.0128, 0.0117, 0.0109, 0.0102}},
      {format_of(Codec::int4, 64), {0.141, 0.127, 0.119, 0.113}},
      {format_of(Codec::int4, 64, random), {0.195, 0.181, 0.168, 0.160}},
      {format_of(Codec::minmax8, 256), {0.0083, 0.0076, 0.0070, 0.0067}},
      {format_of(Codec::minmax8, 256, random), {0.0118, 0.0107, 0.0100, 0.0095}},
      {format_of(Codec::bf16), {0.0023, 0.0020, 0.0018, 0.0018}},
      {format_of(Codec::bf16, 0, random), {0.0029, 0.0028, 0.0026, 0.0025}},
      {format_of(Codec::f16), {0.00029, 0.00025, 0.00023, 0.00022}},
      {format_of(Codec::f16, 0, random), {0.00036, 0.00034, 0.00032, 0.00031}},
  };
  const std::size_t worlds[] = {2, 4, 8, 16};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < 4; ++i) {
      const Outcome outcome = measure(row.format, worlds[i], 31 * i + 1);
      INFO(name_of(row.format) << ", " << worlds[i] << " members");
      CHECK(outcome.error > 0.9 * row.error[i]);
      CHECK(outcome.error < 1.1 * row.error[i]);
      if (row.format == rows[0].format) CHECK(outcome.error <= 0.011);
      CHECK(std::fabs(outcome.gain - 1) < 0.005);
    }
  }
}

TEST_CASE("codes of one value each have the errors that are documented", "[codec][two-shot]") {
  struct Row {
    Format format;
    double error;
  };
  const Rounding random = Rounding::stochastic;
  const Row rows[] = {
      {format_of(Codec::int8, 32), 0.00536},
      {format_of(Codec::int8, 64), 0.00594},
      {format_of(Codec::int8, 128), 0.00647},
      {format_of(Codec::int8, 256), 0.00693},
      {format_of(Codec::int8, 1024), 0.00776},
      {format_of(Codec::int8, 4096), 0.00841},
      {format_of(Codec::int4, 32), 0.0967},
      {format_of(Codec::int4, 64), 0.107},
      {format_of(Codec::int4, 128), 0.117},
      {format_of(Codec::int4, 256), 0.125},
      {format_of(Codec::int4, 1024), 0.141},
      {format_of(Codec::minmax8, 64), 0.00526},
      {format_of(Codec::minmax8, 256), 0.0064},
      {format_of(Codec::minmax8, 1024), 0.00731},
      {format_of(Codec::int8, 256, random), 0.00981},
      {format_of(Codec::int4, 64, random), 0.153},
      {format_of(Codec::bf16), 0.00166},
      {format_of(Codec::bf16, 0, random), 0.00236},
      {format_of(Codec::f16), 0.00021},
      {format_of(Codec::f16, 0, random), 0.0003},
  };
  for (const Row& row : rows) {
    const std::vector<float> in = gaussian(dimensions, 77);
    std::vector<std::byte> blob(codec::encoded_bytes(row.format, dimensions));
    std::vector<float> out(dimensions);
    codec::encode(row.format, in.data(), dimensions, blob.data(), Noise{}, kernels::best_variant());
    codec::decode(row.format, blob.data(), dimensions, out.data(), kernels::best_variant());
    double wrong = 0;
    double size = 0;
    for (std::size_t i = 0; i < dimensions; ++i) {
      wrong += std::pow(static_cast<double>(out[i]) - static_cast<double>(in[i]), 2);
      size += std::pow(static_cast<double>(in[i]), 2);
    }
    INFO(name_of(row.format));
    const double error = std::sqrt(wrong / size);
    CHECK(error > 0.9 * row.error);
    CHECK(error < 1.1 * row.error);
  }
}
