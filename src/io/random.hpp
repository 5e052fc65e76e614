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

}  // namespace hawser::io
