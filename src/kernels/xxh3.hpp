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

Digest hash_entry(const void* data, std::size_t bytes, std::uint64_t piece) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(data, bytes, piece);
  return {hash.high64, hash.low64};  // an aggregate: calls no constructor
}

std::uint64_t checksum_entry(const void* data, std::size_t bytes) { return XXH3_64bits(data, bytes); }

static_assert(sizeof(XXH3_state_t) <= Checksum::state_bytes && alignof(XXH3_state_t) <= 64);
void checksum_begin_entry(void* state) { XXH3_64bits_reset(static_cast<XXH3_state_t*>(state)); }
void checksum_add_entry(void* state, const void* data, std::size_t bytes) {
  // Nothing may have no address, which xxHash 0.8 takes for an error.
  if (bytes != 0) XXH3_64bits_update(static_cast<XXH3_state_t*>(state), data, bytes);
}
std::uint64_t checksum_value_entry(const void* state) {
  return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state));
}

}  // namespace
}  // namespace hawser::kernels
