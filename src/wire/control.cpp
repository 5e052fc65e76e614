// Control frames: the encoder, the decoder of payloads by type number, and the decoder of a connection's bytes, which
// decides as early as it can that they are not ours. What it answers depends on the bytes alone, not on how they were
// cut.
#include "wire/control.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/text.hpp"
#include "wire/checksum.hpp"
#include "wire/fields.hpp"

namespace hawser::wire {
namespace {

constexpr std::array<std::uint8_t, 4> magic = {'H', 'W', 'S', 'R'};
constexpr std::size_t version_at = 4;
constexpr std::size_t type_at = 6;
constexpr std::size_t length_at = 8;
constexpr std::size_t checksum_at = 12;
constexpr std::size_t quoted_bytes_max = 32;       // of a stranger
constexpr std::size_t kept_bytes_max = 64U << 10;  // an idle connection keeps no more memory than this

constexpr std::size_t message_count = std::variant_size_v<Message>;
constexpr std::array<const char*, message_count> names = {
    "Hello",      "Welcome",      "Refuse",      "Join",        "Meet",         "Forget",      "Connected",
    "AdmitQuery", "AdmitPromise", "AdmitTarget", "AtPoint",     "AdmitCancel",  "Leave",       "Heartbeat",
    "Suspect",    "OpFault",      "Seal",        "SealReply",   "Install",      "StrandHello", "StrandAccept",
    "Propose",    "Accept",       "LinkLost",    "StatusQuery", "StatusReport", "Installed"};

std::uint32_t frame_checksum(std::span<const std::uint8_t> frame) {
  return static_cast<std::uint32_t>(checksum(frame.first(checksum_at), frame.subspan(control_header_bytes)));
}

template <std::size_t index>
Result<Message> decode_alternative(std::span<const std::uint8_t> payload) {
  std::variant_alternative_t<index, Message> message;
  Reader reader(payload);
  reader.item(message);
  reader.finish();
  if (reader.ok()) return Message(std::move(message));
  return Status(Code::INVALID_ARGUMENT, fmt::format("{} message: {} (byte {} of {})", names[index], reader.reason(),
                                                    reader.error_at(), payload.size()));
}

template <std::size_t... indices>
Result<Message> decode_as(std::size_t index, std::span<const std::uint8_t> payload, std::index_sequence<indices...>) {
  using Decode = Result<Message> (*)(std::span<const std::uint8_t>);
  constexpr std::array<Decode, sizeof...(indices)> decoders = {&decode_alternative<indices>...};
  return decoders[index](payload);
}

bool known_type(std::uint16_t type) { return type >= 1 && type <= message_count; }

Status unknown_type(std::uint16_t type) {
  return {Code::INVALID_ARGUMENT, fmt::format("control frame of the unknown type {}", type)};
}

}  // namespace

const char* message_name(const Message& message) { return names[message.index()]; }

std::vector<std::uint8_t> encode(const Message& message) {
  std::vector<std::uint8_t> frame(control_header_bytes);
  Writer writer(frame);
  std::visit([&](const auto& m) { writer.item(m); }, message);
  std::copy(magic.begin(), magic.end(), frame.begin());
  store(frame.data() + version_at, version);
  store(frame.data() + type_at, static_cast<std::uint16_t>(message.index() + 1));
  store(frame.data() + length_at, static_cast<std::uint32_t>(frame.size() - control_header_bytes));
  store(frame.data() + checksum_at, frame_checksum(frame));
  return frame;
}

Result<Message> decode_payload(std::uint16_t type, std::span<const std::uint8_t> payload) {
  if (!known_type(type)) return unknown_type(type);
  return decode_as(type - 1U, payload, std::make_index_sequence<message_count>());
}

void ControlDecoder::append(std::span<const std::uint8_t> bytes) {
  if (error_ || bytes.empty()) return;
  if (consumed_ > 0) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(consumed_));
    consumed_ = 0;
  }
  // Growth by doubling, but no further than one frame of the limit: the usual vector would keep twice that.
  const std::size_t needed = buffer_.size() + bytes.size();
  if (needed > buffer_.capacity()) {
    const std::size_t frame_max = control_header_bytes + payload_bytes_max_;
    buffer_.reserve(std::max(needed, std::min(2 * buffer_.capacity(), frame_max)));
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

std::span<const std::uint8_t> ControlDecoder::rest() const { return std::span(buffer_).subspan(consumed_); }

Result<std::optional<Message>> ControlDecoder::next() {
  if (error_) return *error_;
  std::size_t frame_bytes = 0;
  Result<std::optional<Message>> result = parse(frame_bytes);
  if (!result.ok()) {
    error_ = result.status();
    buffer_ = {};
    consumed_ = 0;
    return result;
  }
  consumed_ += frame_bytes;
  if (consumed_ == buffer_.size()) {
    consumed_ = 0;
    buffer_.clear();
    if (buffer_.capacity() > kept_bytes_max) buffer_.shrink_to_fit();
  }
  return result;
}

// Looks at rest() only; frame_bytes is what the message took. Each check comes as soon as the bytes for it are there.
Result<std::optional<Message>> ControlDecoder::parse(std::size_t& frame_bytes) const {
  const std::span<const std::uint8_t> bytes = rest();
  if (bytes.size() < version_at) return std::optional<Message>();
  if (!std::equal(magic.begin(), magic.end(), bytes.begin())) {
    const auto* const text = reinterpret_cast<const char*>(bytes.data());
    const std::string_view first(text, std::min(bytes.size(), quoted_bytes_max));
    return Status(Code::NOT_A_COORDINATOR, fmt::format("what came is not of the Hawser protocol; it begins with \"{}\"",
                                                       printable(first, 4 * quoted_bytes_max)));
  }
  if (bytes.size() < type_at) return std::optional<Message>();
  const auto theirs = load<std::uint16_t>(bytes.data() + version_at);
  if (theirs != version) {
    return Status(
        Code::VERSION_MISMATCH,
        fmt::format("the other end speaks version {} of the wire format, this one speaks version {}", theirs, version));
  }
  if (bytes.size() < control_header_bytes) return std::optional<Message>();
  const auto type = load<std::uint16_t>(bytes.data() + type_at);
  if (!known_type(type)) return unknown_type(type);
  const auto length = load<std::uint32_t>(bytes.data() + length_at);
  if (length > payload_bytes_max_) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("{} message of {} bytes; at most {} are taken here",
                                                      names[type - 1U], length, payload_bytes_max_));
  }
  if (bytes.size() - control_header_bytes < length) return std::optional<Message>();
  const std::span<const std::uint8_t> frame = bytes.first(control_header_bytes + length);
  if (load<std::uint32_t>(frame.data() + checksum_at) != frame_checksum(frame)) {
    return Status(Code::INVALID_ARGUMENT,
                  fmt::format("{} message of {} bytes with a wrong checksum", names[type - 1U], length));
  }
  Result<Message> message = decode_payload(type, frame.subspan(control_header_bytes));
  if (!message.ok()) return message.status();
  frame_bytes = frame.size();
  return std::optional<Message>(std::move(message.value()));
}

}  // namespace hawser::wire
