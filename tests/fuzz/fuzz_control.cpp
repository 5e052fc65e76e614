// The decoder of control frames, fed with any bytes in any pieces. What must hold: the messages, the error and the rest
// do not depend on how the bytes were cut; a message encodes to the very bytes it came from; memory stays within a
// multiple of what came.
//
// Input: byte 0, bit 0: mend the checksums, or no change would get past them; bit 1: take payloads up to
// control_bytes_max, as between admitted ends. Byte 1 seeds the cuts. The rest is the stream.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "support/memory.hpp"
#include "wire/archive.hpp"
#include "wire/checksum.hpp"
#include "wire/control.hpp"

using namespace hawser;

namespace {

using Bytes = std::vector<std::uint8_t>;

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "fuzz_control: %s\n", sentence);
  std::abort();
}

// Makes the checksum of every whole frame of the stream right.
void mend(Bytes& stream) {
  for (std::size_t at = 0; stream.size() - at >= wire::control_header_bytes;) {
    const std::size_t length = wire::load<std::uint32_t>(stream.data() + at + 8);
    if (length > stream.size() - at - wire::control_header_bytes) return;
    const std::span<const std::uint8_t> frame(stream.data() + at, wire::control_header_bytes + length);
    const std::uint64_t sum = wire::checksum(frame.first(12), frame.subspan(wire::control_header_bytes));
    wire::store(stream.data() + at + 12, static_cast<std::uint32_t>(sum));
    at += frame.size();
  }
}

struct Decoded {
  std::vector<wire::Message> messages;
  Status error;
  Bytes rest;
};

// `piece` says how many bytes come next; there is at least one.
template <typename Piece>
Decoded run(const Bytes& stream, std::size_t limit, Piece piece) {
  wire::ControlDecoder decoder;
  decoder.set_payload_bytes_max(limit);
  Decoded result;
  for (std::size_t at = 0; at < stream.size() && result.error.ok();) {
    const std::size_t size = std::min(stream.size() - at, std::max<std::size_t>(1, piece()));
    decoder.append(std::span(stream).subspan(at, size));
    at += size;
    for (;;) {
      auto next = decoder.next();
      if (!next.ok()) {
        result.error = next.status();
        require(!decoder.next().ok(), "an error did not stay");
        break;
      }
      if (!next.value()) break;
      result.messages.push_back(std::move(*next.value()));
    }
  }
  result.rest.assign(decoder.rest().begin(), decoder.rest().end());
  return result;
}

void same(const Decoded& a, const Decoded& b) {
  require(a.messages == b.messages, "the messages depend on the cuts");
  require(a.error.code() == b.error.code(), "the error depends on the cuts");
  // Of a stranger as many bytes are quoted as have come.
  if (a.error.code() != Code::NOT_A_COORDINATOR)
    require(a.error.text() == b.error.text(), "the error's text depends on the cuts");
  require(a.rest == b.rest, "the rest depends on the cuts");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t limit = (data[0] & 2) != 0 ? wire::control_bytes_max : wire::control_bytes_max_hello;
  std::minstd_rand random(data[1] + 1U);
  Bytes stream(data + 2, data + size);
  if ((data[0] & 1) != 0) mend(stream);

  const test_memory::Watch watch;
  const Decoded whole = run(stream, limit, [&] { return stream.size(); });
  // The widest growth is a Departure: 21 bytes on the wire, about 90 as a value; growing copies once more.
  require(watch.peak_bytes() <= 16 * stream.size() + (16U << 10), "memory does not follow the bytes that came");

  same(whole, run(stream, limit, [] { return std::size_t{1}; }));
  const std::size_t widest = 1 + random() % 64;
  same(whole, run(stream, limit, [&] { return random() % (widest + 1); }));

  std::size_t at = 0;
  for (const wire::Message& message : whole.messages) {
    const Bytes frame = wire::encode(message);
    require(frame.size() <= stream.size() - at, "a message encodes to more bytes than it came from");
    require(std::equal(frame.begin(), frame.end(), stream.begin() + static_cast<std::ptrdiff_t>(at)),
            "a message does not encode to the bytes it came from");
    at += frame.size();
  }
  if (whole.error.ok()) {
    require(std::equal(whole.rest.begin(), whole.rest.end(), stream.begin() + static_cast<std::ptrdiff_t>(at),
                       stream.end()),
            "the rest is not what follows the last message");
  }
  return 0;
}
