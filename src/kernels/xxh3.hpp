// The hash behind digest(), compiled into each variant with its instruction set: xxHash chooses its vectors when it is
// compiled. As in elementwise.hpp all of it has internal linkage. Any thread.
#pragma once

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "kernels/kernels.hpp"

namespace hawser::kernels {
namespace {  // NOLINT(google-build-namespaces)

static_assert(sizeof(XXH3_state_t) <= sizeof(HashState) && alignof(XXH3_state_t) <= alignof(HashState));
XXH3_state_t* xxh3(HashState& state) { return reinterpret_cast<XXH3_state_t*>(&state); }
const XXH3_state_t* xxh3(const HashState& state) { return reinterpret_cast<const XXH3_state_t*>(&state); }

Digest digest_of(const XXH128_hash_t& hash) { return {hash.high64, hash.low64}; }  // an aggregate: calls no constructor
Digest hash_entry(const void* data, std::size_t bytes, std::uint64_t piece) {
  return digest_of(XXH3_128bits_withSeed(data, bytes, piece));
}
void digest_begin_entry(HashState& state, std::uint64_t piece) { XXH3_128bits_reset_withSeed(xxh3(state), piece); }
void digest_add_entry(HashState& state, const void* data, std::size_t bytes) {
  // Nothing may have no address, which xxHash 0.8 takes for an error.
  if (bytes != 0) XXH3_128bits_update(xxh3(state), data, bytes);
}
Digest digest_value_entry(const HashState& state) { return digest_of(XXH3_128bits_digest(xxh3(state))); }

std::uint64_t checksum_entry(const void* data, std::size_t bytes) { return XXH3_64bits(data, bytes); }
void checksum_begin_entry(HashState& state) { XXH3_64bits_reset(xxh3(state)); }
void checksum_add_entry(HashState& state, const void* data, std::size_t bytes) {
  if (bytes != 0) XXH3_64bits_update(xxh3(state), data, bytes);  // likewise
}
std::uint64_t checksum_value_entry(const HashState& state) { return XXH3_64bits_digest(xxh3(state)); }

}  // namespace
}  // namespace hawser::kernels
