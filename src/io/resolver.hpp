// Host names to addresses without ever blocking for longer than asked. Numeric hosts are answered at once; a name is
// looked up by getaddrinfo on a thread of its own, which is left behind when nobody wants the answer any more: the
// system's resolver cannot be interrupted and may take tens of seconds, and neither a join nor the end of a loop should
// wait for it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "io/address.hpp"

namespace hawser::io {

using Addresses =
    std::vector<SocketAddress>;  // in the order in which they should be tried, without duplicates; not empty

// Calls `done` once, from another thread, never from inside the call. BAD_ADDRESS when the name does not resolve,
// RESOURCE when no thread can be made or the resolver lacks memory.
void resolve_async(const std::string& host, std::uint16_t port, std::function<void(Result<Addresses>)> done);

// Waits, at most `timeout_ms` (TIMEOUT).
Result<Addresses> resolve(const std::string& host, std::uint16_t port, std::int64_t timeout_ms);

}  // namespace hawser::io
