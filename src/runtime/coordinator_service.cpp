// Everything but the three calls of the public class runs on the loop's thread. Events wait in a queue, so that an
// order which causes a new event (a view made durable) never enters the machine a second time from inside.
#include "runtime/coordinator_service.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "base/kill_point.hpp"
#include "base/log.hpp"
#include "io/file_log.hpp"
#include "io/random.hpp"
#include "io/uv/event_loop.hpp"
#include "io/uv/tcp.hpp"
#include "io/uv/timer.hpp"
#include "protocol/membership/coordinator.hpp"
#include "runtime/control_channel.hpp"
#include "runtime/log_limit.hpp"
#include "runtime/store_thread.hpp"
#include "runtime/view_store.hpp"
#include "wire/control.hpp"

namespace hawser::runtime {
namespace {

using protocol::ConnId;
using protocol::Coordinator;

constexpr std::int64_t wait_ms_max = 100'000'000'000;  // three years: further off, clocks overflow

Status check(const CoordinatorOptions& options) {
  const auto invalid = [](std::string text) { return Status(Code::INVALID_ARGUMENT, std::move(text)); };
  if (options.heartbeat_ms == 0) return invalid("heartbeat_ms is 0");
  if (options.peer_timeout_ms < 100 || options.peer_timeout_ms / 2 < options.heartbeat_ms) {
    return invalid(
        fmt::format("peer_timeout_ms is {}: it must be at least 100 and at least twice heartbeat_ms, which is {}",
                    options.peer_timeout_ms, options.heartbeat_ms));
  }
  if (options.peers_max == 0) return invalid("peers_max is 0");
  if (options.hello_ms <= 0) return invalid("hello_ms must be greater than 0");
  if (!options.log_dir.empty() && !options.etcd.empty()) {
    return invalid("log_dir and etcd are both set: views are kept in one place");
  }
  return {};
}

using Stored = ViewStore::Values;

// What an earlier process has stored: by group, how its last view was installed.
Result<std::vector<Coordinator::Restored>> decode_stored(const Stored& stored, const std::string& where) {
  std::vector<Coordinator::Restored> out;
  for (const auto& [group, bytes] : stored) {
    wire::ControlDecoder decoder;
    decoder.set_payload_bytes_max(wire::control_bytes_max);
    decoder.append(bytes);
    auto message = decoder.next();
    if (!message.ok()) {
      return Status(message.status().code(), fmt::format("{}: group {}: {}", where, group, message.status().text()));
    }
    const auto* install = message.value() ? std::get_if<wire::Install>(&*message.value()) : nullptr;
    if (install == nullptr) {
      return Status(Code::INVALID_ARGUMENT, fmt::format("{}: group {}: what is stored is no view", where, group));
    }
    out.push_back({static_cast<std::uint32_t>(group), *install});
  }
  return out;
}

}  // namespace

struct CoordinatorService::Core {
  struct Conn {
    std::unique_ptr<ControlChannel> channel;
    bool closing = false;  // the machine has ordered it closed and knows nothing of it any more
  };

  CoordinatorOptions options;
  std::string address;
  std::unique_ptr<io::EventLoop> loop;
  std::unique_ptr<io::Notifier> stop_request;  // lives until the destructor, so that stop may come at any time

  // Of the loop's thread.
  std::unique_ptr<io::TcpListener> listener;
  std::unique_ptr<io::Timer> tick;
  std::unique_ptr<Coordinator> machine;
  RunId run;
  bool loopback_only = false;
  std::unique_ptr<StoreThread> store;
  std::string where;  // the store, for people
  std::map<ConnId, Conn> conns;
  std::set<ConnId> nameless;  // of conns, those without a good Hello and those closing; the oldest first
  ConnId conn_last = 0;
  std::deque<Coordinator::Event> events;
  std::vector<Coordinator::Action> actions;
  bool stepping = false;
  bool running = true;
  LogLimit strangers;

  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;  // guarded by mutex

  Status open(io::ListenSocket socket, std::unique_ptr<ViewStore> views) {
    loopback_only = socket.address.is_loopback();
    loop->on_exhausted([this] { end("out of memory"); });
    tick = std::make_unique<io::Timer>(*loop, [this] { feed(Coordinator::Tick{}); });
    Result<std::unique_ptr<io::Notifier>> notifier = io::Notifier::create(*loop, [this] { end("stopped"); });
    if (!notifier.ok()) return notifier.status();
    Result<std::unique_ptr<io::TcpListener>> listening = io::TcpListener::create(
        *loop, std::move(socket), [this](std::unique_ptr<io::TcpStream> stream) { on_accepted(std::move(stream)); });
    if (!listening.ok()) return listening.status();
    stop_request = std::move(notifier.value());
    listener = std::move(listening.value());
    log::message(log::Subsystem::coordinator, log::Level::info, "listening on {}", address);
    if (!views) return lead({});
    where = views->describe();
    if (options.etcd.empty()) {  // a log is had at once or not at all
      auto stored = views->acquire();
      if (!stored.ok()) return stored.status();
      if (Status status = lead(stored.value()); !status.ok()) return status;
    }
    auto started = StoreThread::start(
        std::move(views), [mailbox = loop->mailbox()](std::function<void()> task) { mailbox->post(std::move(task)); },
        [this](const Status& why) { deposed(why.text()); }, [mailbox = loop->mailbox()] { mailbox->alarm(); });
    if (!started.ok()) return started.status();
    store = std::move(started.value());
    if (!options.etcd.empty()) campaign();
    return {};
  }

  // From now on this process orders the views. Its machine is new: terms and tickets of an earlier one are not reused.
  Status lead(const Stored& stored) {
    auto restored = decode_stored(stored, where);
    const Result<Id128> run_id = io::random_id();
    const Result<Id128> secret = io::random_id();
    if (!restored.ok()) return restored.status();
    if (!run_id.ok() || !secret.ok()) return run_id.ok() ? secret.status() : run_id.status();
    static_cast<Id128&>(run) = run_id.value();
    machine = std::make_unique<Coordinator>(
        protocol::CoordinatorConfig{.run = run,
                                    .heartbeat_ms = options.heartbeat_ms,
                                    .peer_timeout_ms = options.peer_timeout_ms,
                                    .peers_max = options.peers_max,
                                    .loopback_only = loopback_only,
                                    .secret = secret.value(),
                                    .standby_of = fmt::format("{}", fmt::join(options.standby_of, ", ")),
                                    .arbiter = !options.etcd.empty()});
    log::message(log::Subsystem::coordinator, log::Level::info, "{}: run {}{}{}", address, to_string(run),
                 where.empty() ? "" : ", views in ", where);
    for (const Coordinator::Restored& group : restored.value()) feed(group);
    // Who connected while another process led may not have said Hello yet.
    for (const auto& [id, conn] : conns) {
      if (!conn.closing) feed(Coordinator::Opened{id, conn.channel->remote().host()});
    }
    return {};
  }

  void campaign() {
    store->acquire([this](Result<Stored> stored) {
      if (!running) return;
      if (!stored.ok()) return end(stored.status().text());
      if (Status status = lead(stored.value()); !status.ok()) end(status.text());
    });
  }

  // Another process may lead now: this one forgets everything and stands in line again.
  void deposed(const std::string& why) {
    if (!running || !machine) return;
    log::message(log::Subsystem::coordinator, log::Level::warn, "{} leads no more: {}", address, why);
    machine.reset();
    tick->stop();
    events.clear();
    conns.clear();
    nameless.clear();
    campaign();
  }

  void end(const std::string& why) {
    if (!running) return;
    running = false;
    listener.reset();
    tick.reset();
    conns.clear();
    nameless.clear();
    events.clear();
    store.reset();
    log::message(log::Subsystem::coordinator, log::Level::info, "{}: {}", address, why);
    const std::lock_guard lock(mutex);
    ended = true;
    changed.notify_all();
  }

  // ---------------------------------------------------------------------------------------------------------- facts

  void on_accepted(std::unique_ptr<io::TcpStream> stream) {
    // Whoever means it says Hello at once; a flood of others can only push out the oldest of those that did not.
    if (nameless.size() >= handshakes_max) evict(*nameless.begin());
    const ConnId id = ++conn_last;
    const std::string host = stream->remote().host();
    auto channel = std::make_unique<ControlChannel>(
        *loop, std::move(stream),
        ControlChannelOptions{.first_message_ms = options.hello_ms,
                              .queue_bytes_max = control_queue_bytes_max,
                              .subsystem = log::Subsystem::coordinator,
                              .log_limit = &strangers},
        ControlChannel::Handler{.on_message =
                                    [this, id](wire::Message message) {
                                      feed(Coordinator::Received{id, std::move(message)});
                                    },
                                .on_closed = [this, id](const Status& status) { on_closed(id, status.text()); },
                                .last_word = [this](const Status& status) { return last_word(status); }});
    conns.emplace(id, Conn{.channel = std::move(channel)});
    nameless.insert(id);
    feed(Coordinator::Opened{id, host});
  }

  void on_closed(ConnId id, const std::string& why) {
    const auto it = conns.find(id);
    if (it == conns.end()) return;
    const bool known = !it->second.closing;
    log::message(log::Subsystem::coordinator, log::Level::debug, "connection from {} ended: {}",
                 it->second.channel->remote().text(), why);
    conns.erase(it);
    nameless.erase(id);
    if (known) feed(Coordinator::Closed{id, why});
  }

  void evict(ConnId id) {
    std::uint64_t left_out = 0;
    if (strangers.admit(io::now_ms(), left_out)) {
      log::message(log::Subsystem::coordinator, log::Level::warn,
                   "{} connections have not said Hello; closing the oldest, from {} ({} such lines left out)",
                   handshakes_max, conns.at(id).channel->remote().text(), left_out);
    }
    on_closed(id, "too many connections that do not say Hello");
  }

  std::optional<wire::Message> last_word(const Status& status) const {
    if (status.code() != Code::VERSION_MISMATCH) return std::nullopt;
    return wire::Refuse{{}, static_cast<std::uint32_t>(status.code()), status.text()};
  }

  // --------------------------------------------------------------------------------------------------------- orders

  void feed(Coordinator::Event event) {
    if (!running) return;
    if (!machine) return turn_away(event);
    events.push_back(std::move(event));
    if (stepping) return;
    stepping = true;
    while (running && machine && !events.empty()) {
      const Coordinator::Event next = std::move(events.front());
      events.pop_front();
      Result<Id128> random = io::random_id();
      if (!random.ok()) {
        end(random.status().text());
        break;
      }
      const bool stranger = is_stranger(next);
      actions.clear();
      machine->step(next, protocol::Env{.now = io::now_ms(), .random = random.value()}, actions);
      for (const Coordinator::Action& action : actions) {
        std::visit([&](const auto& order) { perform(order, stranger); }, action);
      }
    }
    stepping = false;
    if (!running || !machine) return;
    const std::optional<protocol::Millis> due = machine->next_deadline();
    if (due) {
      tick->start(*due - io::now_ms());
    } else {
      tick->stop();
    }
  }

  // While another process leads, this one only says so.
  void turn_away(const Coordinator::Event& event) {
    const auto* received = std::get_if<Coordinator::Received>(&event);
    const auto it = received == nullptr ? conns.end() : conns.find(received->conn);
    if (it == conns.end()) return;
    it->second.channel->send(wire::Refuse{
        {}, static_cast<std::uint32_t>(Code::NO_COORDINATOR), "another coordinator leads, by the word of " + where});
    perform(Coordinator::Close{received->conn, "another leads"}, true);
  }

  bool is_stranger(const Coordinator::Event& event) const {
    ConnId id = 0;
    if (const auto* received = std::get_if<Coordinator::Received>(&event)) id = received->conn;
    if (const auto* opened = std::get_if<Coordinator::Opened>(&event)) id = opened->conn;
    return nameless.contains(id);
  }

  void perform(const Coordinator::Send& order, bool) {
    if (const auto it = conns.find(order.conn); it != conns.end()) it->second.channel->send(order.message);
    if (std::holds_alternative<wire::Seal>(order.message)) HAWSER_KILL_POINT("coordinator.seal_sent");
    if (std::holds_alternative<wire::Install>(order.message)) HAWSER_KILL_POINT("coordinator.install_sent");
  }

  void perform(const Coordinator::Close& order, bool) {
    const auto it = conns.find(order.conn);
    if (it == conns.end()) return;
    it->second.closing = true;
    nameless.insert(order.conn);
    it->second.channel->finish();
  }

  void perform(const Coordinator::RaiseLimit& order, bool) {
    const auto it = conns.find(order.conn);
    if (it == conns.end()) return;
    nameless.erase(order.conn);
    it->second.channel->raise_limit();
  }

  void perform(const Coordinator::Persist& order, bool) {
    const std::uint64_t number = order.install.view.number;
    HAWSER_KILL_POINT("coordinator.persist");
    if (!store) {  // kept in memory only: it is as durable as it will be
      events.emplace_back(Coordinator::Persisted{order.group, number});
      return;
    }
    store->put(order.group, wire::encode(order.install), [this, group = order.group, number](const Status& status) {
      HAWSER_KILL_POINT("coordinator.persisted");
      if (status.ok()) return feed(Coordinator::Persisted{group, number});
      // Any other failure means that another process may write now, which is said separately.
      if (status.code() == Code::RESOURCE) feed(Coordinator::PersistFailed{group, number, status.text()});
    });
  }

  void perform(const Coordinator::Note& note, bool stranger) {
    std::uint64_t left_out = 0;
    if (stranger && note.warning && !strangers.admit(io::now_ms(), left_out)) return;
    const log::Level level = note.warning ? log::Level::warn : log::Level::info;
    if (left_out > 0) {
      log::message(log::Subsystem::coordinator, level, "{} ({} such lines left out)", note.text, left_out);
    } else {
      log::message(log::Subsystem::coordinator, level, "{}", note.text);
    }
  }
};

Result<std::string> repair_log(const std::string& log_dir) {
  auto repaired = io::FileLog::repair(log_dir);
  if (!repaired.ok()) return repaired.status();
  const io::FileLog::Repaired& done = repaired.value();
  if (done.bytes_cut == 0)
    return fmt::format("the log in {} is whole: {} records, nothing done", log_dir, done.records_kept);
  return fmt::format("kept {} records, cut {} bytes ({}); the original is {}", done.records_kept, done.bytes_cut,
                     done.damage, done.saved_as);
}

CoordinatorService::CoordinatorService(std::unique_ptr<Core> core) : core_(std::move(core)) {}

Result<std::unique_ptr<CoordinatorService>> CoordinatorService::start(const CoordinatorOptions& options) {
  if (Status status = check(options); !status.ok()) return status;
  Result<io::Endpoint> endpoint = io::parse_endpoint(options.listen, io::EndpointUse::listen);
  if (!endpoint.ok()) return endpoint.status();
  const std::uint16_t port = *endpoint.value().port;
  Result<io::ListenSocket> socket = io::bind_listener({.host = endpoint.value().host, .ports = {port, port}});
  if (!socket.ok()) return socket.status();
  std::unique_ptr<ViewStore> views;
  if (!options.log_dir.empty()) views = make_file_store(options.log_dir);
  if (!options.etcd.empty()) {
    EtcdOptions etcd;
    etcd.endpoints = options.etcd;
    etcd.prefix = options.etcd_prefix;
    etcd.ttl_s = std::max<std::uint32_t>(3, 3 * options.peer_timeout_ms / 1000);
    auto made = make_etcd_store(std::move(etcd));
    if (!made.ok()) return made.status();
    views = std::move(made.value());
  }
  Result<std::unique_ptr<io::EventLoop>> loop = io::EventLoop::start("hawser-coord");
  if (!loop.ok()) return loop.status();

  auto core = std::make_unique<Core>();
  core->options = options;
  core->address = socket.value().address.text();
  core->loop = std::move(loop.value());
  // Before anything belongs to the loop: from then on only the destructor takes it apart rightly.
  std::unique_ptr<CoordinatorService> service(new CoordinatorService(std::move(core)));
  Core& opening = *service->core_;
  Status opened;
  opening.loop->call([&] { opened = opening.open(std::move(socket.value()), std::move(views)); });
  if (!opened.ok()) return opened;
  return service;
}

CoordinatorService::~CoordinatorService() {
  core_->loop->call([core = core_.get()] {
    core->end("destroyed");
    core->stop_request.reset();
  });
  core_->loop->stop();
}

const std::string& CoordinatorService::address() const { return core_->address; }

void CoordinatorService::stop() noexcept { core_->stop_request->notify(); }

bool CoordinatorService::wait(std::int64_t timeout_ms) {
  std::unique_lock lock(core_->mutex);
  const auto ended = [this] { return core_->ended; };
  if (timeout_ms >= 0)
    return core_->changed.wait_for(lock, std::chrono::milliseconds(std::min(timeout_ms, wait_ms_max)), ended);
  core_->changed.wait(lock, ended);
  return true;
}

}  // namespace hawser::runtime
