// Parsing by hand, since inet_aton and getaddrinfo accept far more than users mean ("1.2" is an address to them).
#include "io/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "base/log.hpp"

namespace hawser::io {
namespace {

constexpr std::size_t text_bytes_max = 320;  // a name of 253, a zone, a port, brackets
constexpr std::size_t list_entries_max = 64;
constexpr std::size_t name_bytes_max = 253;  // RFC 1035, without the final dot
constexpr std::size_t label_bytes_max = 63;  // RFC 1035

Status bad(std::string_view text, std::string_view what) {
  return {Code::BAD_ADDRESS, fmt::format("address \"{}\": {}", log::printable(text, 128), what)};
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_name_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  if (text.empty() || text.size() > 5 || !std::all_of(text.begin(), text.end(), is_digit)) return std::nullopt;
  unsigned value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  if (value > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(value);
}

// What is wrong with a host that stands without brackets; empty when nothing is.
std::string check_name(std::string_view host) {
  if (host.size() > name_bytes_max) return fmt::format("a host name has at most {} characters", name_bytes_max);
  std::string_view rest = host;
  std::string_view label;
  while (true) {
    const std::size_t dot = rest.find('.');
    label = rest.substr(0, dot);
    if (label.empty()) return "the host has an empty part between dots";
    if (label.size() > label_bytes_max)
      return fmt::format("a part of a host name has at most {} characters", label_bytes_max);
    for (const char c : label) {
      if (!is_name_char(c)) return fmt::format("'{}' cannot stand in a host name", log::printable({&c, 1}));
    }
    if (label.front() == '-' || label.back() == '-') return "a part of a host name cannot begin or end with '-'";
    if (dot == std::string_view::npos || dot + 1 == rest.size()) break;  // one final dot is fine
    rest.remove_prefix(dot + 1);
  }
  // No top-level domain is a number, so this was meant as an IPv4 address.
  if (std::all_of(label.begin(), label.end(), is_digit) && !SocketAddress::from_numeric(host, 0)) {
    return "not an IPv4 address: four numbers from 0 to 255 with dots between";
  }
  return {};
}

struct Parts {
  std::string_view host;
  std::optional<std::string_view> port;
};

const char* form(EndpointUse use) {
  switch (use) {
    case EndpointUse::dial:
      return "HOST:PORT or [IPV6]:PORT";
    case EndpointUse::listen:
      return "HOST:PORT, [IPV6]:PORT or :PORT";
    case EndpointUse::listen_host:
      return "HOST, HOST:PORT, [IPV6]:PORT or :PORT";
    case EndpointUse::advertise:
      return "HOST, HOST:PORT or [IPV6]:PORT";
  }
  return "";
}

bool port_optional(EndpointUse use) { return use == EndpointUse::listen_host || use == EndpointUse::advertise; }
bool host_optional(EndpointUse use) { return use == EndpointUse::listen || use == EndpointUse::listen_host; }
bool port_zero_allowed(EndpointUse use) { return use == EndpointUse::listen || use == EndpointUse::listen_host; }

Result<Parts> split(std::string_view text, EndpointUse use) {
  if (text.front() == '[') {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return bad(text, "the closing ']' is missing");
    const std::string_view host = text.substr(1, end - 1);
    const auto address = SocketAddress::from_numeric(host, 0);
    if (!address || host.find(':') == std::string_view::npos)
      return bad(text, "what stands in brackets is not an IPv6 address");
    const std::string_view rest = text.substr(end + 1);
    if (rest.empty()) return Parts{host, std::nullopt};
    if (rest.front() != ':') return bad(text, "after ']' comes :PORT or nothing");
    return Parts{host, rest.substr(1)};
  }
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return Parts{text, std::nullopt};
  if (text.find(':', colon + 1) == std::string_view::npos) return Parts{text.substr(0, colon), text.substr(colon + 1)};
  if (!SocketAddress::from_numeric(text, 0)) return bad(text, fmt::format("more than one ':'; expected {}", form(use)));
  if (!port_optional(use)) return bad(text, "an IPv6 address with a port is written [IPV6]:PORT");
  return Parts{text, std::nullopt};
}

}  // namespace

Result<Endpoint> parse_endpoint(std::string_view text, EndpointUse use) {
  if (text.empty()) return bad(text, fmt::format("it is empty; expected {}", form(use)));
  if (text.size() > text_bytes_max) return bad(text, fmt::format("longer than {} characters", text_bytes_max));
  if (text.find("://") != std::string_view::npos)
    return bad(text, fmt::format("no scheme here; expected {}", form(use)));
  if (std::any_of(text.begin(), text.end(), is_blank)) return bad(text, "blanks cannot stand in an address");

  Result<Parts> parts = split(text, use);
  if (!parts.ok()) return parts.status();
  const auto [host, port_text] = parts.value();

  Endpoint endpoint;
  if (host.empty() && !host_optional(use)) return bad(text, fmt::format("the host is missing; expected {}", form(use)));
  if (!host.empty() && host.find(':') == std::string_view::npos) {
    if (const std::string wrong = check_name(host); !wrong.empty()) return bad(text, wrong);
  }
  endpoint.host = std::string(host);

  if (!port_text && !port_optional(use)) return bad(text, fmt::format("the port is missing; expected {}", form(use)));
  if (port_text) {
    endpoint.port = parse_port(*port_text);
    if (!endpoint.port) return bad(text, "the port is not a number from 0 to 65535");
    if (*endpoint.port == 0 && !port_zero_allowed(use))
      return bad(text, "the port cannot be 0: others could not dial it");
  }
  if (use == EndpointUse::advertise && is_wildcard(host)) {
    return bad(text, "others cannot dial the address that stands for every address");
  }
  return endpoint;
}

Result<std::vector<Endpoint>> parse_endpoint_list(std::string_view text) {
  std::vector<Endpoint> list;
  std::string_view rest = text;
  while (true) {
    const std::size_t comma = rest.find(',');
    const std::string_view entry = trim(rest.substr(0, comma));
    if (entry.empty() && (comma != std::string_view::npos || !list.empty())) {
      return bad(text, "an entry of the list is empty");
    }
    Result<Endpoint> endpoint = parse_endpoint(entry, EndpointUse::dial);
    if (!endpoint.ok()) return endpoint.status();
    if (list.size() == list_entries_max) return bad(text, fmt::format("more than {} addresses", list_entries_max));
    list.push_back(std::move(endpoint.value()));
    if (comma == std::string_view::npos) return list;
    rest.remove_prefix(comma + 1);
  }
}

Result<PortRange> parse_port_range(std::string_view text) {
  const auto bad_range = [&](std::string_view what) {
    return Status(Code::BAD_ADDRESS, fmt::format("port range \"{}\": {}", log::printable(text), what));
  };
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return bad_range("expected FIRST-LAST");
  const auto first = parse_port(text.substr(0, dash));
  const auto last = parse_port(text.substr(dash + 1));
  if (!first || !last || *first == 0 || *last == 0)
    return bad_range("a port is a number from 1 to 65535; expected FIRST-LAST");
  if (*first > *last) return bad_range("the first port is greater than the last");
  return PortRange{*first, *last};
}

std::string format_endpoint(std::string_view host, std::uint16_t port) {
  if (host.find(':') != std::string_view::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

// ----------------------------------------------------------------------------------------------------- SocketAddress

namespace {

const sockaddr_in& as_v4(const sockaddr_storage& storage) { return reinterpret_cast<const sockaddr_in&>(storage); }
sockaddr_in& as_v4(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in&>(storage); }
const sockaddr_in6& as_v6(const sockaddr_storage& storage) { return reinterpret_cast<const sockaddr_in6&>(storage); }
sockaddr_in6& as_v6(sockaddr_storage& storage) { return reinterpret_cast<sockaddr_in6&>(storage); }

}  // namespace

std::optional<SocketAddress> SocketAddress::from_sockaddr(const sockaddr* address, socklen_t length) {
  SocketAddress result;
  if (address == nullptr || length < sizeof(sa_family_t)) return std::nullopt;
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    std::memcpy(&result.storage_, address, sizeof(sockaddr_in));
    return result;
  }
  if (address->sa_family != AF_INET6 || length < sizeof(sockaddr_in6)) return std::nullopt;
  std::memcpy(&result.storage_, address, sizeof(sockaddr_in6));
  const sockaddr_in6 v6 = as_v6(result.storage_);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    result.storage_ = {};
    sockaddr_in& v4 = as_v4(result.storage_);
    v4.sin_family = AF_INET;
    v4.sin_port = v6.sin6_port;
    std::memcpy(&v4.sin_addr, &v6.sin6_addr.s6_addr[12], sizeof(v4.sin_addr));
  }
  return result;
}

std::optional<SocketAddress> SocketAddress::from_numeric(std::string_view host, std::uint16_t port) {
  // inet_pton would stop at a NUL and take what is before it; a zone could hold any byte.
  if (!std::all_of(host.begin(), host.end(), [](char c) { return c > ' ' && c < '\x7f'; })) return std::nullopt;
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  if (inet_pton(AF_INET, std::string(host).c_str(), &v4.sin_addr) == 1) {
    return from_sockaddr(reinterpret_cast<const sockaddr*>(&v4), sizeof(v4));
  }
  const std::size_t percent = host.find('%');
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  if (inet_pton(AF_INET6, std::string(host.substr(0, percent)).c_str(), &v6.sin6_addr) != 1) return std::nullopt;
  if (percent != std::string_view::npos) {
    const std::string zone(host.substr(percent + 1));
    if (zone.find(':') != std::string::npos) return std::nullopt;  // Linux takes "eth0:anything" for eth0
    v6.sin6_scope_id = if_nametoindex(zone.c_str());
    if (v6.sin6_scope_id == 0) {  // a number then
      const char* end = zone.data() + zone.size();
      const auto [stop, error] = std::from_chars(zone.data(), end, v6.sin6_scope_id);
      if (error != std::errc{} || stop != end || v6.sin6_scope_id == 0) return std::nullopt;
    }
  }
  return from_sockaddr(reinterpret_cast<const sockaddr*>(&v6), sizeof(v6));
}

SocketAddress SocketAddress::any_v4(std::uint16_t port) {
  SocketAddress result;
  result.set_port(port);
  return result;
}

SocketAddress SocketAddress::any_v6(std::uint16_t port) {
  SocketAddress result;
  result.storage_ = {};
  result.storage_.ss_family = AF_INET6;
  result.set_port(port);
  return result;
}

std::optional<SocketAddress> SocketAddress::local_of(int fd) {
  sockaddr_storage storage = {};
  socklen_t length = sizeof(storage);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return std::nullopt;
  return from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), length);
}

std::optional<SocketAddress> SocketAddress::remote_of(int fd) {
  sockaddr_storage storage = {};
  socklen_t length = sizeof(storage);
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return std::nullopt;
  return from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), length);
}

socklen_t SocketAddress::length() const { return family() == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in); }

std::string SocketAddress::host() const {
  std::array<char, INET6_ADDRSTRLEN> text = {};
  if (family() != AF_INET6) {
    inet_ntop(AF_INET, &as_v4(storage_).sin_addr, text.data(), text.size());
    return text.data();
  }
  const sockaddr_in6& v6 = as_v6(storage_);
  inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  if (v6.sin6_scope_id == 0) return text.data();
  std::array<char, IF_NAMESIZE> zone = {};
  if (if_indextoname(v6.sin6_scope_id, zone.data()) == nullptr)
    return fmt::format("{}%{}", text.data(), v6.sin6_scope_id);
  return fmt::format("{}%{}", text.data(), zone.data());
}

std::uint16_t SocketAddress::port() const {
  return ntohs(family() == AF_INET6 ? as_v6(storage_).sin6_port : as_v4(storage_).sin_port);
}

void SocketAddress::set_port(std::uint16_t port) {
  if (family() == AF_INET6) {
    as_v6(storage_).sin6_port = htons(port);
  } else {
    as_v4(storage_).sin_port = htons(port);
  }
}

std::string SocketAddress::text() const { return format_endpoint(host(), port()); }

bool SocketAddress::is_loopback() const {
  if (family() != AF_INET6) return ntohl(as_v4(storage_).sin_addr.s_addr) >> 24 == 127;
  return IN6_IS_ADDR_LOOPBACK(&as_v6(storage_).sin6_addr);
}

bool SocketAddress::is_wildcard() const {
  if (family() != AF_INET6) return as_v4(storage_).sin_addr.s_addr == htonl(INADDR_ANY);
  return IN6_IS_ADDR_UNSPECIFIED(&as_v6(storage_).sin6_addr);
}

bool SocketAddress::operator==(const SocketAddress& other) const {
  if (family() != other.family() || port() != other.port()) return false;
  if (family() != AF_INET6) return as_v4(storage_).sin_addr.s_addr == as_v4(other.storage_).sin_addr.s_addr;
  const sockaddr_in6& a = as_v6(storage_);
  const sockaddr_in6& b = as_v6(other.storage_);
  return IN6_ARE_ADDR_EQUAL(&a.sin6_addr, &b.sin6_addr) && a.sin6_scope_id == b.sin6_scope_id;
}

bool is_loopback(std::string_view numeric_host) {
  const auto address = SocketAddress::from_numeric(numeric_host, 0);
  return address && address->is_loopback();
}

bool is_wildcard(std::string_view numeric_host) {
  const auto address = SocketAddress::from_numeric(numeric_host, 0);
  return address && address->is_wildcard();
}

}  // namespace hawser::io
