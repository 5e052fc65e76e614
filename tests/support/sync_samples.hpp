// Sync messages for tests: one written-out sample of every type and shape (the golden files hold their bytes), and
// messages at random within their limits.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "wire/sync.hpp"

namespace hawser::sync_test {

struct Sample {
  std::string name;
  wire::SyncMessage message;
};

inline std::vector<Sample> samples() {
  const wire::Digest128 layout{0x0102030405060708ULL, 0x090a0b0c0d0e0f10ULL};
  const wire::Digest128 root{0x1112131415161718ULL, 0x191a1b1c1d1e1f20ULL};
  const wire::Digest128 record{0x2122232425262728ULL, 0x292a2b2c2d2e2f30ULL};
  return {
      {"SyncOffer", wire::SyncOffer{layout, 42, root, wire::SyncStrategy::send_only, false, true, 41, record}},
      {"SyncOffer-newcomer",
       wire::SyncOffer{layout, 0, root, wire::SyncStrategy::receive_only, true, false, 0, wire::Digest128{}}},
      {"SyncLayout", wire::SyncLayout{{{"layer.0/w", Dtype::bf16, 4096},
                                       {"gr\xc3\xb6\xc3\x9f"
                                        "e",
                                        Dtype::f64, 0}}}},
      {"SyncLayout-empty", wire::SyncLayout{}},
      {"SyncHashRequest", wire::SyncHashRequest{32768, 1024}},
      {"SyncHashes", wire::SyncHashes{32768, {root, record}}},
      {"SyncBlockRequest", wire::SyncBlockRequest{{{7, 3}, {11, 1}, {0x0102030405060708ULL, 2}}}},
  };
}

using Random = std::mt19937_64;

inline wire::SyncMessage random_message(Random& random) {
  const auto below = [&](std::uint64_t bound) { return random() % bound; };
  const auto length = [&](std::size_t max) {
    return static_cast<std::size_t>(below(16) == 0 ? max : below(std::min<std::size_t>(max, 6) + 1));
  };
  const auto number = [&] { return random() >> below(64); };
  const auto digest = [&] { return wire::Digest128{number(), number()}; };
  switch (below(5)) {
    case 0:
      return wire::SyncOffer{digest(),      number(),      digest(), static_cast<wire::SyncStrategy>(below(3)),
                             below(2) == 0, below(2) == 0, number(), digest()};
    case 1: {
      wire::SyncLayout layout;
      layout.tensors.resize(below(64) == 0 ? 5000 : below(8));
      for (wire::TensorInfo& tensor : layout.tensors) {
        tensor.name = std::string(length(wire::tensor_name_bytes_max), static_cast<char>('a' + below(26)));
        tensor.dtype = static_cast<Dtype>(below(dtype_count));
        tensor.count = number();
      }
      return layout;
    }
    case 2:
      return wire::SyncHashRequest{number(), static_cast<std::uint32_t>(number())};
    case 3: {
      wire::SyncHashes hashes{number(), std::vector<wire::Digest128>(length(wire::sync_hashes_max))};
      for (wire::Digest128& hash : hashes.hashes) hash = digest();
      return hashes;
    }
    default: {
      wire::SyncBlockRequest request{std::vector<wire::BlockRange>(length(wire::sync_request_blocks_max))};
      for (wire::BlockRange& range : request.ranges) range = {number(), static_cast<std::uint32_t>(number())};
      return request;
    }
  }
}

}  // namespace hawser::sync_test
