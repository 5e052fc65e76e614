// One member's part in one sync of shared state: the conversation between Begin and "this member holds its result".
// Everybody offers what it holds; with all offers each member comes to the same decision (decide.hpp); who holds other
// content than the decided one fetches the hashes of its blocks, compares them with its own, and fetches the blocks
// that differ from all members that hold them. Pure: events in, actions out, to be performed in order. One thread.
//
// What it leaves to the caller:
//   - The operation itself: that members call the same (sync or check), when it commits, and who is lost. The machine
//     lives from the first begin() until the operation ends here, since it serves others after it has finished.
//   - Epochs: after begin() only messages and blocks of the new epoch may come in. Within one epoch they may come twice
//     and in any order (strands are lost), and from peers that began earlier or later.
//   - Bytes: blocks are sent straight from the tensors, which nobody writes before the commit. A block that comes
//     goes to a place of its own, one for each block number, which may hold bytes of an earlier attempt: kept ones are not
//     fetched again. At the commit the blocks of dirty(), and no others, are written to the tensors, and the decided
//     revision and root become the member's record.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/status.hpp"
#include "protocol/sync/decide.hpp"
#include "protocol/sync/layout.hpp"
#include "wire/sync.hpp"

namespace hawser::protocol {

class Sync {
 public:
  struct Record {
    std::uint64_t revision = 0;
    wire::Digest128 root;
  };
  struct Local {
    const Layout* layout = nullptr;       // outlives the machine
    std::vector<wire::Digest128> leaves;  // of the tensors as they are now, one a block
    std::uint64_t revision = 0;
    wire::SyncStrategy strategy = wire::SyncStrategy::agree;
    bool newcomer = false;
    std::optional<Record> record;
    bool check_only = false;
  };
  struct Member {
    PeerId id;
    std::string who;  // "rank 2 (name)", for sentences; the same at all members
  };

  struct Send {
    PeerId to;
    wire::SyncMessage message;
  };
  struct SendBlock {
    PeerId to;
    std::uint64_t block = 0;
  };
  struct Finished {  // the result is here: this is its digest
    wire::Digest128 digest;
  };
  struct Vote {  // the operation is to end for all
    wire::FaultReason reason = wire::FaultReason::none;
    std::string text;
  };
  using Action = std::variant<Send, SendBlock, Finished, Vote>;
  using Actions = std::vector<Action>;

  explicit Sync(Local local);

  // The operation begins, or begins again after a lost peer, among these members, in rank order, `self` one of them.
  // Blocks that were verified before and are still wanted are not fetched again.
  void begin(std::vector<Member> members, PeerId self, Actions& actions);
  // Not OK: the peer says what does not follow from the protocol; nothing was made of it. (Hashes that are asked for
  // and wrong are not of that kind: another source is asked.)
  Status heard(PeerId from, const wire::SyncMessage& message, Actions& actions);
  // Before memory is taken for a block: has it been asked for, from that peer, and are these its bytes?
  [[nodiscard]] bool block_expected(PeerId from, std::uint64_t block, std::uint64_t bytes) const;
  // A block that was expected is here whole; digest is the hash of its bytes as in Local::leaves. True: keep the bytes.
  // False: they are wrong, or not wanted any more.
  bool block_arrived(PeerId from, std::uint64_t block, const wire::Digest128& digest, Actions& actions);

  // The root of the content here at the call.
  [[nodiscard]] const wire::Digest128& root() const { return root_; }
  // Null until all offers are in, and when they led to a vote. Of a check: unanimous.
  [[nodiscard]] const Decision* decision() const { return decision_ ? &*decision_ : nullptr; }
  [[nodiscard]] bool finished() const { return finished_; }
  // Blocks of the decided content that are other ones here, ascending; complete once finished.
  [[nodiscard]] const std::vector<std::uint64_t>& dirty() const { return dirty_; }
  [[nodiscard]] std::size_t tensors_changed() const;

  struct Counts {                       // of all attempts together
    std::uint64_t blocks_received = 0;  // verified
    std::uint64_t bytes_received = 0;
    std::uint64_t blocks_sent = 0;  // ordered to be sent
    std::uint64_t bytes_sent = 0;
    std::uint64_t blocks_wrong = 0;  // came with another hash than they should have
    std::set<PeerId> sources;        // of the verified ones
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  struct Peer {
    Member member;
    std::optional<wire::SyncOffer> offer;
    std::optional<wire::SyncLayout> layout;
    // As a source of this member.
    bool source = false;  // until it proves wrong
    bool asked_hashes = false;
    std::size_t asked = 0;    // blocks under way
    std::uint64_t sent = 0;   // blocks that came
    std::uint64_t wrong = 0;  // blocks that came with another hash
  };

  Status on(Peer& from, const wire::SyncOffer& offer, Actions& actions);
  Status on(Peer& from, const wire::SyncLayout& layout, Actions& actions);
  Status on(Peer& from, const wire::SyncHashRequest& request, Actions& actions);
  Status on(Peer& from, const wire::SyncHashes& hashes, Actions& actions);
  Status on(Peer& from, const wire::SyncBlockRequest& request, Actions& actions);

  void decide_if_all_offered(Actions& actions);
  void compare_layouts_if_here(Actions& actions);
  void fetch(Actions& actions);
  void next_hash_source(Actions& actions);
  void ask_hashes(Actions& actions);
  void have_hashes(Actions& actions);
  void ask_blocks(Actions& actions);
  void drop_source(Peer& source);
  bool vote_if_unobtainable(Actions& actions);
  void finish(Actions& actions);
  void vote(wire::FaultReason reason, const std::string& text, Actions& actions);

  [[nodiscard]] Peer* find(PeerId id);
  [[nodiscard]] const Peer* find(PeerId id) const;
  [[nodiscard]] std::vector<Candidate> candidates() const;
  [[nodiscard]] bool serves() const;

  Local local_;
  wire::Digest128 layout_digest_;
  wire::Digest128 root_;
  Counts counts_;
  bool seen_continuing_ = false;  // in any attempt: somebody who is no newcomer

  // Content that came, by what it is, so that it outlives an attempt.
  std::optional<wire::Digest128> hashes_root_;     // of hashes_, once verified
  std::vector<wire::Digest128> hashes_;            // of the decided content, as far as here
  std::map<std::uint64_t, wire::Digest128> kept_;  // verified blocks in the caller's hands

  // This attempt.
  std::vector<Peer> members_;  // in rank order
  std::size_t self_ = 0;
  std::optional<Decision> decision_;
  std::optional<LayoutsDiffer> layouts_differ_;
  bool finished_ = false;
  bool voted_ = false;
  std::size_t hash_source_ = 0;  // index into members_
  std::vector<std::uint64_t> dirty_;
  std::set<std::uint64_t> wanted_;                   // neither kept nor asked for
  std::map<std::uint64_t, PeerId> asked_;            // under way, and from whom
  std::map<std::uint64_t, std::set<PeerId>> wrong_;  // who sent a wanted block wrong
};

}  // namespace hawser::protocol
