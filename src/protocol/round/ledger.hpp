// A member's record of its operations and the part it plays in deciding them: says Done, hears Done, is sealed, gets
// outcomes. Pure. The rules (docs/protocol.md#operations):
//   - An operation commits here when every participant's Done with one digest is known, or when an Install says so.
//   - It ends without a result only by an Install (or when this peer itself is out of the group).
//   - From Seal to Install no Done is said. A vote against the operation keeps this peer from saying Done; one that
//   comes
//     after its Done cannot undo it.
//   - What was committed stays in the answers to Seal until every participant is known to have committed it too.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/status.hpp"
#include "wire/messages.hpp"

namespace hawser::protocol {

// Orders that concern operations; performed by the data plane.
struct SayDone {  // to these peers, over the light strand
  std::vector<PeerId> to;
  wire::OpKey key;
  std::uint64_t epoch = 0;
  wire::Done done;
};
struct OpCommitted {
  wire::OpKey key;
};
struct OpFailed {  // restore the inputs, then report
  wire::OpKey key;
  Code code = Code::INTERNAL;
  std::string text;
};
struct OpRestarted {  // restore the inputs, then start again among the participants of the current view
  wire::OpKey key;
};
struct ReportFault {  // to the coordinator
  wire::OpFault fault;
};
using LedgerAction = std::variant<SayDone, OpCommitted, OpFailed, OpRestarted, ReportFault>;

class Ledger {
 public:
  using Actions = std::vector<LedgerAction>;

  explicit Ledger(PeerId self) : self_(self) {}

  // Registers a call under the next number of its tag. A failure (it was ended by others before it began here, too few
  // members, too many open) consumes the number, except RESOURCE.
  Result<wire::OpKey> start(std::uint64_t tag, const wire::OpParams& params, Actions& actions);
  // The key that the next call of this tag gets.
  [[nodiscard]] wire::OpKey next_key(std::uint64_t tag) const;
  // Calls before this one count as made, though they were not: this peer is in step with those who made them.
  void skip_to(const wire::OpKey& next);
  // The data plane holds the whole result of the attempt of this epoch.
  void finished(const wire::OpKey& key, std::uint64_t epoch, const wire::Digest128& digest, Actions& actions);
  // This peer wants the operation to end. After its Done, false is returned and the vote counts only while some
  // participant has not said Done: nobody can have committed then, and the operation ends for all.
  bool vote(const wire::OpKey& key, wire::FaultReason reason, const std::string& text, Actions& actions);
  // What other members say; from and epoch are those of the frame.
  void begin_from(PeerId from, std::uint64_t epoch, const wire::OpKey& key, const wire::OpParams& params,
                  Actions& actions);
  void done_from(PeerId from, std::uint64_t epoch, const wire::OpKey& key, const wire::Done& done, Actions& actions);

  [[nodiscard]] wire::SealReply seal(const wire::Term& term);
  void hold() { sealed_ = true; }  // as seal, without an answer
  [[nodiscard]] bool is_sealed() const { return sealed_; }
  // The caller has checked that this peer is in the view. `unseals`: no coordinator has sealed it with a higher term.
  void install(const wire::Install& install, Actions& actions, bool unseals = true);
  // What was reported and may not have been heard is reported again.
  void repeat_faults(Actions& actions);
  // Every open operation ends here with this status: the peer is out of the group.
  void end_all(Code code, const std::string& text, Actions& actions);
  // This operation ends here though undecided: no coordinator could be asked in time. It stays in the answers to Seals
  // until it is decided, with this peer's Done, or else with a vote against it, so that the others do not wait for
  // theirs until each has given up, too; nothing more is ordered about it here.
  void abandon(const wire::OpKey& key, Code code, const std::string& text, Actions& actions);

  [[nodiscard]] const wire::View& view() const { return view_; }
  // Members that take part in operations of this generation, in rank order.
  [[nodiscard]] std::vector<PeerId> participants(std::uint64_t generation) const;
  [[nodiscard]] bool said_done(const wire::OpKey& key) const;
  // Whether that participant's Done of the open operation's current attempt is here.
  [[nodiscard]] bool heard_done(const wire::OpKey& key, PeerId from) const;
  [[nodiscard]] bool is_open(const wire::OpKey& key) const { return ops_.contains(key); }
  // Neither open nor ended here: frames for it are kept until the call comes.
  [[nodiscard]] bool is_future(const wire::OpKey& key) const;
  [[nodiscard]] std::size_t open_count() const { return ops_.size(); }
  // What is remembered, for checks of its bounds.
  struct Sizes {
    std::size_t open = 0;
    std::size_t unstable = 0;
    std::size_t announce = 0;
    std::size_t early = 0;
    std::size_t ended = 0;
    std::size_t interrupted = 0;
  };
  [[nodiscard]] Sizes sizes() const {
    return {ops_.size(), unstable_.size(), announce_.size(), early_.size(), ended_.size(), interrupted_.size()};
  }

 private:
  struct Op {
    wire::OpParams params;
    wire::OpPhase phase = wire::OpPhase::open;
    wire::Digest128 digest;
    std::optional<wire::Digest128> held;  // finished while sealed: Done is said after the Install
    wire::FaultReason fault = wire::FaultReason::none;
    std::string text;
    std::map<PeerId, wire::Digest128> dones;  // of the other participants, this epoch
    bool divergence_reported = false;
    // The caller was told that it cannot know, or that nobody could decide. What this peer has said of it stands, and
    // the others may need it in an answer to a Seal.
    bool given_up = false;
  };
  struct Unstable {  // committed here; `waiting` may not have committed yet
    wire::OpParams params;
    wire::Digest128 digest;
    std::set<PeerId> waiting;
  };
  struct Early {  // heard of before the call came here, this epoch
    std::map<PeerId, wire::OpParams> begins;
    std::map<PeerId, wire::Digest128> dones;
  };

  void say_done(const wire::OpKey& key, Op& op, const wire::Digest128& digest, Actions& actions);
  void commit_if_all_done(const wire::OpKey& key, Actions& actions);
  void commit(const wire::OpKey& key, Actions& actions);
  void restart(const wire::OpKey& key, Op& op, Actions& actions);
  void fail(const wire::OpKey& key, Code code, const std::string& text, Actions& actions);
  void apply(const wire::Outcome& outcome, const std::string& lost, Actions& actions);
  bool compare(const wire::OpKey& key, const wire::OpParams& mine, PeerId from, const wire::OpParams& theirs,
               Actions& actions);
  [[nodiscard]] std::string who(PeerId id) const;

  PeerId self_;
  wire::View view_;
  bool sealed_ = false;
  std::map<wire::OpKey, Op> ops_;
  std::map<std::uint64_t, std::uint64_t> next_;  // next number of each tag in this generation
  std::map<wire::OpKey, Early> early_;
  std::map<wire::OpKey, Status> ended_;             // ended by an Install before the call came here
  std::map<wire::OpKey, std::string> interrupted_;  // lost a participant before the call came here: strict calls fail
  std::map<wire::OpKey, Unstable> unstable_;
  std::deque<wire::OpKey> announce_;  // committed since the last Done that could say so
};

Code fault_code(wire::FaultReason reason);

}  // namespace hawser::protocol
