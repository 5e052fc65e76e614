// Control messages to bytes and back. A frame is 16 bytes of header (magic "HWSR", version, type, payload length,
// checksum of header and payload) and the payload; docs/protocol.md has the bytes. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "wire/messages.hpp"

namespace hawser::wire {

inline constexpr std::size_t control_header_bytes = 16;

// The whole frame. The message must respect the limits of messages.hpp: longer lists and values outside an enum are our
// own mistake and end the process. Strings are cut between characters, and what is not valid text in them becomes '?'.
std::vector<std::uint8_t> encode(const Message& message);

// Collects the bytes of a connection and gives back messages. After an error it stays in error: close the connection.
// Memory, when next() is called until it has nothing before more is appended: one frame of the current limit and what
// was appended last; nothing is reserved from a length before the bytes are there.
class ControlDecoder {
 public:
  // The limit for payloads; starts at control_bytes_max_hello, raised by the owner once the other end is known.
  void set_payload_bytes_max(std::size_t bytes) { payload_bytes_max_ = bytes; }
  void append(std::span<const std::uint8_t> bytes);  // ignored after an error
  // A message, nothing yet, or why these bytes are not ours: VERSION_MISMATCH (both versions named) when the magic is
  // right but the version is not, NOT_A_COORDINATOR for a wrong magic (the text quotes the first bytes, printable),
  // else INVALID_ARGUMENT (bad checksum, unknown type, lengths that do not fit, values outside an enum, trailing
  // bytes). Each is said as soon as the bytes that show it are there: the magic after 4 bytes, the version after 6,
  // type and length after 16.
  Result<std::optional<Message>> next();
  // Bytes that were appended and not yet consumed (what follows the last message). Valid until the next append or next.
  [[nodiscard]] std::span<const std::uint8_t> rest() const;

 private:
  Result<std::optional<Message>> parse(std::size_t& frame_bytes) const;

  std::vector<std::uint8_t> buffer_;
  std::size_t consumed_ = 0;  // 0 <= consumed_ <= buffer_.size()
  std::size_t payload_bytes_max_ = control_bytes_max_hello;
  std::optional<Status> error_;
};

// One payload without the frame, as the decoder's inner part; exposed for tests and fuzzing.
Result<Message> decode_payload(std::uint16_t type, std::span<const std::uint8_t> payload);

}  // namespace hawser::wire
