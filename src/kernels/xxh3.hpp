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

static_assert(sizeof(XXH3_state_t) <= sizeof(HashState));
static_assert(alignof(XXH3_state_t) <= alignof(HashState));
XXH3_state_t* xxh3(HashState& state) { return reinterpret_cast<XXH3_state_t*>(&state); }
const XXH3_state_t* xxh3(const HashState& state) { return reinterpret_cast<const XXH3_state_t*>(&state); }

Digest digest_of(const XXH128_hash_t& hash) { return {hash.high64, hash.low64}; }  // an aggregate: calls no constructor
Digest hash_entry(const void* data, std::size_t bytes, std::uint64_t piece) {
  return digest_of(XXH3_128bits_withSeed(data, bytes, piece));
}
void digest_begin_entry(HashState& state, std::uint64_t piece) { XXH3_128bits_reset_withSeed(xxh3(state), piece); }
// Whole stripes go straight to the accumulators; all but the last, which has another secret. XXH3_128bits_update, which
// does not know how much is to come, has everything that comes in small pieces go through its buffer.
void digest_add_entry(HashState& state, const void* data, std::size_t bytes, std::size_t left) {
  XXH3_state_t& hash = *xxh3(state);
  const auto* from = static_cast<const unsigned char*>(data);
  if (hash.bufferedSize == 0 && hash.totalLen + left > XXH3_MIDSIZE_MAX) {
    alignas(XXH_ACC_ALIGN) xxh_u64 sums[XXH_ACC_NB];
    __builtin_memcpy(sums, hash.acc, sizeof sums);
    const unsigned char* const secret = hash.extSecret == nullptr ? hash.customSecret : hash.extSecret;
    std::size_t stripes = (bytes < left ? bytes : left - 1) / XXH_STRIPE_LEN;
    hash.totalLen += stripes * XXH_STRIPE_LEN;
    bytes -= stripes * XXH_STRIPE_LEN;
    if (stripes != 0) {  // of the last one, what a shorter rest lacks is taken from here
      __builtin_memcpy(hash.buffer + sizeof hash.buffer - XXH_STRIPE_LEN, from + (stripes - 1) * XXH_STRIPE_LEN,
                       XXH_STRIPE_LEN);
    }
    while (stripes != 0) {
      const std::size_t to_end = hash.nbStripesPerBlock - hash.nbStripesSoFar;
      const std::size_t run = stripes < to_end ? stripes : to_end;
      for (std::size_t i = 0; i < run; ++i) {
        XXH3_accumulate_512(sums, from + i * XXH_STRIPE_LEN,
                            secret + (hash.nbStripesSoFar + i) * XXH_SECRET_CONSUME_RATE);
      }
      from += run * XXH_STRIPE_LEN;
      stripes -= run;
      hash.nbStripesSoFar += run;
      if (hash.nbStripesSoFar == hash.nbStripesPerBlock) {
        XXH3_scrambleAcc(sums, secret + hash.secretLimit);
        hash.nbStripesSoFar = 0;
      }
    }
    __builtin_memcpy(hash.acc, sums, sizeof sums);
  }
  // Nothing may have no address, which xxHash 0.8 takes for an error.
  if (bytes != 0) XXH3_128bits_update(&hash, from, bytes);
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
