// Memory of some size; see the header.
#include "runtime/data/byte_buffer.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <new>

namespace hawser::runtime {
namespace {

constexpr std::size_t area_bytes = 16U << 20;       // of a pool
constexpr std::size_t mapped_bytes_min = 4U << 20;  // less is not worth a huge page
constexpr std::size_t kept_block_min = 4U << 10;
constexpr std::size_t kept_block_max = 1U << 20;
constexpr std::size_t kept_bytes_max = 4U << 20;  // in all

// Blocks that are free, by size, which is a power of two. The list is in the blocks themselves.
class Kept {
 public:
  // nullptr: there is none.
  std::byte* take(std::size_t size) {
    const std::lock_guard hold(mutex_);
    Free*& first = lists_[place(size)];
    if (first == nullptr) return nullptr;
    Free* const block = first;
    first = block->next;
    bytes_ -= size;
    return reinterpret_cast<std::byte*>(block);
  }
  // False: that would be too much.
  bool keep(std::byte* memory, std::size_t size) noexcept {
    const std::lock_guard hold(mutex_);
    if (bytes_ + size > kept_bytes_max) return false;
    Free*& first = lists_[place(size)];
    first = new (memory) Free{first};
    bytes_ += size;
    return true;
  }

 private:
  struct Free {
    Free* next;
  };
  static std::size_t place(std::size_t size) {
    return static_cast<std::size_t>(std::countr_zero(size) - std::countr_zero(kept_block_min));
  }

  std::mutex mutex_;
  std::size_t bytes_ = 0;
  std::array<Free*, std::countr_zero(kept_block_max) - std::countr_zero(kept_block_min) + 1> lists_{};
};

Kept& kept() {
  static Kept* const all = new Kept;  // as long as the process: buffers may outlive what is static
  return *all;
}

}  // namespace

ByteBuffer::ByteBuffer(std::size_t size) : size_(size) {
  if (size < kept_block_min || size > kept_block_max) {
    memory_.reset(new std::byte[size]);
    return;
  }
  const std::size_t block = std::bit_ceil(size);
  std::byte* memory = kept().take(block);
  if (memory == nullptr) memory = new std::byte[block];
  memory_.reset(memory, [block](std::byte* at) {
    if (!kept().keep(at, block)) delete[] at;
  });
}

ByteBuffer ByteBuffer::zeroed(std::size_t size) {
  if (size < mapped_bytes_min) {
    auto* const memory = static_cast<std::byte*>(std::calloc(std::max<std::size_t>(1, size), 1));
    if (memory == nullptr) throw std::bad_alloc();
    return {std::shared_ptr<std::byte[]>(memory, [](std::byte* at) { std::free(at); }), size};
  }
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  (void)::madvise(memory, size, MADV_HUGEPAGE);  // a wish; without it everything works, slower
  return {std::shared_ptr<std::byte[]>(static_cast<std::byte*>(memory), [size](std::byte* at) { ::munmap(at, size); }),
          size};
}

ByteBuffer BlockPool::take(std::size_t size) {
  std::byte* memory = nullptr;
  {
    const std::lock_guard hold(mutex_);
    if (free_.empty()) {
      areas_.push_back(ByteBuffer::zeroed(std::max(area_bytes, block_bytes_)));
      const ByteBuffer& area = areas_.back();
      for (std::size_t at = area.size() / block_bytes_; at > 0; --at) {
        free_.push_back(area.data() + (at - 1) * block_bytes_);
      }
    }
    memory = free_.back();
    free_.pop_back();
  }
  const auto give_back = [pool = shared_from_this()](std::byte* block) {
    const std::lock_guard hold(pool->mutex_);
    pool->free_.push_back(block);
  };
  return {std::shared_ptr<std::byte[]>(memory, give_back), size};
}

}  // namespace hawser::runtime
