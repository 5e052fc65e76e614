// Layouts, block map and Merkle root; see the header.
#include "protocol/sync/layout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/assert.hpp"
#include "base/text.hpp"
#include "wire/archive.hpp"
#include "wire/checksum.hpp"

namespace hawser::protocol {
namespace {

using wire::Digest128;
using wire::TensorInfo;

// Seeds that tell the kinds of hashes apart; leaves have their block's number, which is below all of them.
constexpr std::uint64_t layout_seed = ~std::uint64_t{0};
constexpr std::uint64_t root_seed = layout_seed - 1;
constexpr std::uint64_t level_seed = std::uint64_t{1} << 62;  // plus the level of an inner node, from 1

void append(std::vector<std::uint8_t>& bytes, const Digest128& digest) { wire::Writer(bytes).bits128(digest); }

std::string shape(const TensorInfo& tensor) { return fmt::format("{}[{}]", dtype_name(tensor.dtype), tensor.count); }

bool has(const std::vector<TensorInfo>& tensors, const std::string& name) {
  return std::any_of(tensors.begin(), tensors.end(), [&](const TensorInfo& tensor) { return tensor.name == name; });
}

}  // namespace

Status Layout::add(const std::string& name, Dtype dtype, std::uint64_t count) {
  if (name.empty() || name.size() > wire::tensor_name_bytes_max || !valid_text(name)) {
    return {Code::INVALID_ARGUMENT, fmt::format("a tensor's name is 1 to {} bytes of UTF-8 without control characters",
                                                wire::tensor_name_bytes_max)};
  }
  if (by_name_.contains(name)) {
    return {Code::INVALID_ARGUMENT, fmt::format("the state has a tensor \"{}\" already", name)};
  }
  if (count > (std::numeric_limits<std::int64_t>::max() - bytes_) / dtype_size(dtype)) {
    return {Code::INVALID_ARGUMENT, fmt::format("tensor \"{}\": {} elements are too many", name, count)};
  }
  if (tensors().size() == wire::tensors_max) {
    return {Code::RESOURCE, fmt::format("a state holds at most {} tensors", wire::tensors_max)};
  }
  const std::size_t encoded_bytes = encoded_bytes_ + wire::sync_tensor_bytes(name.size());
  if (encoded_bytes > wire::sync_bytes_max) {
    return {Code::RESOURCE, fmt::format("the description of the state, names above all, is longer than {} bytes",
                                        wire::sync_bytes_max)};
  }
  const std::uint64_t bytes = count * dtype_size(dtype);
  const std::size_t index = tensors().size();
  description_.tensors.push_back({name, dtype, count});
  try {
    first_block_.push_back(blocks_);
    by_name_.emplace(name, index);
  } catch (...) {  // no memory: as it was
    description_.tensors.pop_back();
    first_block_.resize(index);
    throw;
  }
  encoded_bytes_ = encoded_bytes;
  bytes_ += bytes;
  blocks_ += bytes / sync_block_bytes + (bytes % sync_block_bytes == 0 ? 0 : 1);
  return {};
}

std::optional<std::size_t> Layout::find(std::string_view name) const {
  auto it = by_name_.find(name);
  if (it == by_name_.end()) return std::nullopt;
  return it->second;
}

Block Layout::block(std::uint64_t index) const {
  HAWSER_ASSERT(index < blocks_, "there is no such block");
  // The last tensor that begins at or before it: empty ones before it begin there too.
  auto after = std::upper_bound(first_block_.begin(), first_block_.end(), index);
  const auto tensor = static_cast<std::size_t>(after - first_block_.begin()) - 1;
  const TensorInfo& info = tensors()[tensor];
  const std::uint64_t offset = (index - first_block_[tensor]) * sync_block_bytes;
  return {tensor, offset, std::min(sync_block_bytes, info.count * dtype_size(info.dtype) - offset)};
}

Digest128 Layout::digest() const { return layout_digest(description_); }

Digest128 layout_digest(const wire::SyncLayout& description) {
  return wire::digest128(wire::encode_sync(description), layout_seed);
}

Digest128 merkle_root(const Digest128& layout, std::span<const Digest128> leaves) {
  std::vector<Digest128> nodes(leaves.begin(), leaves.end());
  std::vector<std::uint8_t> bytes;
  for (std::uint64_t level = 1; nodes.size() > 1; ++level) {
    std::size_t parents = 0;
    for (std::size_t first = 0; first < nodes.size(); first += merkle_fanout) {
      bytes.clear();
      const std::size_t end = std::min(first + merkle_fanout, nodes.size());
      for (std::size_t child = first; child < end; ++child) append(bytes, nodes[child]);
      nodes[parents++] = wire::digest128(bytes, level_seed + level);
    }
    nodes.resize(parents);
  }
  // The layout fixes the number of leaves, hence the form of the tree.
  bytes.clear();
  append(bytes, layout);
  if (!nodes.empty()) append(bytes, nodes.front());
  return wire::digest128(bytes, root_seed);
}

std::string first_difference(const std::string& one, const wire::SyncLayout& ones, const std::string& other,
                             const wire::SyncLayout& others) {
  const std::vector<TensorInfo>& left = ones.tensors;
  const std::vector<TensorInfo>& right = others.tensors;
  const auto missing = [](const TensorInfo& tensor, const std::string& here, const std::string& there) {
    return fmt::format("layouts of the shared state differ: tensor \"{}\", {} at {}, is missing at {}", tensor.name,
                       shape(tensor), here, there);
  };
  for (std::size_t i = 0; i < std::max(left.size(), right.size()); ++i) {
    if (i == right.size()) return missing(left[i], one, other);
    if (i == left.size()) return missing(right[i], other, one);
    if (left[i] == right[i]) continue;
    if (left[i].name == right[i].name) {
      return fmt::format("layouts of the shared state differ: tensor \"{}\" is {} at {} and {} at {}", left[i].name,
                         shape(left[i]), one, shape(right[i]), other);
    }
    if (!has(right, left[i].name)) return missing(left[i], one, other);
    if (!has(left, right[i].name)) return missing(right[i], other, one);
    return fmt::format(
        "layouts of the shared state differ: tensor number {} is \"{}\" at {} and \"{}\" at {}; add tensors in the "
        "same "
        "order",
        i, left[i].name, one, right[i].name, other);
  }
  return "";
}

}  // namespace hawser::protocol
