// Data frame headers: fixed offsets, read and written in place, since one passes per unit of data. The payloads of
// begin and done frames use the visitors of the control messages.
#include "wire/frame.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "wire/checksum.hpp"
#include "wire/fields.hpp"

namespace hawser::wire {
namespace {

constexpr std::array<std::uint8_t, 4> magic = {'H', 'W', 'S', 'D'};
constexpr std::size_t payload_bytes_usual = 256;  // room is made for as much at once
constexpr std::size_t version_at = 4;
constexpr std::size_t type_at = 6;
constexpr std::size_t zero_at = 7;
constexpr std::size_t epoch_at = 8;
constexpr std::size_t generation_at = 16;
constexpr std::size_t tag_at = 24;
constexpr std::size_t sequence_at = 32;
constexpr std::size_t slice_at = 40;
constexpr std::size_t step_at = 44;
constexpr std::size_t length_at = 48;
constexpr std::size_t check_at = 52;
constexpr std::size_t payload_sum_at = 56;
constexpr std::size_t checksum_at = 60;
static_assert(checksum_at + sizeof(std::uint32_t) == frame_header_bytes);

std::uint32_t header_sum(std::span<const std::uint8_t, frame_header_bytes> bytes) {
  return static_cast<std::uint32_t>(checksum(bytes.first(checksum_at)));
}

std::size_t length_max(FrameType type) {
  switch (type) {
    case FrameType::begin:
    case FrameType::done:
      return small_payload_bytes_max;
    case FrameType::data:
    case FrameType::note:
      return data_bytes_max;
    case FrameType::ack:
    case FrameType::ping:
    case FrameType::share:
      return 0;
    case FrameType::relay:
      return relay_payload_bytes_max;
  }
  return 0;
}

const char* type_name(FrameType type) {
  switch (type) {
    case FrameType::begin:
      return "begin";
    case FrameType::data:
      return "data";
    case FrameType::done:
      return "done";
    case FrameType::ack:
      return "ack";
    case FrameType::note:
      return "note";
    case FrameType::ping:
      return "ping";
    case FrameType::relay:
      return "relay";
    case FrameType::share:
      return "share";
  }
  return "unknown";
}

template <typename T>
std::vector<std::uint8_t> encode_payload(const T& value) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(payload_bytes_usual);
  Writer(bytes).item(value);
  return bytes;
}

template <typename T>
Result<T> decode_whole(const char* name, std::span<const std::uint8_t> payload) {
  T value;
  Reader reader(payload);
  reader.item(value);
  reader.finish();
  if (reader.ok()) return value;
  return Status(Code::INVALID_ARGUMENT, fmt::format("{} payload: {} (byte {} of {})", name, reader.reason(),
                                                    reader.error_at(), payload.size()));
}

}  // namespace

std::array<std::uint8_t, frame_header_bytes> encode_header(const FrameHeader& header) {
  HAWSER_ASSERT(header.length <= length_max(header.type), "a data frame is longer than its limit");
  std::array<std::uint8_t, frame_header_bytes> bytes{};
  std::uint8_t* const out = bytes.data();
  std::copy(magic.begin(), magic.end(), out);
  store(out + version_at, version);
  out[type_at] = static_cast<std::uint8_t>(header.type);
  store(out + epoch_at, header.epoch);
  store(out + generation_at, header.key.generation);
  store(out + tag_at, header.key.tag);
  store(out + sequence_at, header.key.sequence);
  store(out + slice_at, header.slice);
  store(out + step_at, header.step);
  store(out + length_at, header.length);
  store(out + check_at, header.check);
  store(out + payload_sum_at, header.payload_sum);
  store(out + checksum_at, header_sum(bytes));
  return bytes;
}

Result<FrameHeader> decode_header(std::span<const std::uint8_t, frame_header_bytes> bytes) {
  const std::uint8_t* const in = bytes.data();
  if (!std::equal(magic.begin(), magic.end(), in)) {
    return Status(Code::INVALID_ARGUMENT, "data frame without its magic number");
  }
  if (const auto theirs = load<std::uint16_t>(in + version_at); theirs != version) {
    return Status(
        Code::VERSION_MISMATCH,
        fmt::format("the other end speaks version {} of the wire format, this one speaks version {}", theirs, version));
  }
  if (load<std::uint32_t>(in + checksum_at) != header_sum(bytes)) {
    return Status(Code::INVALID_ARGUMENT, "data frame header with a wrong checksum");
  }
  if (in[type_at] < static_cast<std::uint8_t>(FrameType::begin) ||
      in[type_at] > static_cast<std::uint8_t>(FrameType::share)) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("data frame of the unknown type {}", in[type_at]));
  }
  if (in[zero_at] != 0) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("data frame header: byte {} is {}, not 0", zero_at, in[zero_at]));
  }
  FrameHeader header;
  header.type = static_cast<FrameType>(in[type_at]);
  header.epoch = load<std::uint64_t>(in + epoch_at);
  header.key.generation = load<std::uint64_t>(in + generation_at);
  header.key.tag = load<std::uint64_t>(in + tag_at);
  header.key.sequence = load<std::uint64_t>(in + sequence_at);
  header.slice = load<std::uint32_t>(in + slice_at);
  header.step = load<std::uint32_t>(in + step_at);
  header.length = load<std::uint32_t>(in + length_at);
  header.check = load<std::uint32_t>(in + check_at);
  header.payload_sum = load<std::uint32_t>(in + payload_sum_at);
  if (header.length > length_max(header.type)) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("{} frame with {} bytes of payload; at most {} are allowed",
                                                      type_name(header.type), header.length, length_max(header.type)));
  }
  return header;
}

std::vector<std::uint8_t> encode_begin(const Begin& begin) { return encode_payload(begin); }

Result<Begin> decode_begin(std::span<const std::uint8_t> payload) { return decode_whole<Begin>("begin", payload); }

std::uint32_t params_check(const OpParams& params) {
  return static_cast<std::uint32_t>(checksum(encode_payload(params)));
}

std::vector<std::uint8_t> encode_done(const Done& done) { return encode_payload(done); }

Result<Done> decode_done(std::span<const std::uint8_t> payload) { return decode_whole<Done>("done", payload); }

std::vector<std::uint8_t> encode_relay(const Relay& relay) { return encode_payload(relay); }

Result<Relay> decode_relay(std::span<const std::uint8_t> head) { return decode_whole<Relay>("relay", head); }

std::optional<FrameType> relayed_type(Relayed what) {
  switch (what) {
    case Relayed::begin:
      return FrameType::begin;
    case Relayed::data:
      return FrameType::data;
    case Relayed::done:
      return FrameType::done;
    case Relayed::note:
      return FrameType::note;
    case Relayed::receipt:
    case Relayed::no_way:
      break;
  }
  return std::nullopt;
}

}  // namespace hawser::wire
