// TCP connections of an event loop: TcpStream (one connection), TcpConnector (makes one), TcpListener (accepts them).
// Made, used and destroyed on the loop's thread; destroying an object inside its own callback is fine and ends its
// callbacks. Callbacks come from the loop, never from inside a call of these classes.
//
// Codes of failures, for callers to translate: RESOURCE: this machine is short of descriptors, memory or ports;
// BAD_ADDRESS: the name does not resolve; TIMEOUT: a deadline passed; PEER_LOST: the other end or the way to it is the
// cause: refused, unreachable, reset, closed. The text names the address.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "io/address.hpp"
#include "io/unique_fd.hpp"
#include "io/uv/event_loop.hpp"

namespace hawser::io {

// A connection that left its loop: the socket is non-blocking, and nothing was lost or shut down.
struct ReleasedStream {
  UniqueFd fd;
  std::vector<std::uint8_t> unsent;  // written, not yet taken by the kernel: to be sent before anything else
};

// Sets what every connection of ours has: non-blocking, close-on-exec, TCP_NODELAY, keepalive (10 s idle, 3 probes 3 s
// apart). Where a socket does not know an option, it goes without.
void set_stream_options(int fd);

class TcpStream {
 public:
  struct Handler {
    std::function<void(std::span<const std::uint8_t>)> on_data;  // the bytes are valid during the call
    // At most once, last; not after close, release or destruction. OK: the end that finish asked for.
    std::function<void(Status)> on_closed;
    std::function<void()> on_drained;  // optional: everything written has gone to the kernel
  };

  // Takes a connected socket over.
  static Result<std::unique_ptr<TcpStream>> adopt(EventLoop& loop, UniqueFd fd);
  ~TcpStream();  // as close
  TcpStream(const TcpStream&) = delete;
  TcpStream& operator=(const TcpStream&) = delete;

  // Begins to read; once. Until then no bytes are taken from the kernel. The functions are destroyed when the stream
  // closes.
  void start(Handler handler);
  // Queues bytes; nothing happens when the stream is closed. The owner watches queued_bytes.
  void write(std::vector<std::uint8_t> bytes);
  [[nodiscard]] std::size_t queued_bytes() const;
  // Sends what is queued and the end of the stream, then waits for the other end to close too, at most `linger_ms` in
  // all, and drops what still comes: closing at once could destroy at the other end what it has not read yet.
  // on_closed(OK) when it is over. The stream must have been started.
  void finish(std::int64_t linger_ms);
  // From now on the connection ends with TIMEOUT when the kernel at the other end has acknowledged nothing of what was
  // sent for so long. A process that is stopped is no reason: its kernel acknowledges. Where a socket cannot, it goes
  // without.
  void end_unacknowledged_after(std::int64_t ms);
  // Closes now; bytes still queued are lost; no callback.
  void close();
  // Takes the socket out of the loop. RESOURCE when there is no descriptor for it; the stream is closed then.
  Result<ReleasedStream> release();

  [[nodiscard]] bool is_open() const;
  [[nodiscard]] const SocketAddress& local() const;
  [[nodiscard]] const SocketAddress& remote() const;

 private:
  friend class TcpConnector;
  struct State;
  explicit TcpStream(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

struct ConnectOptions {
  std::int64_t address_ms = 5000;  // for one address of a name; the next is tried then
  std::int64_t total_ms = 10000;   // for everything, resolving included
  int segment_bytes = 0;           // neither end sends larger segments; 0: what the way seems to take
};

// Resolves a host and tries its addresses in order until one answers. Destroying it gives up.
class TcpConnector {
 public:
  using Done = std::function<void(Result<std::unique_ptr<TcpStream>>)>;

  // `done` is called once, unless the connector is destroyed before. The failure's text names every address that was
  // tried.
  TcpConnector(EventLoop& loop, const std::string& host, std::uint16_t port, ConnectOptions options, Done done);
  TcpConnector(EventLoop& loop, std::vector<SocketAddress> addresses, ConnectOptions options, Done done);
  ~TcpConnector();
  TcpConnector(const TcpConnector&) = delete;
  TcpConnector& operator=(const TcpConnector&) = delete;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// A bound socket that listens, not yet of a loop. Any thread.
struct ListenSocket {
  UniqueFd fd;
  SocketAddress address;  // with the real port
};
struct ListenOptions {
  std::string host;  // a name or numeric; empty: every local address, IPv6 and IPv4 where the machine has both
  PortRange ports;   // the first free one is taken; {0, 0}: the kernel chooses
  int backlog = 512;
  std::int64_t resolve_ms = 10000;
};
// Blocks only to resolve a name. BAD_ADDRESS: does not resolve; ADDRESS_IN_USE: taken, not of this machine, or not
// allowed: the text says which and what to do; RESOURCE.
Result<ListenSocket> bind_listener(const ListenOptions& options);

class TcpListener {
 public:
  using Accepted = std::function<void(std::unique_ptr<TcpStream>)>;

  static Result<std::unique_ptr<TcpListener>> create(EventLoop& loop, ListenSocket socket, Accepted accepted);
  ~TcpListener();
  TcpListener(const TcpListener&) = delete;
  TcpListener& operator=(const TcpListener&) = delete;

  [[nodiscard]] const SocketAddress& address() const;
  // Connections that were closed at once because no descriptor was left for them.
  [[nodiscard]] std::uint64_t turned_away() const;

 private:
  struct State;
  explicit TcpListener(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace hawser::io
