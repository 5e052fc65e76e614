// Counts the memory that operator new hands out, so that a test can bound what a decoder takes. Include it in one
// source of a program: it replaces the global operators. They sit on malloc, so that sanitizers still see every block.
#pragma once

#include <malloc.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace hawser::test_memory {

inline std::atomic<std::size_t> current{0};
inline std::atomic<std::size_t> peak{0};

// The most memory in use at once since this began, above what was in use then.
class Watch {
 public:
  Watch() : start_(current.load()) { peak.store(start_); }
  [[nodiscard]] std::size_t peak_bytes() const { return peak.load() - start_; }

 private:
  std::size_t start_;
};

inline void* take(std::size_t size) noexcept {
  void* block = std::malloc(size == 0 ? 1 : size);
  if (block == nullptr) return nullptr;
  const std::size_t now = current.fetch_add(malloc_usable_size(block)) + malloc_usable_size(block);
  for (std::size_t seen = peak.load(); now > seen && !peak.compare_exchange_weak(seen, now);) {
  }
  return block;
}

inline void* take_or_throw(std::size_t size) {
  void* block = take(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

inline void give(void* block) noexcept {
  if (block == nullptr) return;
  current.fetch_sub(malloc_usable_size(block));
  std::free(block);
}

}  // namespace hawser::test_memory

void* operator new(std::size_t size) { return hawser::test_memory::take_or_throw(size); }
void* operator new[](std::size_t size) { return hawser::test_memory::take_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return hawser::test_memory::take(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return hawser::test_memory::take(size); }
void operator delete(void* block) noexcept { hawser::test_memory::give(block); }
void operator delete[](void* block) noexcept { hawser::test_memory::give(block); }
void operator delete(void* block, std::size_t) noexcept { hawser::test_memory::give(block); }
void operator delete[](void* block, std::size_t) noexcept { hawser::test_memory::give(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { hawser::test_memory::give(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { hawser::test_memory::give(block); }
