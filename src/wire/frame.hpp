// Data frame headers and the small payloads of begin and done frames, to bytes and back. The header is 64 bytes: magic
// "HWSD", version, type, the fields of FrameHeader, and a checksum of the header itself. Pure; any thread; no
// allocation but for the payloads of begin, done and relay.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "wire/messages.hpp"

namespace hawser::wire {

std::array<std::uint8_t, frame_header_bytes> encode_header(const FrameHeader& header);
// Checks magic, version, type, checksum and that length <= data_bytes_max (begin and done: <= small_payload_bytes_max;
// ack, ping, share: 0; relay: <= relay_payload_bytes_max).
Result<FrameHeader> decode_header(std::span<const std::uint8_t, frame_header_bytes> bytes);

std::vector<std::uint8_t> encode_begin(const Begin& begin);
Result<Begin> decode_begin(std::span<const std::uint8_t> payload);
std::uint32_t params_check(const OpParams& params);  // low 32 bits of XXH3-64 of the encoded parameters

std::vector<std::uint8_t> encode_done(const Done& done);
Result<Done> decode_done(std::span<const std::uint8_t> payload);

// The first relay_bytes of the payload of a relay frame.
std::vector<std::uint8_t> encode_relay(const Relay& relay);
Result<Relay> decode_relay(std::span<const std::uint8_t> head);
// Which frame it brings; none for an answer.
std::optional<FrameType> relayed_type(Relayed what);

}  // namespace hawser::wire
