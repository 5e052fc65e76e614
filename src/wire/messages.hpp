// The messages of the control plane and the header of data frames, as values. docs/protocol.md has the same tables with
// the bytes; control.hpp and frame.hpp turn them into bytes and back; fields.hpp names the fields of each in wire
// order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.hpp"
#include "base/types.hpp"

namespace hawser::wire {

inline constexpr std::uint16_t version = 3;  // of the wire format: grows with every change that an old end cannot read

// Everything that comes from the network has a limit; all of them stand here.
inline constexpr std::size_t control_bytes_max =
    12U << 20;  // payload of a control frame; a SealReply with two Installs fits
inline constexpr std::size_t control_bytes_max_hello = 2048;  // payload of the first frame on any connection
inline constexpr std::size_t name_bytes_max = 64;
inline constexpr std::size_t host_bytes_max = 255;   // RFC 1035
inline constexpr std::size_t text_bytes_max = 1024;  // sentences
inline constexpr std::size_t members_max = 1024;
inline constexpr std::size_t ops_open_max = 1024;              // per group member
inline constexpr std::size_t seal_ops_max = 2 * ops_open_max;  // open ones, and committed ones not known to all
inline constexpr std::size_t status_groups_max = 256;          // in one StatusReport; its peers: members_max
inline constexpr std::size_t done_committed_max = 64;          // keys in one Done
inline constexpr std::size_t data_bytes_max = 4U << 20;        // payload of a data frame
inline constexpr std::size_t small_payload_bytes_max = 4096;   // payload of a begin or done frame

// --------------------------------------------------------------------------------------------------- building blocks

struct PeerInfo {
  PeerId id;
  std::string name;
  std::string host;  // numeric address that others dial; a loopback address means "the host of the coordinator"
  std::uint16_t port = 0;
  std::uint64_t codecs = 0;  // bit i: it knows the codec with wire id i
  bool operator==(const PeerInfo&) const = default;
};

struct ViewMember {
  PeerInfo peer;
  std::uint64_t joined = 0;  // generation in which it became a member; takes part in operations of that one and later
  bool operator==(const ViewMember&) const = default;
};

// The ballot of an order about views: members obey none below the highest they have seen. The instance is a random
// number of the coordinator process, so two of them never use the same term; the count is compared first.
struct Term {
  std::uint64_t count = 0;
  std::uint64_t instance = 0;
  constexpr Term() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a count alone is a term of tests
  constexpr Term(std::uint64_t c, std::uint64_t i = 0) : count(c), instance(i) {}
  auto operator<=>(const Term&) const = default;  // NOLINT(modernize-use-nullptr): see Id128
};

// Who may decide on the next view of a group; fixed when it is formed. alone: its coordinator, which is the only one
// its members know. quorum: a coordinator with a majority of the members of the old and of the new view behind it.
// arbiter: whoever holds the leader key of an outside store (etcd).
enum class Rule : std::uint8_t { alone = 0, quorum = 1, arbiter = 2 };
inline constexpr std::size_t rule_count = 3;

// The immutable membership of a group. lineage is drawn when the group is first formed and stays: views of different
// lineages have nothing to do with one another. number grows by one with every view. epoch is the number of the last
// view that removed a member: it fences data frames, since operations open then start again. generation is the number
// of the last view that admitted one: it fences the matching of calls, since newcomers begin to count there.
struct View {
  std::uint64_t number = 0;
  std::uint64_t epoch = 0;
  std::uint64_t generation = 0;
  std::vector<ViewMember> members;  // in rank order: newcomers are appended
  LineageId lineage{};
  Rule rule = Rule::alone;
  bool operator==(const View&) const = default;
  [[nodiscard]] bool contains(PeerId id) const {
    return std::any_of(members.begin(), members.end(), [&](const ViewMember& m) { return m.peer.id == id; });
  }
};

// What matches a call with the calls of other members. tag 0 is the stream of untagged calls.
struct OpKey {
  std::uint64_t generation = 0;
  std::uint64_t tag = 0;
  std::uint64_t sequence = 0;                      // within the tag, from 0 in every generation
  auto operator<=>(const OpKey&) const = default;  // NOLINT(modernize-use-nullptr): see Id128
};

// sync: makes shared state the same; check: only compares it.
enum class OpKind : std::uint8_t { all_reduce = 0, broadcast = 1, barrier = 2, sync = 3, check = 4 };
inline constexpr std::size_t op_kind_count = 5;

// What members must agree on.
struct OpParams {
  OpKind kind = OpKind::barrier;
  Dtype dtype = Dtype::u8;
  Redop redop = Redop::sum;
  std::uint8_t strict = 0;  // policy: 1 = PEER_LOST instead of a rerun
  std::uint32_t min_participants = 0;
  std::uint64_t count = 0;
  PeerId root;  // broadcast; zero otherwise
  // all_reduce by direct exchange: contributions and results travel encoded. coded = 0: along the ring, as they are.
  std::uint8_t coded = 0;
  std::uint8_t weighted = 0;
  std::uint8_t codec = 0;     // wire id; 0 in a coded operation: plain f32
  std::uint8_t rounding = 0;  // 0 nearest, 1 stochastic
  std::uint32_t block = 0;    // elements of a block
  std::uint8_t uniform = 0;   // of a list whose results count together or not at all
  bool operator==(const OpParams&) const = default;
};

// Payload of a begin frame.
struct Begin {
  OpParams params;
  double weight = 1.0;  // of the sender's contribution: finite and >= 0, or weight_left_out
  bool operator==(const Begin&) const = default;
};
// The contribution has values that are not finite: it counts nothing, and the members are told.
inline constexpr double weight_left_out = -1.0;

struct Digest128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  bool operator==(const Digest128&) const = default;
};

// Why an operation is to end without a result. Values are on the wire.
enum class FaultReason : std::uint8_t {
  none = 0,
  mismatch = 1,
  diverged = 2,
  timeout = 3,
  cancelled = 4,
  resource = 5,
  root_lost = 6,
  no_majority = 7,
  not_finite = 8,
  straggler = 9  // no vote against the operation: those who have not entered it are to be removed
};
inline constexpr std::size_t fault_reason_count = 10;

// done: this member holds the result and has said so. committed: so has everyone.
enum class OpPhase : std::uint8_t { open = 0, done = 1, committed = 2 };
inline constexpr std::size_t op_phase_count = 3;

// A member's answer about one operation when the group is sealed. A fault other than none is its vote to abort.
struct OpState {
  OpKey key;
  OpParams params;
  OpPhase phase = OpPhase::open;
  Digest128 digest;  // of the result unless open
  FaultReason fault = FaultReason::none;
  std::string text;  // about the fault
  bool operator==(const OpState&) const = default;
};

// commit: every member holds the result. abort: it ends with `reason` everywhere. rerun: a participant was lost; it
// starts again in the new epoch (strict policy: PEER_LOST). Operations without an outcome go on untouched.
enum class Verdict : std::uint8_t { commit = 0, abort = 1, rerun = 2 };
inline constexpr std::size_t verdict_count = 3;

struct Outcome {
  OpKey key;
  Verdict verdict = Verdict::commit;
  FaultReason reason = FaultReason::none;  // abort only
  std::string text;                        // abort: the same sentence at every member
  bool operator==(const Outcome&) const = default;
};

struct Departure {
  PeerId id;
  std::string name;
  bool left = false;  // true: it said Leave; false: it was lost
  std::string text;   // how it was lost
  bool operator==(const Departure&) const = default;
};

// ----------------------------------------------------------------------------- messages between peer and coordinator

// At how many of the coordinators that it knows a newcomer was in vain, one after the other.
enum class Asked : std::uint8_t {
  some = 0,
  all_that_answer = 1,  // the others may lead the group
  all = 2,
};
inline constexpr std::size_t asked_count = 3;

// peer -> coordinator, first frame. A member that comes back, to this coordinator or to another, says of what it is
// one.
struct Hello {
  PeerId peer;
  std::uint32_t group = 0;
  std::uint32_t min_size = 1;
  std::string name;
  LineageId lineage{};          // zero: it is no member yet and holds no proposal that would make it one
  std::uint64_t view = 0;       // number of its view; 0: not a member yet
  Term promised{};              // the highest it has seen
  bool sealed = false;          // it waits for an Install
  std::uint32_t addresses = 1;  // how many coordinators it knows
  Asked asked = Asked::some;    // at how many in a row, none of which led its group
  std::uint64_t passed = 0;     // admission points, of a member
  bool operator==(const Hello&) const = default;
};
// coordinator -> peer
struct Welcome {
  RunId run;
  std::uint32_t heartbeat_ms = 0;
  std::uint32_t peer_timeout_ms = 0;
  std::string seen_host;       // the address the peer's connection comes from
  bool loopback_only = false;  // the coordinator listens on loopback only, so all peers are on this host
  bool operator==(const Welcome&) const = default;
};
// coordinator -> peer, then it closes. code is a hawser_status_t; NO_COORDINATOR: this one does not lead the group, ask
// another; lineage not zero: but the group exists, so no other coordinator may form it anew. A member believes EXPELLED
// only from a coordinator that leads its lineage.
struct Refuse {
  LineageId lineage;
  std::uint32_t code = 0;
  std::string text;
  bool operator==(const Refuse&) const = default;
};
// peer -> coordinator: listening; wants to be admitted. host empty: use the address seen.
struct Join {
  std::string host;
  std::uint16_t port = 0;
  std::uint64_t codecs = 0;  // as in PeerInfo
  bool operator==(const Join&) const = default;
};
// coordinator -> peer: these two may connect with this ticket; `dial` says whether the receiver dials.
struct Meet {
  PeerInfo peer;
  Ticket ticket;
  bool dial = false;
  bool operator==(const Meet&) const = default;
};
// coordinator -> peer: it went away before it was admitted.
struct Forget {
  PeerId peer;
  bool operator==(const Forget&) const = default;
};
// peer -> coordinator: the first strand with that peer is up (sent by the end that dialled).
struct Connected {
  PeerId peer;
  bool operator==(const Connected&) const = default;
};
// coordinator -> members: someone waits. Each answers how many admission points it has passed and passes no more until
// it hears the target.
struct AdmitQuery {
  std::uint64_t round = 0;
  bool operator==(const AdmitQuery&) const = default;
};
struct AdmitPromise {
  std::uint64_t round = 0;
  std::uint64_t passed = 0;
  bool operator==(const AdmitPromise&) const = default;
};
// coordinator -> members: stop at the call that would pass point number `target` (counted from 1).
struct AdmitTarget {
  std::uint64_t round = 0;
  std::uint64_t target = 0;
  bool operator==(const AdmitTarget&) const = default;
};
// member -> coordinator: stopped there.
struct AtPoint {
  std::uint64_t round = 0;
  bool operator==(const AtPoint&) const = default;
};
// coordinator -> members: nobody waits any more; go on. round 0: whatever round it was.
struct AdmitCancel {
  std::uint64_t round = 0;
  bool operator==(const AdmitCancel&) const = default;
};
// peer -> coordinator: no open operations here and none to come. aborted: it does not wait for the answer, and what is
// open is lost.
struct Leave {
  bool aborted = false;
  bool operator==(const Leave&) const = default;
};
// What a member has done since it joined, for people who ask its coordinator.
struct Progress {
  std::uint64_t ops = 0;  // committed
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint32_t slow_ms = 0;  // how long the slowest open operation has taken that is unusually slow; 0: none is
  std::string waits_for;      // it: a sentence
  bool operator==(const Progress&) const = default;
};
// both ways, every heartbeat interval
struct Heartbeat {
  std::uint64_t sequence = 0;
  Progress progress{};  // of a member
  bool operator==(const Heartbeat&) const = default;
};
// member -> coordinator: no connection to that member can be made or kept.
struct Suspect {
  PeerId peer;
  std::string text;
  bool operator==(const Suspect&) const = default;
};
// member -> coordinator: this operation must end without a result; asks for a view change that decides it.
struct OpFault {
  std::uint64_t view = 0;
  OpKey key;
  FaultReason reason = FaultReason::none;
  std::string text;
  bool operator==(const OpFault&) const = default;
};
// coordinator -> members of the old and the new view
struct Install {
  Term term;
  View view;
  bool sealed = false;             // a Seal went before: the outcomes decide everything that was open
  std::uint64_t admit_target = 0;  // not 0: the admission point at which members stand
  std::vector<Outcome> outcomes;
  std::vector<Departure> departures;
  bool operator==(const Install&) const = default;
};
// coordinator -> members: say no Done until the next Install; answer with SealReply.
struct Seal {
  Term term;
  bool recover = false;  // the coordinator does not know the view: the answer holds the last Install, too
  bool operator==(const Seal&) const = default;
};
struct SealReply {
  Term term;
  std::uint64_t view = 0;
  std::vector<OpState> ops;
  std::vector<Install> accepted{};  // none or one: the proposal for the next view that it has accepted
  std::vector<Install> last{};      // none or one: how its view was installed, if asked
  bool operator==(const SealReply&) const = default;
};
// coordinator -> members of the old and the new view, unless an outside store has them: accept this as the next view.
struct Propose {
  Install install;
  bool operator==(const Propose&) const = default;
};
struct Accept {
  Term term;
  std::uint64_t view = 0;  // its number
  bool operator==(const Accept&) const = default;
};
// member -> coordinator, where a majority must agree: it has this view, by which somebody has gone.
struct Installed {
  std::uint64_t view = 0;  // its number
  bool operator==(const Installed&) const = default;
};
// peer -> coordinator: the light strand with that peer broke, or it refuses to be dialled. No accusation: together with
// the end of that peer's own connection it shows that its process ended.
struct LinkLost {
  PeerId peer;
  bool operator==(const LinkLost&) const = default;
};

// anybody -> coordinator, first frame: who is there? The answer is StatusReport or Refuse, then it closes.
struct StatusQuery {
  bool operator==(const StatusQuery&) const = default;
};
// away: a member whose connection ended; lost: it is being removed.
enum class PeerState : std::uint8_t {
  greeted = 0,
  waiting = 1,
  member = 2,
  away = 3,
  leaving = 4,
  lost = 5,
  returning = 6
};
inline constexpr std::size_t peer_state_count = 7;

struct PeerStatus {
  std::uint32_t group = 0;
  PeerInfo info;
  PeerState state = PeerState::greeted;
  std::uint32_t rank = 0;      // of a member
  std::uint32_t heard_ms = 0;  // since its last message; away and lost: since its connection ended
  std::string text;            // what it waits for, or why it is away
  Progress progress;
  Progress before;               // at the heartbeat before the last one
  std::uint32_t between_ms = 0;  // those two; 0: there was only one
  bool operator==(const PeerStatus&) const = default;
};
struct GroupStatus {
  std::uint32_t group = 0;
  LineageId lineage{};
  Rule rule = Rule::alone;
  std::uint64_t number = 0;  // of its view; 0: none yet
  std::uint64_t epoch = 0;
  std::uint64_t generation = 0;
  bool leads = false;     // this coordinator may order the next view
  std::string waits_for;  // what stands between this view and the next one; empty: nothing is under way
  bool operator==(const GroupStatus&) const = default;
};
// coordinator -> whoever asked. What does not fit is left out.
struct StatusReport {
  RunId run;
  std::string standby_of;
  std::uint64_t up_ms = 0;
  std::uint32_t heartbeat_ms = 0;
  std::uint32_t peer_timeout_ms = 0;
  std::uint32_t peers = 0;  // also those left out
  std::vector<GroupStatus> groups;
  std::vector<PeerStatus> list;  // by group, members in rank order, then the others
  bool operator==(const StatusReport&) const = default;
};

// ---------------------------------------------------------------------------------------- messages between two peers

// dialling peer -> accepting peer, first frame on a strand
struct StrandHello {
  PeerId from;
  PeerId to;
  Ticket ticket;
  std::uint32_t index = 0;  // 0: the light strand for control of operations; 1..64: bulk
  bool operator==(const StrandHello&) const = default;
};
// accepting peer -> dialling peer; data frames follow in both directions
struct StrandAccept {
  std::uint32_t index = 0;
  bool operator==(const StrandAccept&) const = default;
};

// The alternative's index + 1 is the type number on the wire: append only.
using Message =
    std::variant<Hello, Welcome, Refuse, Join, Meet, Forget, Connected, AdmitQuery, AdmitPromise, AdmitTarget, AtPoint,
                 AdmitCancel, Leave, Heartbeat, Suspect, OpFault, Seal, SealReply, Install, StrandHello, StrandAccept,
                 Propose, Accept, LinkLost, StatusQuery, StatusReport, Installed>;
const char* message_name(const Message& message);

// ------------------------------------------------------------------------------------------------------- data frames

// begin: payload Begin; the sender has posted its buffers for the operation. data: one unit of the plan.
// done: payload Done; the sender holds the whole result. ack: `count` tracked frames of this strand have been taken in.
// note: payload a SyncMessage; a word of the conversation that an operation consists of. ping: nothing else was sent
// for a heartbeat; whoever hears nothing at all gives the strand up. relay: payload Relay and what it says; between
// members that have no strand, by way of a third.
enum class FrameType : std::uint8_t {
  begin = 1,
  data = 2,
  done = 3,
  ack = 4,
  note = 5,
  ping = 6,
  relay = 7,
  share = 8
};

// What a share frame says, in `step`. offer: here is memory for two rings; the process and the descriptor that it has
// there are key.tag and key.sequence, `epoch` and key.generation a random number that stands in it, `slice` the bytes
// of a ring. taken: what this end sends from here on is in the memory. refused: it cannot be had.
enum class Share : std::uint32_t { offer, taken, refused };

struct FrameHeader {
  FrameType type = FrameType::ack;
  std::uint64_t epoch = 0;
  OpKey key;
  std::uint32_t slice = 0;   // data: which slice of the operation
  std::uint32_t step = 0;    // data: which step of the plan
  std::uint32_t length = 0;  // bytes of payload that follow
  std::uint32_t check =
      0;  // data: low bits of a hash of OpParams, so that bytes of another call are never reduced. ack: count
  std::uint32_t payload_sum = 0;  // checksum of the payload; 0: none, where nothing can happen to it on the way
  bool operator==(const FrameHeader&) const = default;
};
inline constexpr std::size_t frame_header_bytes = 64;

// What a relay frame brings: a frame of that type, whose payload follows and whose other fields are those of the relay
// frame's header; or the answer to one. receipt: it has been taken in. no_way: whoever was to pass it on cannot.
enum class Relayed : std::uint8_t { begin, data, done, note, receipt, no_way };
inline constexpr std::size_t relayed_count = 6;

struct Relay {
  PeerId from;  // of an answer: who was to get the frame
  PeerId to;
  std::uint64_t serial = 0;  // of the frame that is brought or answered; its sender counts
  Relayed what = Relayed::begin;
  bool operator==(const Relay&) const = default;
};
inline constexpr std::size_t relay_bytes = 41;
inline constexpr std::size_t relay_payload_bytes_max = relay_bytes + data_bytes_max;

struct Done {
  Digest128 digest;
  std::vector<OpKey> committed;  // operations the sender has committed since its last Done
  bool operator==(const Done&) const = default;
};

}  // namespace hawser::wire
