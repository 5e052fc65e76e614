// A connection that carries control messages: bytes to messages and back, with the limits that hold against strangers
// (size of the first message, its deadline, length of the outgoing queue, log lines). Belongs to the thread of its
// event loop; destroying it inside its own callbacks is fine. Callbacks come from the loop, never from inside a call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.hpp"
#include "base/status.hpp"
#include "io/uv/tcp.hpp"
#include "runtime/log_limit.hpp"
#include "wire/control.hpp"
#include "wire/messages.hpp"

namespace hawser::runtime {

inline constexpr std::int64_t first_message_ms_default = 10000;
inline constexpr std::size_t control_queue_bytes_max = 24U << 20;  // two of the longest messages
inline constexpr std::int64_t control_linger_ms =
    1000;  // how long a closing connection may take to deliver its last message

struct ControlChannelOptions {
  std::int64_t first_message_ms = first_message_ms_default;  // from construction, whatever trickles in; 0: no deadline
  std::size_t queue_bytes_max = control_queue_bytes_max;     // an end that does not read is closed
  log::Subsystem subsystem = log::Subsystem::net;
  LogLimit* log_limit = nullptr;  // shared by all connections of a listener; null: every line is written
};

// What the data plane needs to go on with the connection.
struct ReleasedChannel {
  io::UniqueFd fd;                     // non-blocking
  std::vector<std::uint8_t> received;  // read from the socket after the last message
  std::vector<std::uint8_t> unsent;    // to be sent before anything else
};

class ControlChannel {
 public:
  struct Handler {
    std::function<void(wire::Message)> on_message;
    // At most once, last; not after close, release or destruction. OK: the end that send_and_close asked for.
    // PEER_LOST: closed or reset by the other end. TIMEOUT: no first message. RESOURCE: the queue is full. Else the
    // decoder's status: these bytes are not ours; the log line is written.
    std::function<void(Status)> on_closed;
    // Optional: a last message for an end whose bytes are malformed (the decoder's status), sent before closing.
    std::function<std::optional<wire::Message>(const Status&)> last_word;
  };

  ControlChannel(io::EventLoop& loop, std::unique_ptr<io::TcpStream> stream, ControlChannelOptions options,
                 Handler handler);
  ~ControlChannel();  // as close
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  void send(const wire::Message& message);
  // Sends and closes once it is delivered or control_linger_ms are over; messages that still come are dropped.
  void send_and_close(const wire::Message& message);
  // Closes when what was sent before is delivered, in the same way.
  void finish();
  void close();  // now, without a callback
  // As TcpStream says.
  void end_unacknowledged_after(std::int64_t ms);
  // The other end is known: its messages may have up to control_bytes_max bytes.
  void raise_limit();
  // Gives the connection to the data plane. Meant for the on_message of a StrandHello or StrandAccept; no callback
  // follows.
  Result<ReleasedChannel> release();

  [[nodiscard]] bool is_open() const;
  [[nodiscard]] std::size_t queued_bytes() const;
  [[nodiscard]] const io::SocketAddress& local() const;
  [[nodiscard]] const io::SocketAddress& remote() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace hawser::runtime
