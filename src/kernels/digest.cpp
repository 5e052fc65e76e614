// Digests of pieces of a result. xxHash is compiled into this file alone. Any thread.
#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "kernels/kernels.hpp"

namespace hawser::kernels {

Digest digest(const void* data, std::size_t bytes, std::uint64_t piece) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(data, bytes, piece);
  return {hash.high64, hash.low64};
}

}  // namespace hawser::kernels
