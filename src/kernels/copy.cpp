// Copies of much; see kernels.hpp. SSE2 is part of every x86-64, and wider registers write no faster.
#include <cstdint>
#include <cstring>

#include "kernels/dispatch.hpp"

// Sanitizers do not see such stores, and would miss who else uses this memory.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define HAWSER_COPIES_ASIDE 1
#include <emmintrin.h>
#endif

namespace hawser::kernels {

void copy_ahead(void* dst, const void* src, std::size_t bytes) {
  constexpr std::size_t line = 64;
  auto* to = static_cast<std::byte*>(dst);
  const auto* from = static_cast<const std::byte*>(src);
  for (; bytes >= line; bytes -= line, to += line, from += line) {
    __builtin_prefetch(from + asked_ahead, 0);
    __builtin_prefetch(to + asked_ahead, 1);
    std::memcpy(to, from, line);
  }
  if (bytes != 0) std::memcpy(to, from, bytes);
}

void copy_aside(void* dst, const void* src, std::size_t bytes) {
#if defined(HAWSER_COPIES_ASIDE)
  constexpr std::size_t line = 64;
  auto* to = static_cast<std::byte*>(dst);
  const auto* from = static_cast<const std::byte*>(src);
  const std::size_t head = (line - reinterpret_cast<std::uintptr_t>(to) % line) % line;
  if (bytes >= head + line) {
    if (head != 0) std::memcpy(to, from, head);
    to += head;
    from += head;
    bytes -= head;
    for (; bytes >= line; bytes -= line, to += line, from += line) {
      const auto* in = reinterpret_cast<const __m128i_u*>(from);
      auto* out = reinterpret_cast<__m128i*>(to);
      const __m128i a = _mm_loadu_si128(in);
      const __m128i b = _mm_loadu_si128(in + 1);
      const __m128i c = _mm_loadu_si128(in + 2);
      const __m128i d = _mm_loadu_si128(in + 3);
      _mm_stream_si128(out, a);
      _mm_stream_si128(out + 1, b);
      _mm_stream_si128(out + 2, c);
      _mm_stream_si128(out + 3, d);
    }
    _mm_sfence();  // such stores are not ordered by the locks that hand the memory on
  }
  if (bytes != 0) std::memcpy(to, from, bytes);
#else
  if (bytes != 0) std::memcpy(dst, src, bytes);
#endif
}

}  // namespace hawser::kernels
