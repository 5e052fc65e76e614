// Addresses: what is accepted and as what, what is refused and with which words, numeric text and back.
#include "io/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <string>
#include <vector>

#include "support/catch.hpp"

using namespace hawser;
using io::Endpoint;
using io::EndpointUse;
using io::SocketAddress;

namespace {

struct Good {
  std::string text;
  EndpointUse use;
  std::string host;
  int port;  // -1: none
};
struct Bad {
  std::string text;
  EndpointUse use;
  std::string words;
};

}  // namespace

TEST_CASE("addresses that users write") {
  const std::vector<Good> cases = {
      {"127.0.0.1:80", EndpointUse::dial, "127.0.0.1", 80},
      {"example.org:65535", EndpointUse::dial, "example.org", 65535},
      {"example.org.:1", EndpointUse::dial, "example.org.", 1},
      {"node_1-a:4900", EndpointUse::dial, "node_1-a", 4900},
      {"[::1]:80", EndpointUse::dial, "::1", 80},
      {"[fe80::1%1]:80", EndpointUse::dial, "fe80::1%1", 80},
      {"[::ffff:10.0.0.1]:80", EndpointUse::dial, "::ffff:10.0.0.1", 80},
      {"127.0.0.1:0", EndpointUse::listen, "127.0.0.1", 0},
      {":4900", EndpointUse::listen, "", 4900},
      {"[::]:0", EndpointUse::listen, "::", 0},
      {"0.0.0.0:0", EndpointUse::listen, "0.0.0.0", 0},
      {"10.0.0.7", EndpointUse::listen_host, "10.0.0.7", -1},
      {"10.0.0.7:0", EndpointUse::listen_host, "10.0.0.7", 0},
      {":7", EndpointUse::listen_host, "", 7},
      {"::1", EndpointUse::listen_host, "::1", -1},
      {"[::1]", EndpointUse::listen_host, "::1", -1},
      {"host", EndpointUse::advertise, "host", -1},
      {"host:99", EndpointUse::advertise, "host", 99},
      {"2001:db8::7", EndpointUse::advertise, "2001:db8::7", -1},
  };
  for (const Good& good : cases) {
    CAPTURE(good.text);
    const Result<Endpoint> endpoint = io::parse_endpoint(good.text, good.use);
    REQUIRE(endpoint.ok());
    CHECK(endpoint.value().host == good.host);
    CHECK(endpoint.value().port.has_value() == (good.port >= 0));
    if (good.port >= 0) CHECK(int{endpoint.value().port.value()} == good.port);
  }
}

TEST_CASE("addresses that are none, each with what is wrong") {
  const std::string long_label(64, 'a');
  const std::string long_name = std::string(60, 'a') + "." + std::string(60, 'b') + "." + std::string(60, 'c') + "." +
                                std::string(60, 'd') + "." + std::string(60, 'e');
  const std::vector<Bad> cases = {
      {"", EndpointUse::dial, "it is empty"},
      {"host", EndpointUse::dial, "the port is missing"},
      {"host:", EndpointUse::dial, "the port is not a number"},
      {"host:http", EndpointUse::dial, "the port is not a number"},
      {"host:65536", EndpointUse::dial, "the port is not a number"},
      {"host:100000", EndpointUse::dial, "the port is not a number"},
      {"host:-1", EndpointUse::dial, "the port is not a number"},
      {"host:+1", EndpointUse::dial, "the port is not a number"},
      {"host:0x10", EndpointUse::dial, "the port is not a number"},
      {"host:0", EndpointUse::dial, "the port cannot be 0"},
      {"host:0", EndpointUse::advertise, "the port cannot be 0"},
      {":80", EndpointUse::dial, "the host is missing"},
      {":80", EndpointUse::advertise, "the host is missing"},
      {"host", EndpointUse::listen, "the port is missing"},
      {"::1:80", EndpointUse::dial, "written [IPV6]:PORT"},
      {"a:b:c", EndpointUse::dial, "more than one ':'"},
      {"a:b:c", EndpointUse::listen_host, "more than one ':'"},
      {"[::1:80", EndpointUse::dial, "']' is missing"},
      {"[::1]80", EndpointUse::dial, "after ']'"},
      {"[::1]", EndpointUse::dial, "the port is missing"},
      {"[]:80", EndpointUse::dial, "not an IPv6 address"},
      {"[host]:80", EndpointUse::dial, "not an IPv6 address"},
      {"[127.0.0.1]:80", EndpointUse::dial, "not an IPv6 address"},
      {"[::1%]:80", EndpointUse::dial, "not an IPv6 address"},
      {"[fe80::1%no-such-interface]:80", EndpointUse::dial, "not an IPv6 address"},
      {"300.1.1.1:80", EndpointUse::dial, "not an IPv4 address"},
      {"1.2.3:80", EndpointUse::dial, "not an IPv4 address"},
      {"127.1:80", EndpointUse::dial, "not an IPv4 address"},
      {"127.0.0.01:80", EndpointUse::dial, "not an IPv4 address"},
      {"0:80", EndpointUse::dial, "not an IPv4 address"},
      {"http://host:80", EndpointUse::dial, "no scheme"},
      {"tcp://host:80", EndpointUse::listen, "no scheme"},
      {" host:80", EndpointUse::dial, "blanks"},
      {"host :80", EndpointUse::dial, "blanks"},
      {"a..b:80", EndpointUse::dial, "empty part"},
      {".b:80", EndpointUse::dial, "empty part"},
      {"-b:80", EndpointUse::dial, "cannot begin or end with '-'"},
      {"ho/st:80", EndpointUse::dial, "'/' cannot stand"},
      {"h\nost:80", EndpointUse::dial, "cannot stand"},
      {"h\xc3\xb6st:80", EndpointUse::dial, "cannot stand"},
      {std::string("h\0st:80", 7), EndpointUse::dial, "cannot stand"},
      {long_label + ":80", EndpointUse::dial, "at most 63"},
      {long_name + ":80", EndpointUse::dial, "at most 253"},
      {std::string(100000, 'a'), EndpointUse::dial, "longer than"},
      {"0.0.0.0", EndpointUse::advertise, "every address"},
      {"::", EndpointUse::advertise, "every address"},
      {"[::]:80", EndpointUse::advertise, "every address"},
  };
  for (const Bad& bad : cases) {
    CAPTURE(bad.text.substr(0, 100));
    const Status status = io::parse_endpoint(bad.text, bad.use).status();
    CHECK(status.code() == Code::BAD_ADDRESS);
    CAPTURE(status.text());
    CHECK(status.text().find(bad.words) != std::string::npos);
    CHECK(status.text().find('\n') == std::string::npos);
    CHECK(status.text().size() < 400);
  }
}

TEST_CASE("lists of coordinators") {
  const auto list = io::parse_endpoint_list("a:1, b:2 ,[::1]:3");
  REQUIRE(list.ok());
  CHECK(list.value() ==
        std::vector<Endpoint>{{"a", std::uint16_t{1}}, {"b", std::uint16_t{2}}, {"::1", std::uint16_t{3}}});
  for (const char* text : {"", "a:1,", ",a:1", "a:1,,b:2", ",", "a:1;b:2", "a:1,b", "a:1,b:x"}) {
    CAPTURE(text);
    CHECK(io::parse_endpoint_list(text).status().code() == Code::BAD_ADDRESS);
  }
  std::string many = "a:1";
  for (int i = 0; i < 63; ++i) many += ",a:1";
  CHECK(io::parse_endpoint_list(many).ok());
  CHECK(io::parse_endpoint_list(many + ",a:1").status().code() == Code::BAD_ADDRESS);
}

TEST_CASE("port ranges") {
  CHECK(io::parse_port_range("1-65535").value() == io::PortRange{1, 65535});
  CHECK(io::parse_port_range("5000-5000").value() == io::PortRange{5000, 5000});
  for (const char* text : {"", "-", "1", "1-", "-1", "0-5", "6-5", "1-65536", "1-2-3", "a-b", " 1-2", "1 -2", "1--2"}) {
    CAPTURE(text);
    CHECK(io::parse_port_range(text).status().code() == Code::BAD_ADDRESS);
  }
}

TEST_CASE("numeric text and back") {
  for (const char* host : {"127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "::", "2001:db8::7", "fe80::1%1"}) {
    CAPTURE(host);
    const auto address = SocketAddress::from_numeric(host, 4900);
    REQUIRE(address);
    const auto again = SocketAddress::from_numeric(address->host(), address->port());
    REQUIRE(again);
    CHECK(*again == *address);
    CHECK(address->port() == 4900);
  }
  CHECK(SocketAddress::from_numeric("10.1.2.3", 80)->text() == "10.1.2.3:80");
  CHECK(SocketAddress::from_numeric("2001:DB8::7", 80)->text() == "[2001:db8::7]:80");
  CHECK(io::format_endpoint("host", 80) == "host:80");
  CHECK(io::format_endpoint("::1", 80) == "[::1]:80");
  for (const char* host : {"", "localhost", "127.1", "1.2.3.4 ", "::1%", "[::1]", "0x7f.0.0.1"}) {
    CAPTURE(host);
    CHECK_FALSE(SocketAddress::from_numeric(host, 1).has_value());
  }
}

TEST_CASE("an IPv4 address inside IPv6 is an IPv4 address") {
  const auto mapped = SocketAddress::from_numeric("::ffff:127.0.0.1", 80);
  REQUIRE(mapped);
  CHECK(mapped->family() == AF_INET);
  CHECK(mapped->text() == "127.0.0.1:80");
  CHECK(*mapped == *SocketAddress::from_numeric("127.0.0.1", 80));
  CHECK(mapped->is_loopback());
}

TEST_CASE("loopback and wildcard") {
  CHECK(io::is_loopback("127.0.0.1"));
  CHECK(io::is_loopback("127.9.9.9"));
  CHECK(io::is_loopback("::1"));
  CHECK(io::is_loopback("::ffff:127.0.0.1"));
  CHECK_FALSE(io::is_loopback("128.0.0.1"));
  CHECK_FALSE(io::is_loopback("::2"));
  CHECK_FALSE(io::is_loopback("localhost"));
  CHECK(io::is_wildcard("0.0.0.0"));
  CHECK(io::is_wildcard("::"));
  CHECK_FALSE(io::is_wildcard("::1"));
  CHECK_FALSE(io::is_wildcard(""));
}

TEST_CASE("socket addresses that are cut short or of another family are refused") {
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  const auto* raw = reinterpret_cast<const sockaddr*>(&v4);
  CHECK(SocketAddress::from_sockaddr(raw, sizeof(v4)).has_value());
  CHECK_FALSE(SocketAddress::from_sockaddr(raw, sizeof(v4) - 1).has_value());
  CHECK_FALSE(SocketAddress::from_sockaddr(raw, 0).has_value());
  CHECK_FALSE(SocketAddress::from_sockaddr(nullptr, sizeof(v4)).has_value());
  v4.sin_family = AF_UNIX;
  CHECK_FALSE(SocketAddress::from_sockaddr(raw, sizeof(v4)).has_value());
}
