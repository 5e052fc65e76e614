// A peer's machine: joins through the coordinator, stands at admission points, is sealed and gets views, and keeps the
// ledger of its operations. Pure: events in, actions out, in the order in which they must be performed. One machine
// serves one membership: from the first connection until it left, failed or was expelled. docs/protocol.md#membership.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/status.hpp"
#include "protocol/env.hpp"
#include "protocol/round/ledger.hpp"
#include "wire/messages.hpp"

namespace hawser::protocol {

struct MemberConfig {
  PeerId id;
  std::uint32_t group = 0;
  std::uint32_t min_size = 1;
  std::string name;
  std::uint64_t codecs = 0;     // as in wire::PeerInfo
  std::uint32_t addresses = 1;  // of coordinators that it knows
};

class Member {
 public:
  // Facts.
  struct ControlOpened {                    // a connection to a coordinator is up
    wire::Asked asked = wire::Asked::some;  // as in Hello
    std::uint64_t failures = 0;  // attempts since a coordinator last welcomed this peer, one address after the other
  };
  struct ControlReceived {
    wire::Message message;
  };
  struct ControlClosed {
    std::string why;
  };
  struct Listening {        // answers Listen
    std::string advertise;  // empty: the address the coordinator sees
    std::uint16_t port = 0;
  };
  struct Linked {  // the first strand with that peer is up; this end dialled it
    PeerId peer;
  };
  struct LinkLost {  // the first strand with that peer broke, or it refuses to be dialled
    PeerId peer;
  };
  struct Unreachable {  // no strand with that member could be had for the peer timeout
    PeerId peer;
    std::string text;
  };
  struct AdmitCalled {};
  struct AdmitGivenUp {};  // the deadline of the call passed
  struct LeaveCalled {};   // no operation is open
  struct AbortCalled {};   // the user gives up at once
  struct Tick {};
  using Event = std::variant<ControlOpened, ControlReceived, ControlClosed, Listening, Linked, LinkLost, Unreachable,
                             AdmitCalled, AbortCalled, AdmitGivenUp, LeaveCalled, Tick>;

  // Orders.
  struct SendControl {
    wire::Message message;
  };
  struct CloseControl {  // no ControlClosed needs to follow; the peer connects again, there or elsewhere
    std::string why;
  };
  struct Listen {
    bool loopback_only = false;
  };
  struct Meet {  // connections with this peer are allowed now; dial it if told so
    wire::PeerInfo peer;
    Ticket ticket;
    bool dial = false;
  };
  struct Part {  // close everything with this peer
    PeerId peer;
  };
  struct ViewInstalled {  // before the actions about operations that follow from it
    wire::View view;
    std::vector<wire::Departure> departures;
  };
  struct Joined {};
  struct Admitted {};      // the admission call returns
  struct Ended {           // left, expelled, or the join failed; nothing follows
    Code code = Code::OK;  // OK: left in order
    std::string text;
  };
  using Action = std::variant<SendControl, CloseControl, Listen, Meet, Part, ViewInstalled, Joined, Admitted, Ended,
                              SayDone, OpCommitted, OpFailed, OpRestarted>;
  using Actions = std::vector<Action>;

  explicit Member(MemberConfig config) : config_(std::move(config)), ledger_(config_.id) {}

  void step(const Event& event, const Env& env, Actions& actions);
  [[nodiscard]] std::optional<Millis> next_deadline() const;

  // Operations: as in Ledger. Only a member may start one.
  Result<wire::OpKey> start(std::uint64_t tag, const wire::OpParams& params, Actions& actions);
  void skip_to(const wire::OpKey& next) { ledger_.skip_to(next); }
  void finished(const wire::OpKey& key, std::uint64_t epoch, const wire::Digest128& digest, Actions& actions);
  bool vote(const wire::OpKey& key, wire::FaultReason reason, const std::string& text, Actions& actions);
  void abandon(const wire::OpKey& key, Code code, const std::string& text, Actions& actions);
  void begin_from(PeerId from, std::uint64_t epoch, const wire::OpKey& key, const wire::OpParams& params,
                  Actions& actions);
  void done_from(PeerId from, std::uint64_t epoch, const wire::OpKey& key, const wire::Done& done, Actions& actions);

  [[nodiscard]] bool is_member() const { return phase_ == Phase::member; }
  [[nodiscard]] bool is_ended() const { return phase_ == Phase::ended; }
  [[nodiscard]] bool has_coordinator() const { return control_up_ && welcomed_; }
  [[nodiscard]] std::uint32_t heartbeat_ms() const { return heartbeat_ms_; }
  [[nodiscard]] std::uint32_t peer_timeout_ms() const { return peer_timeout_ms_; }
  [[nodiscard]] const Ledger& ledger() const { return ledger_; }
  [[nodiscard]] const wire::View& view() const { return ledger_.view(); }
  [[nodiscard]] const wire::Term& promised() const { return promised_; }
  // What the join waits for, for the sentence of a timeout.
  [[nodiscard]] std::string waiting_for() const;

 private:
  enum class Phase : std::uint8_t {
    joining,  // until an Install names this peer
    member,
    ended,
  };
  // Admission points. `passed` counts those this peer has gone through.
  struct Admission {
    std::uint64_t passed = 0;
    std::optional<std::uint64_t> round;   // newcomers wait: no point is passed without the coordinator
    std::optional<std::uint64_t> target;  // stop at this one
    bool blocked = false;                 // a call stands at point passed + 1
    // The coordinator was told that it stands there and may have let newcomers in: it stays until it hears from one.
    bool standing = false;
    // The point was passed without a call: at the join, or by a view that came after the call had given up. The next
    // call, if no operation comes before it, is for that point and returns at once.
    bool credit = false;
  };

  void on(const ControlOpened& event, const Env& env, Actions& actions);
  void on(const ControlReceived& event, const Env& env, Actions& actions);
  void on(const ControlClosed& event, const Env& env, Actions& actions);
  void on(const Listening& event, const Env& env, Actions& actions);
  void on(const Linked& event, const Env& env, Actions& actions);
  void on(const LinkLost& event, const Env& env, Actions& actions);
  void on(const Unreachable& event, const Env& env, Actions& actions);
  void on(const AdmitCalled& event, const Env& env, Actions& actions);
  void on(const AdmitGivenUp& event, const Env& env, Actions& actions);
  void on(const LeaveCalled& event, const Env& env, Actions& actions);
  void on(const AbortCalled& event, const Env& env, Actions& actions);
  void on(const Tick& event, const Env& env, Actions& actions);

  void on_welcome(const wire::Welcome& welcome, const Env& env, Actions& actions);
  void on_refuse(const wire::Refuse& refuse, const Env& env, Actions& actions);
  void on_seal(const wire::Seal& seal, Actions& actions);
  void on_propose(const wire::Propose& propose, Actions& actions);
  void on_install(const wire::Install& install, Actions& actions);
  void release();               // no round holds it any more
  void walk(Actions& actions);  // an admission call goes on as far as it may
  void pass_point(Actions& actions);
  void leave_without_coordinator(const Env& env, Actions& actions);
  void end(Code code, const std::string& text, Actions& actions);
  void forward(Ledger::Actions& from, Actions& to);

  MemberConfig config_;
  Phase phase_ = Phase::joining;
  bool control_up_ = false;
  bool welcomed_ = false;
  bool joined_sent_ = false;
  bool leaving_ = false;
  std::optional<Millis> leave_by_;  // if no coordinator is there
  std::uint64_t failures_ = 0;      // when this connection was opened
  // Coordinators that lead another group, one address after the other: how many, and the attempt after the last one.
  std::uint64_t others_ = 0;
  std::uint64_t others_next_ = 0;
  wire::Term promised_;                    // obeys no lower one
  std::optional<wire::Install> accepted_;  // agreed to as the next view
  wire::Install last_;                     // how the view was installed
  std::uint32_t heartbeat_ms_ = 1000;
  std::uint32_t peer_timeout_ms_ = 6000;
  Millis heard_ = 0;
  Millis next_heartbeat_ = 0;
  std::optional<Millis> last_tick_;
  std::uint64_t heartbeat_sequence_ = 0;
  std::map<PeerId, wire::PeerInfo> met_;  // while joining: whom this peer must dial
  std::map<PeerId, bool> linked_;
  Admission admission_;
  Ledger ledger_;
};

}  // namespace hawser::protocol
