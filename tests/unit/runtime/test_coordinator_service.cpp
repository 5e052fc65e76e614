// The coordinator over real sockets: peers played step by step, strangers beside them, ways to start and to end.
#include "runtime/coordinator_service.hpp"

#include <atomic>
#include <csignal>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "io/random.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/stderr_capture.hpp"
#include "support/wire_client.hpp"

using namespace hawser;
using runtime::CoordinatorOptions;
using runtime::CoordinatorService;
using test::RawSocket;
using test::text_of;
using test::WireClient;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::unique_ptr<CoordinatorService> started(const CoordinatorOptions& options = {}) {
  Result<std::unique_ptr<CoordinatorService>> service = CoordinatorService::start(options);
  INFO(service.status().text());
  REQUIRE(service.ok());
  return std::move(service.value());
}

io::SocketAddress address_of(const CoordinatorService& service) {
  const auto endpoint = io::parse_endpoint(service.address(), io::EndpointUse::dial);
  REQUIRE(endpoint.ok());
  const auto address = io::SocketAddress::from_numeric(endpoint.value().host, *endpoint.value().port);
  REQUIRE(address);
  return *address;
}

wire::Hello hello(std::uint64_t id, std::uint32_t min_size = 1, std::uint32_t group = 0) {
  wire::Hello message;
  message.peer.high = 1;
  message.peer.low = id;
  message.group = group;
  message.min_size = min_size;
  message.name = "peer-" + std::to_string(id);
  return message;
}

// A peer that has become the only member of a group.
struct Member {
  WireClient client;
  wire::Welcome welcome;
  wire::Install install;

  Member(const io::SocketAddress& to, std::uint64_t id, std::uint32_t group = 0) : client(to) {
    REQUIRE(client.send(hello(id, 1, group)));
    const auto welcomed = client.await<wire::Welcome>();
    REQUIRE(welcomed);
    welcome = *welcomed;
    REQUIRE(client.send(wire::Join{"", 4000, 0}));
    const auto installed = client.await<wire::Install>();
    REQUIRE(installed);
    install = *installed;
  }
  // The coordinator still answers: a heartbeat of it comes.
  void check_served() { CHECK(client.await<wire::Heartbeat>()); }
};

}  // namespace

TEST_CASE("a peer is greeted, joins and becomes a member") {
  const auto service = started({.heartbeat_ms = 500, .peer_timeout_ms = 4000});
  CHECK(address_of(*service).port() != 0);
  const Member member(address_of(*service), 1);
  CHECK(member.welcome.heartbeat_ms == 500);
  CHECK(member.welcome.peer_timeout_ms == 4000);
  CHECK(member.welcome.seen_host == "127.0.0.1");
  CHECK(member.welcome.loopback_only);
  CHECK_FALSE(member.welcome.run.is_zero());
  REQUIRE(member.install.view.members.size() == 1);
  CHECK(member.install.view.members.front().peer.host == "127.0.0.1");
  CHECK(member.install.view.members.front().peer.port == 4000);
}

TEST_CASE("two coordinators are two runs") {
  const auto one = started();
  const auto two = started();
  CHECK_FALSE(Member(address_of(*one), 1).welcome.run == Member(address_of(*two), 1).welcome.run);
}

TEST_CASE("two peers meet, connect and form a group, and the loss of one is told to the other") {
  const auto service = started({.heartbeat_ms = 50, .peer_timeout_ms = 1500});
  WireClient first(address_of(*service));
  WireClient second(address_of(*service));
  REQUIRE(first.send(hello(1, 2)));
  REQUIRE(first.await<wire::Welcome>());
  REQUIRE(first.send(wire::Join{"", 4001, 0}));
  REQUIRE(second.send(hello(2, 2)));
  REQUIRE(second.await<wire::Welcome>());
  REQUIRE(second.send(wire::Join{"", 4002, 0}));
  const auto told_first = first.await<wire::Meet>();
  const auto told_second = second.await<wire::Meet>();
  REQUIRE(told_first);
  REQUIRE(told_second);
  CHECK(told_first->peer.id.low == 2);
  CHECK(told_second->peer.port == 4001);
  CHECK(told_first->ticket == told_second->ticket);
  CHECK(told_first->dial != told_second->dial);
  (told_first->dial ? first : second)
      .send(wire::Connected{told_first->dial ? told_first->peer.id : told_second->peer.id});
  const auto view_first = first.await<wire::Install>();
  const auto view_second = second.await<wire::Install>();
  REQUIRE(view_first);
  REQUIRE(view_second);
  CHECK(*view_first == *view_second);
  CHECK(view_first->view.members.size() == 2);

  const std::int64_t lost_at = io::now_ms();
  SECTION("by its closed connection") { second.socket().close(); }
  SECTION("by its silence") {}  // it keeps its connection and sends nothing
  const auto seal = first.await<wire::Seal>();
  REQUIRE(seal);
  REQUIRE(first.send(wire::SealReply{seal->term, view_first->view.number, {}}));
  const auto proposed = first.await<wire::Propose>();
  REQUIRE(proposed);
  REQUIRE(first.send(wire::Accept{seal->term, proposed->install.view.number}));
  const auto after = first.await<wire::Install>();
  REQUIRE(after);
  CHECK(after->view == proposed->install.view);
  CHECK(after->view.members.size() == 1);
  REQUIRE(after->departures.size() == 1);
  CHECK(after->departures.front().id.low == 2);
  CHECK(io::now_ms() - lost_at < 10000);
}

TEST_CASE("strangers are closed with one line each and disturb nobody") {
  log::configure("warn");
  const auto service = started({.heartbeat_ms = 20, .peer_timeout_ms = 20000, .hello_ms = 300});
  Member member(address_of(*service), 1);
  const test::StderrCapture errors;
  std::string bytes;
  SECTION("an HTTP request") { bytes = "GET /index.html HTTP/1.1\r\nHost: example.org\r\n\r\n"; }
  SECTION("random bytes") {
    std::mt19937 random(20);
    for (int i = 0; i < 5000; ++i) bytes.push_back(static_cast<char>(random()));
  }
  SECTION("zeros") { bytes = std::string(5000, '\0'); }
  SECTION("a length of 4 GiB") {
    bytes = text_of(wire::encode(hello(9)));
    std::fill_n(bytes.begin() + 8, 4, '\xff');
  }
  SECTION("half a Hello, then silence") {
    bytes = text_of(wire::encode(hello(9)));
    bytes.resize(bytes.size() / 2);
  }
  SECTION("silence") {}
  WireClient stranger(address_of(*service));
  stranger.socket().send(bytes);
  CHECK(stranger.closed_silently());
  // On a busy machine the coordinator says also that it had no processor.
  CHECK(errors.lines_with("") - errors.lines_with("was not running") == 1);
  CHECK(errors.lines_with("connection closed") == 1);
  member.check_served();
  Member other(address_of(*service), 2, 5);
  other.check_served();
}

TEST_CASE("an end of another version is told both versions") {
  log::configure("warn");
  const auto service = started();
  const test::StderrCapture errors;
  WireClient stranger(address_of(*service));
  std::vector<std::uint8_t> bytes = wire::encode(hello(9));
  bytes[4] = 0x37;
  bytes[5] = 0x01;
  stranger.socket().send(bytes);
  const auto refuse = stranger.await<wire::Refuse>();
  REQUIRE(refuse);
  CHECK(refuse->code == HAWSER_VERSION_MISMATCH);
  CHECK(contains(refuse->text, std::to_string(0x137)));
  CHECK(contains(refuse->text, std::to_string(wire::version)));
  CHECK(stranger.closed_silently());
  CHECK(errors.lines_with("") == 1);
}

TEST_CASE("a first message that is no Hello, and a second Hello, are refused") {
  const auto service = started();
  WireClient wrong(address_of(*service));
  REQUIRE(wrong.send(wire::Leave{}));
  const auto refuse = wrong.await<wire::Refuse>();
  REQUIRE(refuse);
  CHECK(refuse->code == HAWSER_REFUSED);
  CHECK(wrong.closed_silently());

  WireClient twice(address_of(*service));
  REQUIRE(twice.send(hello(3)));
  REQUIRE(twice.await<wire::Welcome>());
  REQUIRE(twice.send(hello(3)));
  CHECK(twice.await<wire::Refuse>());
  CHECK(twice.closed_silently());
}

TEST_CASE("messages that are too long for a first one are taken from a peer that said Hello") {
  const auto service = started({.heartbeat_ms = 20, .peer_timeout_ms = 20000});
  Member member(address_of(*service), 1);
  wire::SealReply reply;  // of no seal: ignored, but it must be read
  reply.term = 1000;
  for (std::uint64_t i = 0; i < 200; ++i) reply.ops.emplace_back().key.sequence = i;
  REQUIRE(wire::encode(reply).size() > wire::control_bytes_max_hello * 2);
  REQUIRE(member.client.send(reply));
  member.check_served();
}

TEST_CASE("a crowd of silent connections keeps nobody out") {
  log::configure("warn");
  const auto service = started();
  const test::StderrCapture errors;
  std::vector<RawSocket> crowd;
  for (std::size_t i = 0; i < runtime::handshakes_max + 40; ++i) crowd.emplace_back(address_of(*service));
  Member member(address_of(*service), 1);
  const auto first = crowd.front().receive_all();  // the oldest had to go
  REQUIRE(first);
  CHECK(first->empty());
  crowd.clear();
  CHECK(errors.lines_with("have not said Hello") >= 1);
  CHECK(errors.lines_with("have not said Hello") <= 40);
}

TEST_CASE("garbage at full speed does not disturb members") {
  log::configure("error");
  const auto service = started({.heartbeat_ms = 20, .peer_timeout_ms = 20000});
  Member member(address_of(*service), 1);
  const io::SocketAddress address = address_of(*service);
  std::atomic<bool> over = false;
  std::thread stranger([&] {
    while (!over) {
      RawSocket socket(address);
      socket.send(std::string(64, 'x'));
    }
  });
  for (int i = 0; i < 20; ++i) member.check_served();
  over = true;
  stranger.join();
  log::configure("warn");
}

TEST_CASE("the port is in use") {
  const auto service = started();
  const Status status = CoordinatorService::start({.listen = service->address()}).status();
  CHECK(status.code() == Code::ADDRESS_IN_USE);
  CHECK(contains(status.text(), service->address()));
}

TEST_CASE("a port is free again after the coordinator, whatever happened on it") {
  auto service = started();
  const std::string address = service->address();
  auto member = std::make_unique<Member>(address_of(*service), 1);
  service.reset();  // this end closes first, so the kernel remembers the connection for a while
  member.reset();
  CHECK(started({.listen = address})->address() == address);
}

TEST_CASE("IPv6") {
  Result<std::unique_ptr<CoordinatorService>> service = CoordinatorService::start({.listen = "[::1]:0"});
  if (!service.ok()) return;  // a machine without it
  CHECK(service.value()->address().starts_with("[::1]:"));
  const Member member(address_of(*service.value()), 1);
  CHECK(member.welcome.seen_host == "::1");
  CHECK(member.welcome.loopback_only);
}

TEST_CASE("on every address it is not a matter of this host alone") {
  const auto service = started({.listen = ":0"});
  const auto address = io::SocketAddress::from_numeric("127.0.0.1", address_of(*service).port());
  const Member member(*address, 1);
  CHECK_FALSE(member.welcome.loopback_only);
  CHECK(member.welcome.seen_host == "127.0.0.1");
}

TEST_CASE("what it does not start with") {
  const auto code = [](CoordinatorOptions options) { return CoordinatorService::start(options).status().code(); };
  CHECK(code({.listen = ""}) == Code::BAD_ADDRESS);
  CHECK(code({.listen = "127.0.0.1"}) == Code::BAD_ADDRESS);
  CHECK(code({.listen = "http://127.0.0.1:0"}) == Code::BAD_ADDRESS);
  CHECK(code({.listen = "two..dots:0"}) == Code::BAD_ADDRESS);
  CHECK(code({.listen = "192.0.2.1:0"}) == Code::ADDRESS_IN_USE);
  CHECK(code({.heartbeat_ms = 0}) == Code::INVALID_ARGUMENT);
  CHECK(code({.heartbeat_ms = 300, .peer_timeout_ms = 599}) == Code::INVALID_ARGUMENT);
  CHECK(code({.heartbeat_ms = 10, .peer_timeout_ms = 99}) == Code::INVALID_ARGUMENT);
  CHECK(code({.heartbeat_ms = 4000000000, .peer_timeout_ms = 4294967295}) == Code::INVALID_ARGUMENT);
  CHECK(code({.peers_max = 0}) == Code::INVALID_ARGUMENT);
  CHECK(code({.hello_ms = 0}) == Code::INVALID_ARGUMENT);
}

TEST_CASE("with too few descriptors it does not start, says why and leaks nothing") {
  started();  // what is opened once in a process
  const rlim_t before = test::DescriptorLimit::first_free();
  {
    test::DescriptorLimit limit(test::DescriptorLimit::above_all());
    int failures = 0;
    bool running = false;
    for (rlim_t allowed = before; allowed < before + 100 && !running; ++allowed) {
      limit.set(allowed);
      const Result<std::unique_ptr<CoordinatorService>> service = CoordinatorService::start({});
      running = service.ok();
      if (running) continue;
      ++failures;
      CHECK(service.status().code() == Code::RESOURCE);
      CHECK(contains(service.status().text(), "too many open files"));
    }
    CHECK(failures > 0);
    CHECK(running);
  }
  CHECK(test::DescriptorLimit::first_free() == before);
}

TEST_CASE("stop ends it, from any thread, more than once, and wait tells") {
  auto service = started();
  Member member(address_of(*service), 1);
  CHECK_FALSE(service->wait(0));
  CHECK_FALSE(service->wait(20));
  std::thread([&] { service->stop(); }).join();
  CHECK(service->wait(30000));
  CHECK(service->wait(-1));
  service->stop();
  CHECK(member.client.socket().receive_all());  // closed
  CHECK(CoordinatorService::start({.listen = service->address()}).ok());
}

TEST_CASE("stop from a signal handler") {
  static std::atomic<CoordinatorService*> target = nullptr;
  const auto service = started();
  target = service.get();
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) { target.load()->stop(); };
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  REQUIRE(pthread_kill(pthread_self(), SIGUSR1) == 0);
  CHECK(service->wait(30000));
  sigaction(SIGUSR1, &before, nullptr);
  target = nullptr;
}

TEST_CASE("many start and end at once, with peers in the middle of everything") {
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 25; ++i) {
        Result<std::unique_ptr<CoordinatorService>> service = CoordinatorService::start({});
        if (!service.ok()) continue;
        const auto endpoint = io::parse_endpoint(service.value()->address(), io::EndpointUse::dial);
        WireClient client(*io::SocketAddress::from_numeric("127.0.0.1", *endpoint.value().port));
        client.send(hello(1));
        if (i % 2 == 0) client.send(wire::Join{"", 4000, 0});
        ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 100);
}
