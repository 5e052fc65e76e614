// The only file that compiles xxHash into this layer.
#include "wire/checksum.hpp"

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

namespace hawser::wire {
namespace {

std::uint32_t nonzero(XXH64_hash_t hash) {
  const auto low = static_cast<std::uint32_t>(hash);
  return low != 0 ? low : 1;
}

}  // namespace

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

std::uint32_t payload_sum(std::span<const std::byte> payload) {
  return nonzero(XXH3_64bits(payload.data(), payload.size()));
}

struct PayloadSum::State {
  XXH3_state_t xxh3;
};

PayloadSum::PayloadSum() : state_(std::make_unique<State>()) { begin(); }
PayloadSum::~PayloadSum() = default;
void PayloadSum::begin() { XXH3_64bits_reset(&state_->xxh3); }
void PayloadSum::add(std::span<const std::byte> bytes) {
  if (!bytes.empty()) XXH3_64bits_update(&state_->xxh3, bytes.data(), bytes.size());
}
std::uint32_t PayloadSum::value() const { return nonzero(XXH3_64bits_digest(&state_->xxh3)); }

}  // namespace hawser::wire
