// The coordinator's machine: who is connected, who waits, who is a member; orders the views of every group. Pure:
// events in, actions out, in the order in which they must be performed. Rules and reasons: docs/protocol.md#membership.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/status.hpp"
#include "protocol/env.hpp"
#include "wire/messages.hpp"

namespace hawser::protocol {

using ConnId = std::uint64_t;  // a connection to the coordinator; never used again after it is closed

struct CoordinatorConfig {
  RunId run;
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t peer_timeout_ms = 6000;
  std::uint32_t peers_max = 1024;
  bool loopback_only = false;
  Id128 secret;  // tickets are made from it
};

class Coordinator {
 public:
  // Facts.
  struct Opened {
    ConnId conn = 0;
    std::string seen_host;  // numeric address of the other end
  };
  struct Received {
    ConnId conn = 0;
    wire::Message message;
  };
  struct Closed {
    ConnId conn = 0;
    std::string why;
  };
  struct Tick {};  // at latest when next_deadline() says
  // The view with this number of the group is durable.
  struct Persisted {
    std::uint32_t group = 0;
    std::uint64_t number = 0;
  };
  using Event = std::variant<Opened, Received, Closed, Tick, Persisted>;

  // Orders.
  struct Send {
    ConnId conn = 0;
    wire::Message message;
  };
  struct Close {  // after what was sent before has gone out; no Closed event follows
    ConnId conn = 0;
    std::string why;
  };
  struct RaiseLimit {  // the other end said Hello: longer messages are allowed from now on
    ConnId conn = 0;
  };
  struct Persist {  // make it durable, then answer with Persisted
    std::uint32_t group = 0;
    std::uint64_t term = 0;
    wire::View view;
  };
  struct Note {  // one line for the log
    bool warning = false;
    std::string text;
  };
  using Action = std::variant<Send, Close, RaiseLimit, Persist, Note>;

  explicit Coordinator(CoordinatorConfig config) : config_(config) {}

  void step(const Event& event, const Env& env, std::vector<Action>& actions);
  // When the next Tick is due; never before that.
  [[nodiscard]] std::optional<Millis> next_deadline() const;

  // For status and checks.
  [[nodiscard]] const wire::View* view(std::uint32_t group) const;
  [[nodiscard]] std::size_t peer_count() const { return peers_.size(); }

 private:
  enum class Phase : std::uint8_t {
    greeted,  // Hello came; nothing promised
    waiting,  // Join came; meets the others of its group
    member,   // in the group's view
  };
  struct Peer {
    PeerId id;
    ConnId conn = 0;
    Phase phase = Phase::greeted;
    std::uint32_t group = 0;
    std::uint32_t min_size = 1;
    wire::PeerInfo info;
    std::uint64_t arrival = 0;     // order of Join
    std::set<PeerId> connected;    // reported by this peer as the dialling end
    std::set<PeerId> unreachable;  // members it has suspected
    bool leaving = false;
  };
  struct Conn {
    std::string seen_host;
    std::optional<PeerId> peer;
    Millis heard = 0;
  };
  // Letting newcomers in: idle -> asking (promises) -> stopping (members walk to the target) -> installing.
  struct Admission {
    enum class Phase : std::uint8_t { idle, asking, stopping } phase = Phase::idle;
    bool holding = false;  // members were asked to promise and have been neither admitted at their point nor released
    std::uint64_t round = 0;
    std::uint64_t target = 0;
    std::map<PeerId, std::uint64_t> promises;
    std::set<PeerId> at_point;
  };
  // A sealed view change: Seal is out, replies come in; it ends when every member that is not doomed has answered.
  struct Change {
    bool sealing = false;
    std::map<PeerId, wire::SealReply> replies;
  };
  struct Group {
    wire::View view;
    std::uint64_t term = 0;
    Admission admission;
    Change change;
    std::optional<wire::Install> pending;  // decided, being made durable; nothing else starts meanwhile
    std::map<PeerId, std::string> doomed;  // members to remove with the next view change, and how they were lost
    bool change_wanted = false;            // a view change must start once none is running
    std::optional<Millis> verdict_at;      // suspicions are weighed then, when all who have one had time to say so
  };
  using Actions = std::vector<Action>;

  void on(const Opened& event, const Env& env, Actions& actions);
  void on(const Received& event, const Env& env, Actions& actions);
  void on(const Closed& event, const Env& env, Actions& actions);
  void on(const Tick& event, const Env& env, Actions& actions);
  void on(const Persisted& event, const Env& env, Actions& actions);

  void on_hello(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions);
  void on_peer_message(Peer& peer, const wire::Message& message, const Env& env, Actions& actions);
  void on_join(Peer& peer, const wire::Join& join, const Env& env, Actions& actions);
  void on_suspect(Peer& peer, const wire::Suspect& suspect, const Env& env);
  void weigh_suspicions(Group& group, Actions& actions);

  void refuse(ConnId conn, Code code, std::string text, Actions& actions);
  void peer_gone(PeerId id, const std::string& why, Actions& actions);
  // Moves a group on as far as it can go: finish a sealed change, start one, form, admit.
  void advance(std::uint32_t group_id, Actions& actions);
  void start_change(Group& group, Actions& actions);
  void finish_change_if_ready(std::uint32_t group_id, Group& group, Actions& actions);
  void install(std::uint32_t group_id, Group& group, Actions& actions);
  void advance_admission(std::uint32_t group_id, Group& group, Actions& actions);
  void try_form(std::uint32_t group_id, Group& group, Actions& actions);
  void persist(std::uint32_t group_id, Group& group, wire::Install install, Actions& actions);
  void release_members(Group& group, Actions& actions);
  [[nodiscard]] std::vector<PeerId> candidates(std::uint32_t group_id, const Group& group) const;
  [[nodiscard]] bool linked(PeerId a, PeerId b) const;
  void join_view(Group& group, wire::View& view, const std::vector<PeerId>& ids) const;
  [[nodiscard]] Ticket ticket(PeerId a, PeerId b) const;
  void send(PeerId id, wire::Message message, Actions& actions);

  CoordinatorConfig config_;
  std::map<ConnId, Conn> conns_;
  std::map<PeerId, Peer> peers_;
  std::map<std::uint32_t, Group> groups_;
  std::uint64_t arrivals_ = 0;
  std::uint64_t heartbeat_sequence_ = 0;
  std::optional<Millis> last_tick_;
  Millis next_heartbeat_ = 0;
};

}  // namespace hawser::protocol
