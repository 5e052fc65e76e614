// Bounds of the errors of compressed all-reduces. Pure; any thread.
#include "compressed.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace tool {
namespace {

double f16_value(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int significand = bits & 1023;
  double magnitude = 0;
  if (exponent == 31) {
    magnitude = significand != 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
  } else {
    magnitude = exponent == 0 ? std::ldexp(significand, -24) : std::ldexp(1024 + significand, exponent - 25);
  }
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

// Half of the distance of neighbours, of numbers up to `greatest`.
double half_step(hawser_dtype_t dtype, double greatest) {
  if (dtype == HAWSER_BF16) return greatest * 0x1p-8;
  if (dtype == HAWSER_F16) return greatest * 0x1p-11 + 0x1p-25;
  return greatest * 0x1p-24;
}

// What one code is off by at most where no element of its block is greater.
double code_error(const hawser_compression_t& compression, double greatest) {
  double half = 0;
  switch (static_cast<hawser_codec_t>(compression.codec)) {
    case HAWSER_CODEC_NONE:
      return 0;
    case HAWSER_CODEC_BF16:
      half = half_step(HAWSER_BF16, greatest);
      break;
    case HAWSER_CODEC_F16:
      half = half_step(HAWSER_F16, greatest);
      break;
    case HAWSER_CODEC_INT8:
      half = greatest / 127 / 2;
      break;
    case HAWSER_CODEC_INT4:
      half = greatest / 7 / 2;
      break;
    case HAWSER_CODEC_MINMAX8:
      half = 2 * greatest / 255 / 2;
      break;
  }
  return compression.rounding == HAWSER_ROUND_STOCHASTIC ? 2 * half : half;
}

double greatest_of(const Pattern& pattern, hawser_dtype_t dtype) {
  double greatest = 0;
  for (std::size_t i = 0; i < pattern.period(); ++i) {
    greatest = std::max(greatest, std::fabs(value_of(dtype, pattern.data() + i * hawser_dtype_size(dtype))));
  }
  return greatest;
}

}  // namespace

std::optional<hawser_codec_t> parse_codec(std::string_view name) {
  const auto* const found = std::find(std::begin(codec_names), std::end(codec_names), name);
  if (found == std::end(codec_names)) return std::nullopt;
  return static_cast<hawser_codec_t>(found - std::begin(codec_names));
}

std::optional<hawser_rounding_t> parse_rounding(std::string_view name) {
  if (name == "nearest") return HAWSER_ROUND_NEAREST;
  if (name == "stochastic") return HAWSER_ROUND_STOCHASTIC;
  return std::nullopt;
}

double value_of(hawser_dtype_t dtype, const std::byte* element) {
  if (dtype == HAWSER_F32) {
    float value = 0;
    std::memcpy(&value, element, sizeof value);
    return static_cast<double>(value);
  }
  std::uint16_t bits = 0;
  std::memcpy(&bits, element, sizeof bits);
  if (dtype == HAWSER_F16) return f16_value(bits);
  return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
}

double compressed_error_bound(const hawser_compression_t& compression, hawser_dtype_t dtype, hawser_redop_t redop,
                              std::span<const std::uint64_t> keys, std::size_t count) {
  double inputs = 0;  // error of the sum, or of the average, of the encoded contributions
  for (const std::uint64_t key : keys) {
    inputs += code_error(compression, greatest_of(input_pattern(dtype, redop, key, count), dtype));
  }
  if (redop == HAWSER_AVG) inputs /= static_cast<double>(keys.size());
  const double greatest = greatest_of(expected_pattern(dtype, redop, keys, count), dtype) + inputs;
  // What is expected is rounded to the element type, and so is the result. A thousandth for the arithmetic in f32.
  return 1.001 * (inputs + code_error(compression, greatest) + 2 * half_step(dtype, greatest)) + 1e-6 * greatest;
}

std::uint64_t mismatches_beyond(double bound, const Pattern& expected, hawser_dtype_t dtype, const void* buffer,
                                std::size_t count) {
  const std::size_t size = hawser_dtype_size(dtype);
  const auto* at = static_cast<const std::byte*>(buffer);
  std::uint64_t wrong = 0;
  for (std::size_t begin = 0; begin < count; begin += expected.period()) {
    for (std::size_t i = 0; i < std::min(expected.period(), count - begin); ++i, at += size) {
      const double error = std::fabs(value_of(dtype, at) - value_of(dtype, expected.data() + i * size));
      if (!(error <= bound)) ++wrong;
    }
  }
  return wrong;
}

}  // namespace tool
