// The control thread of a membership; see the header. Everything in Control but its constructor, join and the
// destructor runs on the control thread.
#include "runtime/communicator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/kill_point.hpp"
#include "base/log.hpp"
#include "io/random.hpp"
#include "io/uv/tcp.hpp"
#include "io/uv/timer.hpp"
#include "protocol/membership/search.hpp"
#include "runtime/control_channel.hpp"

namespace hawser::runtime {
namespace {

using protocol::Member;

constexpr std::int64_t retry_ms_min = 100;  // between attempts to connect, doubling
constexpr std::int64_t retry_ms_max = 1000;
constexpr std::int64_t unacknowledged_ms_min = 500;  // a way may be long
constexpr std::size_t handshakes_max = 256;          // incoming connections that have not said who they are
constexpr std::uint32_t strands_max = 64;
constexpr int segment_bytes_min = 536;  // every way takes packets of 576 bytes (RFC 791, section 3.1)

void pass_sent(const wire::Message& message) {
  if (std::holds_alternative<wire::Hello>(message)) HAWSER_KILL_POINT("hello.sent");
  if (std::holds_alternative<wire::Join>(message)) HAWSER_KILL_POINT("join.sent");
  if (std::holds_alternative<wire::AtPoint>(message)) HAWSER_KILL_POINT("at_point.sent");
  if (std::holds_alternative<wire::SealReply>(message)) HAWSER_KILL_POINT("seal_reply.sent");
  if (std::holds_alternative<wire::Accept>(message)) HAWSER_KILL_POINT("accept.sent");
}

void pass_heard(const wire::Message& message) {
  if (std::holds_alternative<wire::Seal>(message)) HAWSER_KILL_POINT("seal.received");
  const auto* install = std::get_if<wire::Install>(&message);
  if (install == nullptr) return;
  HAWSER_KILL_POINT("install.received");
  if (install->admit_target != 0) HAWSER_KILL_POINT("admission.received");
}

}  // namespace

Status CommOptions::set_coordinators(std::string_view text) {
  auto list = io::parse_endpoint_list(text);
  if (!list.ok()) return {Code::BAD_ADDRESS, "coordinators: " + list.status().text()};
  coordinators = std::move(list.value());
  return {};
}

Status CommOptions::set_listen(std::string_view text) {
  auto endpoint = io::parse_endpoint(text, io::EndpointUse::listen_host);
  if (!endpoint.ok()) return {Code::BAD_ADDRESS, "listen: " + endpoint.status().text()};
  listen = std::move(endpoint.value());
  listen_set = true;
  return {};
}

Status CommOptions::set_advertise(std::string_view text) {
  auto endpoint = io::parse_endpoint(text, io::EndpointUse::advertise);
  if (!endpoint.ok()) return {Code::BAD_ADDRESS, "advertise: " + endpoint.status().text()};
  advertise = std::move(endpoint.value());
  return {};
}

Status CommOptions::set_port_range(std::string_view text) {
  auto range = io::parse_port_range(text);
  if (!range.ok()) return {Code::BAD_ADDRESS, "port_range: " + range.status().text()};
  ports = range.value();
  return {};
}

class Communicator::Control {
 public:
  explicit Control(CommOptions options) : options_(std::move(options)) {}
  ~Control() { shut_down(); }

  Status start();
  Status join(std::int64_t timeout_ms);
  Engine& engine() { return *engine_; }
  void shut_down();

 private:
  using StrandKey = std::pair<PeerId, std::uint32_t>;

  // An outgoing connection that is not a strand yet.
  struct Dial {
    std::unique_ptr<io::TcpConnector> connector;
    std::unique_ptr<ControlChannel> channel;
    std::unique_ptr<io::Timer> retry;
    std::int64_t delay_ms = retry_ms_min;
    std::string last_failure;
  };
  // An incoming connection: who it is, or a StrandHello that waits for the coordinator's word about its sender.
  struct Incoming {
    std::unique_ptr<ControlChannel> channel;
    std::optional<wire::StrandHello> hello;
    std::unique_ptr<io::Timer> deadline;
  };
  struct Met {
    wire::PeerInfo info;
    Ticket ticket;
    bool small_segments = false;  // on the way to it large packets vanish
  };

  void drain();
  void perform(ControlTask& task);
  void arm();
  void exhausted();
  void on_timer();
  void watch_links();

  void connect_coordinator();
  [[nodiscard]] std::int64_t turn_ms() const;
  void coordinator_failed(const Status& why);
  void coordinator_connected(std::unique_ptr<io::TcpStream> stream, const std::string& address);
  void on_control_closed(const Status& why);
  void listen(const Member::Listen& wanted);
  void meet(const Member::Meet& meet);
  void part(PeerId peer);
  void view_installed(const Member::ViewInstalled& installed);
  void strands_wanted(PeerId peer, std::uint32_t count);
  [[nodiscard]] std::optional<bool> dials_neighbour(PeerId peer) const;
  void dial_bulk(PeerId peer, std::uint32_t count);
  void dial(StrandKey key);
  void dial_failed(StrandKey key, const Status& why);
  void dial_again(StrandKey key);
  void take_small_segments(const StrandLost& lost);
  void accept(std::unique_ptr<io::TcpStream> stream);
  void on_strand_hello(std::uint64_t id, const wire::StrandHello& hello);
  void admit_strand(std::uint64_t id);
  void join_failed(Status status);
  // A member that comes back late is lost, so it asks several times within the peer timeout.
  std::int64_t retry_ms_of_member() {
    return std::clamp<std::int64_t>(engine_->peer_timeout_ms() / 5, 10, retry_ms_max);
  }

  CommOptions options_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<io::EventLoop> loop_;
  std::unique_ptr<io::Timer> timer_;
  std::unique_ptr<io::Timer> reconnect_;
  std::unique_ptr<io::Timer> links_timer_;
  std::unique_ptr<io::TcpConnector> connector_;
  std::unique_ptr<ControlChannel> control_;
  std::unique_ptr<io::TcpListener> listener_;
  LogLimit log_limit_;
  std::size_t coordinator_index_ = 0;
  std::size_t failures_ = 0;   // since an address answered
  std::string round_failure_;  // as last_failure_, of the round that is under way
  protocol::Search search_{options_.coordinators.size()};
  std::int64_t reconnect_delay_ms_ = retry_ms_min;
  std::string coordinator_host_;  // numeric, as reached
  std::string coordinator_text_;
  std::string refused_;  // why it has sent this peer away
  bool served_ =
      false;  // the coordinator of the last connection has said Welcome, and has not sent this peer away since
  std::map<PeerId, Met> met_;
  std::map<StrandKey, Dial> dials_;
  std::map<std::uint64_t, Incoming> incoming_;
  std::uint64_t incoming_ids_ = 0;
  std::set<StrandKey> up_;                       // strands that this end dialled and that stand
  std::size_t unresolved_ = 0;                   // coordinator addresses in a row whose names do not resolve
  std::map<PeerId, std::int64_t> reported_;      // suspected since
  std::map<std::string, std::uint32_t> helped_;  // bulk strands, by the host they went to
  wire::View view_;
  bool ended_ = false;

  std::mutex join_mutex_;  // guards the two below
  std::optional<Status> join_failure_;
  std::string last_failure_;  // of each address, in the latest whole round of the list
};

Status Communicator::Control::start() {
  auto id = io::random_id();
  if (!id.ok()) return id.status();
  auto loop = io::EventLoop::start("hawser-control");
  if (!loop.ok()) return loop.status();
  loop_ = std::move(loop.value());
  protocol::MemberConfig config;
  static_cast<Id128&>(config.id) = id.value();
  config.group = options_.group;
  config.min_size = options_.min_size;
  config.name = options_.name;
  config.codecs = options_.codecs;
  config.addresses = static_cast<std::uint32_t>(options_.coordinators.size());
  engine_ = std::make_unique<Engine>(
      std::move(config), options_.straggler_ms, options_.shares_memory,
      [this, mailbox = loop_->mailbox()] { mailbox->post([this] { drain(); }); },
      [mailbox = loop_->mailbox()] { mailbox->alarm(); });
  loop_->on_exhausted([this] { exhausted(); });
  return engine_->start_threads(options_.io_threads);
}

// The engine has ended, or must: the coordinator sees a connection that closes, as of a peer that is lost.
void Communicator::Control::exhausted() {
  engine_->exhausted();
  ended_ = true;
  dials_.clear();
  incoming_.clear();
  listener_.reset();
  connector_.reset();
  reconnect_.reset();
  if (control_) control_->close();
  engine_->part_all();
}

void Communicator::Control::shut_down() {
  if (engine_) {
    engine_->abort();
    engine_->stop_threads();
  }
  if (!loop_) return;
  loop_->call([this] {
    dials_.clear();
    incoming_.clear();
    listener_.reset();
    connector_.reset();
    if (control_) control_->close();
    control_.reset();
    timer_.reset();
    reconnect_.reset();
    links_timer_.reset();
  });
  loop_->stop();
}

Status Communicator::Control::join(std::int64_t timeout_ms) {
  loop_->post([this] { connect_coordinator(); });
  Status status = engine_->wait_joined(timeout_ms);
  const std::lock_guard hold(join_mutex_);
  if (join_failure_) return *join_failure_;
  if (status.code() == Code::TIMEOUT && !last_failure_.empty()) {
    return {Code::NO_COORDINATOR, fmt::format("no coordinator answered within {} ms: {}", timeout_ms, last_failure_)};
  }
  return status;
}

// ------------------------------------------------------------------------------------------------- the engine's word

void Communicator::Control::drain() {
  auto tasks = engine_->take_tasks();
  for (ControlTask& task : tasks) perform(task);
  arm();
}

void Communicator::Control::perform(ControlTask& task) {
  if (ended_) return;
  if (auto* sent = std::get_if<Member::SendControl>(&task)) {
    log::message(log::Subsystem::member, log::Level::trace, "{} says {}", short_name(engine_->self()),
                 message_name(sent->message));
    if (control_) control_->send(sent->message);
    pass_sent(sent->message);
  } else if (auto* closed = std::get_if<Member::CloseControl>(&task)) {
    if (control_) control_->close();
    const auto gone = std::move(control_);
    if (gone) coordinator_failed(Status(Code::NO_COORDINATOR, fmt::format("{}: {}", coordinator_text_, closed->why)));
  } else if (auto* wanted = std::get_if<Member::Listen>(&task)) {
    listen(*wanted);
  } else if (auto* met = std::get_if<Member::Meet>(&task)) {
    meet(*met);
  } else if (auto* parted = std::get_if<Member::Part>(&task)) {
    part(parted->peer);
  } else if (auto* installed = std::get_if<Member::ViewInstalled>(&task)) {
    view_installed(*installed);
  } else if (auto* lost = std::get_if<StrandLost>(&task)) {
    if (lost->link_lost) engine_->step(Member::LinkLost{lost->peer});
    if (lost->large_vanish && lost->dialled) take_small_segments(*lost);
    if (lost->dialled && met_.contains(lost->peer)) {
      dial_failed({lost->peer, lost->index}, Status(Code::PEER_LOST, lost->why));
    } else {
      watch_links();  // the other end dials
    }
  } else if (auto* more = std::get_if<StrandsWanted>(&task)) {
    strands_wanted(more->peer, more->count);
  } else if (auto* ended = std::get_if<Member::Ended>(&task)) {
    // Who left in order may have a last Done on its way; of any other end the others learn by the strands, too.
    if (ended->code != Code::OK) engine_->part_all();
    ended_ = true;
    dials_.clear();
    incoming_.clear();
    listener_.reset();
    connector_.reset();
    reconnect_.reset();
    if (control_) control_->finish();
  }
}

void Communicator::Control::arm() {
  if (ended_) return;
  if (!timer_) timer_ = std::make_unique<io::Timer>(*loop_, [this] { on_timer(); });
  if (const auto due = engine_->next_deadline(); due) {
    timer_->start(*due - io::now_ms());
  } else {
    timer_->stop();
  }
}

void Communicator::Control::on_timer() {
  engine_->on_time();
  arm();
}

// A member with whom no strand has stood for the peer timeout is reported, again and again while it lasts.
void Communicator::Control::watch_links() {
  if (ended_) return;
  const std::int64_t now = io::now_ms();
  const std::int64_t limit = engine_->peer_timeout_ms();
  std::int64_t next = limit;
  bool any = false;
  for (const auto& [peer, since] : engine_->unlinked()) {
    const bool member = std::any_of(view_.members.begin(), view_.members.end(),
                                    [&, id = peer](const auto& m) { return m.peer.id == id; });
    if (!member) continue;
    any = true;
    const std::int64_t from = std::max(since, reported_[peer]);
    if (now - from >= limit) {
      reported_[peer] = now;
      std::string why = fmt::format("no connection for {} ms", now - since);
      if (auto it = dials_.find({peer, 0}); it != dials_.end() && !it->second.last_failure.empty()) {
        why += ": " + it->second.last_failure;
      }
      engine_->step(Member::Unreachable{peer, why});
    } else {
      next = std::min(next, limit - (now - from));
    }
  }
  if (!any) {
    reported_.clear();
    return;
  }
  if (!links_timer_) links_timer_ = std::make_unique<io::Timer>(*loop_, [this] { watch_links(); });
  links_timer_->start(next);
}

// ------------------------------------------------------------------------------------------------------- coordinator

void Communicator::Control::join_failed(Status status) {
  {
    const std::lock_guard hold(join_mutex_);
    join_failure_ = std::move(status);
  }
  engine_->abort();
}

// How long one of several coordinators may take for a connection, and then for its first word.
std::int64_t Communicator::Control::turn_ms() const {
  return engine_->is_member() ? std::max<std::int64_t>(200, engine_->peer_timeout_ms() / 3) : 2000;
}

void Communicator::Control::connect_coordinator() {
  if (ended_ || control_) return;
  const io::Endpoint& endpoint = options_.coordinators[coordinator_index_ % options_.coordinators.size()];
  const std::string address = io::format_endpoint(endpoint.host, endpoint.port.value_or(0));
  io::ConnectOptions options;
  if (options_.coordinators.size() > 1) {  // one of them may be gone without a word; the next must have its turn
    options.address_ms = turn_ms();
  }
  connector_ = std::make_unique<io::TcpConnector>(*loop_, endpoint.host, endpoint.port.value_or(0), options,
                                                  [this, address](Result<std::unique_ptr<io::TcpStream>> stream) {
                                                    const auto gone = std::move(connector_);
                                                    if (!stream.ok()) return coordinator_failed(stream.status());
                                                    coordinator_connected(std::move(stream.value()), address);
                                                  });
}

// Tries the next address; after the last one, waits a little and begins again. A name that does not resolve will not do
// so a moment later either, so when that is true of every address the join fails at once.
void Communicator::Control::coordinator_failed(const Status& why) {
  {
    const std::lock_guard hold(join_mutex_);
    const std::size_t addresses = options_.coordinators.size();
    if (failures_ % addresses == 0) round_failure_.clear();
    round_failure_ += (round_failure_.empty() ? "" : "; ") + why.text();
    if (failures_ < addresses || failures_ % addresses == addresses - 1) last_failure_ = round_failure_;
  }
  search_.failed(!std::exchange(refused_, {}).empty());
  unresolved_ = (why.code() == Code::BAD_ADDRESS ? unresolved_ : 0) + (why.code() == Code::BAD_ADDRESS ? 1 : 0);
  ++failures_;
  ++coordinator_index_;
  if (!engine_->is_member() && why.code() == Code::RESOURCE)
    return join_failed(why);  // of this machine: says so at once
  if (!engine_->is_member() && unresolved_ >= options_.coordinators.size()) {
    return join_failed(Status(Code::BAD_ADDRESS, why.text()));
  }
  if (failures_ % options_.coordinators.size() != 0) return connect_coordinator();
  if (!reconnect_) reconnect_ = std::make_unique<io::Timer>(*loop_, [this] { connect_coordinator(); });
  reconnect_->start(engine_->is_member() ? std::min(reconnect_delay_ms_, retry_ms_of_member()) : reconnect_delay_ms_);
  reconnect_delay_ms_ = std::min(2 * reconnect_delay_ms_, retry_ms_max);
}

void Communicator::Control::coordinator_connected(std::unique_ptr<io::TcpStream> stream, const std::string& address) {
  coordinator_host_ = stream->remote().host();
  coordinator_text_ = address;
  served_ = false;
  ControlChannelOptions options;
  options.subsystem = log::Subsystem::member;
  if (options_.coordinators.size() > 1) options.first_message_ms = turn_ms();  // a stopped one takes connections, too
  ControlChannel::Handler handler;
  handler.on_message = [this](wire::Message message) {
    if (std::holds_alternative<wire::Welcome>(message)) {
      const std::lock_guard hold(join_mutex_);
      last_failure_.clear();
      failures_ = 0;
      search_.welcomed();
      reconnect_delay_ms_ = retry_ms_min;
    }
    log::message(log::Subsystem::member, log::Level::trace, "{} hears {}", short_name(engine_->self()),
                 message_name(message));
    pass_heard(message);
    if (const auto* welcome = std::get_if<wire::Welcome>(&message)) {
      served_ = true;
      // Where the way has forgotten the connection, or our address is another by now, there is time to be back before
      // the coordinator gives this peer up.
      control_->end_unacknowledged_after(std::max<std::int64_t>(welcome->peer_timeout_ms / 2, unacknowledged_ms_min));
    }
    if (const auto* refuse = std::get_if<wire::Refuse>(&message)) {
      served_ = false;
      refused_ = refuse->text;
      if (!refuse->lineage.is_zero()) search_.led_elsewhere();
    }
    [[maybe_unused]] const bool installs = std::holds_alternative<wire::Install>(message);
    engine_->step(Member::ControlReceived{std::move(message)});
    if (installs) HAWSER_KILL_POINT("install.performed");
  };
  handler.on_closed = [this](const Status& why) { on_control_closed(why); };
  control_ = std::make_unique<ControlChannel>(*loop_, std::move(stream), options, std::move(handler));
  control_->raise_limit();
  engine_->step(Member::ControlOpened{search_.asked(), failures_});
}

void Communicator::Control::on_control_closed(const Status& why) {
  if (!control_ || ended_) return;
  const auto gone = std::move(control_);
  // The end of the connection may be here before the machine has said what follows from the refusal.
  const std::string reason = fmt::format("{}: {}", coordinator_text_, refused_.empty() ? why.text() : refused_);
  if (engine_->is_member()) {
    log::message(log::Subsystem::member, log::Level::warn,
                 "lost the coordinator at {} ({}); operations go on, joins and losses wait for it", coordinator_text_,
                 why.text());
    engine_->step(Member::ControlClosed{why.text()});
    // The connection may have broken alone: the same address is tried first, unless it said no, or nothing at all.
    if (served_) --coordinator_index_;
    coordinator_failed(Status(Code::NO_COORDINATOR, reason));
    return;
  }
  engine_->step(Member::ControlClosed{why.text()});
  switch (served_ ? Code::PEER_LOST : why.code()) {  // one that has said Welcome is a coordinator
    case Code::NOT_A_COORDINATOR:
    case Code::VERSION_MISMATCH:
      return join_failed(Status(why.code(), fmt::format("{}: {}", coordinator_text_, why.text())));
    case Code::TIMEOUT:
    case Code::INVALID_ARGUMENT:
      if (options_.coordinators.size() > 1) break;  // one of them may be stopped or cut off
      return join_failed(Status(Code::NOT_A_COORDINATOR, fmt::format("{} does not answer like a coordinator: {}",
                                                                     coordinator_text_, why.text())));
    default:
      break;
  }
  // It may just be starting, or ending: the machine begins again with the next connection.
  coordinator_failed(Status(Code::NO_COORDINATOR, reason));
}

void Communicator::Control::listen(const Member::Listen& wanted) {
  if (!listener_) {
    io::ListenOptions options;
    options.host = options_.listen_set ? options_.listen.host : (wanted.loopback_only ? coordinator_host_ : "");
    options.ports = options_.ports;
    if (options_.listen.port) options.ports = {*options_.listen.port, *options_.listen.port};
    auto socket = io::bind_listener(options);
    if (!socket.ok()) return join_failed(socket.status());
    auto listener =
        io::TcpListener::create(*loop_, std::move(socket.value()),
                                [this](std::unique_ptr<io::TcpStream> stream) { accept(std::move(stream)); });
    if (!listener.ok()) return join_failed(listener.status());
    listener_ = std::move(listener.value());
  }
  const io::SocketAddress& address = listener_->address();
  std::string host = options_.advertise.host;
  // A listener on one address is reached there and nowhere else.
  if (host.empty() && options_.listen_set && !address.is_wildcard()) host = address.host();
  engine_->step(Member::Listening{host, options_.advertise.port.value_or(address.port())});
}

// ----------------------------------------------------------------------------------------------------------- strands

void Communicator::Control::meet(const Member::Meet& meet) {
  met_[meet.peer.id] = Met{meet.peer, meet.ticket};
  if (meet.dial && up_.contains({meet.peer.id, 0})) {  // another coordinator has introduced them before
    engine_->step(Member::Linked{meet.peer.id});
    return;
  }
  if (meet.dial) {
    dial({meet.peer.id, 0});
    return;
  }
  std::vector<std::uint64_t> waiting;
  for (const auto& [id, incoming] : incoming_) {
    if (incoming.hello && incoming.hello->from == meet.peer.id) waiting.push_back(id);
  }
  for (const std::uint64_t id : waiting) admit_strand(id);
}

void Communicator::Control::part(PeerId peer) {
  met_.erase(peer);
  reported_.erase(peer);
  std::erase_if(dials_, [&](const auto& entry) { return entry.first.first == peer; });
  std::erase_if(incoming_, [&](const auto& entry) { return entry.second.hello && entry.second.hello->from == peer; });
}

void Communicator::Control::view_installed(const Member::ViewInstalled& installed) {
  for (const auto& gone : installed.departures) part(gone.id);
  view_ = installed.view;
  const auto& members = view_.members;
  const auto self =
      std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.peer.id == engine_->self(); });
  if (self == members.end() || members.size() < 2) return;
  const auto rank = static_cast<std::size_t>(self - members.begin());
  std::set<PeerId> neighbours;
  for (const std::size_t other : {(rank + 1) % members.size(), (rank + members.size() - 1) % members.size()}) {
    neighbours.insert(members[other].peer.id);
  }
  for (const PeerId& peer : neighbours) {
    std::uint32_t count = options_.strands;
    if (count == strands_auto) {
      if (const auto met = met_.find(peer); met != met_.end()) {
        if (const auto helped = helped_.find(met->second.info.host); helped != helped_.end()) {
          engine_->strands_helped(peer, helped->second);
        }
      }
      count = engine_->strands_wanted(peer);
    }
    strands_wanted(peer, count);
  }
  watch_links();
}

// Whether this end dials, of two neighbours in the ring: who stands later in the view does, as with the first strand.
std::optional<bool> Communicator::Control::dials_neighbour(PeerId peer) const {
  const auto& members = view_.members;
  std::size_t self = members.size();
  std::size_t other = members.size();
  for (std::size_t rank = 0; rank < members.size(); ++rank) {
    if (members[rank].peer.id == engine_->self()) self = rank;
    if (members[rank].peer.id == peer) other = rank;
  }
  if (self == other || self == members.size() || other == members.size()) return std::nullopt;
  if ((self + 1) % members.size() != other && (other + 1) % members.size() != self) return std::nullopt;
  return other < self;
}

// Strands are added while they help (Rope), unless the user gave a number. Either end may find that, for its own
// direction.
void Communicator::Control::strands_wanted(PeerId peer, std::uint32_t count) {
  const auto dials = dials_neighbour(peer);
  if (!dials) return;
  if (options_.strands == strands_auto) {
    if (const auto met = met_.find(peer); met != met_.end()) {
      std::uint32_t& helped = helped_[met->second.info.host];
      helped = std::max(helped, count);
    }
    if (!*dials) {
      if (count > strands_near) engine_->ask_strands(peer, count);
      return;
    }
  }
  if (*dials) dial_bulk(peer, options_.strands == strands_auto ? count : options_.strands);
}

void Communicator::Control::dial_bulk(PeerId peer, std::uint32_t count) {
  for (std::uint32_t index = 1; index <= count; ++index) {
    if (!up_.contains({peer, index})) dial({peer, index});
  }
}

void Communicator::Control::dial(StrandKey key) {
  auto met = met_.find(key.first);
  if (met == met_.end() || ended_) return;
  Dial& attempt = dials_[key];
  if (attempt.connector || attempt.channel) return;
  const wire::PeerInfo& peer = met->second.info;
  // "Loopback" is what the coordinator sees of a peer on its own host: from elsewhere that host is where we reach it.
  std::string host = peer.host;
  if (io::is_loopback(host) && !io::is_loopback(coordinator_host_)) host = coordinator_host_;
  const std::string address = io::format_endpoint(host, peer.port);
  io::ConnectOptions connect;
  if (met->second.small_segments) connect.segment_bytes = segment_bytes_min;
  attempt.connector = std::make_unique<io::TcpConnector>(
      *loop_, host, peer.port, connect, [this, key, address](Result<std::unique_ptr<io::TcpStream>> stream) {
        auto it = dials_.find(key);
        if (it == dials_.end()) return;
        const auto gone = std::move(it->second.connector);
        if (!stream.ok()) return dial_failed(key, stream.status());
        ControlChannel::Handler handler;
        handler.on_message = [this, key](const wire::Message& message) {
          auto found = dials_.find(key);
          if (found == dials_.end()) return;
          if (!std::holds_alternative<wire::StrandAccept>(message)) {
            return dial_failed(
                key, Status(Code::PEER_LOST, fmt::format("answered {} to StrandHello", message_name(message))));
          }
          auto released = found->second.channel->release();
          const auto channel = std::move(found->second.channel);
          if (!released.ok()) return dial_failed(key, released.status());
          dials_.erase(found);
          up_.insert(key);
          engine_->add_strand(key.first, key.second, true, std::move(released.value().fd),
                              std::move(released.value().received), std::move(released.value().unsent));
          HAWSER_KILL_POINT("strand.opened");
          if (key.second == 0) engine_->step(Member::Linked{key.first});
        };
        handler.on_closed = [this, key, address](const Status& why) {
          dial_failed(key, Status(why.code(), fmt::format("{}: {}", address, why.text())));
        };
        ControlChannelOptions options;
        options.log_limit = &log_limit_;
        it->second.channel =
            std::make_unique<ControlChannel>(*loop_, std::move(stream.value()), options, std::move(handler));
        it->second.channel->send(wire::StrandHello{engine_->self(), key.first, met_.at(key.first).ticket, key.second});
      });
}

void Communicator::Control::dial_failed(StrandKey key, const Status& why) {
  up_.erase(key);
  if (!met_.contains(key.first) || ended_) return;
  if (!engine_->is_member() && why.code() == Code::RESOURCE) return join_failed(why);  // of this machine
  Dial& attempt = dials_[key];
  attempt.connector.reset();
  attempt.channel.reset();
  attempt.last_failure = why.text();
  if (key.second == 0 && !engine_->is_member()) engine_->step(Member::LinkLost{key.first});
  log::message(log::Subsystem::net, log::Level::debug, "strand {} to {}: {}; trying again", key.second,
               short_name(key.first), why.text());
  attempt.retry = std::make_unique<io::Timer>(*loop_, [this, key] { dial_again(key); });
  attempt.retry->start(std::min(attempt.delay_ms, retry_ms_of_member()));
  attempt.delay_ms = std::min(2 * attempt.delay_ms, retry_ms_max);
  watch_links();
}

void Communicator::Control::take_small_segments(const StrandLost& lost) {
  const auto met = met_.find(lost.peer);
  if (met == met_.end() || std::exchange(met->second.small_segments, true)) return;
  log::message(
      log::Subsystem::net, log::Level::warn,
      "large packets vanish on the way to peer {} ({}) while small ones arrive: its new connections send segments "
      "of {} bytes; look at the MTU of tunnels and at firewalls that drop ICMP",
      met->second.info.name, lost.why, segment_bytes_min);
}

void Communicator::Control::dial_again(StrandKey key) {
  if (dials_.contains(key)) dial(key);
}

void Communicator::Control::accept(std::unique_ptr<io::TcpStream> stream) {
  if (incoming_.size() >= handshakes_max || ended_) return;
  const std::uint64_t id = ++incoming_ids_;
  ControlChannel::Handler handler;
  handler.on_message = [this, id](const wire::Message& message) {
    auto it = incoming_.find(id);
    if (it == incoming_.end()) return;
    const auto* hello = std::get_if<wire::StrandHello>(&message);
    if (hello == nullptr || it->second.hello) {
      incoming_.erase(it);
      return;
    }
    on_strand_hello(id, *hello);
  };
  handler.on_closed = [this, id](const Status&) { incoming_.erase(id); };
  ControlChannelOptions options;
  options.log_limit = &log_limit_;
  Incoming& incoming = incoming_[id];
  incoming.channel = std::make_unique<ControlChannel>(*loop_, std::move(stream), options, std::move(handler));
}

void Communicator::Control::on_strand_hello(std::uint64_t id, const wire::StrandHello& hello) {
  Incoming& incoming = incoming_.at(id);
  if (hello.to != engine_->self() || hello.index > strands_max) {
    incoming_.erase(id);
    return;
  }
  incoming.hello = hello;
  if (met_.contains(hello.from)) return admit_strand(id);
  // The coordinator's word about this peer may still be on its way.
  incoming.deadline = std::make_unique<io::Timer>(*loop_, [this, id] { incoming_.erase(id); });
  incoming.deadline->start(first_message_ms_default);
}

void Communicator::Control::admit_strand(std::uint64_t id) {
  Incoming& incoming = incoming_.at(id);
  const wire::StrandHello hello = *incoming.hello;
  if (met_.at(hello.from).ticket != hello.ticket) {
    log::message(log::Subsystem::net, log::Level::warn, "a connection from {} claims to be peer {} without its ticket",
                 incoming.channel->remote().text(), short_name(hello.from));
    incoming_.erase(id);
    return;
  }
  incoming.channel->send(wire::StrandAccept{hello.index});
  auto released = incoming.channel->release();
  incoming_.erase(id);
  if (!released.ok()) return;
  engine_->add_strand(hello.from, hello.index, false, std::move(released.value().fd),
                      std::move(released.value().received), std::move(released.value().unsent));
}

// ------------------------------------------------------------------------------------------------------- the outside

Communicator::Communicator() = default;
Communicator::~Communicator() = default;

Result<std::unique_ptr<Communicator>> Communicator::create(const CommOptions& options) {
  std::unique_ptr<Communicator> out(new Communicator());
  out->control_ = std::make_unique<Control>(options);
  if (Status status = out->control_->start(); !status.ok()) return status;
  return out;
}

Status Communicator::join(std::int64_t timeout_ms) { return control_->join(timeout_ms); }

void Communicator::close() { control_->shut_down(); }

Engine& Communicator::engine() { return control_->engine(); }

std::string Communicator::address_of(const wire::PeerInfo& peer) { return io::format_endpoint(peer.host, peer.port); }

}  // namespace hawser::runtime
