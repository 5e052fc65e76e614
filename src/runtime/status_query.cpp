// A loop of its own for one question: it connects, asks, takes the answer.
#include "runtime/status_query.hpp"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
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
          running, endpoint.host, *endpoint.port, io::ConnectTimeouts{.address_ms = timeout_ms, .total_ms = timeout_ms},
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

nlohmann::ordered_json or_null(const std::string& text) {
  return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
}

nlohmann::ordered_json peer_json(const wire::PeerStatus& peer) {
  nlohmann::ordered_json out;
  const bool is_member = in_view(peer.state);
  out["rank"] = is_member ? nlohmann::ordered_json(peer.rank) : nlohmann::ordered_json();
  out["name"] = peer.info.name;
  out["id"] = to_string(peer.info.id);
  out["address"] = or_null(peer.info.port == 0 ? "" : io::format_endpoint(peer.info.host, peer.info.port));
  out["state"] = state_name(peer.state);
  out["heard_ms"] = peer.heard_ms;
  out["why"] = or_null(peer.text);
  if (!is_member) return out;
  // Counters begin anew where a member is not heard of yet, or by a peer that joined again.
  const auto rate = [&](std::uint64_t now, std::uint64_t before) -> nlohmann::ordered_json {
    if (peer.between_ms == 0 || now < before) return nullptr;
    return static_cast<double>(now - before) * 1000.0 / peer.between_ms;
  };
  out["ops"] = peer.progress.ops;
  out["bytes_sent"] = peer.progress.bytes_sent;
  out["bytes_received"] = peer.progress.bytes_received;
  out["ops_per_s"] = rate(peer.progress.ops, peer.before.ops);
  out["bytes_sent_per_s"] = rate(peer.progress.bytes_sent, peer.before.bytes_sent);
  out["bytes_received_per_s"] = rate(peer.progress.bytes_received, peer.before.bytes_received);
  out["slow_ms"] = peer.progress.slow_ms;
  out["waits_for"] = or_null(peer.progress.waits_for);
  return out;
}

}  // namespace

Result<wire::StatusReport> query_status(const std::string& address, std::int64_t timeout_ms) {
  const Result<io::Endpoint> endpoint = io::parse_endpoint(address, io::EndpointUse::dial);
  if (!endpoint.ok()) return endpoint.status();
  return Question::ask(endpoint.value(), timeout_ms);
}

std::string to_json(const wire::StatusReport& report) {
  nlohmann::ordered_json out;
  out["run"] = to_string(report.run);
  out["standby_of"] = or_null(report.standby_of);
  out["up_ms"] = report.up_ms;
  out["heartbeat_ms"] = report.heartbeat_ms;
  out["peer_timeout_ms"] = report.peer_timeout_ms;
  out["peers"] = report.peers;
  out["groups"] = nlohmann::ordered_json::array();
  for (const wire::GroupStatus& group : report.groups) {
    nlohmann::ordered_json one;
    one["group"] = group.group;
    one["lineage"] = or_null(group.lineage.is_zero() ? "" : to_string(group.lineage));
    one["rule"] = rule_name(group.rule);
    one["leads"] = group.leads;
    one["view"] = group.number;
    one["epoch"] = group.epoch;
    one["generation"] = group.generation;
    one["waits_for"] = or_null(group.waits_for);
    one["members"] = nlohmann::ordered_json::array();
    one["others"] = nlohmann::ordered_json::array();
    for (const wire::PeerStatus& peer : report.list) {
      if (peer.group == group.group) one[in_view(peer.state) ? "members" : "others"].push_back(peer_json(peer));
    }
    out["groups"].push_back(std::move(one));
  }
  return out.dump();
}

}  // namespace hawser::runtime
