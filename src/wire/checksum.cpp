// The only file that compiles xxHash into this layer.
#include "wire/checksum.hpp"

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

namespace hawser::wire {

std::uint64_t checksum(std::span<const std::uint8_t> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::uint64_t checksum(std::span<const std::uint8_t> first, std::span<const std::uint8_t> second) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, first.data(), first.size());
  // An empty span may have no address, which xxHash 0.8 takes for an error.
  if (!second.empty()) XXH3_64bits_update(&state, second.data(), second.size());
  return XXH3_64bits_digest(&state);
}

Digest128 digest128(std::span<const std::uint8_t> bytes, std::uint64_t seed) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {hash.high64, hash.low64};
}

std::uint32_t payload_sum(std::uint64_t hash) {
  const auto low = static_cast<std::uint32_t>(hash);
  return low != 0 ? low : 1;
}

}  // namespace hawser::wire
