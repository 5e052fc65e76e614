// Memory for what is held for a while: payloads that are wanted in one piece, codes, copies of inputs. Large ones come
// straight from the system with the wish for huge pages, because one page fault then takes the place of hundreds; that
// is what most of the time of a fresh buffer goes into. A pool gives equal pieces of such areas, for blocks of shared
// state and contributions, of which many are held at once. What is small and wanted again at once, operation after
// operation, is kept for that; the system would take it back and give it anew, page by page. Copies share the memory.
// Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace hawser::runtime {

class ByteBuffer {
 public:
  ByteBuffer() = default;
  // Bytes that nobody has set yet. Throws std::bad_alloc.
  explicit ByteBuffer(std::size_t size);
  // Zeros. Throws std::bad_alloc.
  static ByteBuffer zeroed(std::size_t size);
  // Bytes that nobody has set yet, of any size; what large ones leave is kept for the next one of about that size,
  // until forget_unused. Throws std::bad_alloc.
  static ByteBuffer reused(std::size_t size);
  // Gives back to the system what nobody has wanted for so long; 0: all.
  static void forget_unused(std::int64_t for_ms) noexcept;
  ByteBuffer(std::shared_ptr<std::byte[]> memory, std::size_t size) : memory_(std::move(memory)), size_(size) {}

  explicit operator bool() const { return memory_ != nullptr; }
  [[nodiscard]] std::byte* data() const { return memory_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {data(), size_}; }

 private:
  std::shared_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
};

class BlockPool : public std::enable_shared_from_this<BlockPool> {
 public:
  static std::shared_ptr<BlockPool> create(std::size_t block_bytes) {
    return std::shared_ptr<BlockPool>(new BlockPool(block_bytes));
  }
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  // size <= block_bytes. Throws std::bad_alloc. The memory goes back to the pool with the last copy.
  ByteBuffer take(std::size_t size);

 private:
  explicit BlockPool(std::size_t block_bytes) : block_bytes_(block_bytes) {}

  const std::size_t block_bytes_;
  std::mutex mutex_;
  std::vector<ByteBuffer> areas_;
  std::vector<std::byte*> free_;
};

}  // namespace hawser::runtime
