// Everything that parses or repairs text: addresses, lists of them, port ranges, text from the wire. What must hold:
// what is taken is within its limits and, written out again, is taken as the same; a refusal is BAD_ADDRESS with a
// sentence fit for a log.
//
// Input: byte 0 chooses: 0..3 an endpoint for each use, 4 a list, 5 a port range, 6 a numeric host, 7 text with limits.
// The rest is the text.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/text.hpp"
#include "io/address.hpp"

using namespace hawser;

namespace {

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "fuzz_text: %s\n", sentence);
  std::abort();
}

void refused(const Status& status) {
  require(status.code() == Code::BAD_ADDRESS, "a refusal with another code than BAD_ADDRESS");
  require(!status.text().empty() && status.text().size() < 1024,
          "a refusal without a sentence, or with an endless one");
  require(valid_text(status.text()), "a refusal that is not fit for a log");
}

void taken(const io::Endpoint& endpoint, io::EndpointUse use) {
  require(endpoint.host.size() <= 320, "a long host was taken");
  require(printable(endpoint.host, 4096) == endpoint.host, "a host with odd characters was taken");
  const bool others_dial = use == io::EndpointUse::dial || use == io::EndpointUse::advertise;
  if (others_dial) {
    require(!endpoint.host.empty(), "an empty host to dial was taken");
    require(!endpoint.port || *endpoint.port != 0, "port 0 to dial was taken");
  }
  if (use == io::EndpointUse::dial || use == io::EndpointUse::listen)
    require(endpoint.port.has_value(), "no port was taken");
  if (use == io::EndpointUse::advertise) require(!io::is_wildcard(endpoint.host), "a wildcard to advertise was taken");
  const std::string again =
      endpoint.port ? io::format_endpoint(endpoint.host, *endpoint.port)
                    : (endpoint.host.find(':') == std::string::npos ? endpoint.host : "[" + endpoint.host + "]");
  const auto parsed = io::parse_endpoint(again, use);
  require(parsed.ok() && parsed.value() == endpoint, "an endpoint written out is not the same endpoint");
}

void endpoint(std::string_view text, io::EndpointUse use) {
  const auto parsed = io::parse_endpoint(text, use);
  if (!parsed.ok()) return refused(parsed.status());
  taken(parsed.value(), use);
}

void endpoint_list(std::string_view text) {
  const auto parsed = io::parse_endpoint_list(text);
  if (!parsed.ok()) return refused(parsed.status());
  require(!parsed.value().empty() && parsed.value().size() <= 64, "a list over its limit, or an empty one, was taken");
  std::string again;
  for (const auto& one : parsed.value()) {
    taken(one, io::EndpointUse::dial);
    again += (again.empty() ? "" : ",") + io::format_endpoint(one.host, one.port.value_or(0));
  }
  const auto twice = io::parse_endpoint_list(again);
  require(twice.ok() && twice.value() == parsed.value(), "a list written out is not the same list");
}

void port_range(std::string_view text) {
  const auto parsed = io::parse_port_range(text);
  if (!parsed.ok()) return refused(parsed.status());
  require(parsed.value().first >= 1 && parsed.value().first <= parsed.value().last, "an empty port range was taken");
  const auto again =
      io::parse_port_range(std::to_string(parsed.value().first) + "-" + std::to_string(parsed.value().last));
  require(again.ok() && again.value() == parsed.value(), "a port range written out is not the same range");
}

void numeric_host(std::string_view text) {
  const auto address = io::SocketAddress::from_numeric(text, 4711);
  if (!address) return;
  require(printable(text, 4096) == text, "a numeric host with odd characters was taken");
  const auto again = io::SocketAddress::from_numeric(address->host(), address->port());
  require(again && *again == *address, "an address written out is not the same address");
  const auto copy = io::SocketAddress::from_sockaddr(address->get(), address->length());
  require(copy && *copy == *address, "a copied address is not the same address");
}

void wire_text(std::string_view text) {
  const std::size_t limit = text.empty() ? 0 : static_cast<std::uint8_t>(text.front());
  const std::string clean = clean_text(text, limit);
  require(clean.size() <= limit && valid_text(clean), "cleaned text is too long or not valid");
  if (valid_text(text)) require(text.substr(0, clean.size()) == clean, "cleaning changed valid text");
  if (valid_text(text) && text.size() <= limit) require(clean == text, "cleaning cut text that fits");
  require(clean_text(clean, limit) == clean, "cleaning twice is not cleaning once");
  const std::string shown = printable(text, limit);
  require(shown.size() <= limit + 3 && valid_text(shown), "what is shown of a stranger is too long or not valid");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 8) {
    case 0:
      endpoint(text, io::EndpointUse::dial);
      break;
    case 1:
      endpoint(text, io::EndpointUse::listen);
      break;
    case 2:
      endpoint(text, io::EndpointUse::listen_host);
      break;
    case 3:
      endpoint(text, io::EndpointUse::advertise);
      break;
    case 4:
      endpoint_list(text);
      break;
    case 5:
      port_range(text);
      break;
    case 6:
      numeric_host(text);
      break;
    default:
      wire_text(text);
  }
  return 0;
}
