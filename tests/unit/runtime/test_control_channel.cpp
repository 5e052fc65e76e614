// Control channels against raw sockets: messages however the bytes are cut, every limit that holds against strangers,
// handing the connection over.
#include "runtime/control_channel.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "io/random.hpp"
#include "support/catch.hpp"
#include "support/inbox.hpp"
#include "support/stderr_capture.hpp"
#include "support/wire_client.hpp"

using namespace hawser;
using runtime::ControlChannel;
using runtime::ControlChannelOptions;
using runtime::LogLimit;
using runtime::ReleasedChannel;
using test::Inbox;
using test::text_of;
using test::WireClient;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

wire::Hello hello() {
  wire::Hello message;
  message.peer.high = 7;
  message.peer.low = 9;
  message.name = "peer";
  return message;
}

// More than fits a first message.
wire::Install long_message() {
  wire::Install message;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    wire::ViewMember member;
    member.peer.id.low = i + 1;
    member.peer.name = std::string(60, 'n');
    member.peer.host = "10.0.0.1";
    message.view.members.push_back(std::move(member));
  }
  return message;
}

// Accepts connections and makes a channel of each.
struct Server {
  std::unique_ptr<io::EventLoop> loop;
  std::unique_ptr<io::TcpListener> listener;
  io::SocketAddress address;
  ControlChannelOptions options;
  std::function<ControlChannel::Handler(std::size_t)> handler;  // of the connection with this index
  std::vector<std::unique_ptr<ControlChannel>> channels;
  Inbox<wire::Message> messages;
  Inbox<Status> closed;
  Inbox<std::size_t> accepted;

  Server() {
    handler = [this](std::size_t) { return usual(); };
    Result<std::unique_ptr<io::EventLoop>> started = io::EventLoop::start("test-channel");
    REQUIRE(started.ok());
    loop = std::move(started.value());
    Result<io::ListenSocket> socket = io::bind_listener({.host = "127.0.0.1", .ports = {}});
    REQUIRE(socket.ok());
    address = socket.value().address;
    bool listening = false;
    loop->call([&] {
      auto made =
          io::TcpListener::create(*loop, std::move(socket.value()), [this](std::unique_ptr<io::TcpStream> stream) {
            const std::size_t index = channels.size();
            channels.push_back(std::make_unique<ControlChannel>(*loop, std::move(stream), options, handler(index)));
            accepted.put(index);
          });
      listening = made.ok();
      if (listening) listener = std::move(made.value());
    });
    REQUIRE(listening);
  }
  ~Server() {
    loop->call([&] {
      listener.reset();
      channels.clear();
    });
  }
  ControlChannel::Handler usual() {
    return {.on_message = [this](wire::Message message) { messages.put(std::move(message)); },
            .on_closed = [this](Status status) { closed.put(std::move(status)); },
            .last_word = {}};
  }
};

}  // namespace

TEST_CASE("messages in both directions, however the bytes are cut") {
  Server server;
  WireClient client(server.address);
  std::vector<std::uint8_t> bytes;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const auto one = wire::encode(wire::Heartbeat{i});
    bytes.insert(bytes.end(), one.begin(), one.end());
  }
  const std::size_t piece = GENERATE(std::size_t{1}, std::size_t{7}, std::size_t{1000});
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    REQUIRE(client.socket().send(std::span(bytes).subspan(at, std::min(piece, bytes.size() - at))));
  }
  for (std::uint64_t i = 0; i < 20; ++i) CHECK(server.messages.take() == wire::Message(wire::Heartbeat{i}));
  server.loop->call([&] {
    for (std::uint64_t i = 0; i < 20; ++i) server.channels.front()->send(wire::Heartbeat{100 + i});
  });
  for (std::uint64_t i = 0; i < 20; ++i) CHECK(client.receive() == wire::Message(wire::Heartbeat{100 + i}));
  client.socket().close();
  const auto status = server.closed.take();
  REQUIRE(status);
  CHECK(status->code() == Code::PEER_LOST);
}

TEST_CASE("malformed bytes close the connection with one line in the log") {
  log::configure("warn");
  Server server;
  const test::StderrCapture errors;
  std::string bytes;
  Code code = Code::NOT_A_COORDINATOR;
  SECTION("another protocol") { bytes = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"; }
  SECTION("zeros") { bytes = std::string(1000, '\0'); }
  SECTION("terminal escapes") { bytes = "\x1b[2J\x1b[1;1H\nforged line\n" + std::string(100, '\x07'); }
  SECTION("a length of 4 GiB") {
    bytes = text_of(wire::encode(hello()));
    std::fill_n(bytes.begin() + 8, 4, '\xff');
    code = Code::INVALID_ARGUMENT;
  }
  SECTION("a flipped bit") {
    bytes = text_of(wire::encode(hello()));
    bytes.back() ^= 1;
    code = Code::INVALID_ARGUMENT;
  }
  SECTION("another version") {
    bytes = text_of(wire::encode(hello()));
    bytes[4] = 77;
    code = Code::VERSION_MISMATCH;
  }
  SECTION("a first message that is too long") {
    bytes = text_of(wire::encode(long_message()));
    code = Code::INVALID_ARGUMENT;
  }
  WireClient client(server.address);
  client.socket().send(bytes);
  const auto status = server.closed.take();
  REQUIRE(status);
  CHECK(status->code() == code);
  CHECK(client.socket().receive_all());
  CHECK(server.messages.size() == 0);
  CHECK(errors.lines_with("") == 1);
  CHECK(errors.lines_with("127.0.0.1:") == 1);
  CHECK(errors.lines_with("connection closed") == 1);
  for (const char c : errors.text()) CHECK(((c >= ' ' && c <= '~') || c == '\n'));
}

TEST_CASE("log lines of strangers have a common limit") {
  log::configure("warn");
  Server server;
  LogLimit limit;
  server.loop->call([&] { server.options.log_limit = &limit; });
  const test::StderrCapture errors;
  const std::int64_t begun = io::now_ms();
  for (int i = 0; i < 100; ++i) {
    WireClient client(server.address);
    client.socket().send("garbage garbage garbage");
    REQUIRE(server.closed.take());
  }
  const std::int64_t seconds = (io::now_ms() - begun) / 1000 + 1;
  CHECK(errors.lines_with("connection closed") >= 10);
  CHECK(errors.lines_with("connection closed") <= 10 * (seconds + 1));
}

TEST_CASE("the limit counts by the second and says how many lines it left out") {
  LogLimit limit(2);
  std::uint64_t left_out = 99;
  CHECK(limit.admit(5000, left_out));
  CHECK(left_out == 0);
  CHECK(limit.admit(5999, left_out));
  CHECK_FALSE(limit.admit(5999, left_out));
  CHECK_FALSE(limit.admit(5999, left_out));
  CHECK(limit.admit(6000, left_out));
  CHECK(left_out == 2);
  CHECK(limit.admit(6000, left_out));
  CHECK(left_out == 0);
  CHECK_FALSE(limit.admit(6500, left_out));
}

TEST_CASE("long messages pass once the other end is known") {
  Server server;
  server.handler = [&](std::size_t) {
    auto usual = server.usual();
    usual.on_message = [&](wire::Message message) {
      server.channels.front()->raise_limit();
      server.messages.put(std::move(message));
    };
    return usual;
  };
  WireClient client(server.address);
  REQUIRE(client.send(hello()));
  REQUIRE(client.send(long_message()));
  CHECK(server.messages.take() == wire::Message(hello()));
  CHECK(server.messages.take() == wire::Message(long_message()));
}

TEST_CASE("the first message has a deadline that trickling bytes do not move") {
  log::configure("warn");
  const test::StderrCapture errors;
  Server server;
  server.loop->call([&] { server.options.first_message_ms = 80; });
  const std::int64_t begun = io::now_ms();
  const std::vector<std::uint8_t> bytes = wire::encode(hello());
  SECTION("silence") {
    WireClient client(server.address);
    const auto status = server.closed.take();
    REQUIRE(status);
    CHECK(status->code() == Code::TIMEOUT);
    CHECK(client.closed_silently());
    CHECK(errors.lines_with("sent no message within 80 ms") == 1);
    CHECK(io::now_ms() - begun >= 80);
  }
  SECTION("one byte after the other, never the last") {
    WireClient client(server.address);
    std::optional<Status> status;
    for (std::size_t i = 0; !status && io::now_ms() - begun < 20000; ++i) {
      if (i + 1 < bytes.size()) client.socket().send(std::span(bytes).subspan(i, 1));
      status = server.closed.take(std::chrono::milliseconds(5));
    }
    REQUIRE(status);
    CHECK(status->code() == Code::TIMEOUT);
  }
  SECTION("in time: it is over, and silence afterwards is not the channel's business") {
    server.loop->call([&] { server.options.first_message_ms = 1000; });
    WireClient client(server.address);
    CHECK(client.send(hello()));
    REQUIRE(server.messages.take());
    CHECK_FALSE(server.closed.take(std::chrono::milliseconds(1200)));
    CHECK(errors.lines_with("") == 0);
  }
}

TEST_CASE("an end that does not read is closed, and not from inside send") {
  Server server;
  server.loop->call([&] { server.options.queue_bytes_max = 1 << 20; });
  const WireClient client(server.address);
  REQUIRE(server.accepted.take());
  const wire::Install message = long_message();
  std::size_t most = 0;
  bool told_inside = false;
  server.loop->call([&] {
    ControlChannel& channel = *server.channels.front();
    for (int i = 0; i < 1000 && channel.is_open(); ++i) {
      channel.send(message);
      most = std::max(most, channel.queued_bytes());
    }
    CHECK_FALSE(channel.is_open());
    channel.send(message);  // nothing happens
    told_inside = server.closed.size() != 0;
  });
  const auto status = server.closed.take();
  REQUIRE(status);
  CHECK(status->code() == Code::RESOURCE);
  CHECK_FALSE(told_inside);
  CHECK(most <= 1 << 20);
  CHECK(server.closed.size() == 0);
}

TEST_CASE("send_and_close delivers its message, although more comes in") {
  Server server;
  server.handler = [&](std::size_t) {
    auto usual = server.usual();
    usual.on_message = [&](wire::Message message) {
      server.messages.put(std::move(message));
      server.channels.front()->send_and_close(wire::Refuse{{}, 53, "no"});
      server.channels.front()->send(wire::Heartbeat{1});
    };
    return usual;
  };
  WireClient client(server.address);
  for (int i = 0; i < 1000; ++i) REQUIRE(client.send(wire::Heartbeat{1}));
  const auto refuse = client.await<wire::Refuse>();
  REQUIRE(refuse);
  CHECK(refuse->text == "no");
  CHECK(client.closed_silently());
  client.socket().close();
  const auto status = server.closed.take();
  REQUIRE(status);
  CHECK(status->ok());
  CHECK(server.messages.size() == 1);
}

TEST_CASE("a last word goes to an end whose bytes are malformed") {
  Server server;
  server.handler = [&](std::size_t) {
    auto usual = server.usual();
    usual.last_word = [](const Status& status) {
      return wire::Refuse{{}, static_cast<std::uint32_t>(status.code()), status.text()};
    };
    return usual;
  };
  WireClient client(server.address);
  std::vector<std::uint8_t> bytes = wire::encode(hello());
  bytes[4] = 77;
  client.socket().send(bytes);
  const auto refuse = client.await<wire::Refuse>();
  REQUIRE(refuse);
  CHECK(refuse->code == HAWSER_VERSION_MISMATCH);
  CHECK(contains(refuse->text, "77"));
  client.socket().close();
  const auto status = server.closed.take();
  REQUIRE(status);
  CHECK(status->code() == Code::VERSION_MISMATCH);
}

TEST_CASE("a released channel hands over the bytes that follow its last message") {
  Server server;
  Inbox<ReleasedChannel> released;
  server.handler = [&](std::size_t) {
    auto usual = server.usual();
    usual.on_message = [&](const wire::Message& message) {
      if (!std::holds_alternative<wire::StrandHello>(message)) return;
      server.channels.front()->send(wire::StrandAccept{3});
      Result<ReleasedChannel> result = server.channels.front()->release();
      if (result.ok()) released.put(std::move(result.value()));
    };
    return usual;
  };
  WireClient client(server.address);
  wire::StrandHello strand;
  strand.index = 3;
  std::vector<std::uint8_t> bytes = wire::encode(strand);
  const std::string data = "HWSD is of another decoder; this one must not look at it";
  bytes.insert(bytes.end(), data.begin(), data.end());
  REQUIRE(client.socket().send(bytes));
  auto channel = released.take();
  REQUIRE(channel);
  test::RawSocket raw(std::move(channel->fd));
  std::string got = text_of(channel->received);
  CHECK(data.starts_with(got));
  got += text_of(raw.receive(data.size() - got.size()));
  CHECK(got == data);
  CHECK(raw.send(channel->unsent));
  const auto accept = client.await<wire::StrandAccept>();
  REQUIRE(accept);
  CHECK(accept->index == 3);
  CHECK(raw.send("and on"));
  CHECK(text_of(client.socket().receive(6)) == "and on");
  server.loop->call([&] {
    CHECK_FALSE(server.channels.front()->is_open());
    CHECK_FALSE(server.channels.front()->release().ok());
  });
  CHECK(server.closed.size() == 0);
}

TEST_CASE("a channel may be destroyed in its own callbacks, and nothing follows") {
  Server server;
  Inbox<int> calls;
  const auto held = std::make_shared<int>(7);
  std::vector<std::uint8_t> bytes;
  SECTION("on_message, with more messages read already") {
    server.handler = [&, held](std::size_t) {
      auto usual = server.usual();
      usual.on_message = [&, held](const wire::Message&) {
        server.channels.clear();
        calls.put(*held);
      };
      return usual;
    };
    for (int i = 0; i < 50; ++i) {
      const auto one = wire::encode(wire::Heartbeat{1});
      bytes.insert(bytes.end(), one.begin(), one.end());
    }
  }
  SECTION("last_word") {
    server.handler = [&, held](std::size_t) {
      auto usual = server.usual();
      usual.last_word = [&, held](const Status&) -> std::optional<wire::Message> {
        server.channels.clear();
        calls.put(*held);
        return wire::Heartbeat{1};
      };
      return usual;
    };
    bytes = test::bytes_of("garbage garbage garbage garbage");
  }
  SECTION("on_closed") {
    server.handler = [&, held](std::size_t) {
      auto usual = server.usual();
      usual.on_closed = [&, held](const Status&) {
        server.channels.clear();
        calls.put(*held);
      };
      return usual;
    };
    bytes = test::bytes_of("garbage garbage garbage garbage");
  }
  {
    WireClient client(server.address);
    client.socket().send(bytes);
    CHECK(calls.take() == 7);
    CHECK(client.socket().receive_all());
  }
  server.loop->call([&] {
    server.listener.reset();
    server.handler = nullptr;
  });
  server.loop->call([] {});
  server.loop->call([] {});
  CHECK(calls.size() == 0);
  CHECK(server.closed.size() == 0);
  CHECK(held.use_count() == 1);
}
