// Host names to addresses without ever blocking for longer than asked. A name is looked up by getaddrinfo on a thread
// of its own, which is left behind when nobody wants the answer any more: the system's resolver cannot be interrupted
// and may take tens of seconds, and neither a join nor the end of a loop should wait for it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "io/address.hpp"

namespace hawser::io {

using Addresses =
    std::vector<SocketAddress>;  // in the order in which they should be tried, without duplicates; not empty

inline constexpr int lookups_max = 64;  // at a time in this process, those left behind included

// Calls `done` once, from another thread. BAD_ADDRESS: the name does not resolve. RESOURCE, returned at once without a
// call of `done`: no thread can be made, or lookups_max are under way; the resolver's own lack of memory comes through
// `done`.
Status resolve_async(const std::string& host, std::uint16_t port, std::function<void(Result<Addresses>)> done);

// Waits, at most `timeout_ms` (TIMEOUT). Numeric hosts are answered at once, without a thread.
Result<Addresses> resolve(const std::string& host, std::uint16_t port, std::int64_t timeout_ms);

}  // namespace hawser::io
