// The other end of a control connection, step by step: sends messages or any bytes, and waits for messages.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "support/raw_socket.hpp"
#include "wire/control.hpp"
#include "wire/messages.hpp"

namespace hawser::test {

class WireClient {
 public:
  explicit WireClient(const io::SocketAddress& to) : socket_(to) {
    decoder_.set_payload_bytes_max(wire::control_bytes_max);
  }

  RawSocket& socket() { return socket_; }
  bool send(const wire::Message& message) { return socket_.send(wire::encode(message)); }
  // The next message; nothing at the end of the connection, after malformed bytes or when none comes for long.
  std::optional<wire::Message> receive() {
    for (;;) {
      Result<std::optional<wire::Message>> next = decoder_.next();
      if (!next.ok()) return std::nullopt;
      if (next.value()) return std::move(next.value());
      const std::vector<std::uint8_t> bytes = socket_.receive(1);
      if (bytes.empty()) return std::nullopt;
      decoder_.append(bytes);
    }
  }
  // The next message of this type; heartbeats on the way are answered, what else comes is passed over.
  template <typename T>
  std::optional<T> await() {
    while (std::optional<wire::Message> message = receive()) {
      if (T* wanted = std::get_if<T>(&*message)) return std::move(*wanted);
      if (std::holds_alternative<wire::Heartbeat>(*message)) send(*message);
    }
    return std::nullopt;
  }
  // Whether the other end closes without a further message.
  bool closed_silently() {
    const auto rest = socket_.receive_all();
    return rest && rest->empty() && decoder_.rest().empty();
  }

 private:
  RawSocket socket_;
  wire::ControlDecoder decoder_;
};

}  // namespace hawser::test
