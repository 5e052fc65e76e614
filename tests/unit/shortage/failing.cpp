// Failures on demand; see the header.
#include "failing.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace failing {
namespace {

std::atomic<bool> armed{false};
std::atomic<bool> fired{false};
std::atomic<bool> persistent{false};
std::atomic<long> left{0};
std::atomic<What> of{What::memory};
std::atomic<Where> at{Where::caller};
thread_local bool caller = false;

bool meant() {
  if (at.load() == Where::caller) return caller;
  char name[16] = {};
  if (pthread_getname_np(pthread_self(), name, sizeof(name)) != 0) return false;
  if (at.load() == Where::coordinator) {
    return std::strcmp(name, "hawser-coord") == 0 || std::strcmp(name, "hawser-store") == 0;
  }
  return std::strcmp(name, "hawser-control") == 0 || std::strncmp(name, "hawser-io", 9) == 0;
}

bool hit(What what) {
  if (!armed.load(std::memory_order_relaxed) || of.load() != what || !meant()) return false;
  const long before = left.fetch_sub(1);
  if (before != 1 && (before > 1 || !persistent.load())) return false;
  fired.store(true);
  return true;
}

void* allocate(std::size_t size, std::size_t alignment) {
  if (hit(What::memory)) return nullptr;
  size = std::max<std::size_t>(1, size);
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void* allocate_or_throw(std::size_t size, std::size_t alignment = 1) {
  void* const memory = allocate(size, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void arm(What what, Where where, long n, bool all_after) {
  of = what;
  at = where;
  left = n;
  persistent = all_after;
  fired = false;
  caller = true;
  armed = true;
}

bool disarm() {
  armed = false;
  caller = false;
  return fired.load();
}

long sweep(What what, Where where, const std::function<void()>& attempt, const std::function<void(bool)>& after) {
  constexpr long dense = 24;
  static const bool full = std::getenv("HAWSER_SWEEP_FULL") != nullptr;
  long failures = 0;
  for (long n = 1;; n += full || n < dense ? 1 : n / 6) {
    arm(what, where, n);
    attempt();
    const bool failed = disarm();
    after(failed);
    if (!failed) return failures;
    ++failures;
  }
}

}  // namespace failing

void* operator new(std::size_t size) { return failing::allocate_or_throw(size); }
void* operator new[](std::size_t size) { return failing::allocate_or_throw(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return failing::allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return failing::allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return failing::allocate(size, 1); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return failing::allocate(size, 1); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

// The linker's --wrap leads the library's calls here.
extern "C" {

void* __real_calloc(std::size_t count, std::size_t size);
void* __wrap_calloc(std::size_t count, std::size_t size) {
  return failing::hit(failing::What::memory) ? nullptr : __real_calloc(count, size);
}

void* __real_mmap(void* address, std::size_t length, int protection, int flags, int fd, off_t offset);
void* __wrap_mmap(void* address, std::size_t length, int protection, int flags, int fd, off_t offset) {
  if (!failing::hit(failing::What::memory)) return __real_mmap(address, length, protection, flags, fd, offset);
  errno = ENOMEM;
  return MAP_FAILED;
}

// Called from the C++ library, so it takes its place by its name.
[[gnu::visibility("default")]] int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                                  void* (*run)(void*), void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto next = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  if (failing::hit(failing::What::thread)) return EAGAIN;
  return next(thread, attributes, run, argument);
}

}  // extern "C"
