// The definitions of docs/compression.md on values worked out by hand: codes and scales, zeros, constants, infinities,
// NaNs, the ends of the range of f32, and mistakes that such codecs have made elsewhere.
#include <cfenv>

#include "unit/codec/samples.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

using namespace hawser;
using namespace samples;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float greatest = std::numeric_limits<float>::max();

using Blob = std::vector<std::byte>;

Blob encoded(const Format& format, const std::vector<float>& in, Variant variant = kernels::best_variant(),
             const Noise& noise = {}) {
  Blob out(codec::encoded_bytes(format, in.size()));
  codec::encode(format, in.data(), in.size(), out.data(), noise, variant);
  return out;
}

std::vector<float> decoded(const Format& format, const Blob& blob, std::size_t count,
                           Variant variant = kernels::best_variant()) {
  REQUIRE(codec::check_blob(format, count, blob.size()).ok());
  std::vector<float> out(count);
  codec::decode(format, blob.data(), count, out.data(), variant);
  return out;
}

std::vector<float> there_and_back(const Format& format, const std::vector<float>& in,
                                  Variant variant = kernels::best_variant(), const Noise& noise = {}) {
  return decoded(format, encoded(format, in, variant, noise), in.size(), variant);
}

std::uint32_t word_at(const Blob& blob, std::size_t at) { return twin::get<std::uint32_t>(blob.data() + at); }
int code_at(const Blob& blob, std::size_t at) { return static_cast<std::int8_t>(blob[at]); }

bool is_canonical_nan(float x) { return twin::bits_of(x) == 0x7fc00000u; }
bool is_plus_zero(float x) { return twin::bits_of(x) == 0; }

std::vector<Format> block_formats() {
  std::vector<Format> out;
  for (const Format& format : all_formats()) {
    if (twin::has_blocks(format.codec)) out.push_back(format);
  }
  return out;
}

double greatest_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error = std::max(error, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return error;
}

}  // namespace

TEST_CASE("int8 has a scale and codes to nearest, ties to even", "[codec][values]") {
  for (const Variant variant : twin::variants()) {
    const Format format = format_of(Codec::int8, 32);
    const Blob blob = encoded(format, {127, -127, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, 63.49F, 0.0F}, variant);
    REQUIRE(blob.size() == 4 + 9);
    CHECK(word_at(blob, 0) == twin::bits_of(1));
    const int codes[] = {127, -127, 0, 2, 2, 0, -2, 63, 0};
    for (std::size_t i = 0; i < 9; ++i) CHECK(code_at(blob, 4 + i) == codes[i]);
    CHECK(decoded(format, blob, 9, variant)[7] == 63);
  }
}

TEST_CASE("int4 has two codes a byte, the first in the low nibble", "[codec][values]") {
  for (const Variant variant : twin::variants()) {
    const Format format = format_of(Codec::int4, 32);
    const Blob blob = encoded(format, {7, -7, 3, -1, 0.5F, -2.5F, 1}, variant);
    REQUIRE(blob.size() == 4 + 4);
    CHECK(word_at(blob, 0) == twin::bits_of(1));
    CHECK(blob[4] == std::byte{0x97});
    CHECK(blob[5] == std::byte{0xf3});
    CHECK(blob[6] == std::byte{0xe0});
    CHECK(blob[7] == std::byte{0x01});  // and nothing in the nibble that is left over
    CHECK(decoded(format, blob, 7, variant) == std::vector<float>{7, -7, 3, -1, 0, -2, 1});
  }
}

TEST_CASE("minmax8 has both ends and 256 values between them", "[codec][values]") {
  for (const Variant variant : twin::variants()) {
    const Format format = format_of(Codec::minmax8, 32);
    const Blob blob = encoded(format, {-5, 250, 0, 0.5F, 1.5F, -4.5F}, variant);
    REQUIRE(blob.size() == 8 + 6);
    CHECK(word_at(blob, 0) == twin::bits_of(-5));
    CHECK(word_at(blob, 4) == twin::bits_of(250));
    const int codes[] = {0, 255, 5, 6, 6, 0};  // 5.5 and 6.5 are ties
    for (std::size_t i = 0; i < 6; ++i) CHECK(static_cast<int>(blob[8 + i]) == codes[i]);
    CHECK(decoded(format, blob, 6, variant) == std::vector<float>{-5, 250, 0, 1, 1, -5});
  }
}

TEST_CASE("bf16 and f16 round to nearest even and overflow as IEEE 754 says", "[codec][values]") {
  const std::vector<float> in = {1,      1 + 0x1p-8F, 1 + 0x3p-8F, 65504, 65519,    65520,
                                 -1e10F, 0x1p-24F,    0x1p-25F,    -0.0F, infinity, greatest};
  const std::uint16_t bf16[] = {0x3f80, 0x3f80, 0x3f82, 0x4780, 0x4780, 0x4780,
                                0xd015, 0x3380, 0x3300, 0x8000, 0x7f80, 0x7f80};
  const std::uint16_t f16[] = {0x3c00, 0x3c04, 0x3c0c, 0x7bff, 0x7bff, 0x7c00,
                               0xfc00, 0x0001, 0x0000, 0x8000, 0x7c00, 0x7c00};
  for (const Variant variant : twin::variants()) {
    const Blob upper = encoded(format_of(Codec::bf16), in, variant);
    const Blob half = encoded(format_of(Codec::f16), in, variant);
    for (std::size_t i = 0; i < in.size(); ++i) {
      INFO(variant_name(variant) << " " << in[i]);
      CHECK(twin::get<std::uint16_t>(upper.data() + 2 * i) == bf16[i]);
      CHECK(twin::get<std::uint16_t>(half.data() + 2 * i) == f16[i]);
    }
    for (const Codec codec : {Codec::bf16, Codec::f16}) {
      const Format format = format_of(codec);
      CHECK(is_canonical_nan(there_and_back(format, {twin::float_of(0xff812345u)}, variant)[0]));
      // And what a peer may send.
      CHECK(is_canonical_nan(decoded(format, {std::byte{0x81}, std::byte{0xff}}, 1, variant)[0]));
    }
  }
}

TEST_CASE("at random, overflow is as at nearest, and finite values stay finite", "[codec][values]") {
  const std::vector<float> edges = {65504,
                                    65519.996F,
                                    65520,
                                    -65504,
                                    infinity,
                                    twin::float_of(0x7f7f0000u),
                                    twin::float_of(0x7f7f7fffu),
                                    twin::float_of(0x7f7f8000u)};
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    for (const Variant variant : twin::variants()) {
      const auto half = there_and_back(format_of(Codec::f16, 0, Rounding::stochastic), edges, variant, Noise{seed, 0});
      CHECK(half == std::vector<float>{65504, 65504, infinity, -65504, infinity, infinity, infinity, infinity});
      const auto upper =
          there_and_back(format_of(Codec::bf16, 0, Rounding::stochastic), edges, variant, Noise{seed, 0});
      const float most = twin::float_of(0x7f7f0000u);
      for (std::size_t i = 4; i < 8; ++i) CHECK(upper[i] == (i == 5 || i == 6 ? most : infinity));
    }
  }
}

TEST_CASE("none is the floats as they are", "[codec][values]") {
  const std::vector<float> in = mixed(1000, 3);
  for (const Variant variant : twin::variants()) {
    const std::vector<float> out = there_and_back(format_of(Codec::none), in, variant);
    CHECK(std::memcmp(in.data(), out.data(), 4000) == 0);
  }
}

TEST_CASE("zeros decode to zero", "[codec][values]") {
  for (const Format& format : block_formats()) {
    for (const Variant variant : twin::variants()) {
      std::vector<float> in(format.block + 3);
      for (std::size_t i = 0; i < in.size(); i += 2) in[i] = -0.0F;
      const Blob blob = encoded(format, in, variant);
      CHECK(std::all_of(blob.begin(), blob.end(), [](std::byte byte) { return byte == std::byte{0}; }));
      const std::vector<float> out = decoded(format, blob, in.size(), variant);
      CHECK(std::all_of(out.begin(), out.end(), is_plus_zero));
    }
  }
}

TEST_CASE("a block so small that its scale underflows is zeros", "[codec][values]") {
  const float least = std::numeric_limits<float>::denorm_min();
  for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
    for (const Variant variant : twin::variants()) {
      for (const float x : there_and_back(format_of(Codec::int8, 32, rounding), {63 * least, -5 * least}, variant)) {
        CHECK(is_plus_zero(x));
      }
      for (const float x : there_and_back(format_of(Codec::int4, 32, rounding), {3 * least, -3 * least}, variant)) {
        CHECK(is_plus_zero(x));
      }
      // One step up there is a scale, of one denormal, and codes may have to be kept within their limits.
      const auto int8 = there_and_back(format_of(Codec::int8, 32), {64 * least, -190 * least}, variant);
      CHECK(int8 == std::vector<float>{64 * least, -127 * least});
      const auto minmax = there_and_back(format_of(Codec::minmax8, 32), {-least, 126 * least, 5 * least}, variant);
      CHECK(minmax == std::vector<float>{-least, -least, -least});
    }
  }
}

TEST_CASE("a NaN or an infinity makes a block NaN, and no other block", "[codec][values]") {
  const float others[] = {nan_value, -nan_value, infinity, -infinity, twin::float_of(0x7f800001u)};
  for (const Format& format : block_formats()) {
    for (const Variant variant : twin::variants()) {
      for (const float other : others) {
        for (const std::size_t place : {std::size_t{0}, std::size_t{17}, std::size_t{31}}) {
          std::vector<float> in = gaussian(2 * format.block + 32, 1);
          in[format.block + place] = other;
          in[2 * format.block + place] = other;
          const Blob blob = encoded(format, in, variant);
          const std::vector<float> out = decoded(format, blob, in.size(), variant);
          for (std::size_t i = 0; i < in.size(); ++i) {
            if (i < format.block ? !std::isfinite(out[i]) : !is_canonical_nan(out[i])) {
              FAIL(name_of(format) << " " << variant_name(variant) << " " << other << " " << i << ": " << out[i]);
            }
          }
          const std::size_t at = codec::encoded_bytes(format, format.block);
          CHECK(word_at(blob, at) == 0x7fc00000u);
          const std::size_t header = format.codec == Codec::minmax8 ? 8 : 4;
          if (header == 8) CHECK(word_at(blob, at + 4) == 0x7fc00000u);
          for (std::size_t i = at + header; i < 2 * at; ++i) REQUIRE(blob[i] == std::byte{0});
        }
      }
    }
  }
}

TEST_CASE("scales that are not finite decode to NaN whatever the codes", "[codec][values]") {
  for (const std::uint32_t scale : {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffffffffu, 0x7f800001u}) {
    for (const Format& format : block_formats()) {
      for (const Variant variant : twin::variants()) {
        Blob blob(codec::encoded_bytes(format, 40), std::byte{0xff});
        std::vector<Blob> blobs(1, blob);
        twin::put(blobs[0].data(), scale);
        twin::put(blobs[0].data() + codec::encoded_bytes(format, std::min<std::size_t>(40, format.block)) % blob.size(),
                  scale);
        if (format.codec == Codec::minmax8) {
          blobs.push_back(blob);  // only the maximum
          twin::put(blobs[0].data() + 4, 1.0F);
          twin::put(blobs[1].data(), 1.0F);
          twin::put(blobs[1].data() + 4, scale);
        }
        for (const Blob& each : blobs) {
          const std::vector<float> out = decoded(format, each, 40, variant);
          for (std::size_t i = 0; i < std::min<std::size_t>(32, format.block); ++i) REQUIRE(is_canonical_nan(out[i]));
        }
      }
    }
  }
}

TEST_CASE("the greatest floats stay finite", "[codec][values]") {
  for (const Format& format : block_formats()) {
    for (const Variant variant : twin::variants()) {
      for (std::uint64_t seed = 0; seed < 5; ++seed) {
        std::vector<float> in(format.block + 20);
        for (std::size_t i = 0; i < in.size(); ++i) {
          in[i] = i % 3 == 0 ? greatest : i % 3 == 1 ? -greatest : greatest / static_cast<float>(i);
        }
        const auto out = there_and_back(format, in, variant, Noise{seed, 0});
        const double steps = format.codec == Codec::int4 ? 7 : 127;
        for (std::size_t i = 0; i < in.size(); ++i) {
          REQUIRE(std::isfinite(out[i]));
          REQUIRE(std::fabs(static_cast<double>(out[i]) - static_cast<double>(in[i])) <=
                  static_cast<double>(greatest) / steps * 1.001);
        }
      }
    }
  }
}

// Minimum and maximum that began at the smallest positive float stretched the range of negative values up to 0.
TEST_CASE("values that are all negative and far from zero keep the resolution of their range", "[codec][values]") {
  for (const float offset : {-1e6F, -100.0F, 1e6F}) {
    std::vector<float> in(1000);
    std::mt19937 random(5);
    for (float& x : in) x = offset + static_cast<float>(random() % 1000) / 1000;
    for (const Variant variant : twin::variants()) {
      const auto out = there_and_back(format_of(Codec::minmax8), in, variant);
      CHECK(greatest_error(in, out) <= 0.5 / 255 + static_cast<double>(std::fabs(offset)) * 0x1p-23);
      const auto [low, high] = std::minmax_element(in.begin(), in.begin() + 256);
      for (std::size_t i = 0; i < 256; ++i) {
        REQUIRE(out[i] >= *low);
        REQUIRE(out[i] <= *high);
      }
    }
  }
}

// A zero point that had to be a code destroyed data which do not straddle zero, and a range of zero length was taken to
// be 1, so that constants were rounded to integers.
TEST_CASE("data beside zero and constants keep their values", "[codec][values]") {
  std::vector<float> in(256);
  for (std::size_t i = 0; i < 256; ++i) in[i] = 10 + static_cast<float>(i) / 255;
  for (const Variant variant : twin::variants()) {
    CHECK(greatest_error(in, there_and_back(format_of(Codec::minmax8), in, variant)) < 1e-5);
    CHECK(greatest_error(in, there_and_back(format_of(Codec::int8), in, variant)) <= 11.0 / 127 / 2 * 1.0001);
    for (const float value : {0.3F, -1234.567F, 1e-44F, 3e38F, -greatest, 1.0F}) {
      const std::vector<float> constant(300, value);
      for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
        CHECK(there_and_back(format_of(Codec::minmax8, 0, rounding), constant, variant) == constant);
        if (std::fabs(value) < 1e-40F) continue;  // fewer digits than a scale needs
        const double error =
            greatest_error(constant, there_and_back(format_of(Codec::int8, 0, rounding), constant, variant));
        CHECK(error <= std::fabs(static_cast<double>(value)) * 0x1p-22);
      }
    }
  }
}

// Codes that were truncated made every average a little smaller.
TEST_CASE("rounding to nearest has no bias", "[codec][values]") {
  const std::vector<float> in = gaussian(65536, 8);
  for (const Format& format : block_formats()) {
    if (format.rounding != Rounding::nearest) continue;
    const auto out = there_and_back(format, in);
    double sum = 0;
    double squares = 0;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double error = static_cast<double>(out[i]) - static_cast<double>(in[i]);
      sum += error;
      squares += error * error;
    }
    INFO(name_of(format));
    CHECK(std::fabs(sum) < 4 * std::sqrt(squares));
  }
}

// Statistics over a whole message let one value ruin millions.
TEST_CASE("one great value changes no code of another block", "[codec][values]") {
  for (const Format& format : block_formats()) {
    std::vector<float> in = gaussian(5 * format.block, 4);
    const Blob before = encoded(format, in);
    in[2 * format.block + 7] = 1e30F;
    const Blob after = encoded(format, in);
    const std::size_t block = codec::encoded_bytes(format, format.block);
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (i / block != 2 && before[i] != after[i]) FAIL(name_of(format) << " " << i);
    }
  }
}

TEST_CASE("decode_add rounds product and sum apart", "[codec][values]") {
  // 3 * (1/3) in f32 is 1 when it is rounded, and a little more before.
  const Format format = format_of(Codec::none);
  const float third = 1.0F / 3;
  for (const Variant variant : twin::variants()) {
    std::vector<float> acc(100, -1);
    const std::vector<float> in(100, third);
    codec::decode_add(format, encoded(format, in).data(), 100, acc.data(), 3, variant);
    for (const float x : acc) CHECK(x == 0);
    // A NaN in either is the canonical one.
    std::vector<float> nans(20, twin::float_of(0xffc12345u));
    codec::decode_add(format, encoded(format, in).data(), 20, nans.data(), 1, variant);
    for (const float x : nans) CHECK(is_canonical_nan(x));
  }
}

#if defined(__x86_64__)
TEST_CASE("the caller's floating-point environment changes nothing", "[codec][values]") {
  const std::vector<float> in = mixed(4000, 12);
  const std::vector<float> residual = gaussian(4000, 13);
  for (const Format& format : all_formats()) {
    for (const Variant variant : twin::variants()) {
      const auto run = [&] {
        Blob blob(codec::encoded_bytes(format, in.size()));
        std::vector<float> left(in.size());
        codec::encode_fed_back(format, in.data(), residual.data(), 0.9F, in.size(), blob.data(), left.data(), {3, 0},
                               variant);
        std::vector<float> out(residual);
        codec::decode_add(format, blob.data(), in.size(), out.data(), 0.7F, variant);
        out.insert(out.end(), left.begin(), left.end());
        return std::make_pair(blob, out);
      };
      const auto expected = run();
      const unsigned saved = _mm_getcsr();
      _mm_setcsr(0x1f80 | 0x8040 | 0x6000);  // flushes denormals, rounds towards zero
      const auto got = run();
      const unsigned after = _mm_getcsr();
      _mm_setcsr(saved);
      CHECK((after & ~0x3fU) == (0x1f80 | 0x8040 | 0x6000));
      CHECK(got.first == expected.first);
      CHECK(std::memcmp(got.second.data(), expected.second.data(), 4 * got.second.size()) == 0);
    }
  }
}
#endif
