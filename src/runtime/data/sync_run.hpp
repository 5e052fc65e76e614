// A sync or check of shared state as an operation: the machine of protocol/sync with the tensors it speaks of and the
// blocks that have come. Guarded by the engine's mutex while the operation is open; afterwards it belongs to the
// caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "protocol/sync/sync.hpp"
#include "runtime/data/byte_buffer.hpp"

namespace hawser::runtime {

struct SyncRun {
  SyncRun(const protocol::Layout& layout_of, std::vector<std::byte*> tensors_of, protocol::Sync::Local local)
      : layout(layout_of), tensors(std::move(tensors_of)), machine(std::move(local)) {}

  const protocol::Layout& layout;
  const std::vector<std::byte*> tensors;  // the user's memory, read while the operation is open
  protocol::Sync machine;
  const std::shared_ptr<BlockPool> pool = BlockPool::create(protocol::sync_block_bytes);
  std::map<std::uint64_t, ByteBuffer> staged;  // verified blocks, by number

  [[nodiscard]] std::span<std::byte> place(std::uint64_t block) const {
    const protocol::Block where = layout.block(block);
    return {tensors[where.tensor] + where.offset, where.bytes};
  }
};

}  // namespace hawser::runtime
