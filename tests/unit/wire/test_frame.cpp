// Data frame headers and the payloads of begin and done.
#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/wire_samples.hpp"
#include "wire/archive.hpp"
#include "wire/checksum.hpp"
#include "wire/frame.hpp"

using namespace hawser;
using wire::FrameType;

namespace {

using Header = std::array<std::uint8_t, wire::frame_header_bytes>;

std::size_t length_max(FrameType type) {
  switch (type) {
    case FrameType::begin:
    case FrameType::done:
      return wire::small_payload_bytes_max;
    case FrameType::data:
    case FrameType::note:
      return wire::data_bytes_max;
    case FrameType::ack:
    case FrameType::ping:
    case FrameType::share:
      return 0;
    case FrameType::relay:
      return wire::relay_payload_bytes_max;
  }
  return 0;
}

constexpr std::array all_types = {FrameType::begin, FrameType::data, FrameType::done,  FrameType::ack,
                                  FrameType::note,  FrameType::ping, FrameType::relay, FrameType::share};

wire::FrameHeader random_header(wire_test::Random& random, FrameType type) {
  wire_test::RandomFill fill(random);
  wire::FrameHeader header;
  header.type = type;
  fill.number(header.epoch);
  fill.item(header.key);
  fill.number(header.slice);
  fill.number(header.step);
  header.length = static_cast<std::uint32_t>(random() % (length_max(type) + 1));
  fill.number(header.check);
  return header;
}

// With the checksum made right again.
Header mended(Header bytes) {
  wire::store(bytes.data() + 60, static_cast<std::uint32_t>(wire::checksum(std::span(bytes).first(60))));
  return bytes;
}

}  // namespace

TEST_CASE("random data frame headers survive, and have one form only", "[wire][frame]") {
  wire_test::Random random(5);
  for (const FrameType type : all_types) {
    for (int round = 0; round < 500; ++round) {
      const wire::FrameHeader header = random_header(random, type);
      const Header bytes = wire::encode_header(header);
      const auto decoded = wire::decode_header(bytes);
      REQUIRE(decoded.ok());
      REQUIRE(decoded.value() == header);
      REQUIRE(wire::encode_header(decoded.value()) == bytes);
    }
  }
}

TEST_CASE("no single flipped bit of a data frame header goes unnoticed", "[wire][frame]") {
  wire_test::Random random(6);
  for (const FrameType type : all_types) {
    for (int round = 0; round < 20; ++round) {
      const Header bytes = wire::encode_header(random_header(random, type));
      for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
        Header flipped = bytes;
        flipped[bit / 8] = static_cast<std::uint8_t>(flipped[bit / 8] ^ 1U << bit % 8);
        const auto decoded = wire::decode_header(flipped);
        REQUIRE(!decoded.ok());
        const bool of_version = bit / 8 == 4 || bit / 8 == 5;
        REQUIRE(decoded.status().code() == (of_version ? Code::VERSION_MISMATCH : Code::INVALID_ARGUMENT));
      }
    }
  }
}

TEST_CASE("a data frame header outside its limits is refused even with a right checksum", "[wire][frame]") {
  for (const FrameType type : all_types) {
    wire::FrameHeader header;
    header.type = type;
    header.length = static_cast<std::uint32_t>(length_max(type));
    Header bytes = wire::encode_header(header);
    CHECK(wire::decode_header(bytes).ok());
    for (const std::uint32_t length : {header.length + 1, 0xffffffffU}) {
      wire::store(bytes.data() + 48, length);
      CHECK(!wire::decode_header(mended(bytes)).ok());
    }
  }
  Header bytes = wire::encode_header({});
  for (int type = 0; type < 256; ++type) {
    bytes[6] = static_cast<std::uint8_t>(type);
    CHECK(wire::decode_header(mended(bytes)).ok() == (type >= 1 && type <= 8));
  }
  bytes = wire::encode_header({});
  bytes[7] = 1;
  CHECK(wire::decode_header(mended(bytes)).status().text() == "data frame header: byte 7 is 1, not 0");
}

TEST_CASE("strangers' bytes are no data frame header", "[wire][frame]") {
  wire_test::Random random(8);
  Header bytes{};
  CHECK(!wire::decode_header(bytes).ok());
  bytes.fill(0xff);
  CHECK(!wire::decode_header(bytes).ok());
  for (int round = 0; round < 1000; ++round) {
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    REQUIRE(!wire::decode_header(bytes).ok());
  }
}

TEST_CASE("begin payloads survive: every truncation, and any byte more, is an error", "[wire][frame]") {
  wire_test::Random random(9);
  for (int round = 0; round < 500; ++round) {
    wire::Begin begin;
    wire_test::RandomFill(random).item(begin);
    std::vector<std::uint8_t> bytes = wire::encode_begin(begin);
    REQUIRE(bytes.size() == 49);
    const auto decoded = wire::decode_begin(bytes);
    REQUIRE(decoded.ok());
    REQUIRE(decoded.value() == begin);
    for (std::size_t size = 0; size < bytes.size(); ++size)
      REQUIRE(!wire::decode_begin(std::span(bytes).first(size)).ok());
    bytes.push_back(0);
    REQUIRE(!wire::decode_begin(bytes).ok());
  }
  std::vector<std::uint8_t> bytes = wire::encode_begin({});
  bytes[3] = 2;  // strict
  CHECK(wire::decode_begin(bytes).status().text() == "begin payload: a flag is neither 0 nor 1 (byte 3 of 49)");
}

TEST_CASE("a weight is finite and not negative, or says left out", "[wire][frame]") {
  const auto taken = [](double weight) { return wire::decode_begin(wire::encode_begin({{}, weight})).ok(); };
  for (const double fine : {0.0, 1.0, 1e-300, 1e300, wire::weight_left_out}) CHECK(taken(fine));
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {-2.0, -1e-300, infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK(!taken(bad));
  }
}

TEST_CASE("every parameter changes the check of the parameters", "[wire][frame]") {
  const wire::OpParams params{
      wire::OpKind::all_reduce, Dtype::f32, Redop::sum, 0, 0, 1000, PeerId{}, 1, 0, 3, 0, 256, 0};
  std::vector<wire::OpParams> others(13, params);
  others[0].kind = wire::OpKind::broadcast;
  others[1].dtype = Dtype::i32;
  others[2].redop = Redop::avg;
  others[3].strict = 1;
  others[4].min_participants = 1;
  others[5].count = 1001;
  others[6].root.low = 1;
  others[7].coded = 0;
  others[8].weighted = 1;
  others[9].codec = 4;
  others[10].rounding = 1;
  others[11].block = 64;
  others[12].uniform = 1;
  CHECK(wire::params_check(params) == wire::params_check(wire::OpParams(params)));
  for (const auto& other : others) CHECK(wire::params_check(params) != wire::params_check(other));
  auto bytes = wire::encode_begin({params, 2.0});
  bytes.resize(bytes.size() - sizeof(double));  // the weight is each member's own
  CHECK(wire::params_check(params) == static_cast<std::uint32_t>(wire::checksum(bytes)));
}

TEST_CASE("done payloads survive: every truncation, and any byte more, is an error", "[wire][frame]") {
  wire_test::Random random(10);
  for (int round = 0; round < 200; ++round) {
    wire::Done done;
    wire_test::RandomFill(random).item(done);
    if (round == 0) wire_test::LongestFill().item(done);
    std::vector<std::uint8_t> bytes = wire::encode_done(done);
    REQUIRE(bytes.size() == 18 + 24 * done.committed.size());
    REQUIRE(bytes.size() <= wire::small_payload_bytes_max);
    const auto decoded = wire::decode_done(bytes);
    REQUIRE(decoded.ok());
    REQUIRE(decoded.value() == done);
    for (std::size_t size = 0; size < bytes.size(); ++size)
      REQUIRE(!wire::decode_done(std::span(bytes).first(size)).ok());
    bytes.push_back(0);
    REQUIRE(!wire::decode_done(bytes).ok());
  }
  std::vector<std::uint8_t> bytes(18 + 24 * (wire::done_committed_max + 1));
  bytes[16] = wire::done_committed_max + 1;
  CHECK(wire::decode_done(bytes).status().text() == "done payload: a list is longer than its limit (byte 16 of 1578)");
}

TEST_CASE("what a relay frame begins with survives: every truncation, and any byte more, is an error",
          "[wire][frame]") {
  wire_test::Random random(12);
  for (int round = 0; round < 500; ++round) {
    wire::Relay relay;
    wire_test::RandomFill(random).item(relay);
    std::vector<std::uint8_t> bytes = wire::encode_relay(relay);
    REQUIRE(bytes.size() == wire::relay_bytes);
    const auto decoded = wire::decode_relay(bytes);
    REQUIRE(decoded.ok());
    REQUIRE(decoded.value() == relay);
    for (std::size_t size = 0; size < bytes.size(); ++size)
      REQUIRE(!wire::decode_relay(std::span(bytes).first(size)).ok());
    bytes.push_back(0);
    REQUIRE(!wire::decode_relay(bytes).ok());
  }
  std::vector<std::uint8_t> bytes = wire::encode_relay({});
  bytes[40] = wire::relayed_count;
  CHECK(wire::decode_relay(bytes).status().text() == "relay payload: an enum has an unknown value (byte 40 of 41)");
}

TEST_CASE("a relay frame brings what an operation says, and answers", "[wire][frame]") {
  CHECK(wire::relayed_type(wire::Relayed::begin) == FrameType::begin);
  CHECK(wire::relayed_type(wire::Relayed::data) == FrameType::data);
  CHECK(wire::relayed_type(wire::Relayed::done) == FrameType::done);
  CHECK(wire::relayed_type(wire::Relayed::note) == FrameType::note);
  CHECK(!wire::relayed_type(wire::Relayed::receipt));
  CHECK(!wire::relayed_type(wire::Relayed::no_way));
}

TEST_CASE("both checksums are XXH3", "[wire]") {
  // The hash of nothing, from the reference implementation: fixes the function, seed and width.
  CHECK(wire::checksum(std::span<const std::uint8_t>()) == 0x2d06800538d394c2ULL);
  wire_test::Random random(11);
  for (std::size_t size = 0; size < 600; ++size) {
    std::vector<std::uint8_t> bytes(size);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const std::span<const std::uint8_t> whole(bytes);
    const std::size_t cut = size == 0 ? 0 : random() % (size + 1);
    REQUIRE(wire::checksum(whole.first(cut), whole.subspan(cut)) == wire::checksum(whole));
  }
}
