// Memory of some size; see the header.
#include "runtime/data/byte_buffer.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <new>

#include "io/random.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace hawser::runtime {
namespace {

constexpr std::size_t area_bytes = 16U << 20;       // of a pool
constexpr std::size_t mapped_bytes_min = 4U << 20;  // less is not worth a huge page
constexpr std::size_t kept_block_min = 4U << 10;
constexpr std::size_t kept_block_max = 1U << 20;
constexpr std::size_t kept_bytes_max = 4U << 20;  // in all

// AddressSanitizer takes memory that is kept for memory in use, and would miss who still reads or writes it.
#if defined(__SANITIZE_ADDRESS__)
void forbid(const std::byte* memory, std::size_t size) { __asan_poison_memory_region(memory, size); }
void allow(const std::byte* memory, std::size_t size) { __asan_unpoison_memory_region(memory, size); }
#else
void forbid(const std::byte* /*memory*/, std::size_t /*size*/) {}
void allow(const std::byte* /*memory*/, std::size_t /*size*/) {}
#endif

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
    auto* const memory = reinterpret_cast<std::byte*>(block);
    allow(memory, size);
    return memory;
  }
  // False: that would be too much.
  bool keep(std::byte* memory, std::size_t size) noexcept {
    const std::lock_guard hold(mutex_);
    if (bytes_ + size > kept_bytes_max) return false;
    Free*& first = lists_[place(size)];
    first = new (memory) Free{first};
    bytes_ += size;
    forbid(memory + sizeof(Free), size - sizeof(Free));
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

// Large areas that are free. One that fits nobody who asks is given back at once, so what is held is no more than was
// in use before.
class Spares {
 public:
  // Of at least so many bytes, and at most twice that; size 0: there is none.
  struct Area {
    std::byte* memory = nullptr;
    std::size_t size = 0;
    std::int64_t since_ms = 0;
  };
  Area take(std::size_t size) {
    const std::lock_guard hold(mutex_);
    std::size_t best = count_;
    for (std::size_t i = 0; i < count_; ++i) {
      if (areas_[i].size < size || areas_[i].size / 2 > size) continue;
      if (best == count_ || areas_[i].size < areas_[best].size) best = i;
    }
    if (best == count_) {
      while (count_ != 0) release(count_ - 1);
      return {};
    }
    const Area found = areas_[best];
    areas_[best] = areas_[--count_];
    allow(found.memory, found.size);
    return found;
  }
  void keep(std::byte* memory, std::size_t size) noexcept {
    const std::lock_guard hold(mutex_);
    if (count_ == areas_.size()) release(0);
    areas_[count_++] = {memory, size, io::now_ms()};
    forbid(memory, size);
  }
  void forget_unused(std::int64_t for_ms) noexcept {
    const std::lock_guard hold(mutex_);
    const std::int64_t now = io::now_ms();
    for (std::size_t i = count_; i-- > 0;) {
      if (now - areas_[i].since_ms >= for_ms) release(i);
    }
  }

 private:
  void release(std::size_t place) noexcept {
    allow(areas_[place].memory, areas_[place].size);
    ::munmap(areas_[place].memory, areas_[place].size);
    areas_[place] = areas_[--count_];
  }

  std::mutex mutex_;
  std::size_t count_ = 0;
  std::array<Area, 64> areas_{};
};

Spares& spares() {
  static Spares* const all = new Spares;  // as long as the process: buffers may outlive what is static
  return *all;
}

std::byte* map(std::size_t size) {
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  (void)::madvise(memory, size, MADV_HUGEPAGE);  // a wish; without it everything works, slower
  return static_cast<std::byte*>(memory);
}

Kept& kept() {
  static Kept* const all = new Kept;  // as above
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
  return {std::shared_ptr<std::byte[]>(map(size), [size](std::byte* at) { ::munmap(at, size); }), size};
}

ByteBuffer ByteBuffer::reused(std::size_t size) {
  if (size <= kept_block_max) return ByteBuffer(size);
  Spares::Area area = spares().take(size);
  if (area.memory == nullptr) area = {map(size), size};
  return {std::shared_ptr<std::byte[]>(area.memory, [all = area.size](std::byte* at) { spares().keep(at, all); }),
          size};
}

void ByteBuffer::forget_unused(std::int64_t for_ms) noexcept { spares().forget_unused(for_ms); }

BlockPool::~BlockPool() {
  for (const ByteBuffer& area : areas_) allow(area.data(), area.size());
}

ByteBuffer BlockPool::take(std::size_t size) {
  std::byte* memory = nullptr;
  {
    const std::lock_guard hold(mutex_);
    if (free_.empty()) {
      const std::size_t all = std::max(area_bytes, block_bytes_);
      free_.reserve((areas_.size() + 1) * (all / block_bytes_));  // to give a block back takes no memory
      areas_.push_back(ByteBuffer::zeroed(all));
      const ByteBuffer& area = areas_.back();
      for (std::size_t at = area.size() / block_bytes_; at > 0; --at) {
        free_.push_back(area.data() + (at - 1) * block_bytes_);
      }
      forbid(area.data(), area.size());
    }
    memory = free_.back();
    free_.pop_back();
    allow(memory, block_bytes_);
  }
  const auto give_back = [pool = shared_from_this()](std::byte* block) {
    const std::lock_guard hold(pool->mutex_);
    forbid(block, pool->block_bytes_);
    pool->free_.push_back(block);
  };
  return {std::shared_ptr<std::byte[]>(memory, give_back), size};
}

}  // namespace hawser::runtime
