// getrandom blocks only until the kernel has been seeded once after boot; for 16 bytes it is never cut short
// afterwards.
#include "io/random.hpp"

#include <fmt/format.h>
#include <sys/random.h>
#include <uv.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace hawser::io {

Result<Id128> random_id() {
  for (;;) {
    Id128 id;
    std::uint64_t words[2] = {0, 0};
    const ssize_t got = getrandom(words, sizeof(words), 0);
    if (got < 0 && errno != EINTR) {
      return Status(Code::RESOURCE, fmt::format("the kernel gives no random bits: {}", uv_strerror(-errno)));
    }
    if (got != static_cast<ssize_t>(sizeof(words))) continue;
    id.high = words[0];
    id.low = words[1];
    if (!id.is_zero()) return id;
  }
}

std::int64_t now_ms() { return static_cast<std::int64_t>(uv_hrtime() / 1000000); }

std::int64_t about_now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

}  // namespace hawser::io
