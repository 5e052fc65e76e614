// Copies of much; see kernels.hpp. No wider registers: it is memory that takes the time.
#include <cstddef>
#include <cstring>

#include "kernels/dispatch.hpp"

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

}  // namespace hawser::kernels
