// One detached thread a lookup. libuv's uv_getaddrinfo does the same on a pool, but a loop with a lookup under way
// cannot be closed before the system's resolver gives up.
#include "io/resolver.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <pthread.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <thread>
#include <utility>

#include "base/log.hpp"
#include "io/signals.hpp"

namespace hawser::io {
namespace {

std::atomic<int> lookups{0};

Result<Addresses> lookup(const std::string& host, std::uint16_t port) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  errno = 0;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  const int system_error = errno;
  if (error != 0) {
    const bool starved =
        error == EAI_MEMORY ||
        (error == EAI_SYSTEM && (system_error == EMFILE || system_error == ENFILE || system_error == ENOMEM));
    const std::string why = error == EAI_SYSTEM ? uv_strerror(-system_error) : gai_strerror(error);
    return Status(starved ? Code::RESOURCE : Code::BAD_ADDRESS,
                  fmt::format("host \"{}\" does not resolve: {}", log::printable(host, 128), why));
  }
  Addresses addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    auto address = SocketAddress::from_sockaddr(entry->ai_addr, entry->ai_addrlen);
    if (!address) continue;
    address->set_port(port);
    if (std::find(addresses.begin(), addresses.end(), *address) == addresses.end()) addresses.push_back(*address);
  }
  freeaddrinfo(found);
  if (addresses.empty()) {
    return Status(Code::BAD_ADDRESS,
                  fmt::format("host \"{}\" has neither an IPv4 nor an IPv6 address", log::printable(host, 128)));
  }
  return addresses;
}

}  // namespace

Status resolve_async(const std::string& host, std::uint16_t port, std::function<void(Result<Addresses>)> done) {
  if (lookups.fetch_add(1) >= lookups_max) {
    lookups.fetch_sub(1);
    return {Code::RESOURCE, fmt::format("host \"{}\": {} name lookups are under way and none is answered",
                                        log::printable(host, 128), lookups_max)};
  }
  try {
    const SignalsBlocked blocked;
    std::thread([host, port, done = std::move(done)] {
      pthread_setname_np(pthread_self(), "hawser-resolve");
      Result<Addresses> result = Status(Code::RESOURCE, "out of memory");
      try {
        result = lookup(host, port);
      } catch (const std::bad_alloc&) {  // keeps the status, which needs none
      }
      lookups.fetch_sub(1);
      try {
        done(std::move(result));
      } catch (const std::bad_alloc&) {  // whoever asked has a deadline
      }
    }).detach();
  } catch (const std::exception& error) {  // of the system, or no memory
    lookups.fetch_sub(1);
    return {Code::RESOURCE,
            fmt::format("no thread to look up host \"{}\": {}", log::printable(host, 128), error.what())};
  }
  return {};
}

Result<Addresses> resolve(const std::string& host, std::uint16_t port, std::int64_t timeout_ms) {
  if (const auto address = SocketAddress::from_numeric(host, port)) return Addresses{*address};
  struct Answer {
    std::mutex mutex;
    std::condition_variable ready;
    std::optional<Result<Addresses>> result;
  };
  const auto answer = std::make_shared<Answer>();
  const Status started = resolve_async(host, port, [answer](Result<Addresses> result) {
    const std::lock_guard lock(answer->mutex);
    answer->result = std::move(result);
    answer->ready.notify_one();
  });
  if (!started.ok()) return started;
  std::unique_lock lock(answer->mutex);
  if (!answer->ready.wait_for(lock, std::chrono::milliseconds(std::min<std::int64_t>(timeout_ms, 1'000'000'000)),
                              [&] { return answer->result.has_value(); })) {
    return Status(Code::TIMEOUT, fmt::format("host \"{}\": the name service does not answer within {} ms",
                                             log::printable(host, 128), timeout_ms));
  }
  return std::move(*answer->result);
}

}  // namespace hawser::io
