// What the members of a sync of shared state say to one another, as values, and the bytes of it. They travel as
// payloads of frames between two peers, within one epoch of one operation; blocks of tensors travel beside them as
// data. docs/protocol.md#shared-state has the same tables with the bytes. Pure; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/status.hpp"
#include "base/types.hpp"
#include "wire/messages.hpp"

namespace hawser::wire {

inline constexpr std::size_t tensor_name_bytes_max = 255;
inline constexpr std::size_t tensors_max = 65536;
inline constexpr std::size_t sync_hashes_max = 32768;       // leaves in one SyncHashes: those of 8 GiB
inline constexpr std::size_t sync_request_blocks_max = 64;  // blocks in one SyncBlockRequest, hence ranges too
inline constexpr std::size_t sync_bytes_max =
    data_bytes_max;  // one encoded message; a layout is the one that may not fit

enum class SyncStrategy : std::uint8_t { agree = 0, send_only = 1, receive_only = 2 };  // hawser_strategy_t
inline constexpr std::size_t sync_strategy_count = 3;

// Everybody to everybody, first of all: what is held here.
struct SyncOffer {
  Digest128 layout;
  std::uint64_t revision = 0;
  Digest128 root;
  SyncStrategy strategy = SyncStrategy::agree;
  bool newcomer = false;  // no sync of this state yet in this membership
  bool has_record = false;
  std::uint64_t record_revision =
      0;  // with the next: what the last sync or check here was decided to; zero without one
  Digest128 record_root;
  bool operator==(const SyncOffer&) const = default;
};

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::u8;
  std::uint64_t count = 0;
  bool operator==(const TensorInfo&) const = default;
};
// Between two members whose layouts differ, so that both can name the difference.
struct SyncLayout {
  std::vector<TensorInfo> tensors;
  bool operator==(const SyncLayout&) const = default;
};

// Receiver to source: the hashes of these blocks, please; at most sync_hashes_max.
struct SyncHashRequest {
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  bool operator==(const SyncHashRequest&) const = default;
};
struct SyncHashes {
  std::uint64_t first = 0;
  std::vector<Digest128> hashes;
  bool operator==(const SyncHashes&) const = default;
};

struct BlockRange {
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  bool operator==(const BlockRange&) const = default;
};
// Receiver to source: these blocks, please, in this order; at most sync_request_blocks_max together.
struct SyncBlockRequest {
  std::vector<BlockRange> ranges;
  bool operator==(const SyncBlockRequest&) const = default;
};

// The alternative's index + 1 is the type number on the wire: append only.
using SyncMessage = std::variant<SyncOffer, SyncLayout, SyncHashRequest, SyncHashes, SyncBlockRequest>;
const char* sync_message_name(const SyncMessage& message);

// One byte of type number and the fields.
std::vector<std::uint8_t> encode_sync(const SyncMessage& message);
Result<SyncMessage> decode_sync(std::span<const std::uint8_t> bytes);
// What a tensor of that name adds to an encoded SyncLayout, and what an empty one takes.
std::size_t sync_tensor_bytes(std::size_t name_bytes);
std::size_t sync_layout_bytes_least();

}  // namespace hawser::wire
