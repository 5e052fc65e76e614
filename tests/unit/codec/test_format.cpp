// What formats are valid and how many bytes they make of how many elements.
#include "unit/codec/samples.hpp"

using namespace hawser;
using namespace samples;

namespace {

std::string refusal(std::uint32_t codec, std::uint32_t block, std::uint32_t rounding) {
  const auto format = codec::make_format(codec, block, rounding);
  REQUIRE_FALSE(format.ok());
  CHECK(format.status().code() == Code::INVALID_ARGUMENT);
  return format.status().text();
}

}  // namespace

TEST_CASE("codecs have the names and ids of the public header", "[codec][format]") {
  const char* const names[] = {"none", "bf16", "f16", "int8", "int4", "minmax8"};
  for (std::uint32_t id = 0; id < codec::codec_count; ++id) {
    CHECK(std::string(codec::codec_name(static_cast<Codec>(id))) == names[id]);
  }
  CHECK(codec::supported_codecs() == 0x3f);
}

TEST_CASE("a format without a block gets the default", "[codec][format]") {
  CHECK(format_of(Codec::none) == Format{Codec::none, 1, Rounding::nearest});
  CHECK(format_of(Codec::bf16) == Format{Codec::bf16, 1, Rounding::nearest});
  CHECK(format_of(Codec::f16, 1) == Format{Codec::f16, 1, Rounding::nearest});
  CHECK(format_of(Codec::int8) == Format{Codec::int8, 256, Rounding::nearest});
  CHECK(format_of(Codec::int4) == Format{Codec::int4, 64, Rounding::nearest});
  CHECK(format_of(Codec::minmax8) == Format{Codec::minmax8, 256, Rounding::nearest});
  CHECK(format_of(Codec::int4, 4096, Rounding::stochastic) == Format{Codec::int4, 4096, Rounding::stochastic});
  // Nothing is rounded, so peers agree whatever they ask for.
  CHECK(format_of(Codec::none, 0, Rounding::stochastic) == format_of(Codec::none));
  // What was made once is made the same again: this is how it travels.
  for (const Format& format : all_formats()) CHECK(format_of(format.codec, format.block, format.rounding) == format);
}

TEST_CASE("formats that do not exist are refused by name", "[codec][format]") {
  CHECK(refusal(6, 0, 0) == "codec 6 is unknown; known are 0 to 5");
  CHECK(refusal(0xffffffff, 0, 0) == "codec 4294967295 is unknown; known are 0 to 5");
  CHECK(refusal(3, 0, 2) == "rounding 2 is unknown; known are 0, nearest, and 1, stochastic");
  CHECK(refusal(1, 32, 0) == "codec bf16 has no blocks: block must be 0, not 32");
  CHECK(refusal(3, 100, 0) == "block 100 of codec int8 must be 0 or a power of two from 32 to 4096");
  for (const std::uint32_t block : {1U, 16U, 31U, 33U, 8192U, 0x80000000U}) {
    for (const std::uint32_t id : {3U, 4U, 5U}) refusal(id, block, 0);
  }
}

TEST_CASE("encoded_bytes counts whole blocks and a shorter last one", "[codec][format]") {
  CHECK(codec::encoded_bytes(format_of(Codec::none), 7) == 28);
  CHECK(codec::encoded_bytes(format_of(Codec::bf16), 7) == 14);
  CHECK(codec::encoded_bytes(format_of(Codec::f16), 0) == 0);
  CHECK(codec::encoded_bytes(format_of(Codec::int8), 0) == 0);
  CHECK(codec::encoded_bytes(format_of(Codec::int8), 1) == 5);
  CHECK(codec::encoded_bytes(format_of(Codec::int8), 256) == 260);
  CHECK(codec::encoded_bytes(format_of(Codec::int8), 257) == 265);
  CHECK(codec::encoded_bytes(format_of(Codec::int4), 1) == 5);
  CHECK(codec::encoded_bytes(format_of(Codec::int4), 64) == 36);
  CHECK(codec::encoded_bytes(format_of(Codec::int4), 67) == 42);
  CHECK(codec::encoded_bytes(format_of(Codec::minmax8), 1000) == 1032);
  for (const Format& format : all_formats()) {
    for (const std::size_t count : counts) {
      CHECK(codec::encoded_bytes(format, count) == twin::encoded_bytes(format, count));
    }
  }
}

TEST_CASE("check_blob says how many bytes are missing or too many", "[codec][format]") {
  const Format format = format_of(Codec::int8);
  CHECK(codec::check_blob(format, 1000, 1016).ok());
  const Status few = codec::check_blob(format, 1000, 1000);
  CHECK(few.code() == Code::MISMATCH);
  CHECK(few.text() == "1000 elements are 1016 bytes with codec int8 and block 256, not 1000 (16 too few)");
  CHECK(codec::check_blob(format, 0, 1).text() ==
        "0 elements are 0 bytes with codec int8 and block 256, not 1 (1 too many)");
}
