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

}  // namespace
}  // namespace hawser::kernels
