// The states outlive the objects that callers hold (see handle.hpp); a callback is copied or moved out of its state
// before it is called, so that it may close what it came from. Accepting is done on a polled socket instead of by
// uv_listen, whose way of running out of descriptors can end in an endless loop inside libuv.
#include "io/uv/tcp.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <utility>

#include "base/assert.hpp"
#include "base/log.hpp"
#include "io/random.hpp"
#include "io/resolver.hpp"
#include "io/uv/handle.hpp"
#include "io/uv/timer.hpp"

namespace hawser::io {
namespace {

constexpr int keepalive_idle_s = 10;
constexpr int keepalive_interval_s = 3;
constexpr int keepalive_probes = 3;
constexpr int accepts_at_a_time = 64;               // before other connections of the loop get their turn
constexpr std::int64_t accept_pause_ms = 100;       // when accepting failed and would fail again at once
constexpr std::int64_t exhaustion_note_ms = 10000;  // at most one log line in this time

// Whether an error (negative, libuv's form) is a shortage of this machine.
bool is_shortage(int error) {
  return error == UV_EMFILE || error == UV_ENFILE || error == UV_ENOMEM || error == UV_ENOBUFS;
}

Code code_of(int error) {
  if (is_shortage(error) || error == UV_EADDRNOTAVAIL) return Code::RESOURCE;
  if (error == UV_ETIMEDOUT) return Code::TIMEOUT;
  return Code::PEER_LOST;
}

void set_option(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof(value)); }

}  // namespace

void set_stream_options(int fd) {
  if (const int flags = fcntl(fd, F_GETFL); flags >= 0) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, keepalive_idle_s);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, keepalive_interval_s);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, keepalive_probes);
}

// --------------------------------------------------------------------------------------------------------- TcpStream

struct TcpStream::State : HandleState {
  struct Write {
    uv_write_t request = {};
    std::vector<std::uint8_t> bytes;
  };

  EventLoop* loop = nullptr;
  uv_tcp_t tcp = {};
  uv_connect_t connect_request = {};
  uv_shutdown_t shutdown_request = {};
  std::function<void(int)> connected;      // of the connector
  std::shared_ptr<const Handler> handler;  // set while started and open
  std::deque<std::unique_ptr<Write>>
      writes;                     // handed to libuv, in order, which keeps their addresses until it calls back
  std::unique_ptr<Timer> linger;  // set from finish on
  SocketAddress local;
  SocketAddress remote;

  uv_stream_t* stream() { return reinterpret_cast<uv_stream_t*>(&tcp); }
  static State* of(void* handle) {
    return static_cast<State*>(static_cast<HandleState*>(static_cast<uv_handle_t*>(handle)->data));
  }

  // With a family there is a socket at once.
  Status init(EventLoop& owner, const std::shared_ptr<State>& self, unsigned family = AF_UNSPEC) {
    loop = &owner;
    if (const int error = uv_tcp_init_ex(owner.handle(), &tcp, family); error != 0) {
      return {code_of(error), fmt::format("no TCP connection: {}", uv_strerror(error))};
    }
    attach(reinterpret_cast<uv_handle_t*>(&tcp), self);
    return {};
  }

  // The socket is connected: learn its ends.
  Status settle() {
    int fd = -1;
    uv_fileno(reinterpret_cast<const uv_handle_t*>(&tcp), &fd);
    const auto own = SocketAddress::local_of(fd);
    const auto other = SocketAddress::remote_of(fd);
    if (!own || !other) return {Code::PEER_LOST, "the connection was closed before it was taken over"};
    local = *own;
    remote = *other;
    set_stream_options(fd);
    return {};
  }

  void shut() {
    connected = nullptr;
    handler.reset();
    linger.reset();
    close();
  }
  void abandon() override { shut(); }

  // The connection is over: say so to the owner.
  void end(Status status) {
    if (!open()) return;
    const std::shared_ptr<const Handler> last = std::move(handler);
    if (linger) status = {};  // finish was asked for, and nothing that comes after changes that
    shut();
    if (last && last->on_closed) last->on_closed(std::move(status));
  }
  void end_soon(Status status) {
    auto self = std::static_pointer_cast<State>(shared_self());
    loop->post([self = std::move(self), status = std::move(status)]() mutable { self->end(std::move(status)); });
  }

  void on_read(ssize_t count, const uv_buf_t* buffer) {
    if (count > 0) {
      if (linger) return;
      const std::shared_ptr<const Handler> current = handler;
      current->on_data({reinterpret_cast<const std::uint8_t*>(buffer->base), static_cast<std::size_t>(count)});
    } else if (count == UV_EOF) {
      end({Code::PEER_LOST, fmt::format("{}: closed by the other end", remote.text())});
    } else if (count < 0) {
      const int error = static_cast<int>(count);
      end({code_of(error), fmt::format("{}: {}", remote.text(), uv_strerror(error))});
    }
  }

  void on_written(int error) {
    const std::unique_ptr<Write> done = std::move(writes.front());
    writes.pop_front();
    if (!open()) return;
    if (error == 0) {
      if (!writes.empty() || !handler || !handler->on_drained) return;
      const std::shared_ptr<const Handler> current = handler;
      current->on_drained();
      return;
    }
    // What the other end said before it went away (why it refused us, say) may still be there to be read; reading comes
    // to the end of it and reports the loss.
    if ((error == UV_EPIPE || error == UV_ECONNRESET) && handler) return;
    end({code_of(error), fmt::format("{}: {}", remote.text(), uv_strerror(error))});
  }
};

TcpStream::TcpStream(std::shared_ptr<State> state) : state_(std::move(state)) {}

TcpStream::~TcpStream() { close(); }

Result<std::unique_ptr<TcpStream>> TcpStream::adopt(EventLoop& loop, UniqueFd fd) {
  auto state = std::make_shared<State>();
  if (Status status = state->init(loop, state); !status.ok()) return status;
  std::unique_ptr<TcpStream> stream(new TcpStream(state));  // closes the handle on each way out
  if (const int error = uv_tcp_open(&state->tcp, fd.get()); error != 0) {
    return Status(code_of(error), fmt::format("cannot take a connection over: {}", uv_strerror(error)));
  }
  static_cast<void>(fd.release());  // libuv's from here on
  if (Status status = state->settle(); !status.ok()) return status;
  return stream;
}

void TcpStream::start(Handler handler) {
  State& state = *state_;
  if (!state.open()) return;
  HAWSER_ASSERT(!state.handler, "a stream is started once");
  state.handler = std::make_shared<const Handler>(std::move(handler));
  const int error = uv_read_start(
      state.stream(),
      [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
        auto& room = State::of(handle)->loop->read_buffer();
        *buffer = uv_buf_init(room.data(), static_cast<unsigned>(room.size()));
      },
      [](uv_stream_t* stream, ssize_t count, const uv_buf_t* buffer) {
        EventLoop::of(stream->loop).guard([&] { State::of(stream)->on_read(count, buffer); });
      });
  if (error != 0) state.end_soon({code_of(error), fmt::format("{}: {}", state.remote.text(), uv_strerror(error))});
}

void TcpStream::write(std::vector<std::uint8_t> bytes) {
  State& state = *state_;
  if (!state.open() || state.linger || bytes.empty()) return;
  auto write = std::make_unique<State::Write>();
  write->bytes = std::move(bytes);
  const uv_buf_t buffer =
      uv_buf_init(reinterpret_cast<char*>(write->bytes.data()), static_cast<unsigned>(write->bytes.size()));
  uv_write_t* request = &write->request;
  state.writes.push_back(std::move(write));
  const int error = uv_write(request, state.stream(), &buffer, 1, [](uv_write_t* done, int status) {
    EventLoop::of(done->handle->loop).guard([&] { State::of(done->handle)->on_written(status); });
  });
  if (error != 0) {
    state.writes.pop_back();
    state.end_soon({code_of(error), fmt::format("{}: {}", state.remote.text(), uv_strerror(error))});
  }
}

std::size_t TcpStream::queued_bytes() const {
  return state_->open() ? uv_stream_get_write_queue_size(state_->stream()) : 0;
}

void TcpStream::finish(std::int64_t linger_ms) {
  State& state = *state_;
  if (!state.open() || state.linger) return;
  HAWSER_ASSERT(state.handler, "only a stream that was started can wait for its other end");
  state.linger = std::make_unique<Timer>(*state.loop, [raw = &state] { raw->end({}); });
  state.linger->start(linger_ms);
  const int error = uv_shutdown(&state.shutdown_request, state.stream(), [](uv_shutdown_t* request, int status) {
    if (status == 0 || status == UV_ECANCELED) return;
    EventLoop::of(request->handle->loop).guard([&] { State::of(request->handle)->end({}); });
  });
  if (error != 0) state.end_soon({});
}

void TcpStream::end_unacknowledged_after(std::int64_t ms) {
  if (!state_->open()) return;
  int fd = -1;
  uv_fileno(reinterpret_cast<const uv_handle_t*>(&state_->tcp), &fd);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(ms));
}

void TcpStream::close() { state_->shut(); }

namespace {

int duplicate(int fd) {
#if defined(__SANITIZE_THREAD__)
  // ThreadSanitizer follows descriptors through dup, not through fcntl: it would take a number that comes back in
  // another thread for a race.
  const int copy = dup(fd);
  if (copy >= 0) fcntl(copy, F_SETFD, FD_CLOEXEC);
  return copy;
#else
  return fcntl(fd, F_DUPFD_CLOEXEC, 3);
#endif
}

}  // namespace

Result<ReleasedStream> TcpStream::release() {
  State& state = *state_;
  if (!state.open()) return Status(Code::PEER_LOST, "the connection is closed");
  int own = -1;
  uv_fileno(reinterpret_cast<const uv_handle_t*>(&state.tcp), &own);
  ReleasedStream released;
  // libuv closes its descriptor, without shutting the connection down; the connection lives on in this one.
  released.fd.reset(duplicate(own));
  const int error = errno;
  std::size_t missing = queued_bytes();
  std::size_t all = 0;
  for (const auto& write : state.writes) all += write->bytes.size();
  HAWSER_ASSERT(missing <= all, "libuv counts more bytes than it was given");
  std::size_t sent = all - missing;
  for (const auto& write : state.writes) {
    const std::size_t skipped = std::min(sent, write->bytes.size());
    sent -= skipped;
    released.unsent.insert(released.unsent.end(), write->bytes.begin() + static_cast<std::ptrdiff_t>(skipped),
                           write->bytes.end());
  }
  close();
  if (!released.fd.valid()) {
    return Status(Code::RESOURCE, fmt::format("{}: no descriptor left: {}", state.remote.text(), uv_strerror(-error)));
  }
  return released;
}

bool TcpStream::is_open() const { return state_->open(); }
const SocketAddress& TcpStream::local() const { return state_->local; }
const SocketAddress& TcpStream::remote() const { return state_->remote; }

// ------------------------------------------------------------------------------------------------------ TcpConnector

struct TcpConnector::State : std::enable_shared_from_this<State> {
  EventLoop& loop;
  std::string target;  // as the user wrote it
  bool resolved = false;
  std::vector<SocketAddress> addresses;
  std::size_t next = 0;  // index of the address after the one being tried
  ConnectOptions options;
  Done done;
  Timer total;
  Timer address;
  std::shared_ptr<TcpStream::State> trying;
  std::string failures;
  bool all_timed_out = true;

  State(EventLoop& owner, std::string name, ConnectOptions wanted, Done callback)
      : loop(owner),
        target(std::move(name)),
        options(wanted),
        done(std::move(callback)),
        total(owner, [this] { on_total(); }),
        address(owner, [this] { on_address_timeout(); }) {
    total.start(options.total_ms);
  }

  void cancel() {
    done = nullptr;
    total.stop();
    address.stop();
    if (trying) std::exchange(trying, nullptr)->shut();
  }

  void finish(Result<std::unique_ptr<TcpStream>> result) {
    const std::shared_ptr<State> alive = shared_from_this();
    const Done callback = std::exchange(done, nullptr);
    cancel();
    if (callback) callback(std::move(result));
  }

  void fail(Code code, const std::string& what) { finish(Status(code, what)); }

  void on_total() {
    note(trying ? fmt::format("{}: no answer", addresses[next - 1].text()) : std::string());
    if (!resolved) {
      return fail(Code::TIMEOUT,
                  fmt::format("{}: the name service does not answer within {} ms", target, options.total_ms));
    }
    fail(Code::TIMEOUT, fmt::format("{}: no connection within {} ms ({})", target, options.total_ms, failures));
  }

  void on_address_timeout() {
    note(fmt::format("{}: no answer within {} ms", addresses[next - 1].text(), options.address_ms));
    try_next();
  }

  void note(const std::string& failure) {
    if (failure.empty()) return;
    if (!failures.empty()) failures += "; ";
    failures += failure;
  }

  void on_resolved(Result<Addresses> result) {
    if (!done) return;
    if (!result.ok()) return fail(result.status().code(), result.status().text());
    resolved = true;
    addresses = std::move(result.value());
    try_next();
  }

  void try_next() {
    if (trying) std::exchange(trying, nullptr)->shut();
    address.stop();
    if (next == addresses.size()) {
      const bool plain = addresses.size() == 1 && failures.starts_with(target);
      return fail(all_timed_out ? Code::TIMEOUT : Code::PEER_LOST,
                  plain ? failures : fmt::format("{}: no connection ({})", target, failures));
    }
    const SocketAddress& to = addresses[next++];
    auto stream = std::make_shared<TcpStream::State>();
    const unsigned family = options.segment_bytes != 0 ? to.get()->sa_family : AF_UNSPEC;
    if (const Status status = stream->init(loop, stream, family); !status.ok()) {
      return fail(status.code(), status.text());
    }
    if (options.segment_bytes != 0) {
      int fd = -1;
      uv_fileno(reinterpret_cast<const uv_handle_t*>(&stream->tcp), &fd);
      set_option(fd, IPPROTO_TCP, TCP_MAXSEG, options.segment_bytes);
    }
    trying = stream;
    trying->connected = [this](int error) { on_connected(error); };
    address.start(options.address_ms);
    const int error =
        uv_tcp_connect(&stream->connect_request, &stream->tcp, to.get(), [](uv_connect_t* request, int status) {
          TcpStream::State* state = TcpStream::State::of(request->handle);
          if (!state->connected) return;  // given up
          const auto connected = std::exchange(state->connected, nullptr);
          EventLoop::of(request->handle->loop).guard([&] { connected(status); });
        });
    if (error != 0) on_connected(error);
  }

  void on_connected(int error) {
    const SocketAddress& to = addresses[next - 1];
    if (is_shortage(error) || error == UV_EADDRNOTAVAIL) {  // the next address would meet it too
      return fail(Code::RESOURCE, fmt::format("{}: {}", to.text(), uv_strerror(error)));
    }
    Status settled;
    if (error == 0) settled = trying->settle();
    if (error != 0 || !settled.ok()) {
      all_timed_out = all_timed_out && error == UV_ETIMEDOUT;
      note(fmt::format("{}: {}", to.text(), error != 0 ? std::string(uv_strerror(error)) : settled.text()));
      return try_next();
    }
    // A socket that dials a free port of its own host can be given that very port and reach itself.
    if (trying->local == trying->remote) {
      all_timed_out = false;
      note(fmt::format("{}: {}", to.text(), uv_strerror(UV_ECONNREFUSED)));
      return try_next();
    }
    finish(std::unique_ptr<TcpStream>(new TcpStream(std::exchange(trying, nullptr))));
  }
};

TcpConnector::TcpConnector(EventLoop& loop, const std::string& host, std::uint16_t port, ConnectOptions options,
                           Done done)
    : state_(std::make_shared<State>(loop, format_endpoint(host, port), options, std::move(done))) {
  const std::weak_ptr<State> weak = state_;
  const auto answer = [weak](Result<Addresses> result) {
    if (const auto state = weak.lock()) state->on_resolved(std::move(result));
  };
  if (const auto numeric = SocketAddress::from_numeric(host, port)) {
    loop.post([answer, numeric] { answer(Addresses{*numeric}); });
    return;
  }
  // The lookup may outlive the loop, so it knows only the mailbox; the state is touched on the loop alone.
  Status started = resolve_async(host, port, [answer, mailbox = loop.mailbox()](Result<Addresses> result) {
    mailbox->post([answer, result = std::move(result)] { answer(result); });
  });
  if (!started.ok()) loop.post([answer, started = std::move(started)] { answer(started); });
}

TcpConnector::TcpConnector(EventLoop& loop, std::vector<SocketAddress> addresses, ConnectOptions options, Done done)
    : state_(std::make_shared<State>(loop, addresses.empty() ? std::string("no address") : addresses.front().text(),
                                     options, std::move(done))) {
  const std::weak_ptr<State> weak = state_;
  loop.post([weak, addresses = std::move(addresses)] {
    const auto state = weak.lock();
    if (!state) return;
    if (addresses.empty()) return state->fail(Code::INVALID_ARGUMENT, "there is no address to connect to");
    state->on_resolved(addresses);
  });
}

TcpConnector::~TcpConnector() { state_->cancel(); }

// ----------------------------------------------------------------------------------------------------- bind_listener

namespace {

Status bind_failure(const std::string& where, int error) {
  if (is_shortage(-error)) return {Code::RESOURCE, fmt::format("cannot listen on {}: {}", where, uv_strerror(-error))};
  const char* hint = "choose an address and a port that this process may use";
  if (error == EADDRINUSE) hint = "another socket has it; choose another port, or 0 for any free one";
  if (error == EADDRNOTAVAIL) hint = "no interface of this machine has that address; choose one that has";
  if (error == EACCES) hint = "ports below 1024 need privileges; choose a higher one";
  if (error == EAFNOSUPPORT) hint = "this machine has no such addresses";
  return {Code::ADDRESS_IN_USE, fmt::format("cannot listen on {}: {}: {}", where, uv_strerror(-error), hint)};
}

// Zero or an errno value.
int try_bind(const SocketAddress& address, int backlog, ListenSocket& listener) {
  UniqueFd fd(socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd.valid()) return errno;
  // The port must be free again right after a restart, when connections of before still fade away. With a port that the
  // kernel chooses the option comes after bind: before, the kernel would give out ports that others have bound already.
  if (address.port() != 0) set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (address.family() == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, address.is_wildcard() ? 0 : 1);
  if (bind(fd.get(), address.get(), address.length()) != 0) return errno;
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (listen(fd.get(), backlog) != 0) return errno;
  const auto bound = SocketAddress::local_of(fd.get());
  if (!bound) return errno;
  listener.fd = std::move(fd);
  listener.address = *bound;
  return 0;
}

}  // namespace

Result<ListenSocket> bind_listener(const ListenOptions& options) {
  Addresses addresses = {SocketAddress::any_v6(0), SocketAddress::any_v4(0)};
  if (!options.host.empty()) {
    Result<Addresses> found = resolve(options.host, 0, options.resolve_ms);
    if (!found.ok())
      return found.status().code() == Code::TIMEOUT ? Status(Code::BAD_ADDRESS, found.status().text()) : found.status();
    addresses = std::move(found.value());
  }
  const bool range = options.ports.first != options.ports.last;
  Status first_failure;
  for (const SocketAddress& candidate : addresses) {
    int error = 0;
    SocketAddress address = candidate;
    for (unsigned port = options.ports.first; port <= options.ports.last; ++port) {
      address.set_port(static_cast<std::uint16_t>(port));
      ListenSocket listener;
      error = try_bind(address, options.backlog, listener);
      if (error == 0) return listener;
      if (error != EADDRINUSE && error != EACCES) break;
    }
    if (is_shortage(-error)) return bind_failure(address.text(), error);
    if (!first_failure.ok()) continue;
    const bool all_taken = range && (error == EADDRINUSE || error == EACCES);
    first_failure =
        all_taken ? Status(Code::ADDRESS_IN_USE, fmt::format("cannot listen on {}: every port from {} to {} is taken; "
                                                             "choose a wider range",
                                                             candidate.host(), options.ports.first, options.ports.last))
                  : bind_failure(address.text(), error);
    // Without IPv6 the wildcard is that of IPv4; otherwise the first wildcard covers both.
    if (options.host.empty() && error != EAFNOSUPPORT && error != EADDRNOTAVAIL) break;
  }
  return first_failure;
}

// ------------------------------------------------------------------------------------------------------- TcpListener

struct TcpListener::State : HandleState {
  EventLoop* loop = nullptr;
  uv_poll_t poll = {};
  ListenSocket socket;
  UniqueFd spare;  // given up for a moment to accept and close a connection when no other descriptor is left
  std::shared_ptr<const Accepted> accepted;
  std::unique_ptr<Timer> pause;
  std::uint64_t turned_away = 0;
  std::int64_t noted_at = 0;
  bool noted = false;

  void shut() {
    accepted.reset();
    pause.reset();
    close();
    socket.fd.reset();
    spare.reset();
  }
  void abandon() override { shut(); }

  int watch() {
    return uv_poll_start(&poll, UV_READABLE, [](uv_poll_t* handle, int, int) {
      EventLoop::of(handle->loop).guard([&] {
        static_cast<State*>(static_cast<HandleState*>(handle->data))->accept_some();
      });
    });
  }

  void take_spare() { spare.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

  void rest(int error) {
    note(error);
    uv_poll_stop(&poll);
    pause->start(accept_pause_ms);
  }

  void note(int error) {
    const std::int64_t now = now_ms();
    if (noted && now - noted_at < exhaustion_note_ms) return;
    noted = true;
    noted_at = now;
    log::message(log::Subsystem::net, log::Level::warn,
                 "{}: cannot accept connections: {}; raise the limit of open files", socket.address.text(),
                 uv_strerror(-error));
  }

  // No descriptor is left for a connection that waits: close it, so that its other end learns and the socket is not
  // readable for ever.
  enum class Turned : std::uint8_t { away, nobody, failed };
  Turned turn_away(int error) {
    if (!spare.valid()) return Turned::failed;
    spare.reset();
    UniqueFd connection(accept4(socket.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const int accept_error = errno;
    const bool closed = connection.valid();
    connection.reset();
    take_spare();  // another thread may have been quicker; then the listener rests until there is one
    if (!closed) return accept_error == EAGAIN ? Turned::nobody : Turned::failed;
    ++turned_away;
    note(error);
    return Turned::away;
  }

  void accept_some() {
    for (int i = 0; i < accepts_at_a_time && open(); ++i) {
      UniqueFd fd(accept4(socket.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) {
        const int error = errno;
        if (error == EAGAIN || error == EWOULDBLOCK) return;
        if (error == EMFILE || error == ENFILE) {
          // Linux reports this before it looks whether anybody waits at all.
          const Turned turned = turn_away(error);
          if (turned == Turned::away) continue;
          if (turned == Turned::nobody) return;
          return rest(error);
        }
        if (error == ENOMEM || error == ENOBUFS) return rest(error);
        // Otherwise accept reports an error of the connection, which is gone (accept(2), "Error handling").
        if (error == EBADF || error == EINVAL || error == ENOTSOCK) return rest(error);
        continue;
      }
      Result<std::unique_ptr<TcpStream>> stream = TcpStream::adopt(*loop, std::move(fd));
      if (!stream.ok()) continue;  // gone already
      const std::shared_ptr<const Accepted> current = accepted;
      (*current)(std::move(stream.value()));
    }
  }

  void resume() {
    if (!spare.valid()) take_spare();
    if (const int error = watch(); error != 0) rest(-error);
  }
};

TcpListener::TcpListener(std::shared_ptr<State> state) : state_(std::move(state)) {}

TcpListener::~TcpListener() { state_->shut(); }

Result<std::unique_ptr<TcpListener>> TcpListener::create(EventLoop& loop, ListenSocket socket, Accepted accepted) {
  auto state = std::make_shared<State>();
  state->loop = &loop;
  state->socket = std::move(socket);
  state->take_spare();
  const auto failure = [&](int error) {
    return Status(Code::RESOURCE,
                  fmt::format("cannot listen on {}: {}", state->socket.address.text(), uv_strerror(error)));
  };
  if (!state->spare.valid()) return failure(-errno);
  if (const int error = uv_poll_init(loop.handle(), &state->poll, state->socket.fd.get()); error != 0)
    return failure(error);
  state->attach(reinterpret_cast<uv_handle_t*>(&state->poll), state);
  std::unique_ptr<TcpListener> listener(new TcpListener(state));
  state->accepted = std::make_shared<const Accepted>(std::move(accepted));
  state->pause = std::make_unique<Timer>(loop, [raw = state.get()] { raw->resume(); });
  if (const int error = state->watch(); error != 0) return failure(error);
  return listener;
}

const SocketAddress& TcpListener::address() const { return state_->socket.address; }
std::uint64_t TcpListener::turned_away() const { return state_->turned_away; }

}  // namespace hawser::io
