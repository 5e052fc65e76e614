// What a shared state consists of: its tensors in order, and the map between them and the blocks in which content is
// hashed and travels. Each tensor is cut into blocks of 256 KiB, the last one shorter; blocks are numbered through all
// tensors; an empty tensor has none. The Merkle root over the blocks' hashes stands for the whole content. Pure; one
// thread at a time. docs/protocol.md#shared-state.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.hpp"
#include "wire/sync.hpp"

namespace hawser::protocol {

inline constexpr std::uint64_t sync_block_bytes = 256U << 10;
inline constexpr std::size_t merkle_fanout = 256;

struct Block {  // where one is
  std::size_t tensor = 0;
  std::uint64_t offset = 0;  // bytes from the tensor's begin
  std::uint64_t bytes = 0;   // 1 to sync_block_bytes
  bool operator==(const Block&) const = default;
};

class Layout {
 public:
  // INVALID_ARGUMENT: the name is empty, too long, no text, or taken; the sizes overflow. RESOURCE: more tensors, or a
  // longer description, than a SyncLayout holds.
  Status add(const std::string& name, Dtype dtype, std::uint64_t count);

  [[nodiscard]] const std::vector<wire::TensorInfo>& tensors() const { return description_.tensors; }
  [[nodiscard]] std::optional<std::size_t> find(std::string_view name) const;
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint64_t blocks() const { return blocks_; }
  // The number of a tensor's first block, also where it has none: then that of the next.
  [[nodiscard]] std::uint64_t first_block(std::size_t tensor) const { return first_block_[tensor]; }
  [[nodiscard]] Block block(std::uint64_t index) const;  // index < blocks()

  [[nodiscard]] const wire::SyncLayout& description() const { return description_; }
  [[nodiscard]] wire::Digest128 digest() const;  // of the description; takes a pass over it

 private:
  wire::SyncLayout description_;
  std::vector<std::uint64_t> first_block_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::uint64_t bytes_ = 0;
  std::uint64_t blocks_ = 0;
  std::size_t encoded_bytes_ = wire::sync_layout_bytes_least();
};

// Of a description that came from a peer, or of an own one.
wire::Digest128 layout_digest(const wire::SyncLayout& description);

// The root over the hashes of all blocks, each being the XXH3-128 of the block's bytes seeded with the block's number.
wire::Digest128 merkle_root(const wire::Digest128& layout, std::span<const wire::Digest128> leaves);

// What differs first between two layouts, of the members called `one` and `other`. Empty when they are equal.
std::string first_difference(const std::string& one, const wire::SyncLayout& ones, const std::string& other,
                             const wire::SyncLayout& others);

}  // namespace hawser::protocol
