// Random bits of the kernel, for identities and secrets, and the monotonic clock. Any thread.
#pragma once

#include <cstdint>

#include "base/ids.hpp"
#include "base/status.hpp"

namespace hawser::io {

// 128 random bits, never zero. RESOURCE when the kernel gives none.
Result<Id128> random_id();

// Milliseconds since an arbitrary start; grows also while the wall clock is set. The same clock as that of EventLoop's
// timers.
std::int64_t now_ms();
// The same, some milliseconds ago: as of the kernel's last tick. A fifth of the price.
std::int64_t about_now_ms();

}  // namespace hawser::io
