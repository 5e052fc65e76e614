// Data frame headers and the small payloads of begin and done frames, to bytes and back. The header is 64 bytes: magic
// "HWSD", version, type, the fields of FrameHeader, and a checksum of the header itself. Pure; any thread; no
// allocation but for the payloads of begin and done.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "wire/messages.hpp"

namespace hawser::wire {

std::array<std::uint8_t, frame_header_bytes> encode_header(const FrameHeader& header);
// Checks magic, version, type, checksum and that length <= data_bytes_max (begin and done: <= small_payload_bytes_max;
// ack, ping: 0).
Result<FrameHeader> decode_header(std::span<const std::uint8_t, frame_header_bytes> bytes);

std::vector<std::uint8_t> encode_begin(const Begin& begin);
Result<Begin> decode_begin(std::span<const std::uint8_t> payload);
std::uint32_t params_check(const OpParams& params);  // low 32 bits of XXH3-64 of the encoded parameters

std::vector<std::uint8_t> encode_done(const Done& done);
Result<Done> decode_done(std::span<const std::uint8_t> payload);

}  // namespace hawser::wire
