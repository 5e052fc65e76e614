// A blocking TCP client with deadlines, for the part of a stranger and of a peer that is not ours.
#pragma once

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/address.hpp"
#include "io/unique_fd.hpp"
#include "support/inbox.hpp"

namespace hawser::test {

class RawSocket {
 public:
  explicit RawSocket(const io::SocketAddress& to) {
    fd_.reset(socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd_.valid()) throw std::runtime_error("socket");
    if (::connect(fd_.get(), to.get(), to.length()) != 0) throw std::runtime_error("connect to " + to.text());
  }
  explicit RawSocket(io::UniqueFd fd) : fd_(std::move(fd)) {}

  [[nodiscard]] int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }
  // False: the other end is gone.
  bool send(std::span<const std::uint8_t> bytes) {
    while (!bytes.empty()) {
      if (!wait(POLLOUT)) return false;
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0 && errno == EAGAIN) continue;
      if (sent < 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    return true;
  }
  bool send(const std::string& text) { return send({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}); }
  // Exactly `count` bytes, fewer when the connection ends or nothing comes for long.
  std::vector<std::uint8_t> receive(std::size_t count) {
    std::vector<std::uint8_t> bytes(count);
    std::size_t got = 0;
    while (got < count && wait(POLLIN)) {
      const ssize_t size = recv(fd_.get(), bytes.data() + got, count - got, MSG_DONTWAIT);
      if (size < 0 && errno == EAGAIN) continue;
      if (size <= 0) break;
      got += static_cast<std::size_t>(size);
    }
    bytes.resize(got);
    return bytes;
  }
  // Everything until the other end closes; nothing when it does not.
  std::optional<std::vector<std::uint8_t>> receive_all() {
    std::vector<std::uint8_t> bytes;
    std::array<std::uint8_t, 65536> buffer{};
    while (wait(POLLIN)) {
      const ssize_t size = recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size < 0 && errno == EAGAIN) continue;
      if (size <= 0) return bytes;  // a reset is an end too
      bytes.insert(bytes.end(), buffer.begin(), buffer.begin() + size);
    }
    return std::nullopt;
  }

 private:
  [[nodiscard]] bool wait(short events) const {
    pollfd entry = {.fd = fd_.get(), .events = events, .revents = 0};
    return poll(&entry, 1, static_cast<int>(std::chrono::milliseconds(patience).count())) == 1;
  }
  io::UniqueFd fd_;
};

inline std::string text_of(std::span<const std::uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline std::vector<std::uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace hawser::test
