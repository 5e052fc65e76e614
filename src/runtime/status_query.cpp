// A loop of its own for one question: it connects, asks, takes the answer.
#include "runtime/status_query.hpp"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/ids.hpp"
#include "io/address.hpp"
#include "io/uv/event_loop.hpp"
#include "io/uv/tcp.hpp"
#include "runtime/control_channel.hpp"

namespace hawser::runtime {
namespace {

class Question {
 public:
  static Result<wire::StatusReport> ask(const io::Endpoint& endpoint, std::int64_t timeout_ms) {
    Question question(io::format_endpoint(endpoint.host, *endpoint.port), timeout_ms);
    auto loop = io::EventLoop::start("hawser-ask");
    if (!loop.ok()) return loop.status();
    io::EventLoop& running = *loop.value();
    running.on_exhausted([&question] { question.answer(Status(Code::RESOURCE, "out of memory")); });
    const Ending ending{question, running};
    running.call([&] {
      question.connector_ = std::make_unique<io::TcpConnector>(
          running, endpoint.host, *endpoint.port, io::ConnectOptions{.address_ms = timeout_ms, .total_ms = timeout_ms},
          [&](Result<std::unique_ptr<io::TcpStream>> stream) { question.connected(running, std::move(stream)); });
    });
    return question.wait();
  }

 private:
  // What belongs to the loop ends there, however the question does.
  struct Ending {
    Question& question;
    io::EventLoop& loop;
    ~Ending() {
      loop.call([this] {
        question.connector_.reset();
        question.channel_.reset();
      });
    }
  };

  Question(std::string address, std::int64_t timeout_ms) : address_(std::move(address)), timeout_ms_(timeout_ms) {}

  void answer(Result<wire::StatusReport> answer) {
    const std::lock_guard hold(mutex_);
    if (!answer_) answer_.emplace(std::move(answer));
    answered_.notify_all();
  }

  Result<wire::StatusReport> wait() {
    std::unique_lock lock(mutex_);
    const bool in_time =
        answered_.wait_for(lock, std::chrono::milliseconds(timeout_ms_), [&] { return answer_.has_value(); });
    if (in_time) return std::move(*answer_);
    return Status(Code::NO_COORDINATOR, fmt::format("{}: no answer within {} ms", address_, timeout_ms_));
  }

  void connected(io::EventLoop& loop, Result<std::unique_ptr<io::TcpStream>> stream) {
    if (!stream.ok()) {
      const Code code = stream.status().code();
      const bool mine = code == Code::RESOURCE || code == Code::BAD_ADDRESS;
      return answer(Status(mine ? code : Code::NO_COORDINATOR, stream.status().text()));
    }
    ControlChannelOptions options;
    options.subsystem = log::Subsystem::net;
    options.first_message_ms = 0;
    ControlChannel::Handler handler;
    handler.on_message = [this](wire::Message message) {
      if (auto* report = std::get_if<wire::StatusReport>(&message)) return answer(std::move(*report));
      if (const auto* refuse = std::get_if<wire::Refuse>(&message)) {
        const auto code = static_cast<Code>(refuse->code);
        const bool known = code == Code::NO_COORDINATOR || code == Code::VERSION_MISMATCH;
        return answer(Status(known ? code : Code::REFUSED, fmt::format("{}: {}", address_, refuse->text)));
      }
      answer(Status(Code::NOT_A_COORDINATOR,
                    fmt::format("{}: it answers {}, as no coordinator does", address_, message_name(message))));
    };
    handler.on_closed = [this](const Status& why) {
      const bool strange = why.code() == Code::NOT_A_COORDINATOR || why.code() == Code::VERSION_MISMATCH;
      const Code code = strange                                ? why.code()
                        : why.code() == Code::INVALID_ARGUMENT ? Code::NOT_A_COORDINATOR
                                                               : Code::NO_COORDINATOR;
      answer(Status(code, fmt::format("{}: {}", address_, why.text())));
    };
    channel_ = std::make_unique<ControlChannel>(loop, std::move(stream.value()), options, std::move(handler));
    channel_->raise_limit();
    channel_->send(wire::StatusQuery{});
  }

  const std::string address_;
  const std::int64_t timeout_ms_;
  // Of the loop.
  std::unique_ptr<io::TcpConnector> connector_;
  std::unique_ptr<ControlChannel> channel_;

  std::mutex mutex_;
  std::condition_variable answered_;
  std::optional<Result<wire::StatusReport>> answer_;  // guarded by mutex_
};

const char* rule_name(wire::Rule rule) {
  switch (rule) {
    case wire::Rule::alone:
      return "alone";
    case wire::Rule::quorum:
      return "quorum";
    case wire::Rule::arbiter:
      return "arbiter";
  }
  return "?";
}

const char* state_name(wire::PeerState state) {
  switch (state) {
    case wire::PeerState::greeted:
      return "greeted";
    case wire::PeerState::waiting:
      return "waiting";
    case wire::PeerState::member:
      return "member";
    case wire::PeerState::away:
      return "away";
    case wire::PeerState::leaving:
      return "leaving";
    case wire::PeerState::lost:
      return "lost";
    case wire::PeerState::returning:
      return "returning";
  }
  return "?";
}

bool in_view(wire::PeerState state) {
  return state == wire::PeerState::member || state == wire::PeerState::away || state == wire::PeerState::leaving ||
         state == wire::PeerState::lost;
}

// Written by hand: the usual library does not survive a lack of memory. The text is valid UTF-8.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string or_null(const std::string& text) { return text.empty() ? "null" : quoted(text); }

std::string peer_json(const wire::PeerStatus& peer) {
  const bool is_member = in_view(peer.state);
  std::string out = fmt::format(R"({{"rank":{},"name":{},"id":{},"address":{},"state":{},"heard_ms":{},"why":{})",
                                is_member ? fmt::to_string(peer.rank) : "null", quoted(peer.info.name),
                                quoted(to_string(peer.info.id)),
                                or_null(peer.info.port == 0 ? "" : io::format_endpoint(peer.info.host, peer.info.port)),
                                quoted(state_name(peer.state)), peer.heard_ms, or_null(peer.text));
  if (!is_member) return out + "}";
  // Counters begin anew where a member is not heard of yet, or by a peer that joined again.
  const auto rate = [&](std::uint64_t now, std::uint64_t before) -> std::string {
    if (peer.between_ms == 0 || now < before) return "null";
    return fmt::format("{:.3f}", static_cast<double>(now - before) * 1000.0 / peer.between_ms);
  };
  const wire::Progress& now = peer.progress;
  const wire::Progress& before = peer.before;
  return out + fmt::format(R"(,"ops":{},"bytes_sent":{},"bytes_received":{},"ops_per_s":{},"bytes_sent_per_s":{},)"
                           R"("bytes_received_per_s":{},"slow_ms":{},"waits_for":{}}})",
                           now.ops, now.bytes_sent, now.bytes_received, rate(now.ops, before.ops),
                           rate(now.bytes_sent, before.bytes_sent), rate(now.bytes_received, before.bytes_received),
                           now.slow_ms, or_null(now.waits_for));
}

std::string group_json(const wire::StatusReport& report, const wire::GroupStatus& group) {
  std::string members;
  std::string others;
  for (const wire::PeerStatus& peer : report.list) {
    if (peer.group != group.group) continue;
    std::string& list = in_view(peer.state) ? members : others;
    list += (list.empty() ? "" : ",") + peer_json(peer);
  }
  return fmt::format(
      R"({{"group":{},"lineage":{},"rule":{},"leads":{},"view":{},"epoch":{},"generation":{},"waits_for":{},)"
      R"("members":[{}],"others":[{}]}})",
      group.group, or_null(group.lineage.is_zero() ? "" : to_string(group.lineage)), quoted(rule_name(group.rule)),
      group.leads, group.number, group.epoch, group.generation, or_null(group.waits_for), members, others);
}

}  // namespace

Result<wire::StatusReport> query_status(const std::string& address, std::int64_t timeout_ms) {
  const Result<io::Endpoint> endpoint = io::parse_endpoint(address, io::EndpointUse::dial);
  if (!endpoint.ok()) return endpoint.status();
  return Question::ask(endpoint.value(), timeout_ms);
}

std::string to_json(const wire::StatusReport& report) {
  std::string groups;
  for (const wire::GroupStatus& group : report.groups) {
    groups += (groups.empty() ? "" : ",") + group_json(report, group);
  }
  return fmt::format(
      R"({{"run":{},"standby_of":{},"up_ms":{},"heartbeat_ms":{},"peer_timeout_ms":{},"peers":{},"groups":[{}]}})",
      quoted(to_string(report.run)), or_null(report.standby_of), report.up_ms, report.heartbeat_ms,
      report.peer_timeout_ms, report.peers, groups);
}

}  // namespace hawser::runtime
