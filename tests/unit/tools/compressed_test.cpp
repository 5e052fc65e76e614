// The bounds by which bench judges compressed results: against errors worked out by hand, and that damage shows.
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "hawser/compressed.hpp"
#include "support/catch.hpp"

namespace {

hawser_compression_t compression_of(hawser_codec_t codec, hawser_rounding_t rounding = HAWSER_ROUND_NEAREST) {
  hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
  compression.codec = codec;
  compression.rounding = rounding;
  return compression;
}

const std::vector<std::uint64_t> keys = {1, 2, 3, 4};

double bound(hawser_codec_t codec, hawser_redop_t redop, hawser_rounding_t rounding = HAWSER_ROUND_NEAREST) {
  return tool::compressed_error_bound(compression_of(codec, rounding), HAWSER_F32, redop, keys, 100000);
}

}  // namespace

TEST_CASE("codecs and roundings have names", "[compressed]") {
  CHECK(tool::parse_codec("none") == HAWSER_CODEC_NONE);
  CHECK(tool::parse_codec("minmax8") == HAWSER_CODEC_MINMAX8);
  CHECK_FALSE(tool::parse_codec("int9"));
  CHECK(tool::parse_rounding("stochastic") == HAWSER_ROUND_STOCHASTIC);
  CHECK_FALSE(tool::parse_rounding("up"));
}

TEST_CASE("the bound is that of the contributions and of the result", "[compressed]") {
  // Inputs are integers up to 1000 in magnitude, and sums of four up to 4000, seldom all of it.
  const double four = 4 * 1000.0 / 127 / 2;
  CHECK(bound(HAWSER_CODEC_INT8, HAWSER_SUM) > four);
  CHECK(bound(HAWSER_CODEC_INT8, HAWSER_SUM) < 1.01 * (four + (4000 + four) / 127 / 2));
  CHECK(bound(HAWSER_CODEC_INT8, HAWSER_AVG) < 1.01 * (four / 4 + (1000 + four) / 127 / 2));
  CHECK(bound(HAWSER_CODEC_INT8, HAWSER_SUM, HAWSER_ROUND_STOCHASTIC) > 2 * four);
  CHECK(bound(HAWSER_CODEC_INT4, HAWSER_SUM) > 4 * 1000.0 / 7 / 2);
  CHECK(bound(HAWSER_CODEC_F16, HAWSER_SUM) < bound(HAWSER_CODEC_BF16, HAWSER_SUM));
  CHECK(bound(HAWSER_CODEC_BF16, HAWSER_SUM) < bound(HAWSER_CODEC_INT8, HAWSER_SUM) * 4);
  CHECK(bound(HAWSER_CODEC_NONE, HAWSER_SUM) < 0.01);
}

TEST_CASE("elements beyond the bound are counted, and what is no number", "[compressed]") {
  for (const hawser_dtype_t dtype : {HAWSER_F32, HAWSER_F16, HAWSER_BF16}) {
    const std::size_t count = 20000;  // more than two periods
    const std::size_t size = hawser_dtype_size(dtype);
    const tool::Pattern expected = tool::expected_pattern(dtype, HAWSER_SUM, keys, count);
    std::vector<std::byte> buffer(count * size);
    expected.fill(buffer.data(), count);
    CHECK(tool::mismatches_beyond(0, expected, dtype, buffer.data(), count) == 0);
    const auto set = [&](std::size_t i, float value) {
      const std::uint16_t half = dtype == HAWSER_F16 ? tool::f16_of(value) : tool::bf16_of(value);
      std::memcpy(buffer.data() + i * size, dtype == HAWSER_F32 ? static_cast<const void*>(&value) : &half, size);
    };
    const std::size_t places[] = {0, 8190, 8191, 19999};
    for (const std::size_t i : places) {
      set(i, static_cast<float>(tool::value_of(dtype, expected.data() + i % tool::pattern_period * size)) + 4);
    }
    CHECK(tool::mismatches_beyond(3.5, expected, dtype, buffer.data(), count) == 4);
    CHECK(tool::mismatches_beyond(4.5, expected, dtype, buffer.data(), count) == 0);
    set(5, std::numeric_limits<float>::quiet_NaN());
    set(6, std::numeric_limits<float>::infinity());
    CHECK(tool::mismatches_beyond(1e9, expected, dtype, buffer.data(), count) == 2);
    CHECK(tool::mismatches_beyond(1, expected, dtype, buffer.data(), 0) == 0);
  }
}
