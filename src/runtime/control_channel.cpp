// The state is shared with nobody but kept alive by whoever is inside one of its functions, so that an owner may
// destroy the channel in any callback.
#include "runtime/control_channel.hpp"

#include <fmt/format.h>

#include <utility>

#include "base/text.hpp"
#include "io/random.hpp"
#include "io/uv/timer.hpp"

namespace hawser::runtime {

struct ControlChannel::State : std::enable_shared_from_this<State> {
  io::EventLoop& loop;
  std::unique_ptr<io::TcpStream> stream;
  ControlChannelOptions options;
  std::shared_ptr<const Handler> handler;  // set while open
  wire::ControlDecoder decoder;
  std::unique_ptr<io::Timer> first_message;
  bool finishing = false;  // nothing is sent or delivered any more
  Status verdict;          // what on_closed reports when it ends by finishing

  State(io::EventLoop& owner, std::unique_ptr<io::TcpStream> connection, ControlChannelOptions settings,
        Handler callbacks)
      : loop(owner),
        stream(std::move(connection)),
        options(settings),
        handler(std::make_shared<const Handler>(std::move(callbacks))) {}

  void start() {
    const std::weak_ptr<State> weak = weak_from_this();
    stream->start({.on_data =
                       [weak](std::span<const std::uint8_t> bytes) {
                         if (const auto state = weak.lock()) state->on_data(bytes);
                       },
                   .on_closed =
                       [weak](Status status) {
                         if (const auto state = weak.lock()) state->on_stream_closed(std::move(status));
                       },
                   .on_drained = {}});
    if (options.first_message_ms <= 0) return;
    first_message = std::make_unique<io::Timer>(loop, [weak] {
      if (const auto state = weak.lock()) state->on_silence();
    });
    first_message->start(options.first_message_ms);
  }

  void shut() {
    handler.reset();
    first_message.reset();
    stream->close();
  }

  void end(Status status) {
    const std::shared_ptr<const Handler> last = std::move(handler);
    shut();
    if (last && last->on_closed) last->on_closed(std::move(status));
  }

  void on_stream_closed(Status status) { end(finishing ? std::move(verdict) : std::move(status)); }

  void on_silence() {
    Status status(Code::TIMEOUT, fmt::format("sent no message within {} ms", options.first_message_ms));
    complain(status);
    end(std::move(status));
  }

  void on_data(std::span<const std::uint8_t> bytes) {
    if (finishing) return;
    decoder.append(bytes);
    while (handler && !finishing) {
      Result<std::optional<wire::Message>> next = decoder.next();
      if (!next.ok()) return on_malformed(next.status());
      if (!next.value()) return;
      first_message.reset();
      const std::shared_ptr<const Handler> current = handler;
      current->on_message(std::move(*next.value()));
    }
  }

  void on_malformed(const Status& status) {
    complain(status);
    std::optional<wire::Message> word;
    const std::shared_ptr<const Handler> current = handler;
    if (current->last_word) word = current->last_word(status);
    if (!handler || finishing) return;  // the owner used the occasion to close
    if (!word) return end(status);
    verdict = status;
    send(*word);
    finish();
  }

  void complain(const Status& status) {
    std::uint64_t left_out = 0;
    if (options.log_limit != nullptr && !options.log_limit->admit(io::now_ms(), left_out)) return;
    // The decoder quotes the other end's bytes; whatever they are, this stays one line.
    const std::string text = clean_text(status.text(), 300);
    if (left_out > 0) {
      log::message(options.subsystem, log::Level::warn, "{}: {}; connection closed ({} such lines left out)",
                   stream->remote().text(), text, left_out);
    } else {
      log::message(options.subsystem, log::Level::warn, "{}: {}; connection closed", stream->remote().text(), text);
    }
  }

  void send(const wire::Message& message) {
    if (!handler || finishing) return;
    std::vector<std::uint8_t> bytes = wire::encode(message);
    if (stream->queued_bytes() + bytes.size() > options.queue_bytes_max) {
      finishing = true;
      verdict = Status(Code::RESOURCE, fmt::format("{}: does not read: {} bytes wait to be sent to it",
                                                   stream->remote().text(), stream->queued_bytes()));
      loop.post([self = shared_from_this()] { self->end(self->verdict); });
      return;
    }
    stream->write(std::move(bytes));
  }

  void finish() {
    if (!handler || finishing) return;
    finishing = true;
    first_message.reset();
    stream->finish(control_linger_ms);
  }
};

ControlChannel::ControlChannel(io::EventLoop& loop, std::unique_ptr<io::TcpStream> stream,
                               ControlChannelOptions options, Handler handler)
    : state_(std::make_shared<State>(loop, std::move(stream), options, std::move(handler))) {
  state_->start();
}

ControlChannel::~ControlChannel() { close(); }

void ControlChannel::send(const wire::Message& message) { state_->send(message); }

void ControlChannel::send_and_close(const wire::Message& message) {
  state_->send(message);
  state_->finish();
}

void ControlChannel::finish() { state_->finish(); }

void ControlChannel::close() { state_->shut(); }

void ControlChannel::end_unacknowledged_after(std::int64_t ms) {
  if (state_->stream) state_->stream->end_unacknowledged_after(ms);
}

void ControlChannel::raise_limit() { state_->decoder.set_payload_bytes_max(wire::control_bytes_max); }

Result<ReleasedChannel> ControlChannel::release() {
  if (!state_->handler || state_->finishing) return Status(Code::PEER_LOST, "the connection is closed");
  const std::span<const std::uint8_t> rest = state_->decoder.rest();
  ReleasedChannel released;
  released.received.assign(rest.begin(), rest.end());
  Result<io::ReleasedStream> stream = state_->stream->release();
  state_->shut();
  if (!stream.ok()) return stream.status();
  released.fd = std::move(stream.value().fd);
  released.unsent = std::move(stream.value().unsent);
  return released;
}

bool ControlChannel::is_open() const { return state_->handler != nullptr && !state_->finishing; }
std::size_t ControlChannel::queued_bytes() const { return state_->stream->queued_bytes(); }
const io::SocketAddress& ControlChannel::local() const { return state_->stream->local(); }
const io::SocketAddress& ControlChannel::remote() const { return state_->stream->remote(); }

}  // namespace hawser::runtime
