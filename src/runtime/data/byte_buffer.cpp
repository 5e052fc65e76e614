// Memory of payloads; see the header.
#include "runtime/data/byte_buffer.hpp"

#include <sys/mman.h>

#include <new>

namespace hawser::runtime {
namespace {

constexpr std::size_t area_bytes = 16U << 20;

}  // namespace

BlockPool::~BlockPool() {
  for (std::byte* area : areas_) ::munmap(area, area_bytes);
}

ByteBuffer BlockPool::take(std::size_t size) {
  std::byte* memory = nullptr;
  {
    const std::lock_guard hold(mutex_);
    if (free_.empty()) {
      void* const area = ::mmap(nullptr, area_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (area == MAP_FAILED) throw std::bad_alloc();
      (void)::madvise(area, area_bytes, MADV_HUGEPAGE);  // a wish; without it everything works, slower
      areas_.push_back(static_cast<std::byte*>(area));
      for (std::size_t at = area_bytes / block_bytes_; at > 0; --at) {
        free_.push_back(static_cast<std::byte*>(area) + (at - 1) * block_bytes_);
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
