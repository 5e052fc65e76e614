// The checksums of the wire format: XXH3 (xxHash 0.8; its 64-bit result is fixed for good). They find damage and bytes
// of others, not forgery. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/messages.hpp"

namespace hawser::wire {

std::uint64_t checksum(std::span<const std::uint8_t> bytes);
// Of `first` and `second` as one run of bytes.
std::uint64_t checksum(std::span<const std::uint8_t> first, std::span<const std::uint8_t> second);
// XXH3-128 with a seed, which tells equal bytes at different places apart: for hashes of hashes and short values. Long
// pieces of data are hashed by the kernels, with the same function.
Digest128 digest128(std::span<const std::uint8_t> bytes, std::uint64_t seed);

// Of a frame's payload, as its header has it, from the XXH3-64 of the payload; never 0, which says that there is none.
std::uint32_t payload_sum(std::uint64_t hash);

}  // namespace hawser::wire
