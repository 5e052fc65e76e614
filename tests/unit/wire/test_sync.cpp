// Sync messages: round trips, limits, and bytes that are none.
#include <algorithm>
#include <string>

#include "support/catch.hpp"
#include "support/sync_samples.hpp"
#include "wire/archive.hpp"
#include "wire/sync.hpp"

using namespace hawser;

namespace {

using Bytes = std::vector<std::uint8_t>;

std::string reason(const Bytes& bytes) {
  const auto decoded = wire::decode_sync(bytes);
  if (decoded.ok()) return "taken";
  CHECK(decoded.status().code() == Code::INVALID_ARGUMENT);
  return decoded.status().text();
}

Bytes sample(const std::string& name) {
  for (const auto& one : sync_test::samples()) {
    if (one.name == name) return wire::encode_sync(one.message);
  }
  FAIL("no sample " << name);
  return {};
}

Bytes with(Bytes bytes, std::size_t at, std::uint8_t value) {
  bytes.at(at) = value;
  return bytes;
}

}  // namespace

TEST_CASE("sync messages come back as they were", "[wire][sync]") {
  sync_test::Random random(1);
  for (int i = 0; i < 3000; ++i) {
    const wire::SyncMessage message = sync_test::random_message(random);
    const Bytes bytes = wire::encode_sync(message);
    const auto decoded = wire::decode_sync(bytes);
    INFO(i << ": " << wire::sync_message_name(message));
    REQUIRE(decoded.ok());
    CHECK(decoded.value() == message);
    CHECK(wire::encode_sync(decoded.value()) == bytes);
  }
}

TEST_CASE("every shorter and every longer sync message is refused", "[wire][sync]") {
  for (const auto& one : sync_test::samples()) {
    const Bytes whole = wire::encode_sync(one.message);
    INFO(one.name);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      CHECK(reason(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))) != "taken");
    }
    Bytes longer = whole;
    longer.push_back(0);
    CHECK(reason(longer) != "taken");
  }
}

TEST_CASE("what is no sync message", "[wire][sync]") {
  CHECK(reason({}) == "sync message of no bytes");
  CHECK(reason({0}) == "sync message of the unknown type 0");
  CHECK(reason({6}) == "sync message of the unknown type 6");
  CHECK(reason(Bytes(wire::sync_bytes_max + 1, 4)) == "sync message of 4194305 bytes; at most 4194304 are taken");
  CHECK(reason(with(sample("SyncOffer"), 41, 3)) == "SyncOffer message: an enum has an unknown value (byte 41 of 68)");
  CHECK(reason(with(sample("SyncOffer"), 42, 2)) == "SyncOffer message: a flag is neither 0 nor 1 (byte 42 of 68)");
  CHECK(reason(with(sample("SyncLayout"), 1, 200)) == "SyncLayout message: a list is cut off (byte 1 of 43)");
  CHECK(reason(with(sample("SyncLayout"), 7, 0x0a)) ==
        "SyncLayout message: a string is not UTF-8 without control characters (byte 7 of 43)");
  CHECK(reason(with(sample("SyncLayout"), 16, dtype_count)) ==
        "SyncLayout message: an enum has an unknown value (byte 16 of 43)");
  CHECK(reason(with(sample("SyncLayout"), 6, 1)) ==
        "SyncLayout message: a string is longer than its limit (byte 5 of 43)");
}

TEST_CASE("lists of sync messages have limits", "[wire][sync]") {
  // Enough bytes for one item more than each list may have: only the limit stands in the way.
  const auto list_of = [](std::uint8_t type, std::size_t before, std::size_t count_bytes, std::uint32_t count,
                          std::size_t item_bytes) {
    Bytes bytes(1 + before + count_bytes + count * item_bytes);
    bytes[0] = type;
    for (std::size_t i = 0; i < count_bytes; ++i) bytes[1 + before + i] = static_cast<std::uint8_t>(count >> 8 * i);
    return bytes;
  };
  CHECK(reason(list_of(2, 0, 4, wire::tensors_max, 11)) == "taken");
  CHECK(reason(list_of(2, 0, 4, wire::tensors_max + 1, 11)) ==
        "SyncLayout message: a list is longer than its limit (byte 1 of 720912)");
  CHECK(reason(list_of(4, 8, 4, wire::sync_hashes_max, 16)) == "taken");
  CHECK(reason(list_of(4, 8, 4, wire::sync_hashes_max + 1, 16)) ==
        "SyncHashes message: a list is longer than its limit (byte 9 of 524317)");
  CHECK(reason(list_of(5, 0, 2, wire::sync_request_blocks_max, 12)) == "taken");
  CHECK(reason(list_of(5, 0, 2, wire::sync_request_blocks_max + 1, 12)) ==
        "SyncBlockRequest message: a list is longer than its limit (byte 1 of 783)");
  // Four bytes that ask for room for 4 billion items.
  CHECK(reason({2, 0xff, 0xff, 0xff, 0xff}) == "SyncLayout message: a list is longer than its limit (byte 1 of 5)");
  CHECK(reason({4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0}) == "SyncHashes message: a list is cut off (byte 9 of 13)");
}

TEST_CASE("the size of a layout's description is known beforehand", "[wire][sync]") {
  wire::SyncLayout layout;
  std::size_t bytes = wire::sync_layout_bytes_least();
  CHECK(wire::encode_sync(layout).size() == bytes);
  for (const std::size_t name_bytes : {1U, 17U, 255U}) {
    layout.tensors.push_back({std::string(name_bytes, 'x'), Dtype::f32, 1});
    bytes += wire::sync_tensor_bytes(name_bytes);
    CHECK(wire::encode_sync(layout).size() == bytes);
  }
}
