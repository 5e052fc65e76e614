// Bytes of sync messages and back, by the visitors of archive.hpp.
#include "wire/sync.hpp"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "wire/sync_fields.hpp"

namespace hawser::wire {
namespace {

constexpr std::size_t message_count = std::variant_size_v<SyncMessage>;
constexpr std::array<const char*, message_count> names = {"SyncOffer", "SyncLayout", "SyncHashRequest", "SyncHashes",
                                                          "SyncBlockRequest"};
constexpr std::size_t type_bytes = 1;

template <std::size_t index>
Result<SyncMessage> decode_alternative(std::span<const std::uint8_t> fields_bytes) {
  std::variant_alternative_t<index, SyncMessage> message;
  Reader reader(fields_bytes);
  reader.item(message);
  reader.finish();
  if (reader.ok()) return SyncMessage(std::move(message));
  return Status(Code::INVALID_ARGUMENT, fmt::format("{} message: {} (byte {} of {})", names[index], reader.reason(),
                                                    type_bytes + reader.error_at(), type_bytes + fields_bytes.size()));
}

template <std::size_t... indices>
Result<SyncMessage> decode_as(std::size_t index, std::span<const std::uint8_t> fields_bytes,
                              std::index_sequence<indices...>) {
  using Decode = Result<SyncMessage> (*)(std::span<const std::uint8_t>);
  constexpr std::array<Decode, sizeof...(indices)> decoders = {&decode_alternative<indices>...};
  return decoders[index](fields_bytes);
}

}  // namespace

const char* sync_message_name(const SyncMessage& message) { return names[message.index()]; }

std::vector<std::uint8_t> encode_sync(const SyncMessage& message) {
  std::vector<std::uint8_t> bytes = {static_cast<std::uint8_t>(message.index() + 1)};
  Writer writer(bytes);
  std::visit([&](const auto& m) { writer.item(m); }, message);
  HAWSER_ASSERT(bytes.size() <= sync_bytes_max, "a sync message is longer than its limit");
  return bytes;
}

Result<SyncMessage> decode_sync(std::span<const std::uint8_t> bytes) {
  if (bytes.empty()) return Status(Code::INVALID_ARGUMENT, "sync message of no bytes");
  if (bytes.size() > sync_bytes_max) {
    return Status(Code::INVALID_ARGUMENT,
                  fmt::format("sync message of {} bytes; at most {} are taken", bytes.size(), sync_bytes_max));
  }
  const std::size_t type = bytes[0];
  if (type < 1 || type > message_count) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("sync message of the unknown type {}", type));
  }
  return decode_as(type - 1, bytes.subspan(type_bytes), std::make_index_sequence<message_count>());
}

std::size_t sync_tensor_bytes(std::size_t name_bytes) { return extent_of<TensorInfo>().least() + name_bytes; }

std::size_t sync_layout_bytes_least() { return type_bytes + extent_of<SyncLayout>().least(); }

}  // namespace hawser::wire
