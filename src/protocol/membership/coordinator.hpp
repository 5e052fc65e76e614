// The coordinator's machine: who is connected, who waits, who is a member; orders the views of every group. Pure:
// events in, actions out, in the order in which they must be performed. Rules and reasons: docs/protocol.md#membership.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.hpp"
#include "protocol/env.hpp"
#include "wire/messages.hpp"

namespace hawser::protocol {

using ConnId = std::uint64_t;  // a connection to the coordinator; never used again after it is closed

struct CoordinatorConfig {
  RunId run;  // of this process: its low half is the instance of the terms
  std::uint32_t heartbeat_ms = 1000;
  std::uint32_t peer_timeout_ms = 6000;
  std::uint32_t peers_max = 1024;
  bool loopback_only = false;
  Id128 secret;            // tickets are made from it
  std::string standby_of;  // addresses; not empty: leads groups whose members come to it, forms none
  bool arbiter = false;    // an outside store decides who leads: whoever runs this machine does
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
  // How the last view of a group was installed, from the log of an earlier process. Before any connection.
  struct Restored {
    std::uint32_t group = 0;
    wire::Install install;
  };
  // The view with this number of the group is durable.
  struct Persisted {
    std::uint32_t group = 0;
    std::uint64_t number = 0;
  };
  struct PersistFailed {
    std::uint32_t group = 0;
    std::uint64_t number = 0;
    std::string why;
  };
  using Event = std::variant<Opened, Received, Closed, Tick, Restored, Persisted, PersistFailed>;

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
  struct Persist {  // make it durable, then answer with Persisted or PersistFailed
    std::uint32_t group = 0;
    wire::Install install;
  };
  struct Note {  // one line for the log
    bool warning = false;
    std::string text;
  };
  using Action = std::variant<Send, Close, RaiseLimit, Persist, Note>;

  explicit Coordinator(CoordinatorConfig config) : config_(std::move(config)) {}

  void step(const Event& event, const Env& env, std::vector<Action>& actions);
  // When the next Tick is due; never before that.
  [[nodiscard]] std::optional<Millis> next_deadline() const;

  // For status and checks.
  [[nodiscard]] const wire::View* view(std::uint32_t group) const;
  [[nodiscard]] std::size_t peer_count() const { return peers_.size(); }
  // Whether it orders the views of this group: it knows the current one and can reach who must agree to the next.
  [[nodiscard]] bool leads(std::uint32_t group) const;

 private:
  using Actions = std::vector<Action>;

  enum class Phase : std::uint8_t {
    greeted,    // Hello came; nothing promised
    waiting,    // Join came; meets the others of its group
    member,     // in the group's view, connected or not
    returning,  // says that it is a member of a view that is not known here (yet)
  };
  struct Peer {
    PeerId id;
    ConnId conn = 0;  // 0: a member whose connection ended
    Phase phase = Phase::greeted;
    std::uint32_t group = 0;
    std::uint32_t min_size = 1;
    wire::PeerInfo info;
    std::uint32_t addresses = 1;           // of coordinators that it knows
    std::uint64_t view = 0;                // it has said that it has this one
    std::uint64_t arrival = 0;             // order of Join
    std::set<PeerId> connected;            // reported by this peer as the dialling end
    std::map<PeerId, Millis> unreachable;  // members it suspects, and when it last said so
    std::map<PeerId, Millis> links_lost;   // with whom its light strand broke, and when it said so
    std::optional<Millis> absent_at;       // member that is away: its time to come back begins then
    std::optional<Millis> missed_at;       // and then already, if no member that is here can reach it
    std::optional<Millis> conn_ended_at;   // its connection to this very process has ended
    std::optional<Millis> back_at;         // it came back: what it had lost meanwhile may need time to come back, too
    std::string absent_why;
    bool leaving = false;
    // That peer is gone: what was said of connections with it is void.
    void lose(PeerId other) {
      connected.erase(other);
      unreachable.erase(other);
      links_lost.erase(other);
    }
    wire::Progress progress;  // by its last heartbeat, and by the one before
    wire::Progress progress_before;
    std::optional<Millis> progress_at;
    Millis progress_between = 0;
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
  // Decided: being made durable, then agreed upon unless a store knows best, then installed. Nothing else starts
  // meanwhile.
  struct Pending {
    wire::Install install;
    bool durable = false;
    bool adopted = false;  // members had accepted it from another coordinator
    bool retry = false;    // it could not be made durable; the next heartbeat tries again
    std::set<PeerId> accepted;
    // Votes that came meanwhile. They are said again after the Install, and would be lost were there none.
    bool voted = false;
    std::set<wire::OpKey> stragglers;
  };
  // Members of a view that this process does not know have come: who they are and what they say. It ends when the
  // newest view is known and enough of its members are there.
  struct Recovery {
    Millis since = 0;
    Millis patience = 0;
    LineageId lineage;
    std::map<PeerId, wire::SealReply> replies;
    std::set<PeerId> named;  // in a proposal that members have accepted: newcomers among them may be needed
    // Nobody is kept any more, but the lineage is remembered: its members may be on their way from one coordinator to
    // another, and no other group is to be formed meanwhile.
    bool idle = false;
    Millis seen_at = 0;           // a member was here, or this process began with what its log says
    std::uint32_t addresses = 1;  // that members know
    Millis told_at = 0;
    std::optional<wire::Install> logged{};  // the last in the log, which may never have been announced
    bool gone_on = false;                   // it was not: a member of the view before is past its point
    // Came back, and lost the connection again: what a member has that is away.
    struct Away {
      Millis since = 0;
      std::optional<Millis> conn_ended_at;
      std::string why;
    };
    std::map<PeerId, Away> away{};
    // It counts, whoever comes now: the log is to say so before anybody is told.
    enum class Counts : std::uint8_t { unknown, writing, failed, yes } counts = Counts::unknown;
    // Let in by the record, or perhaps by such a proposal, without having heard of it.
    [[nodiscard]] bool is_named(PeerId id) const;
    [[nodiscard]] bool is_writing(std::uint64_t number) const {
      return counts == Counts::writing && logged->view.number == number;
    }
  };
  struct Doom {
    std::string why;
    bool absent = false;     // it may still come back before the decision
    bool suspected = false;  // in this view, for connections that its members cannot keep
  };
  // Somebody that has gone and is not told yet.
  struct Farewell {
    ConnId conn = 0;
    wire::Install install;
    std::string why;
  };
  struct Group {
    wire::View view;
    wire::Install last;  // how the view was installed
    wire::Term term;
    Admission admission;
    Change change;
    std::optional<Pending> pending;
    std::optional<Recovery> recovery;
    std::map<PeerId, Doom> doomed;     // members to remove with the next view change, and how they were lost
    bool change_wanted = false;        // a view change must start once none is running
    bool inherited = false;            // the view was learnt from members: those who do not come may be in a newer one
    bool settled = false;              // this process has installed the view: nobody knows a newer one
    std::optional<Millis> verdict_at;  // suspicions are weighed then, when all who have one had time to say so
    std::set<std::pair<PeerId, PeerId>> served;  // cannot reach each other and stay, as was said in the log
    std::optional<Millis> hold_until;            // no admission before: a view could not be made durable
    std::optional<Millis> minority_since;        // a majority must agree and is not there
    Millis minority_patience = 0;
    std::vector<Farewell> farewells;
    std::set<wire::OpKey> stragglers;  // operations whose callers will not wait for those who have not entered them
  };

  void on(const Opened& event, const Env& env, Actions& actions);
  void on(const Received& event, const Env& env, Actions& actions);
  void on(const Closed& event, const Env& env, Actions& actions);
  void on(const Tick& event, const Env& env, Actions& actions);
  void on(const Restored& event, const Env& env, Actions& actions);
  void on(const Persisted& event, const Env& env, Actions& actions);
  void on(const PersistFailed& event, const Env& env, Actions& actions);

  // Peers: coordinator.cpp.
  void on_hello(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions);
  void on_first_hello(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions);
  void on_return(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions);
  void on_peer_message(Peer& peer, const wire::Message& message, const Env& env, Actions& actions);
  bool on_member_message(Peer& peer, Group& group, const wire::Message& message, const Env& env, Actions& actions);
  void on_join(Peer& peer, const wire::Join& join, Actions& actions);
  void introduce(const Peer& there, const Peer& newcomer, Actions& actions);
  void on_leave(Peer& peer, const wire::Leave& leave, const Env& env, Actions& actions);
  void on_suspect(Peer& peer, const wire::Suspect& suspect, const Env& env);
  void weigh_suspicions(Group& group, const Env& env, Actions& actions);
  [[nodiscard]] std::vector<std::size_t> removable(const Group& group, const std::vector<PeerId>& members,
                                                   const std::vector<std::vector<bool>>& broken,
                                                   const std::vector<bool>& away, Actions& actions) const;
  void welcome(ConnId conn, Actions& actions);
  void refuse(ConnId conn, Code code, std::string text, const Env& env, Actions& actions, LineageId lineage = {});
  void turn_away(PeerId id, const std::string& text, Actions& actions);
  void forget(std::uint32_t group_id, PeerId id, Actions& actions);
  // The connection of a peer is gone. `final`: so is the peer.
  void peer_gone(PeerId id, const std::string& why, bool final, const Env& env, Actions& actions);
  // Its time to come back is over.
  [[nodiscard]] bool is_overdue(const Peer& peer, const Group& group, const Env& env) const;
  // Dooms members whose own connection ended while most of the others lost theirs with them.
  void weigh_absent(std::uint32_t group_id, Group& group);
  void forgive(Millis stopped, const Env& env);
  // What comes in now may have happened at any time of a long sleep of this process.
  [[nodiscard]] bool was_asleep(const Env& env) const;

  // Views: coordinator_views.cpp.
  void advance(std::uint32_t group_id, const Env& env, Actions& actions);  // as far as it can go
  void start_change(Group& group, Actions& actions);
  void seal(const Group& group, PeerId id, Actions& actions);
  void doom_stragglers(Group& group);
  void finish_change_if_ready(std::uint32_t group_id, Group& group, const Env& env, Actions& actions);
  void persist(std::uint32_t group_id, Group& group, wire::Install install, Actions& actions);
  void propose(const Group& group, PeerId to, Actions& actions);
  void propose_to_all(const Group& group, Actions& actions);
  [[nodiscard]] bool has_a_say(const Group& group, PeerId id) const;
  [[nodiscard]] bool is_agreed(const Group& group) const;
  void drop_pending(std::uint32_t group_id, Group& group, Actions& actions);
  void install_if_agreed(std::uint32_t group_id, Group& group, const Env& env, Actions& actions);
  void install(std::uint32_t group_id, Group& group, const Env& env, Actions& actions);
  void say_farewell(Group& group, Actions& actions);
  void adopt_view(std::uint32_t group_id, Group& group, wire::Install install, Millis absent_at);
  [[nodiscard]] bool needs_majority(const Group& group) const;
  [[nodiscard]] static bool is_over(const Group& group);
  [[nodiscard]] bool majority_present(const Group& group) const;
  [[nodiscard]] bool can_be_agreed(const Group& group) const;
  void raise_term(Group& group, const wire::Term& above) const;
  [[nodiscard]] wire::Term next_term(const Group& group) const;

  // Admission: coordinator_admission.cpp.
  void advance_admission(std::uint32_t group_id, Group& group, Actions& actions);
  void try_form(std::uint32_t group_id, Group& group, const Env& env, Actions& actions);
  void release_members(Group& group, Actions& actions);
  [[nodiscard]] std::vector<PeerId> candidates(std::uint32_t group_id, const Group& group) const;
  [[nodiscard]] bool linked(PeerId a, PeerId b) const;
  void join_view(Group& group, wire::View& view, const std::vector<PeerId>& ids) const;

  // Members that come back: coordinator_recovery.cpp.
  void attach(ConnId conn, const wire::Hello& hello, Group& group, const Env& env, Actions& actions);
  void refuse_removed(ConnId conn, const wire::Hello& hello, LineageId lineage, Actions& actions);
  void on_departed(ConnId conn, Group& group, const std::string& why, Actions& actions);
  void on_undecided(ConnId conn, const wire::Hello& hello, Group& group, const Env& env, Actions& actions);
  void add_returning(ConnId conn, const wire::Hello& hello, const Env& env, Actions& actions);
  void await_absent(std::uint32_t group_id, Group& group, const Env& env);
  [[nodiscard]] Millis patience(const Env& env) const;
  void end_patience(std::uint32_t group_id, Group& group, const Env& env, Actions& actions);
  [[nodiscard]] bool is_forgotten(const Recovery& recovery, const Env& env) const;
  static void wait_for_majority(Group& group, Millis time, const Env& env);
  [[nodiscard]] Millis search_time(std::uint32_t group_id, wire::Rule rule) const;
  void start_recovery(std::uint32_t group_id, Group& group, LineageId lineage, const Env& env);
  void ask_returning(Group& group, std::uint32_t group_id, Actions& actions);
  // Of those who must come together to take over a view: who is here, who is not, and whether that is enough.
  struct Gathering {
    std::set<PeerId> present;
    std::string missing;  // names
    bool enough = false;
  };
  [[nodiscard]] const wire::Install* newest_known(std::uint32_t group_id, const Recovery& recovery,
                                                  const Env& env) const;
  [[nodiscard]] Gathering gathering(const Recovery& recovery, const wire::Install& newest) const;
  void take_over(std::uint32_t group_id, Group& group, const wire::Install& newest, std::size_t present, const Env& env,
                 Actions& actions);
  void advance_recovery(std::uint32_t group_id, Group& group, const Env& env, Actions& actions);
  static void confirm(std::uint32_t group_id, Recovery& recovery, Actions& actions);
  [[nodiscard]] static const wire::Install* best_accepted(const wire::View& view,
                                                          const std::map<PeerId, wire::SealReply>& replies);

  // For people who ask: coordinator_status.cpp.
  [[nodiscard]] wire::StatusReport report(const Env& env) const;
  [[nodiscard]] std::string waits_for(std::uint32_t group_id, const Group& group) const;
  [[nodiscard]] std::string waits_for(const Peer& peer, const Group& group) const;
  [[nodiscard]] wire::PeerStatus status_of(const Peer& peer, const Group& group, const Env& env) const;

  [[nodiscard]] Ticket ticket(PeerId a, PeerId b) const;
  void send(PeerId id, wire::Message message, Actions& actions);

  CoordinatorConfig config_;
  std::map<ConnId, Conn> conns_;
  std::map<PeerId, Peer> peers_;
  std::map<std::uint32_t, Group> groups_;
  std::uint64_t arrivals_ = 0;
  std::uint64_t heartbeat_sequence_ = 0;
  std::optional<Millis> began_at_;
  std::optional<Millis> last_tick_;
  std::optional<Millis> awake_since_;  // it was not running before
  Millis next_heartbeat_ = 0;
};

// Whether these of a view's members may speak for all: more than half, or half with the first among them.
bool is_majority(const wire::View& view, const std::set<PeerId>& present);

}  // namespace hawser::protocol
