// The decoder of a connection's bytes: however they are cut, whoever sends them.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"
#include "support/memory.hpp"
#include "support/wire_samples.hpp"
#include "wire/archive.hpp"
#include "wire/checksum.hpp"
#include "wire/control.hpp"

using namespace hawser;

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

Bytes header(std::uint16_t type, std::uint32_t length) {
  Bytes bytes = bytes_of("HWSR");
  bytes.resize(wire::control_header_bytes);
  wire::store(bytes.data() + 4, wire::version);
  wire::store(bytes.data() + 6, type);
  wire::store(bytes.data() + 8, length);
  return bytes;
}

// A frame around any payload, with a right checksum.
Bytes framed(std::uint16_t type, const Bytes& payload) {
  Bytes frame = header(type, static_cast<std::uint32_t>(payload.size()));
  const auto sum = static_cast<std::uint32_t>(wire::checksum(std::span(frame).first(12), payload));
  wire::store(frame.data() + 12, sum);
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

struct Outcome {
  std::vector<wire::Message> messages;
  Status error;
};

// Takes out what there is.
void drain(wire::ControlDecoder& decoder, Outcome& outcome) {
  while (outcome.error.ok()) {
    auto next = decoder.next();
    if (!next.ok()) {
      outcome.error = next.status();
    } else if (next.value()) {
      outcome.messages.push_back(std::move(*next.value()));
    } else {
      return;
    }
  }
}

Outcome decode_all(const Bytes& bytes, std::size_t piece = SIZE_MAX, std::size_t limit = wire::control_bytes_max) {
  wire::ControlDecoder decoder;
  decoder.set_payload_bytes_max(limit);
  Outcome outcome;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t size = std::min(piece, bytes.size() - at);
    decoder.append(std::span(bytes).subspan(at, size));
    drain(decoder, outcome);
    at += size;
  }
  return outcome;
}

Bytes all_samples() {
  Bytes bytes;
  for (const auto& sample : wire_test::samples()) {
    const Bytes frame = wire::encode(sample.message);
    bytes.insert(bytes.end(), frame.begin(), frame.end());
  }
  return bytes;
}

}  // namespace

TEST_CASE("several frames in one append come out one by one, in order", "[wire][decoder]") {
  const auto samples = wire_test::samples();
  for (const std::size_t piece : {SIZE_MAX, std::size_t{1}, std::size_t{3}, std::size_t{17}, std::size_t{100}}) {
    const Outcome outcome = decode_all(all_samples(), piece);
    INFO("pieces of " << piece);
    REQUIRE(outcome.error.ok());
    REQUIRE(outcome.messages.size() == samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) CHECK(outcome.messages[i] == samples[i].message);
  }
}

TEST_CASE("byte by byte, a message comes with its last byte and not before", "[wire][decoder]") {
  for (const auto& sample : wire_test::samples()) {
    INFO(sample.name);
    wire::ControlDecoder decoder;
    const Bytes frame = wire::encode(sample.message);
    for (std::size_t i = 0; i < frame.size(); ++i) {
      decoder.append(std::span(frame).subspan(i, 1));
      auto next = decoder.next();
      REQUIRE(next.ok());
      REQUIRE(next.value().has_value() == (i + 1 == frame.size()));
      if (next.value()) CHECK(*next.value() == sample.message);
    }
    CHECK(decoder.rest().empty());
  }
}

TEST_CASE("the rest is what follows the last message taken", "[wire][decoder]") {
  Bytes bytes = wire::encode(wire::StrandHello{});
  const Bytes data = bytes_of("HWSD and what data frames hold");
  bytes.insert(bytes.end(), data.begin(), data.end());
  wire::ControlDecoder decoder;
  decoder.append(bytes);
  REQUIRE(decoder.rest().size() == bytes.size());
  const auto next = decoder.next();
  REQUIRE(next.ok());
  REQUIRE(next.value().has_value());
  CHECK(std::ranges::equal(decoder.rest(), data));
  decoder.append(data);
  CHECK(decoder.rest().size() == 2 * data.size());
}

TEST_CASE("no single flipped bit goes unnoticed", "[wire][decoder]") {
  for (const auto& sample : wire_test::samples()) {
    INFO(sample.name);
    const Bytes frame = wire::encode(sample.message);
    Bytes stream = frame;
    // More frames follow, so that a length that grew finds bytes.
    for (int i = 0; i < 3; ++i) stream.insert(stream.end(), frame.begin(), frame.end());
    for (std::size_t bit = 0; bit < 8 * frame.size(); ++bit) {
      Bytes flipped = stream;
      flipped[bit / 8] = static_cast<std::uint8_t>(flipped[bit / 8] ^ 1U << bit % 8);
      const Outcome outcome = decode_all(flipped);
      REQUIRE(outcome.messages.empty());
      // Without an error only where the length grew beyond all that came: the frame is never whole.
      const bool longer = bit / 8 >= 8 && bit / 8 < 12;
      if (!longer) {
        REQUIRE(outcome.error.code() == (bit / 8 < 4   ? Code::NOT_A_COORDINATOR
                                         : bit / 8 < 6 ? Code::VERSION_MISMATCH
                                                       : Code::INVALID_ARGUMENT));
      }
    }
  }
}

TEST_CASE("strangers are named by their first bytes, after four of them", "[wire][decoder]") {
  struct Stranger {
    Bytes bytes;
    std::string quoted;
  };
  const std::vector<Stranger> strangers = {
      {bytes_of("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), R"("GET / HTTP/1.1\x0d\x0aHost: localhost\x0d")"},
      {bytes_of("HTTP/1.1 400 Bad Request\r\n"), R"("HTTP/1.1 400 Bad Request\x0d\x0a")"},
      {bytes_of("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), R"("SSH-2.0-OpenSSH_9.2p1 Debian-2\x0d\x0a")"},
      {{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc},
       R"("\x16\x03\x01\x02\x00\x01\x00\x01\xfc")"},  // TLS ClientHello
      {Bytes(5, 0x00), R"("\x00\x00\x00\x00\x00")"},
      {Bytes(5, 0xff), R"("\xff\xff\xff\xff\xff")"},
      {bytes_of("HWSD\x01"), R"("HWSD\x01")"},  // a data frame where a control frame is due
  };
  for (const Stranger& stranger : strangers) {
    INFO(stranger.quoted);
    const Outcome outcome = decode_all(stranger.bytes);
    CHECK(outcome.messages.empty());
    CHECK(outcome.error.code() == Code::NOT_A_COORDINATOR);
    CHECK(outcome.error.text() == "what came is not of the Hawser protocol; it begins with " + stranger.quoted);
    wire::ControlDecoder decoder;
    decoder.append(std::span(stranger.bytes).first(3));
    CHECK(decoder.next().ok());
    decoder.append(std::span(stranger.bytes).subspan(3, 1));
    CHECK(decoder.next().status().code() == Code::NOT_A_COORDINATOR);
  }
}

TEST_CASE("random bytes never become a message", "[wire][decoder]") {
  wire_test::Random random(3);
  for (int round = 0; round < 2000; ++round) {
    Bytes bytes(4 + random() % 300);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
    const Outcome outcome = decode_all(bytes);
    REQUIRE(outcome.messages.empty());
    REQUIRE(outcome.error.code() == Code::NOT_A_COORDINATOR);
    REQUIRE(outcome.error.text().size() < 256);
    // With the right beginning they get as far as the type, the length or the checksum.
    Bytes near = header(static_cast<std::uint16_t>(random() % 30), static_cast<std::uint32_t>(random() % 300));
    near.insert(near.end(), bytes.begin(), bytes.end());
    near.resize(400);
    const Outcome second = decode_all(near);
    REQUIRE(second.messages.empty());
    REQUIRE(second.error.code() == Code::INVALID_ARGUMENT);
  }
}

TEST_CASE("another version is named before anything else of its frame is read", "[wire][decoder]") {
  Bytes bytes = wire::encode(wire::Hello{});
  bytes[4] = 2;
  bytes[5] = 1;
  for (const std::size_t size : {std::size_t{6}, std::size_t{10}, bytes.size()}) {
    const Outcome outcome = decode_all(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
    CHECK(outcome.error.code() == Code::VERSION_MISMATCH);
    CHECK(outcome.error.text() == "the other end speaks version 258 of the wire format, this one speaks version 3");
  }
  CHECK(decode_all(Bytes(bytes.begin(), bytes.begin() + 5)).error.ok());
}

TEST_CASE("an unknown type and a long length are refused with the header", "[wire][decoder]") {
  CHECK(decode_all(header(wire_test::message_count + 1, 0)).error.text() == "control frame of the unknown type 28");
  CHECK(decode_all(header(0, 0)).error.text() == "control frame of the unknown type 0");
  CHECK(decode_all(header(1, 0xffffffff)).error.text() ==
        "Hello message of 4294967295 bytes; at most 12582912 are taken here");
  CHECK(decode_all(header(1, wire::control_bytes_max + 1)).error.code() == Code::INVALID_ARGUMENT);
  CHECK(decode_all(header(1, wire::control_bytes_max)).error.ok());
  CHECK(
      decode_all(header(1, wire::control_bytes_max_hello + 1), SIZE_MAX, wire::control_bytes_max_hello).error.code() ==
      Code::INVALID_ARGUMENT);
  CHECK(decode_all(header(1, wire::control_bytes_max_hello), SIZE_MAX, wire::control_bytes_max_hello).error.ok());
}

TEST_CASE("the limit is the small one until it is raised", "[wire][decoder]") {
  wire::SealReply reply;
  reply.ops.resize(100);
  const Bytes frame = wire::encode(reply);
  REQUIRE(frame.size() > wire::control_bytes_max_hello);
  wire::ControlDecoder decoder;
  decoder.append(frame);
  CHECK(decoder.next().status().code() == Code::INVALID_ARGUMENT);

  wire::ControlDecoder admitted;
  const Bytes hello = wire::encode(wire::Hello{});
  admitted.append(hello);
  admitted.append(frame);
  REQUIRE(admitted.next().ok());
  admitted.set_payload_bytes_max(wire::control_bytes_max);
  const auto next = admitted.next();
  REQUIRE(next.ok());
  REQUIRE(next.value().has_value());
  CHECK(*next.value() == wire::Message(reply));
}

TEST_CASE("a frame with a right checksum and a wrong payload is an error", "[wire][decoder]") {
  CHECK(decode_all(framed(13, {0})).messages.size() == 1);  // Leave
  CHECK(decode_all(framed(13, {0, 0})).error.text() == "Leave message: bytes follow the last field (byte 1 of 2)");
  CHECK(decode_all(framed(14, {1, 2, 3})).error.text() == "Heartbeat message: a number is cut off (byte 0 of 3)");
  Bytes damaged = framed(13, {0});
  damaged[15] ^= 1;
  CHECK(decode_all(damaged).error.text() == "Leave message of 1 bytes with a wrong checksum");
}

TEST_CASE("after an error nothing more is taken", "[wire][decoder]") {
  wire::ControlDecoder decoder;
  decoder.append(wire::encode(wire::Heartbeat{1}));
  decoder.append(bytes_of("nonsense"));
  const auto first = decoder.next();
  REQUIRE(first.ok());
  REQUIRE(first.value().has_value());  // what came whole before the nonsense counts
  const Status error = decoder.next().status();
  CHECK(error.code() == Code::NOT_A_COORDINATOR);
  decoder.append(wire::encode(wire::Heartbeat{2}));
  CHECK(decoder.rest().empty());
  CHECK(decoder.next().status().code() == error.code());
  CHECK(decoder.next().status().text() == error.text());
}

TEST_CASE("memory follows the bytes that came, not the lengths they claim", "[wire][decoder]") {
  {
    const Bytes claims = header(18, wire::control_bytes_max);
    const test_memory::Watch watch;
    wire::ControlDecoder decoder;
    decoder.set_payload_bytes_max(wire::control_bytes_max);
    decoder.append(claims);
    CHECK(decoder.next().ok());
    CHECK(watch.peak_bytes() < 4096);
  }
  {
    Bytes payload(16 + 2);
    wire::store(payload.data() + 16, static_cast<std::uint16_t>(wire::seal_ops_max));
    const test_memory::Watch watch;
    CHECK(!wire::decode_payload(18, payload).ok());
    CHECK(watch.peak_bytes() < 4096);
  }
  {  // The longest frame in small pieces: the buffer holds the frame and the piece that came last.
    wire::Message longest = wire_test::filled(18, wire_test::LongestFill());
    const Bytes frame = wire::encode(longest);
    wire::ControlDecoder decoder;
    decoder.set_payload_bytes_max(wire::control_bytes_max);
    constexpr std::size_t piece = 16U << 10;
    std::size_t peak = 0;
    for (std::size_t at = 0; at + piece < frame.size(); at += piece) {
      const test_memory::Watch watch;
      decoder.append(std::span(frame).subspan(at, piece));
      REQUIRE(decoder.next().ok());
      peak = std::max(peak, watch.peak_bytes());
    }
    // While it grows, the old buffer stands beside the new one.
    CHECK(peak <= wire::control_header_bytes + wire::control_bytes_max + piece + 4096);
  }
}

TEST_CASE("an idle decoder gives the memory of a long frame back", "[wire][decoder]") {
  const Bytes frame = wire::encode(wire_test::filled(18, wire_test::LongestFill()));
  wire::ControlDecoder decoder;
  decoder.set_payload_bytes_max(wire::control_bytes_max);
  const std::size_t before = test_memory::current.load();
  decoder.append(frame);
  REQUIRE(test_memory::current.load() >= before + frame.size());
  {
    const auto next = decoder.next();
    REQUIRE(next.ok());
    REQUIRE(next.value().has_value());
  }
  CHECK(test_memory::current.load() < before + (128U << 10));
}
