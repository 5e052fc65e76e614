// The checksums of the wire format: XXH3 (xxHash 0.8; its 64-bit result is fixed for good). They find damage and bytes
// of others, not forgery. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>

namespace hawser::wire {

std::uint64_t checksum(std::span<const std::uint8_t> bytes);
// Of `first` and `second` as one run of bytes.
std::uint64_t checksum(std::span<const std::uint8_t> first, std::span<const std::uint8_t> second);

}  // namespace hawser::wire
