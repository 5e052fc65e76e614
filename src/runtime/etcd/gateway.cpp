// The only file that sees cpp-httplib. A connection a request: there is one every few seconds, and none to go stale.
#include "runtime/etcd/gateway.hpp"

#include <fmt/format.h>
#include <httplib.h>
#undef REFUSED  // of <arpa/nameser_compat.h>, which comes with it

#include <algorithm>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/text.hpp"
#include "io/random.hpp"
#include "io/resolver.hpp"

namespace hawser::runtime {
namespace {

constexpr std::uint16_t port_default = 2379;
constexpr std::size_t answer_bytes_max = 256U << 20;
constexpr std::int64_t try_ms_min = 50;        // even the last endpoint gets as much
constexpr std::int64_t connect_ms_max = 1000;  // the one wait that cancel does not end

// Of google.rpc.Code, which the gateway puts into the body of every error.
enum GrpcCode : int {
  grpc_unknown = 2,
  grpc_invalid_argument = 3,
  grpc_deadline_exceeded = 4,
  grpc_not_found = 5,
  grpc_permission_denied = 7,
  grpc_resource_exhausted = 8,
  grpc_internal = 13,
  grpc_unavailable = 14,
  grpc_unauthenticated = 16,
};

std::string why_not(httplib::Error error) {
  if (error == httplib::Error::Connection) return "cannot connect";
  if (error == httplib::Error::Read) return "no answer in time, or the connection broke";
  if (error == httplib::Error::Write) return "the connection broke";
  return httplib::to_string(error);
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

Result<EtcdEndpoint> parse_etcd_endpoint(const std::string& text) {
  const auto invalid = [&](const std::string& why) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("etcd endpoint \"{}\": {}", printable(text, 128), why));
  };
  std::string rest = text;
  if (rest.rfind("https://", 0) == 0) {
    return Status(Code::UNSUPPORTED,
                  fmt::format("etcd endpoint \"{}\": only http is spoken; let a proxy on this machine "
                              "speak https",
                              printable(text, 128)));
  }
  if (rest.rfind("http://", 0) == 0) rest.erase(0, 7);
  if (!rest.empty() && rest.back() == '/') rest.pop_back();
  EtcdEndpoint endpoint;
  std::string port;
  if (!rest.empty() && rest.front() == '[') {
    const std::size_t end = rest.find(']');
    if (end == std::string::npos || (end + 1 < rest.size() && rest[end + 1] != ':')) return invalid("not [IPV6]:PORT");
    endpoint.host = rest.substr(1, end - 1);
    port = end + 1 < rest.size() ? rest.substr(end + 1) : "";
  } else {
    const std::size_t colon = rest.find(':');
    endpoint.host = rest.substr(0, colon);
    port = colon == std::string::npos ? "" : rest.substr(colon);
  }
  if (endpoint.host.empty() || endpoint.host.find_first_of("/?#@ []%") != std::string::npos || !valid_text(rest)) {
    return invalid("must be http://HOST:PORT");
  }
  endpoint.port = port_default;
  if (!port.empty()) {
    const char* end = port.data() + port.size();
    const auto [stopped, error] = std::from_chars(port.data() + 1, end, endpoint.port);
    if (error != std::errc() || stopped != end || endpoint.port == 0) return invalid("the port must be 1 to 65535");
  }
  endpoint.authority = contains(endpoint.host, ":") ? fmt::format("[{}]:{}", endpoint.host, endpoint.port)
                                                    : fmt::format("{}:{}", endpoint.host, endpoint.port);
  return endpoint;
}

EtcdGateway::EtcdGateway(std::vector<EtcdEndpoint> endpoints) : endpoints_(std::move(endpoints)) {}

std::string EtcdGateway::describe() const {
  std::string text;
  for (const EtcdEndpoint& endpoint : endpoints_) text += (text.empty() ? "" : ", ") + endpoint.authority;
  return text;
}

void EtcdGateway::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (interrupt_) interrupt_();
}

Result<std::string> EtcdGateway::post(const std::string& path, const std::string& json, std::int64_t timeout_ms) {
  const std::int64_t deadline_ms = io::now_ms() + timeout_ms;
  Result<std::string> out = Status(Code::RESOURCE, "etcd was given no time to answer");
  for (std::size_t tried = 0; tried < endpoints_.size(); ++tried) {
    const std::int64_t left_ms = deadline_ms - io::now_ms();
    if (tried > 0 && left_ms <= 0) break;
    // The time that is left is shared by those that were not asked yet, so that a silent one does not use up all of it.
    const std::size_t index = (first_ + tried) % endpoints_.size();
    const std::int64_t share_ms = left_ms / static_cast<std::int64_t>(endpoints_.size() - tried);
    const Next next = ask(endpoints_[index], path, json, std::max(share_ms, try_ms_min), out);
    if (cancelled_) return Status(Code::CANCELLED, "cancelled");
    if (next == Next::done) {
      first_ = index;
      break;
    }
  }
  return out;
}

EtcdGateway::Next EtcdGateway::ask(const EtcdEndpoint& endpoint, const std::string& path, const std::string& json,
                                   std::int64_t timeout_ms, Result<std::string>& out) {
  const auto fails = [&](Next next, Code code, const std::string& why) {
    out = Status(code, fmt::format("etcd at {}: {}", endpoint.authority, why));
    return next;
  };
  const std::int64_t begin_ms = io::now_ms();
  if (cancelled_) return Next::done;
  // cpp-httplib would wait for a name service as long as that pleases.
  const auto addresses = io::resolve(endpoint.host, endpoint.port, std::min(timeout_ms, connect_ms_max));
  if (!addresses.ok()) return fails(Next::other_endpoint, Code::RESOURCE, addresses.status().text());
  const std::int64_t left_ms = std::max(timeout_ms - (io::now_ms() - begin_ms), try_ms_min);

  httplib::Client client(addresses.value().front().host(), endpoint.port);
  client.set_connection_timeout(std::chrono::milliseconds(std::min(left_ms, connect_ms_max)));
  client.set_read_timeout(std::chrono::milliseconds(left_ms));
  client.set_write_timeout(std::chrono::milliseconds(left_ms));
  client.set_tcp_nodelay(true);

  int http = 0;
  std::string body;
  httplib::Request request;
  request.method = "POST";
  request.path = path;
  request.body = json;
  request.set_header("Content-Type", "application/json");
  request.set_header("Host", endpoint.authority);
  request.response_handler = [&](const httplib::Response& response) {
    http = response.status;
    return true;
  };
  request.content_receiver = [&](const char* bytes, std::size_t count, std::uint64_t, std::uint64_t) {
    if (body.size() + count > answer_bytes_max || io::now_ms() - begin_ms > timeout_ms + try_ms_min) return false;
    body.append(bytes, count);
    return !cancelled_;
  };

  {
    const std::lock_guard lock(mutex_);
    if (cancelled_) return Next::done;
    interrupt_ = [&client] { client.stop(); };
  }
  const httplib::Result result = client.send(request);
  {
    const std::lock_guard lock(mutex_);
    interrupt_ = nullptr;
  }
  const httplib::Error error = result.error();
  if (http == 0) return fails(Next::other_endpoint, Code::RESOURCE, why_not(error));
  if (http == 200) {
    if (error == httplib::Error::Success) {
      out = std::move(body);
      return Next::done;
    }
    return fails(Next::other_endpoint, Code::RESOURCE, "the answer broke off: " + why_not(error));
  }

  // Errors of the gateway end with trailers, which cpp-httplib 0.11 takes for a broken connection; whole JSON in the
  // body shows that nothing is missing.
  const nlohmann::json said = nlohmann::json::parse(body, nullptr, false);
  if (!said.is_object() || !said.contains("code") || !said["code"].is_number_integer()) {
    if (http >= 500) return fails(Next::other_endpoint, Code::RESOURCE, fmt::format("HTTP status {}", http));
    return fails(Next::done, Code::UNSUPPORTED,
                 fmt::format("HTTP status {} for {}: this is not the gateway of etcd 3.4 or newer", http, path));
  }
  std::string why;
  for (const char* name : {"message", "error"}) {
    if (why.empty() && said.contains(name) && said[name].is_string()) why = said[name].get<std::string>();
  }
  const std::string shown = printable(why, 200);
  if (contains(why, "request is too large") || contains(why, "received message larger than max")) {
    return fails(
        Next::done, Code::RESOURCE,
        fmt::format("the request of {} bytes is too large for it ({}). Its limit, 1.5 MiB by default, is raised "
                    "with etcd --max-request-bytes",
                    json.size(), shown));
  }
  switch (said["code"].get<int>()) {
    case grpc_unavailable:
    case grpc_deadline_exceeded:
    case grpc_internal:
    case grpc_unknown:
      return fails(Next::other_endpoint, Code::RESOURCE, shown);
    case grpc_not_found:           // a lease that ran out
    case grpc_resource_exhausted:  // its database is full, or too many requests
      return fails(Next::done, Code::RESOURCE, shown);
    case grpc_permission_denied:
    case grpc_unauthenticated:
      return fails(Next::done, Code::REFUSED, shown);
    default:
      if (contains(why, "user name is empty")) return fails(Next::done, Code::REFUSED, shown);  // it wants a log-in
      return fails(Next::done, Code::INTERNAL, shown);
  }
}

}  // namespace hawser::runtime
