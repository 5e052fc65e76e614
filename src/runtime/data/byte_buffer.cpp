// Memory of some size; see the header.
#include "runtime/data/byte_buffer.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace hawser::runtime {
namespace {

constexpr std::size_t area_bytes = 16U << 20;       // of a pool
constexpr std::size_t mapped_bytes_min = 4U << 20;  // less is not worth a huge page

}  // namespace

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
