// Messages to bytes and back: every type, random values and limits; what a payload must not be.
#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/wire_samples.hpp"
#include "wire/control.hpp"

using namespace hawser;
using wire_test::message_count;

namespace {

using Bytes = std::vector<std::uint8_t>;

std::span<const std::uint8_t> payload_of(const Bytes& frame) {
  return std::span(frame).subspan(wire::control_header_bytes);
}

std::uint16_t type_of(const wire::Message& message) { return static_cast<std::uint16_t>(message.index() + 1); }

Result<wire::Message> decode(const wire::Message& message) {
  return wire::decode_payload(type_of(message), payload_of(wire::encode(message)));
}

// Leaves a message as it is by default.
struct NoFill {
  template <typename T>
  void item(T&) {}
};

}  // namespace

TEST_CASE("the samples cover every message type", "[wire]") {
  std::set<std::size_t> seen;
  for (const auto& sample : wire_test::samples()) {
    seen.insert(sample.message.index());
    CHECK(sample.name.substr(0, sample.name.find('-')) == wire::message_name(sample.message));
  }
  CHECK(seen.size() == message_count);
}

TEST_CASE("every sample survives encoding and decoding", "[wire]") {
  for (const auto& sample : wire_test::samples()) {
    INFO(sample.name);
    const auto decoded = decode(sample.message);
    REQUIRE(decoded.ok());
    CHECK(decoded.value() == sample.message);
  }
}

TEST_CASE("random messages of every type survive, and have one form only", "[wire]") {
  wire_test::Random random(20240607);
  for (std::size_t index = 0; index < message_count; ++index) {
    for (int round = 0; round < 200; ++round) {
      const wire::Message message = wire_test::filled(index, wire_test::RandomFill(random));
      REQUIRE(message.index() == index);
      const Bytes frame = wire::encode(message);
      INFO(wire::message_name(message) << ", round " << round);
      const auto decoded = wire::decode_payload(type_of(message), payload_of(frame));
      REQUIRE(decoded.ok());
      REQUIRE(decoded.value() == message);
      REQUIRE(wire::encode(decoded.value()) == frame);
    }
  }
}

TEST_CASE("the longest message of every type is decoded and fits its limit", "[wire]") {
  for (std::size_t index = 0; index < message_count; ++index) {
    const wire::Message message = wire_test::filled(index, wire_test::LongestFill());
    const Bytes frame = wire::encode(message);
    INFO(wire::message_name(message) << ": " << frame.size() << " bytes");
    CHECK(payload_of(frame).size() <= wire::control_bytes_max);
    CHECK(payload_of(frame).size() ==
          std::visit([](const auto& m) { return wire::extent_of<std::decay_t<decltype(m)>>().most(); }, message));
    const auto decoded = wire::decode_payload(type_of(message), payload_of(frame));
    REQUIRE(decoded.ok());
    CHECK(decoded.value() == message);
  }
}

TEST_CASE("what may be the first frame of a connection fits the smaller limit", "[wire]") {
  CHECK(wire::extent_of<wire::Hello>().most() <= wire::control_bytes_max_hello);
  CHECK(wire::extent_of<wire::Welcome>().most() <= wire::control_bytes_max_hello);
  CHECK(wire::extent_of<wire::Refuse>().most() <= wire::control_bytes_max_hello);
  CHECK(wire::extent_of<wire::StrandHello>().most() <= wire::control_bytes_max_hello);
  CHECK(wire::extent_of<wire::StrandAccept>().most() <= wire::control_bytes_max_hello);
}

TEST_CASE("the shortest message of every type is the default one", "[wire]") {
  for (std::size_t index = 0; index < message_count; ++index) {
    const wire::Message message = wire_test::filled(index, NoFill());
    INFO(wire::message_name(message));
    CHECK(payload_of(wire::encode(message)).size() ==
          std::visit([](const auto& m) { return wire::extent_of<std::decay_t<decltype(m)>>().least(); }, message));
  }
}

TEST_CASE("every truncation of a payload is an error, and so is any byte more", "[wire]") {
  wire_test::Random random(7);
  for (std::size_t index = 0; index < message_count; ++index) {
    for (int round = 0; round < 8; ++round) {
      const wire::Message message = wire_test::filled(index, wire_test::RandomFill(random));
      Bytes frame = wire::encode(message);
      INFO(wire::message_name(message) << ", round " << round);
      const auto payload = payload_of(frame);
      const std::size_t step = std::max<std::size_t>(1, payload.size() / 512);  // long ones: a sample of the cuts
      for (std::size_t size = 0; size < payload.size(); size += step) {
        const auto decoded = wire::decode_payload(type_of(message), payload.first(size));
        REQUIRE(!decoded.ok());
        REQUIRE(decoded.status().code() == Code::INVALID_ARGUMENT);
      }
      frame.push_back(0);
      const auto decoded = wire::decode_payload(type_of(message), payload_of(frame));
      REQUIRE(!decoded.ok());
      CHECK(decoded.status().text().find("bytes follow the last field") != std::string::npos);
    }
  }
}

TEST_CASE("flags and enums take only their values", "[wire]") {
  const auto rejects = [](const wire::Message& message, std::size_t at, std::uint8_t good, std::uint8_t bad) {
    Bytes frame = wire::encode(message);
    frame[wire::control_header_bytes + at] = good;
    CHECK(wire::decode_payload(type_of(message), payload_of(frame)).ok());
    for (int value = bad; value < 256; ++value) {
      frame[wire::control_header_bytes + at] = static_cast<std::uint8_t>(value);
      const auto decoded = wire::decode_payload(type_of(message), payload_of(frame));
      REQUIRE(!decoded.ok());
      CHECK(decoded.status().code() == Code::INVALID_ARGUMENT);
    }
  };
  rejects(wire::Welcome{}, 16 + 4 + 4 + 2, 1, 2);  // loopback_only
  rejects(wire::OpFault{}, 8 + 24, wire::fault_reason_count - 1, wire::fault_reason_count);
  const wire::SealReply reply{0, 0, {wire::OpState{}}, {}, {}};
  const std::size_t state = 16 + 8 + 2;
  rejects(reply, state + 24, wire::op_kind_count - 1, wire::op_kind_count);
  rejects(reply, state + 25, dtype_count - 1, dtype_count);
  rejects(reply, state + 26, redop_count - 1, redop_count);
  rejects(reply, state + 27, 1, 2);       // strict
  rejects(reply, state + 24 + 32, 1, 2);  // coded
  rejects(reply, state + 24 + 33, 1, 2);  // weighted
  rejects(reply, state + 24 + 40, 1, 2);  // uniform
  rejects(reply, state + 24 + 41, wire::op_phase_count - 1, wire::op_phase_count);
  rejects(reply, state + 24 + 41 + 1 + 16, wire::fault_reason_count - 1, wire::fault_reason_count);
  wire::Install install;
  install.outcomes.emplace_back();
  const std::size_t view = wire::extent_of<wire::View>().least();
  const std::size_t outcome = 16 + view + 1 + 8 + 2;
  rejects(install, outcome + 24, wire::verdict_count - 1, wire::verdict_count);
  rejects(install, outcome + 25, wire::fault_reason_count - 1, wire::fault_reason_count);
  rejects(install, 16 + view, 1, 2);  // sealed
  rejects(install, 16 + 16, wire::rule_count - 1, wire::rule_count);
}

TEST_CASE("strings and lists over their limit, or over what is there, are errors", "[wire]") {
  const auto error_with = [](std::uint16_t type, const Bytes& payload) {
    const auto decoded = wire::decode_payload(type, payload);
    return decoded.ok() ? std::string("accepted") : decoded.status().text();
  };
  // Join: host, port, codecs.
  const auto join = [](std::size_t size) {
    Bytes payload = {static_cast<std::uint8_t>(size & 0xff), static_cast<std::uint8_t>(size >> 8)};
    payload.resize(2 + size, 'h');
    payload.insert(payload.end(), {1, 0, 0, 0, 0, 0, 0, 0, 0, 0});
    return payload;
  };
  CHECK(error_with(4, join(wire::host_bytes_max)) == "accepted");
  CHECK(error_with(4, join(wire::host_bytes_max + 1)) ==
        "Join message: a string is longer than its limit (byte 0 of 268)");
  CHECK(error_with(4, {200, 0, 'h', 1, 0}) == "Join message: a string is cut off (byte 2 of 5)");
  CHECK(error_with(4, {1, 0, 0xff, 1, 0}) ==
        "Join message: a string is not UTF-8 without control characters (byte 2 of 5)");
  CHECK(error_with(4, {1, 0, '\n', 1, 0}) ==
        "Join message: a string is not UTF-8 without control characters (byte 2 of 5)");
  // SealReply: term, view, ops, and two lists without items.
  const auto reply = [](std::size_t count, std::size_t bytes) {
    Bytes payload(24);
    payload.insert(payload.end(), {static_cast<std::uint8_t>(count & 0xff), static_cast<std::uint8_t>(count >> 8)});
    payload.resize(payload.size() + bytes + 4);
    return payload;
  };
  const std::size_t least = wire::extent_of<wire::OpState>().least();
  CHECK(error_with(18, reply(3, 3 * least)) == "accepted");
  CHECK(error_with(18, reply(3, 3 * least - 5)) ==
        "SealReply message: a list is cut off (byte 24 of " + std::to_string(24 + 2 + 3 * least - 1) + ")");
  CHECK(error_with(18, reply(wire::seal_ops_max, 0)) == "SealReply message: a list is cut off (byte 24 of 30)");
  CHECK(error_with(18, reply(wire::seal_ops_max, wire::seal_ops_max * least)) == "accepted");
  CHECK(error_with(18, reply(wire::seal_ops_max + 1, (wire::seal_ops_max + 1) * least)) ==
        "SealReply message: a list is longer than its limit (byte 24 of " +
            std::to_string(30 + (wire::seal_ops_max + 1) * least) + ")");
}

TEST_CASE("type numbers outside the list are unknown", "[wire]") {
  for (const std::size_t type : {std::size_t{0}, message_count + 1, std::size_t{0x100}, std::size_t{0xffff}}) {
    const auto decoded = wire::decode_payload(static_cast<std::uint16_t>(type), {});
    REQUIRE(!decoded.ok());
    CHECK(decoded.status().code() == Code::INVALID_ARGUMENT);
  }
}

TEST_CASE("the encoder cuts long strings between characters and cleans what is not text", "[wire]") {
  const auto sent = [](const std::string& name) {
    wire::Hello hello;
    hello.name = name;
    const auto decoded = decode(hello);
    REQUIRE(decoded.ok());
    return std::get<wire::Hello>(decoded.value()).name;
  };
  const std::string x63(63, 'x');
  CHECK(sent(x63 + "yz") == x63 + "y");
  CHECK(sent(x63 + "\xc3\xab") == x63);  // two bytes: the character goes whole
  CHECK(sent(x63.substr(1) + "\xc3\xab") == x63.substr(1) + "\xc3\xab");
  CHECK(sent("a\nb\x7f\xff\xc3") == "a?b???");
  CHECK(sent(std::string("\0", 1)) == "?");
  wire::Refuse refuse;
  refuse.text.assign(70'000, 'x');
  const auto decoded = decode(refuse);
  REQUIRE(decoded.ok());
  CHECK(std::get<wire::Refuse>(decoded.value()).text == std::string(wire::text_bytes_max, 'x'));
}
