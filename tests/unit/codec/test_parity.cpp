// Every variant against the twin: the same bytes and the same floats, for all formats, odd counts, offsets and whatever
// floats and bytes can be.
#include "unit/codec/samples.hpp"

using namespace hawser;
using namespace samples;

namespace {

std::size_t first_difference(const Exact<float>& a, const Exact<float>& b) {
  const auto* x = static_cast<const unsigned char*>(a.raw());
  const auto* y = static_cast<const unsigned char*>(b.raw());
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(x + 4 * i, y + 4 * i, 4) != 0) return i;
  }
  return a.size();
}

// All four functions over one input; `bytes` also goes to the decoders as it is.
void check(const Format& format, const std::vector<float>& values, const std::vector<std::byte>& any_bytes,
           const Noise& noise, std::size_t offset) {
  const std::size_t count = values.size();
  const std::size_t bytes = codec::encoded_bytes(format, count);
  const std::vector<float> start = mixed(count, count + 17);
  const std::vector<float> residual = gaussian(count, count + 5, 0.25F);
  Exact<float> in(values, 0);
  Exact<float> kept(residual, 0);
  Exact<std::byte> foreign(any_bytes, offset);

  Exact<std::byte> blob(bytes, offset);
  Exact<float> decoded(count), sum(start, 0), foreign_decoded(count), foreign_sum(start, 0), left(count);
  Exact<std::byte> fed_back(bytes, offset);
  twin::encode(format, in.data(), count, blob.data(), noise);
  twin::decode(format, blob.data(), count, decoded.data());
  twin::decode_add(format, blob.data(), count, sum.data(), 0.375F);
  twin::decode(format, foreign.data(), count, foreign_decoded.data());
  twin::decode_add(format, foreign.data(), count, foreign_sum.data(), -3.0F);
  twin::encode_fed_back(format, in.data(), kept.data(), 0.9F, count, fed_back.data(), left.data(), noise);

  for (const Variant variant : twin::variants()) {
    const auto say = [&](const char* what, std::size_t at) {
      FAIL(what << " " << name_of(format) << " " << variant_name(variant) << " count " << count << " offset " << offset
                << " at " << at);
    };
    Exact<std::byte> got(bytes, offset);
    codec::encode(format, in.data(), count, got.data(), noise, variant);
    if (!got.same_bits(blob)) {
      std::size_t at = 0;
      while (got.data()[at] == blob.data()[at]) ++at;
      say("encode", at);
    }
    const auto check_floats = [&](const char* what, const Exact<float>& floats, const Exact<float>& expected) {
      if (!floats.same_bits(expected)) say(what, first_difference(floats, expected));
    };
    Exact<float> floats(count);
    codec::decode(format, blob.data(), count, floats.data(), variant);
    check_floats("decode", floats, decoded);
    Exact<float> got_sum(start, 0);
    codec::decode_add(format, blob.data(), count, got_sum.data(), 0.375F, variant);
    check_floats("decode_add", got_sum, sum);
    codec::decode(format, foreign.data(), count, floats.data(), variant);
    check_floats("decode of any bytes", floats, foreign_decoded);
    Exact<float> got_foreign(start, 0);
    codec::decode_add(format, foreign.data(), count, got_foreign.data(), -3.0F, variant);
    check_floats("decode_add of any bytes", got_foreign, foreign_sum);

    Exact<std::byte> got_fed_back(bytes, offset);
    codec::encode_fed_back(format, in.data(), kept.data(), 0.9F, count, got_fed_back.data(), floats.data(), noise,
                           variant);
    if (!got_fed_back.same_bits(fed_back)) say("encode_fed_back", 0);
    check_floats("residual", floats, left);
    Exact<float> in_place(residual, 0);
    codec::encode_fed_back(format, in.data(), in_place.data(), 0.9F, count, got_fed_back.data(), in_place.data(), noise,
                           variant);
    if (!got_fed_back.same_bits(fed_back)) say("encode_fed_back in place", 0);
    check_floats("residual in place", in_place, left);
  }
}

std::vector<std::byte> random_bytes(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(count);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

}  // namespace

TEST_CASE("every variant gives the twin's bits", "[codec][parity]") {
  std::mt19937_64 random(2024);
  for (const Format& format : all_formats()) {
    for (const std::size_t count : counts) {
      // Also where a group of random words, or the low word of their counter, does not begin at 0.
      const std::uint64_t blocks[] = {0, 1, random() % 1000, (std::uint64_t{1} << 38) / format.block - 1};
      const Noise noise{random(), blocks[random() % 4] * format.block};
      check(format, mixed(count, random()), random_bytes(codec::encoded_bytes(format, count), random()), noise,
            random() % 4);
    }
  }
}

TEST_CASE("every variant gives the twin's bits for one of each sort of block", "[codec][parity]") {
  std::mt19937_64 random(7);
  for (const Format& format : all_formats()) {
    const std::size_t block = std::max<std::size_t>(format.block, 32);
    for (int round = 0; round < 4; ++round) {
      for (const std::size_t count : {block - 1, block, block + 1, 2 * block + 5}) {
        check(format, mixed(count, random()), random_bytes(codec::encoded_bytes(format, count), random()),
              Noise{random(), 0}, 1);
      }
    }
  }
}

TEST_CASE("every variant gives the twin's bits for 2^20 + 3 elements", "[codec][parity]") {
  const std::size_t count = (1U << 20) + 3;
  for (const Codec codec : {Codec::bf16, Codec::f16, Codec::int8, Codec::int4, Codec::minmax8}) {
    for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
      const Format format = format_of(codec, 0, rounding);
      check(format, mixed(count, 3), random_bytes(codec::encoded_bytes(format, count), 4), Noise{5, 0}, 0);
    }
  }
}

TEST_CASE("pieces that begin at a block are slices of the whole", "[codec][parity]") {
  const std::size_t count = 3 * 4096 + 100;
  std::vector<float> values = mixed(count, 9);
  for (const Format& format : all_formats()) {
    for (const Variant variant : twin::variants()) {
      std::vector<std::byte> whole(codec::encoded_bytes(format, count));
      codec::encode(format, values.data(), count, whole.data(), Noise{11, 0}, variant);
      std::vector<std::byte> pieces(whole.size());
      std::mt19937_64 random(1);
      std::size_t at = 0;
      while (at < count) {
        const std::size_t size = std::min<std::size_t>(count - at, (1 + random() % 9) * format.block);
        codec::encode(format, values.data() + at, size, pieces.data() + codec::encoded_bytes(format, at), Noise{11, at},
                      variant);
        at += size;
      }
      if (whole != pieces) FAIL(name_of(format) << " " << variant_name(variant));
      // And a decoder may begin at any block.
      std::vector<float> decoded(count);
      codec::decode(format, whole.data(), count, decoded.data(), variant);
      const std::size_t from = (count / 2) / format.block * format.block;
      std::vector<float> part(count - from);
      codec::decode(format, whole.data() + codec::encoded_bytes(format, from), count - from, part.data(), variant);
      if (std::memcmp(part.data(), decoded.data() + from, 4 * part.size()) != 0) FAIL(name_of(format));
    }
  }
}
