// The decoders of data frame headers and of the payloads of begin, done and relay. What must hold: what is taken is
// within its limits and encodes to the very bytes it came from.
//
// Input: byte 0 chooses: 0 a header, 1 a header whose checksum is mended first, 2 the payload of a begin frame, 3 of a
// done frame, 4 what a relay frame begins with. The rest is what is decoded.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "support/memory.hpp"
#include "wire/archive.hpp"
#include "wire/checksum.hpp"
#include "wire/frame.hpp"

using namespace hawser;

namespace {

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "fuzz_frame: %s\n", sentence);
  std::abort();
}

void header(std::span<const std::uint8_t> input, bool mend) {
  std::array<std::uint8_t, wire::frame_header_bytes> bytes{};
  if (input.size() < bytes.size()) return;
  std::copy_n(input.begin(), bytes.size(), bytes.begin());
  if (mend) wire::store(bytes.data() + 56, wire::checksum(std::span(bytes).first(56)));
  const auto decoded = wire::decode_header(bytes);
  if (!decoded.ok()) {
    require(!decoded.status().text().empty(), "an error without a reason");
    return;
  }
  switch (decoded.value().type) {
    case wire::FrameType::begin:
    case wire::FrameType::done:
      require(decoded.value().length <= wire::small_payload_bytes_max, "a begin or done frame over its limit");
      break;
    case wire::FrameType::data:
    case wire::FrameType::note:
      require(decoded.value().length <= wire::data_bytes_max, "a data frame over its limit");
      break;
    case wire::FrameType::ack:
    case wire::FrameType::ping:
    case wire::FrameType::share:
      require(decoded.value().length == 0, "an ack, ping or share frame with a payload");
      break;
    case wire::FrameType::relay:
      require(decoded.value().length <= wire::relay_payload_bytes_max, "a relay frame over its limit");
      break;
  }
  require(wire::encode_header(decoded.value()) == bytes, "a header does not encode to the bytes it came from");
}

template <typename Decode, typename Encode>
void payload(std::span<const std::uint8_t> input, Decode decode, Encode encode) {
  const test_memory::Watch watch;
  const auto decoded = decode(input);
  require(watch.peak_bytes() <= 4 * input.size() + 4096, "memory does not follow the bytes that came");
  if (!decoded.ok()) {
    require(!decoded.status().text().empty(), "an error without a reason");
    return;
  }
  require(std::ranges::equal(encode(decoded.value()), input), "a payload does not encode to the bytes it came from");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::uint8_t> input(data + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      header(input, false);
      break;
    case 1:
      header(input, true);
      break;
    case 2:
      payload(input, wire::decode_begin, wire::encode_begin);
      break;
    case 3:
      payload(input, wire::decode_done, wire::encode_done);
      break;
    case 4:
      payload(input, wire::decode_relay, wire::encode_relay);
      break;
  }
  return 0;
}
