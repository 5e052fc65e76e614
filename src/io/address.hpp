// Addresses: from what users write ("HOST:PORT", "[V6]:PORT") and the kernel gives to values and back. Strict: what is
// not understood is BAD_ADDRESS with a sentence that quotes the text and says what is wrong. No name is resolved here.
// Any thread.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.hpp"

namespace hawser::io {

// A host and a port as a user names them. host: a name or a numeric address, without brackets; empty: every local
// address.
struct Endpoint {
  std::string host;
  std::optional<std::uint16_t> port;
  bool operator==(const Endpoint&) const = default;
};

// What a text is for decides what it may leave out.
enum class EndpointUse : std::uint8_t {
  dial,         // HOST:PORT, port not 0 (an address of a coordinator)
  listen,       // HOST:PORT or :PORT; port 0: the kernel chooses
  listen_host,  // HOST or HOST:PORT or :PORT
  advertise,    // HOST or HOST:PORT; host numeric or a name, not empty, not a wildcard; port not 0
};
Result<Endpoint> parse_endpoint(std::string_view text, EndpointUse use);
// "HOST:PORT[,HOST:PORT...]" for dialling; blanks around a comma are allowed, an empty entry is not. At most 64
// entries.
Result<std::vector<Endpoint>> parse_endpoint_list(std::string_view text);

struct PortRange {  // first <= last; {0, 0}: the kernel chooses
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  bool operator==(const PortRange&) const = default;
};
Result<PortRange> parse_port_range(std::string_view text);  // "FIRST-LAST", 1 <= FIRST <= LAST <= 65535

// "10.0.0.1:80" or "[::1]:80".
std::string format_endpoint(std::string_view host, std::uint16_t port);

// An IPv4 or IPv6 address with a port. An IPv4-mapped IPv6 address counts and prints as the IPv4 address it is.
class SocketAddress {
 public:
  SocketAddress() { storage_.ss_family = AF_INET; }  // 0.0.0.0:0
  static std::optional<SocketAddress> from_sockaddr(const sockaddr* address, socklen_t length);
  // "127.0.0.1", "::1", "fe80::1%eth0"; nothing when `host` is not numeric. Never resolves a name.
  static std::optional<SocketAddress> from_numeric(std::string_view host, std::uint16_t port);
  static SocketAddress any_v4(std::uint16_t port);
  static SocketAddress any_v6(std::uint16_t port);
  // Of a socket's own end and of its other end; nothing when it has none.
  static std::optional<SocketAddress> local_of(int fd);
  static std::optional<SocketAddress> remote_of(int fd);

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  [[nodiscard]] socklen_t length() const;
  [[nodiscard]] int family() const { return storage_.ss_family; }
  [[nodiscard]] std::string host() const;  // numeric, with a zone where there is one
  [[nodiscard]] std::uint16_t port() const;
  void set_port(std::uint16_t port);
  [[nodiscard]] std::string text() const;  // "IP:PORT" or "[V6]:PORT"
  [[nodiscard]] bool is_loopback() const;
  [[nodiscard]] bool is_wildcard() const;
  bool operator==(const SocketAddress& other) const;

 private:
  sockaddr_storage storage_ = {};
};

// Of a numeric host; false for names, "localhost" too, since only resolving tells.
bool is_loopback(std::string_view numeric_host);
bool is_wildcard(std::string_view numeric_host);

}  // namespace hawser::io
