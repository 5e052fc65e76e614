// Connections over loopback: bytes both ways, every way to fail to connect or to listen, every way to end, leaving the
// loop, running out of descriptors.
#include "io/uv/tcp.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "io/random.hpp"
#include "io/uv/timer.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/inbox.hpp"
#include "support/raw_socket.hpp"
#include "support/stderr_capture.hpp"

using namespace hawser;
using io::EventLoop;
using io::ListenSocket;
using io::SocketAddress;
using io::TcpConnector;
using io::TcpListener;
using io::TcpStream;
using test::bytes_of;
using test::Inbox;
using test::RawSocket;
using test::text_of;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

bool have_v6() { return io::bind_listener({.host = "::1", .ports = {}}).ok(); }

ListenSocket bound(const std::string& host = "127.0.0.1") {
  Result<ListenSocket> socket = io::bind_listener({.host = host, .ports = {}});
  REQUIRE(socket.ok());
  return std::move(socket.value());
}

std::vector<std::uint8_t> pattern(std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  std::uint32_t state = 1;
  for (std::uint8_t& byte : bytes) {
    state = state * 1664525U + 1013904223U;  // Numerical Recipes' generator; any pattern without a short period does
    byte = static_cast<std::uint8_t>(state >> 24);
  }
  return bytes;
}

// A loop with one of everything; what lives on the loop is destroyed there.
struct Fixture {
  std::unique_ptr<EventLoop> loop;
  std::unique_ptr<TcpListener> listener;
  SocketAddress address;
  std::unique_ptr<TcpConnector> connector;
  std::vector<std::unique_ptr<TcpStream>> streams;
  Inbox<TcpStream*> accepted;
  Inbox<Status> closed;

  Fixture() {
    Result<std::unique_ptr<EventLoop>> started = EventLoop::start("test-tcp");
    REQUIRE(started.ok());
    loop = std::move(started.value());
  }
  ~Fixture() {
    loop->call([&] {
      connector.reset();
      listener.reset();
      streams.clear();
    });
  }

  // Accepted streams are kept, and started with what `handler` makes of them.
  void listen(ListenSocket socket, std::function<TcpStream::Handler(TcpStream&)> handler) {
    address = socket.address;
    Status status;
    loop->call([&] {
      Result<std::unique_ptr<TcpListener>> made =
          TcpListener::create(*loop, std::move(socket), [this, handler](std::unique_ptr<TcpStream> stream) {
            TcpStream* raw = stream.get();
            streams.push_back(std::move(stream));
            raw->start(handler(*raw));
            accepted.put(raw);
          });
      status = made.status();
      if (made.ok()) listener = std::move(made.value());
    });
    REQUIRE(status.ok());
  }

  Result<TcpStream*> connect(const std::string& host, std::uint16_t port, io::ConnectOptions options = {}) {
    Inbox<Result<TcpStream*>> results;
    loop->call([&] { connector = std::make_unique<TcpConnector>(*loop, host, port, options, on_connected(results)); });
    return result_of(results);
  }
  Result<TcpStream*> connect(std::vector<SocketAddress> addresses, io::ConnectOptions options = {}) {
    Inbox<Result<TcpStream*>> results;
    loop->call([&] {
      connector = std::make_unique<TcpConnector>(*loop, std::move(addresses), options, on_connected(results));
    });
    return result_of(results);
  }

  TcpConnector::Done on_connected(Inbox<Result<TcpStream*>>& results) {
    return [this, &results](Result<std::unique_ptr<TcpStream>> result) {
      if (!result.ok()) return results.put(result.status());
      streams.push_back(std::move(result.value()));
      results.put(streams.back().get());
    };
  }
  Result<TcpStream*> result_of(Inbox<Result<TcpStream*>>& results) {
    std::optional<Result<TcpStream*>> result = results.take();
    loop->call([&] { connector.reset(); });
    REQUIRE(result);
    CHECK(results.size() == 0);
    return *result;
  }

  std::function<void(Status)> note_closed() {
    return [this](Status status) { closed.put(std::move(status)); };
  }
};

TcpStream::Handler echo(TcpStream& stream) {
  return {.on_data =
              [&stream](auto bytes) {
                stream.write({bytes.begin(), bytes.end()});
              },
          .on_closed = [](const Status&) {},
          .on_drained = {}};
}

}  // namespace

TEST_CASE("bytes go there and back, over IPv4 and IPv6") {
  const std::string host = GENERATE("127.0.0.1", "::1");
  if (host == "::1" && !have_v6()) return;
  Fixture fix;
  fix.listen(bound(host), echo);
  const Result<TcpStream*> stream = fix.connect(host, fix.address.port());
  REQUIRE(stream.ok());
  const std::vector<std::uint8_t> sent = pattern(3 << 20);
  std::vector<std::uint8_t> got;
  Inbox<bool> complete;
  fix.loop->call([&] {
    CHECK(stream.value()->remote() == fix.address);
    CHECK(stream.value()->local().host() == host);
    stream.value()->start({.on_data =
                               [&](auto bytes) {
                                 got.insert(got.end(), bytes.begin(), bytes.end());
                                 if (got.size() == sent.size()) complete.put(true);
                               },
                           .on_closed = fix.note_closed(),
                           .on_drained = {}});
    for (std::size_t at = 0; at < sent.size(); at += 100000) {
      const auto begin = sent.begin() + static_cast<std::ptrdiff_t>(at);
      const auto count = static_cast<std::ptrdiff_t>(std::min<std::size_t>(100000, sent.size() - at));
      stream.value()->write({begin, begin + count});
    }
  });
  REQUIRE(complete.take());
  fix.loop->call([&] {
    CHECK(got == sent);
    CHECK(stream.value()->queued_bytes() == 0);
  });
}

TEST_CASE("sockets have the options that every connection has") {
  Fixture fix;
  fix.listen(bound(), echo);
  const Result<TcpStream*> stream = fix.connect("127.0.0.1", fix.address.port());
  REQUIRE(stream.ok());
  const auto accepted = fix.accepted.take();
  REQUIRE(accepted);
  std::vector<io::UniqueFd> fds;
  fix.loop->call([&] {
    for (TcpStream* end : {stream.value(), *accepted}) {
      Result<io::ReleasedStream> released = end->release();
      if (released.ok()) fds.push_back(std::move(released.value().fd));
    }
  });
  REQUIRE(fds.size() == 2);
  for (const io::UniqueFd& fd : fds) {
    const auto option = [&](int level, int name) {
      int value = -1;
      socklen_t size = sizeof(value);
      getsockopt(fd.get(), level, name, &value, &size);
      return value;
    };
    CHECK(option(IPPROTO_TCP, TCP_NODELAY) == 1);
    CHECK(option(SOL_SOCKET, SO_KEEPALIVE) == 1);
    CHECK(option(IPPROTO_TCP, TCP_KEEPIDLE) == 10);
    CHECK(option(IPPROTO_TCP, TCP_KEEPINTVL) == 3);
    CHECK(option(IPPROTO_TCP, TCP_KEEPCNT) == 3);
    CHECK((fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  }
}

TEST_CASE("nobody listens: the text names address and cause") {
  Fixture fix;
  const std::uint16_t port = bound().address.port();  // closed again at once
  const Result<TcpStream*> stream = fix.connect("127.0.0.1", port);
  REQUIRE_FALSE(stream.ok());
  CHECK(stream.status().code() == Code::PEER_LOST);
  CHECK(stream.status().text() == "127.0.0.1:" + std::to_string(port) + ": connection refused");
}

TEST_CASE("a name that does not resolve") {
  Fixture fix;
  const Result<TcpStream*> stream = fix.connect("two..dots", 80);
  REQUIRE_FALSE(stream.ok());
  CHECK(stream.status().code() == Code::BAD_ADDRESS);
  CHECK(contains(stream.status().text(), "two..dots"));
}

TEST_CASE("every address of a host is tried in order") {
  Fixture fix;
  fix.listen(bound(), echo);
  const std::uint16_t closed_port = bound().address.port();
  const auto at = [](std::uint16_t port) { return *SocketAddress::from_numeric("127.0.0.1", port); };
  const Result<TcpStream*> stream = fix.connect({at(closed_port), at(fix.address.port())});
  REQUIRE(stream.ok());
  CHECK(stream.value()->remote() == fix.address);

  const Result<TcpStream*> none =
      fix.connect({at(closed_port), *SocketAddress::from_numeric("127.0.0.2", closed_port)});
  REQUIRE_FALSE(none.ok());
  CHECK(none.status().code() == Code::PEER_LOST);
  CHECK(contains(none.status().text(), "127.0.0.1:" + std::to_string(closed_port) + ": connection refused"));
  CHECK(contains(none.status().text(), "127.0.0.2:" + std::to_string(closed_port) + ": connection refused"));
  CHECK(fix.connect(std::vector<SocketAddress>{}).status().code() == Code::INVALID_ARGUMENT);
}

TEST_CASE("localhost is found by name") {
  Fixture fix;
  fix.listen(bound(""), echo);
  const Result<TcpStream*> stream = fix.connect("localhost", fix.address.port());
  REQUIRE(stream.ok());
  CHECK(stream.value()->remote().is_loopback());
}

namespace {

// A listening socket whose queue is full: Linux then drops what asks to connect, as a host behind a broken path does.
struct SilentHost {
  ListenSocket socket;
  std::vector<io::UniqueFd> waiting;

  SilentHost() {
    Result<ListenSocket> made = io::bind_listener({.host = "127.0.0.1", .ports = {}, .backlog = 0});
    REQUIRE(made.ok());
    socket = std::move(made.value());
    for (int i = 0; i < 4; ++i) {
      waiting.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      ::connect(waiting.back().get(), socket.address.get(), socket.address.length());
    }
  }
};

}  // namespace

TEST_CASE("an address that does not answer costs no more than its time") {
  const SilentHost silent;
  Fixture fix;
  fix.listen(bound(), echo);
  const std::int64_t begun = io::now_ms();
  SECTION("alone: TIMEOUT") {
    const Result<TcpStream*> stream = fix.connect({silent.socket.address}, {.address_ms = 60, .total_ms = 20000});
    REQUIRE_FALSE(stream.ok());
    CHECK(stream.status().code() == Code::TIMEOUT);
    CHECK(contains(stream.status().text(), silent.socket.address.text() + ": no answer within 60 ms"));
    CHECK(io::now_ms() - begun >= 60);
  }
  SECTION("the next one is tried") {
    const Result<TcpStream*> stream =
        fix.connect({silent.socket.address, fix.address}, {.address_ms = 60, .total_ms = 20000});
    REQUIRE(stream.ok());
    CHECK(stream.value()->remote() == fix.address);
  }
  SECTION("the deadline for everything") {
    const Result<TcpStream*> stream = fix.connect({silent.socket.address}, {.address_ms = 20000, .total_ms = 60});
    REQUIRE_FALSE(stream.ok());
    CHECK(stream.status().code() == Code::TIMEOUT);
    CHECK(contains(stream.status().text(), "within 60 ms"));
    CHECK(contains(stream.status().text(), silent.socket.address.text()));
  }
  CHECK(io::now_ms() - begun < 10000);
}

TEST_CASE("a connector that is destroyed says nothing any more, at whatever moment") {
  const SilentHost silent;
  Fixture fix;
  fix.listen(bound(), [&](TcpStream&) {
    return TcpStream::Handler{.on_data = [](auto) {}, .on_closed = fix.note_closed(), .on_drained = {}};
  });
  Inbox<int> calls;
  const auto count = [&](const Result<std::unique_ptr<TcpStream>>&) { calls.put(1); };
  fix.loop->call([&] {  // before it began, with each kind of target
    TcpConnector(*fix.loop, "127.0.0.1", fix.address.port(), {}, count);
    TcpConnector(*fix.loop, "localhost", fix.address.port(), {}, count);
    TcpConnector(*fix.loop, {silent.socket.address}, {}, count);
    fix.connector =
        std::make_unique<TcpConnector>(*fix.loop, std::vector{silent.socket.address}, io::ConnectOptions{}, count);
  });
  fix.loop->call([&] { fix.connector.reset(); });  // while it waits
  Inbox<int> done;
  fix.loop->call([&] {  // in its own callback
    fix.connector = std::make_unique<TcpConnector>(*fix.loop, "127.0.0.1", fix.address.port(), io::ConnectOptions{},
                                                   [&](const Result<std::unique_ptr<TcpStream>>&) {
                                                     fix.connector.reset();
                                                     done.put(1);
                                                   });
  });
  CHECK(done.take());
  CHECK(fix.closed.take());  // the stream that nobody took is closed
  CHECK(calls.size() == 0);
}

TEST_CASE("a loop can end while a name is looked up and a connection is tried") {
  const SilentHost silent;
  for (int i = 0; i < 20; ++i) {
    Fixture fix;
    std::unique_ptr<TcpConnector> lookup;
    std::unique_ptr<TcpConnector> waiting;
    fix.loop->call([&] {
      lookup =
          std::make_unique<TcpConnector>(*fix.loop, "localhost", std::uint16_t{1}, io::ConnectOptions{}, [](auto) {});
      waiting = std::make_unique<TcpConnector>(*fix.loop, std::vector{silent.socket.address}, io::ConnectOptions{},
                                               [](auto) {});
    });
    fix.loop->stop();
  }
}

TEST_CASE("the end of a connection is told once, with its cause") {
  Fixture fix;
  Inbox<std::string> data;
  fix.listen(bound(), [&](TcpStream&) {
    return TcpStream::Handler{
        .on_data = [&](auto bytes) { data.put(text_of(bytes)); }, .on_closed = fix.note_closed(), .on_drained = {}};
  });
  RawSocket client(fix.address);
  CHECK(client.send("last words"));
  std::string expected = "closed by the other end";
  SECTION("closed") { client.close(); }
  SECTION("reset") {
    CHECK(data.take());
    const linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client.fd(), SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    client.close();
    expected = "connection reset by peer";
  }
  const auto status = fix.closed.take();
  REQUIRE(status);
  CHECK(status->code() == Code::PEER_LOST);
  CHECK(contains(status->text(), expected));
  CHECK(contains(status->text(), "127.0.0.1:"));
  fix.loop->call([&] {
    CHECK_FALSE(fix.streams.front()->is_open());
    fix.streams.front()->write(bytes_of("to nobody"));  // nothing happens
    CHECK(fix.streams.front()->queued_bytes() == 0);
  });
  CHECK(fix.closed.size() == 0);
}

TEST_CASE("streams may be destroyed in their own callbacks") {
  Fixture fix;
  Inbox<int> destroyed;
  const auto held = std::make_shared<int>(7);
  SECTION("on_data") {
    fix.listen(bound(), [&, held](TcpStream&) {
      return TcpStream::Handler{.on_data =
                                    [&, held](auto) {
                                      fix.streams.clear();
                                      destroyed.put(*held);  // what the callback holds is still there
                                    },
                                .on_closed = fix.note_closed(),
                                .on_drained = {}};
    });
    RawSocket client(fix.address);
    CHECK(client.send(std::string(1 << 20, 'x')) | true);
    CHECK(destroyed.take() == 7);
    CHECK(client.receive_all());
  }
  SECTION("on_closed") {
    fix.listen(bound(), [&, held](TcpStream&) {
      return TcpStream::Handler{.on_data = [](auto) {},
                                .on_closed =
                                    [&, held](const Status&) {
                                      fix.streams.clear();
                                      destroyed.put(*held);
                                    },
                                .on_drained = {}};
    });
    RawSocket(fix.address).close();
    CHECK(destroyed.take() == 7);
  }
  SECTION("on_drained") {
    fix.listen(bound(), [&, held](TcpStream& stream) {
      stream.write(bytes_of("hello"));
      return TcpStream::Handler{.on_data = [](auto) {},
                                .on_closed = fix.note_closed(),
                                .on_drained =
                                    [&, held] {
                                      fix.streams.clear();
                                      destroyed.put(*held);
                                    }};
    });
    RawSocket client(fix.address);
    CHECK(destroyed.take() == 7);
    CHECK(text_of(client.receive(5)) == "hello");
  }
  fix.loop->call([&] { fix.listener.reset(); });
  fix.loop->call([] {});  // one turn of the loop: closed handles are gone
  fix.loop->call([] {});
  CHECK(held.use_count() == 1);
  CHECK(fix.closed.size() == 0);
}

TEST_CASE("finish delivers everything, although the other end still sends") {
  Fixture fix;
  const std::vector<std::uint8_t> word = pattern(500000);
  fix.listen(bound(), [&](TcpStream& stream) {
    return TcpStream::Handler{.on_data =
                                  [&](auto) {
                                    stream.write(word);
                                    stream.finish(20000);
                                    stream.write(bytes_of("too late"));
                                  },
                              .on_closed = fix.note_closed(),
                              .on_drained = {}};
  });
  RawSocket client(fix.address);
  CHECK(
      client.send(std::string(2 << 20, 'x')));  // were these not read, closing would reset what the client has not read
  const auto got = client.receive_all();
  REQUIRE(got);
  CHECK(*got == word);
  CHECK(fix.closed.size() == 0);  // waits for the other end
  client.close();
  const auto status = fix.closed.take();
  REQUIRE(status);
  CHECK(status->ok());
}

TEST_CASE("finish does not wait for ever") {
  Fixture fix;
  std::size_t written = 100;
  SECTION("for an end that does not close") {}
  SECTION("for an end that does not read") { written = 32 << 20; }
  fix.listen(bound(), [&](TcpStream& stream) {
    return TcpStream::Handler{.on_data =
                                  [&, written](auto) {
                                    stream.write(pattern(written));
                                    stream.finish(50);
                                  },
                              .on_closed = fix.note_closed(),
                              .on_drained = {}};
  });
  RawSocket client(fix.address);
  const std::int64_t begun = io::now_ms();
  CHECK(client.send("x"));
  const auto status = fix.closed.take();
  REQUIRE(status);
  CHECK(status->ok());
  CHECK(io::now_ms() - begun >= 50);
  CHECK(io::now_ms() - begun < 10000);
  CHECK(client.receive_all());
}

TEST_CASE("writing to a connection that is gone gives an error, not a signal") {
  Fixture fix;
  fix.listen(bound(), [&](TcpStream&) {
    return TcpStream::Handler{.on_data = [](auto) {}, .on_closed = fix.note_closed(), .on_drained = {}};
  });
  RawSocket client(fix.address);
  const auto stream = fix.accepted.take();
  REQUIRE(stream);
  fix.loop->call([&] {
    (*stream)->write(pattern(16 << 20));  // more than the socket takes
    client.close();
    for (int i = 0; i < 10; ++i) (*stream)->write(bytes_of("more"));
  });
  const auto status = fix.closed.take();
  REQUIRE(status);
  CHECK(status->code() == Code::PEER_LOST);
}

TEST_CASE("a released stream goes on with the very next byte, in both directions") {
  Fixture fix;
  Inbox<std::string> first;
  io::ReleasedStream released;
  fix.listen(bound(), [&](TcpStream& stream) {
    return TcpStream::Handler{.on_data =
                                  [&](auto bytes) {
                                    Result<io::ReleasedStream> result = stream.release();
                                    if (result.ok()) released = std::move(result.value());
                                    first.put(text_of(bytes));
                                  },
                              .on_closed = fix.note_closed(),
                              .on_drained = {}};
  });
  RawSocket client(fix.address);
  CHECK(client.send("abc"));
  CHECK(first.take() == "abc");
  CHECK(client.send("defgh"));
  fix.loop->call([&] {
    CHECK_FALSE(fix.streams.front()->is_open());
    CHECK_FALSE(fix.streams.front()->release().ok());
    fix.streams.clear();
  });
  fix.loop->stop();  // the connection does not depend on the loop any more
  REQUIRE(released.fd.valid());
  CHECK(released.unsent.empty());
  CHECK((fcntl(released.fd.get(), F_GETFL) & O_NONBLOCK) != 0);
  RawSocket raw(std::move(released.fd));
  CHECK(text_of(raw.receive(5)) == "defgh");
  CHECK(raw.send("xyz"));
  CHECK(text_of(client.receive(3)) == "xyz");
  raw.close();
  const auto rest = client.receive_all();
  REQUIRE(rest);
  CHECK(rest->empty());
  CHECK(fix.closed.size() == 0);
}

TEST_CASE("a released stream hands over what was not sent yet") {
  Fixture fix;
  const std::vector<std::uint8_t> all = pattern(24 << 20);
  fix.listen(bound(), [&](TcpStream&) {
    return TcpStream::Handler{.on_data = [](auto) {}, .on_closed = fix.note_closed(), .on_drained = {}};
  });
  RawSocket client(fix.address);
  const auto stream = fix.accepted.take();
  REQUIRE(stream);
  io::ReleasedStream released;
  std::vector<std::uint8_t> early;
  fix.loop->call([&] {
    for (std::size_t at = 0; at < all.size(); at += 1 << 20) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(at);
      (*stream)->write({begin, begin + (1 << 20)});
    }
  });
  early = client.receive(3 << 20);  // so that libuv is in the middle of some buffer
  std::size_t queued = 0;
  fix.loop->call([&] {
    queued = (*stream)->queued_bytes();
    Result<io::ReleasedStream> result = (*stream)->release();
    if (result.ok()) released = std::move(result.value());
  });
  REQUIRE(released.fd.valid());
  REQUIRE(queued > 0);
  CHECK(released.unsent.size() == queued);
  RawSocket raw(std::move(released.fd));
  std::thread sender([&] {
    raw.send(released.unsent);
    raw.close();
  });
  const auto late = client.receive_all();
  sender.join();
  REQUIRE(late);
  early.insert(early.end(), late->begin(), late->end());
  CHECK(early == all);
}

TEST_CASE("a port in use: which one, and what to do") {
  const ListenSocket first = bound();
  const Result<ListenSocket> second =
      io::bind_listener({.host = "127.0.0.1", .ports = {first.address.port(), first.address.port()}});
  REQUIRE_FALSE(second.ok());
  CHECK(second.status().code() == Code::ADDRESS_IN_USE);
  CHECK(contains(second.status().text(), first.address.text()));
  CHECK(contains(second.status().text(), "choose another port"));
}

TEST_CASE("an address that is not of this machine, a name that does not resolve") {
  const Status foreign = io::bind_listener({.host = "192.0.2.1", .ports = {}}).status();  // RFC 5737: nobody's
  CHECK(foreign.code() == Code::ADDRESS_IN_USE);
  CHECK(contains(foreign.text(), "192.0.2.1:0"));
  CHECK(contains(foreign.text(), "no interface of this machine"));
  CHECK(io::bind_listener({.host = "two..dots", .ports = {}}).status().code() == Code::BAD_ADDRESS);
}

TEST_CASE("of a range of ports the first free one is taken") {
  // Two neighbouring ports, found by trying.
  ListenSocket low;
  std::uint16_t port = 0;
  for (int attempt = 0; attempt < 200 && port == 0; ++attempt) {
    low = bound();
    const auto next = static_cast<std::uint16_t>(low.address.port() + 1);
    if (next != 0 && io::bind_listener({.host = "127.0.0.1", .ports = {next, next}}).ok()) port = low.address.port();
  }
  REQUIRE(port != 0);
  const auto next = static_cast<std::uint16_t>(port + 1);
  const Result<ListenSocket> high = io::bind_listener({.host = "127.0.0.1", .ports = {port, next}});
  REQUIRE(high.ok());
  CHECK(high.value().address.port() == next);
  const Status none = io::bind_listener({.host = "127.0.0.1", .ports = {port, next}}).status();
  CHECK(none.code() == Code::ADDRESS_IN_USE);
  CHECK(contains(none.text(), "every port from " + std::to_string(port) + " to " + std::to_string(next)));
}

TEST_CASE("the empty host is every address, of both kinds") {
  Fixture fix;
  fix.listen(bound(""), echo);
  CHECK(fix.address.is_wildcard());
  REQUIRE(fix.connect("127.0.0.1", fix.address.port()).ok());
  const auto four = fix.accepted.take();
  REQUIRE(four);
  CHECK((*four)->remote().host() == "127.0.0.1");
  CHECK((*four)->local() == *SocketAddress::from_numeric("127.0.0.1", fix.address.port()));
  if (!have_v6()) return;
  REQUIRE(fix.connect("::1", fix.address.port()).ok());
  const auto six = fix.accepted.take();
  REQUIRE(six);
  CHECK((*six)->remote().host() == "::1");
}

TEST_CASE("listeners may be destroyed in their own callback, and their port is free again") {
  Fixture fix;
  Inbox<int> done;
  ListenSocket socket = bound();
  const SocketAddress address = socket.address;
  fix.loop->call([&] {
    Result<std::unique_ptr<TcpListener>> made =
        TcpListener::create(*fix.loop, std::move(socket), [&](const std::unique_ptr<TcpStream>&) {
          fix.listener.reset();
          done.put(1);
        });
    if (made.ok()) fix.listener = std::move(made.value());
  });
  RawSocket first(address);
  CHECK(done.take());
  CHECK(io::bind_listener({.host = "127.0.0.1", .ports = {address.port(), address.port()}}).ok());
}

// ----------------------------------------------------------------------------------------------- no descriptors left

namespace {

std::int64_t cpu_ms(EventLoop& loop) {
  std::int64_t result = 0;
  loop.call([&] {
    timespec now = {};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    result = now.tv_sec * 1000 + now.tv_nsec / 1000000;
  });
  return result;
}

// Turns of the loop for `time_ms`, without taking part in what is measured.
void let_run(EventLoop& loop, std::int64_t time_ms) {
  Inbox<int> over;
  std::unique_ptr<io::Timer> timer;
  loop.call([&] {
    timer = std::make_unique<io::Timer>(loop, [&] { over.put(1); });
    timer->start(time_ms);
  });
  REQUIRE(over.take());
  loop.call([&] { timer.reset(); });
}

}  // namespace

TEST_CASE("without descriptors a listener turns connections away, says so once, and goes on later") {
  log::configure("warn");
  Fixture fix;
  fix.listen(bound(), echo);
  std::vector<io::UniqueFd> sockets;
  std::vector<RawSocket> clients;  // kept: each that closes would make room for one
  for (int i = 0; i < 5; ++i) sockets.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const test::StderrCapture errors;
  {
    test::DescriptorLimit limit(test::DescriptorLimit::above_all());
    limit.exhaust();
    for (io::UniqueFd& fd : sockets) {
      REQUIRE(::connect(fd.get(), fix.address.get(), fix.address.length()) == 0);
      clients.emplace_back(std::move(fd));
      const auto got = clients.back().receive_all();  // closed, not left waiting
      REQUIRE(got);
      CHECK(got->empty());
    }
    fix.loop->call([&] { CHECK(fix.listener->turned_away() == 5); });
    CHECK(fix.accepted.size() == 0);
  }
  CHECK(errors.lines_with("too many open files") == 1);
  RawSocket client(fix.address);
  CHECK(client.send("works again"));
  CHECK(text_of(client.receive(11)) == "works again");
}

TEST_CASE("a listener that cannot even turn away rests instead of spinning") {
  log::configure("warn");
  Fixture fix;
  fix.listen(bound(), echo);
  io::UniqueFd waiting(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const test::StderrCapture errors;
  const std::int64_t before = cpu_ms(*fix.loop);
  {
    // Below what is open already: the descriptor that is given up cannot be had again either.
    const test::DescriptorLimit limit(3);
    REQUIRE(::connect(waiting.get(), fix.address.get(), fix.address.length()) == 0);
    let_run(*fix.loop, 500);
    CHECK(cpu_ms(*fix.loop) - before < 100);
  }
  CHECK(errors.lines_with("cannot accept connections") == 1);
  RawSocket client(std::move(waiting));  // waited in the queue, and is served now
  CHECK(client.send("patience"));
  CHECK(text_of(client.receive(8)) == "patience");
}

TEST_CASE("connecting, listening and releasing without descriptors is RESOURCE") {
  Fixture fix;
  fix.listen(bound(), echo);
  RawSocket client(fix.address);
  const auto stream = fix.accepted.take();
  REQUIRE(stream);
  Status connected;
  Status listening;
  Status released;
  {
    test::DescriptorLimit limit(test::DescriptorLimit::above_all());
    limit.exhaust();
    connected = fix.connect("127.0.0.1", fix.address.port()).status();
    listening = io::bind_listener({.host = "127.0.0.1", .ports = {}}).status();
    fix.loop->call([&] { released = (*stream)->release().status(); });
  }
  CHECK(connected.code() == Code::RESOURCE);
  CHECK(contains(connected.text(), "too many open files"));
  CHECK(listening.code() == Code::RESOURCE);
  CHECK(released.code() == Code::RESOURCE);
  CHECK(client.receive_all());  // the stream that could not be released is closed
}

TEST_CASE("many connections at once") {
  Fixture fix;
  fix.listen(bound(), echo);
  std::vector<RawSocket> clients;
  for (int i = 0; i < 300; ++i) clients.emplace_back(fix.address);
  for (std::size_t i = 0; i < clients.size(); ++i) CHECK(clients[i].send(std::to_string(1000 + i)));
  for (std::size_t i = 0; i < clients.size(); ++i) CHECK(text_of(clients[i].receive(4)) == std::to_string(1000 + i));
}
