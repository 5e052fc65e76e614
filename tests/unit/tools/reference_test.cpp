// The exact results that bench and stress compare with: against values worked out by hand, against the definition
// computed element by element in another way, and for what makes them useful (order does not matter, damage shows).
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "hawser/reference.hpp"
#include "hawser/text.hpp"
#include "support/catch.hpp"

namespace {

float f32_of_f16(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const float sign = (bits & 0x8000) != 0 ? -1.0F : 1.0F;
  if (exponent == 31)
    return mantissa != 0 ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
  return sign * (exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                               : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25));
}

float f32_of_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

template <typename T>
T element(const tool::Pattern& pattern, std::size_t index) {
  T value{};
  std::memcpy(&value, pattern.data() + index * sizeof(T), sizeof(T));
  return value;
}

std::vector<std::uint64_t> keys(std::size_t count) {
  std::vector<std::uint64_t> list;
  for (std::size_t i = 0; i < count; ++i) list.push_back(tool::mix(99, i));
  return list;
}

}  // namespace

TEST_CASE("f16 rounds to nearest even", "[reference]") {
  CHECK(tool::f16_of(0.0F) == 0x0000);
  CHECK(tool::f16_of(-0.0F) == 0x8000);
  CHECK(tool::f16_of(1.0F) == 0x3c00);
  CHECK(tool::f16_of(-2.0F) == 0xc000);
  CHECK(tool::f16_of(65504.0F) == 0x7bff);
  CHECK(tool::f16_of(65519.996F) == 0x7bff);
  CHECK(tool::f16_of(65520.0F) == 0x7c00);
  CHECK(tool::f16_of(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK(tool::f16_of(std::numeric_limits<float>::quiet_NaN()) == 0x7e00);
  CHECK(tool::f16_of(2049.0F) == tool::f16_of(2048.0F));  // a tie, to the even neighbour
  CHECK(tool::f16_of(2051.0F) == tool::f16_of(2052.0F));
  CHECK(tool::f16_of(0x1p-24F) == 0x0001);
  CHECK(tool::f16_of(0x1p-25F) == 0x0000);
  CHECK(tool::f16_of(0x1.8p-25F) == 0x0001);
  CHECK(tool::f16_of(0x1p-26F) == 0x0000);
  CHECK(tool::f16_of(0x1.ff8p-15F) == 0x03ff);  // the largest subnormal
  CHECK(tool::f16_of(0x1.ffcp-15F) == 0x0400);  // rounds up to the least normal
  CHECK(tool::f16_of(0x1p-14F) == 0x0400);
}

TEST_CASE("every f16 and bf16 value survives the way through f32", "[reference]") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float from_f16 = f32_of_f16(half);
    if (!std::isnan(from_f16) && tool::f16_of(from_f16) != half) FAIL("f16 " << bits);
    const float from_bf16 = f32_of_bf16(half);
    if (!std::isnan(from_bf16) && tool::bf16_of(from_bf16) != half) FAIL("bf16 " << bits);
  }
  CHECK(tool::bf16_of(257.0F) == tool::bf16_of(256.0F));
  CHECK(tool::bf16_of(259.0F) == tool::bf16_of(260.0F));
  CHECK(tool::bf16_of(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(tool::bf16_of(-std::numeric_limits<float>::quiet_NaN()) == 0x7fc0);
}

TEST_CASE("the reduction of one peer's input is that input", "[reference]") {
  for (const hawser_dtype_t dtype : tool::all_dtypes) {
    for (const hawser_redop_t redop : tool::all_redops) {
      CAPTURE(tool::dtype_name(dtype), tool::redop_name(redop));
      const auto key = keys(1);
      const tool::Pattern input = tool::input_pattern(dtype, redop, key[0], 500);
      const tool::Pattern expected = tool::expected_pattern(dtype, redop, key, 500);
      CHECK(expected.mismatches(input.data(), 500) == 0);
    }
  }
}

TEST_CASE("integer reductions wrap, and avg truncates towards zero", "[reference]") {
  const auto key = keys(5);
  constexpr std::size_t count = 2000;
  std::vector<tool::Pattern> inputs;
  for (const hawser_redop_t redop : tool::all_redops) {
    CAPTURE(tool::redop_name(redop));
    inputs.clear();
    for (const std::uint64_t k : key) inputs.push_back(tool::input_pattern(HAWSER_I8, redop, k, count));
    const tool::Pattern expected = tool::expected_pattern(HAWSER_I8, redop, key, count);
    std::size_t wrong = 0;
    std::size_t negative = 0;
    for (std::size_t i = 0; i < count; ++i) {
      int total = redop == HAWSER_PROD ? 1 : 0;
      int least = 127;
      int greatest = -128;
      for (const tool::Pattern& input : inputs) {
        const int value = element<std::int8_t>(input, i);
        // Wrapped at each step, as a ring does it.
        total = static_cast<std::int8_t>(redop == HAWSER_PROD ? total * value : total + value);
        least = std::min(least, value);
        greatest = std::max(greatest, value);
      }
      int result = total;
      if (redop == HAWSER_AVG) result = total / 5;
      if (redop == HAWSER_MIN) result = least;
      if (redop == HAWSER_MAX) result = greatest;
      if (result != element<std::int8_t>(expected, i)) ++wrong;
      if (result < 0) ++negative;
    }
    CHECK(wrong == 0);
    CHECK(negative > 0);
  }
}

TEST_CASE("unsigned averages divide without a sign", "[reference]") {
  const auto key = keys(3);
  const tool::Pattern expected = tool::expected_pattern(HAWSER_U64, HAWSER_AVG, key, 100);
  for (std::size_t i = 0; i < 100; ++i) {
    std::uint64_t total = 0;
    for (const std::uint64_t k : key)
      total += element<std::uint64_t>(tool::input_pattern(HAWSER_U64, HAWSER_AVG, k, 100), i);
    REQUIRE(element<std::uint64_t>(expected, i) == total / 3);
  }
}

TEST_CASE("float sums and products are exact in every order", "[reference]") {
  const auto key = keys(63);
  constexpr std::size_t count = 300;
  for (const hawser_redop_t redop : {HAWSER_SUM, HAWSER_PROD, HAWSER_MIN, HAWSER_MAX}) {
    CAPTURE(tool::redop_name(redop));
    std::vector<tool::Pattern> wide;
    std::vector<tool::Pattern> brain;
    for (const std::uint64_t k : key) {
      wide.push_back(tool::input_pattern(HAWSER_F32, redop, k, count));
      brain.push_back(tool::input_pattern(HAWSER_BF16, redop, k, count));
    }
    const tool::Pattern expected = tool::expected_pattern(HAWSER_F32, redop, key, count);
    const tool::Pattern expected_brain = tool::expected_pattern(HAWSER_BF16, redop, key, count);
    const auto combine = [&](float a, float b) {
      switch (redop) {
        case HAWSER_SUM:
        case HAWSER_AVG:
          return a + b;
        case HAWSER_PROD:
          return a * b;
        case HAWSER_MIN:
          return std::min(a, b);
        case HAWSER_MAX:
          break;
      }
      return std::max(a, b);
    };
    for (std::size_t i = 0; i < count; ++i) {
      float forward = element<float>(wide.front(), i);
      float backward = element<float>(wide.back(), i);
      // Rounded to bf16 after each step: the sums are small enough for even that to be exact.
      std::uint16_t rounded = element<std::uint16_t>(brain.front(), i);
      for (std::size_t peer = 1; peer < key.size(); ++peer) {
        forward = combine(forward, element<float>(wide[peer], i));
        backward = combine(backward, element<float>(wide[key.size() - 1 - peer], i));
        rounded = tool::bf16_of(combine(f32_of_bf16(rounded), f32_of_bf16(element<std::uint16_t>(brain[peer], i))));
      }
      REQUIRE(std::bit_cast<std::uint32_t>(forward) == element<std::uint32_t>(expected, i));
      REQUIRE(std::bit_cast<std::uint32_t>(backward) == element<std::uint32_t>(expected, i));
      REQUIRE(rounded == element<std::uint16_t>(expected_brain, i));
    }
  }
}

TEST_CASE("half-width averages are divided in f32 and rounded once", "[reference]") {
  const auto key = keys(3);
  constexpr std::size_t count = 400;
  const tool::Pattern expected = tool::expected_pattern(HAWSER_F16, HAWSER_AVG, key, count);
  std::size_t inexact = 0;
  for (std::size_t i = 0; i < count; ++i) {
    float total = 0;
    for (const std::uint64_t k : key) {
      total += f32_of_f16(element<std::uint16_t>(tool::input_pattern(HAWSER_F16, HAWSER_AVG, k, count), i));
    }
    const float quotient = total / 3.0F;
    const std::uint16_t rounded = element<std::uint16_t>(expected, i);
    REQUIRE(rounded == tool::f16_of(quotient));
    if (f32_of_f16(rounded) < quotient || f32_of_f16(rounded) > quotient) ++inexact;
  }
  CHECK(inexact > 0);  // otherwise the rounding was never tried
}

TEST_CASE("the order of the peers does not matter", "[reference]") {
  auto key = keys(7);
  for (const hawser_dtype_t dtype : tool::all_dtypes) {
    for (const hawser_redop_t redop : tool::all_redops) {
      const tool::Pattern one = tool::expected_pattern(dtype, redop, key, 300);
      auto reversed = key;
      std::reverse(reversed.begin(), reversed.end());
      const tool::Pattern other = tool::expected_pattern(dtype, redop, reversed, 300);
      CAPTURE(tool::dtype_name(dtype), tool::redop_name(redop));
      CHECK(one.mismatches(other.data(), 300) == 0);
    }
  }
}

TEST_CASE("leaving out or doubling a peer shows", "[reference]") {
  const auto key = keys(4);
  const std::vector<std::uint64_t> three(key.begin(), key.begin() + 3);
  std::vector<std::uint64_t> doubled = three;
  doubled.push_back(three.back());
  for (const hawser_dtype_t dtype : tool::all_dtypes) {
    for (const hawser_redop_t redop : tool::all_redops) {
      CAPTURE(tool::dtype_name(dtype), tool::redop_name(redop));
      const tool::Pattern all = tool::expected_pattern(dtype, redop, key, 1000);
      CHECK(all.mismatches(tool::expected_pattern(dtype, redop, three, 1000).data(), 1000) > 0);
      CHECK(all.mismatches(tool::expected_pattern(dtype, redop, doubled, 1000).data(), 1000) > 0);
    }
  }
}

TEST_CASE("patterns repeat over a buffer and count what differs", "[reference]") {
  constexpr std::size_t count = 3 * tool::pattern_period + 17;
  const tool::Pattern pattern = tool::input_pattern(HAWSER_U16, HAWSER_SUM, 5, count);
  CHECK(pattern.period() == tool::pattern_period);
  std::vector<std::uint16_t> buffer(count);
  pattern.fill(buffer.data(), count);
  CHECK(pattern.mismatches(buffer.data(), count) == 0);
  CHECK(buffer[tool::pattern_period] == buffer[0]);
  buffer.front() ^= 1U;
  buffer[tool::pattern_period + 3] ^= 0x8000U;
  buffer.back() ^= 2U;
  CHECK(pattern.mismatches(buffer.data(), count) == 3);

  // A shift by a power of two, as a chunk in a wrong place makes it, is seen.
  pattern.fill(buffer.data(), count);
  std::rotate(buffer.begin(), buffer.begin() + 4096, buffer.end());
  CHECK(pattern.mismatches(buffer.data(), count) > count / 2);
  CHECK(pattern.mismatches(nullptr, 0) == 0);
}

TEST_CASE("neutral elements stay what they are", "[reference]") {
  const tool::Pattern zeros = tool::neutral_pattern(HAWSER_F32, HAWSER_SUM, 10);
  const tool::Pattern ones = tool::neutral_pattern(HAWSER_BF16, HAWSER_PROD, 10);
  CHECK(element<std::uint32_t>(zeros, 9) == 0);
  CHECK(element<std::uint16_t>(ones, 9) == 0x3f80);
}
