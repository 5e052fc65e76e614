// A member's part in a sync; see the header.
#include "protocol/sync/sync.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/text.hpp"
#include "wire/archive.hpp"
#include "wire/checksum.hpp"

namespace hawser::protocol {
namespace {

using wire::Digest128;
using wire::FaultReason;
using wire::SyncStrategy;

// Blocks under way from one source: at first few, one more for each that came, at last 16 MiB.
constexpr std::size_t window_min = 8;
constexpr std::size_t window_max = wire::sync_request_blocks_max;
constexpr std::size_t batch = 8;          // blocks asked for at once, while others are under way
constexpr std::uint64_t wrong_max = 3;    // wrong blocks after which a source is not asked any more
constexpr std::uint64_t result_seed = 0;  // of the digest members compare at the end

Status nonsense(std::string text) { return {Code::INVALID_ARGUMENT, std::move(text)}; }

}  // namespace

Sync::Sync(Local local)
    : local_(std::move(local)),
      layout_digest_(local_.layout->digest()),
      root_(merkle_root(layout_digest_, local_.leaves)) {
  HAWSER_ASSERT(local_.leaves.size() == local_.layout->blocks(), "there is a hash for every block");
}

Sync::Peer* Sync::find(PeerId id) {
  auto it = std::find_if(members_.begin(), members_.end(), [&](const Peer& peer) { return peer.member.id == id; });
  return it == members_.end() ? nullptr : &*it;
}

const Sync::Peer* Sync::find(PeerId id) const {
  auto it = std::find_if(members_.begin(), members_.end(), [&](const Peer& peer) { return peer.member.id == id; });
  return it == members_.end() ? nullptr : &*it;
}

bool Sync::serves() const { return local_.strategy != SyncStrategy::receive_only && !local_.check_only; }

std::vector<Candidate> Sync::candidates() const {
  std::vector<Candidate> out;
  for (const Peer& peer : members_) out.push_back({peer.member.who, *peer.offer});
  return out;
}

std::size_t Sync::tensors_changed() const {
  std::size_t changed = 0;
  std::optional<std::size_t> last;
  for (const std::uint64_t block : dirty_) {
    const std::size_t tensor = local_.layout->block(block).tensor;
    if (last == tensor) continue;
    last = tensor;
    ++changed;
  }
  return changed;
}

// ------------------------------------------------------------------------------------------------------- the decision

void Sync::begin(std::vector<Member> members, PeerId self, Actions& actions) {
  members_.clear();
  decision_.reset();
  layouts_differ_.reset();
  finished_ = voted_ = false;
  dirty_.clear();
  wanted_.clear();
  asked_.clear();
  wrong_.clear();
  if (!hashes_root_) hashes_.clear();

  for (Member& member : members) members_.emplace_back().member = std::move(member);
  Peer* const me = find(self);
  HAWSER_ASSERT(me != nullptr, "a member takes part in its own sync");
  self_ = static_cast<std::size_t>(me - members_.data());
  wire::SyncOffer offer;
  offer.layout = layout_digest_;
  offer.revision = local_.revision;
  offer.root = root_;
  offer.strategy = local_.strategy;
  offer.newcomer = local_.newcomer;
  if (local_.record) {
    offer.has_record = true;
    offer.record_revision = local_.record->revision;
    offer.record_root = local_.record->root;
  }
  for (const Peer& peer : members_) {
    if (peer.member.id != self) actions.push_back(Send{peer.member.id, offer});
  }
  static_cast<void>(on(*me, offer, actions));
}

Status Sync::heard(PeerId from, const wire::SyncMessage& message, Actions& actions) {
  Peer* const peer = find(from);
  if (peer == nullptr || peer == &members_[self_]) {
    return nonsense(fmt::format("{} from {}, which takes no part in this sync", wire::sync_message_name(message),
                                short_name(from)));
  }
  return std::visit([&](const auto& m) { return on(*peer, m, actions); }, message);
}

Status Sync::on(Peer& from, const wire::SyncOffer& offer, Actions& actions) {
  if (from.offer) {
    return *from.offer == offer ? Status() : nonsense(fmt::format("a second, other offer of {}", from.member.who));
  }
  from.offer = offer;
  seen_continuing_ = seen_continuing_ || !offer.newcomer;
  decide_if_all_offered(actions);
  return {};
}

void Sync::decide_if_all_offered(Actions& actions) {
  if (!std::all_of(members_.begin(), members_.end(), [](const Peer& peer) { return peer.offer.has_value(); })) return;
  const bool all_new =
      std::all_of(members_.begin(), members_.end(), [](const Peer& peer) { return peer.offer->newcomer; });
  // Newcomers decide for themselves where there never was anybody else. Where there was, what they came for is lost.
  if (all_new && seen_continuing_ && !local_.check_only) {
    return vote(FaultReason::root_lost, "the members that held the shared state are lost; only newcomers are left",
                actions);
  }
  const std::vector<Candidate> all = candidates();
  SyncVerdict verdict = local_.check_only ? decide_check(all) : decide_sync(all);
  if (const auto* refusal = std::get_if<Refusal>(&verdict)) return vote(refusal->reason, refusal->text, actions);
  if (const auto* differ = std::get_if<LayoutsDiffer>(&verdict)) {
    layouts_differ_ = *differ;
    if (self_ == differ->one || self_ == differ->other) {
      const Peer& partner = members_[self_ == differ->one ? differ->other : differ->one];
      actions.push_back(Send{partner.member.id, local_.layout->description()});
    }
    return compare_layouts_if_here(actions);
  }
  decision_ = std::move(std::get<Decision>(verdict));
  if (local_.check_only || root_ == decision_->root) return finish(actions);
  fetch(actions);
}

// Either of the two that differ knows its own layout and gets the other's.
Status Sync::on(Peer& from, const wire::SyncLayout& layout, Actions& actions) {
  const std::size_t rank = static_cast<std::size_t>(&from - members_.data());
  // The first member is one of the two in any case, and it may know of the difference before this one does.
  if (rank != 0 && self_ != 0) return nonsense(fmt::format("an unasked layout of {}", from.member.who));
  if (from.layout) return {};
  from.layout = layout;
  compare_layouts_if_here(actions);
  return {};
}

void Sync::compare_layouts_if_here(Actions& actions) {
  if (!layouts_differ_ || voted_ || (self_ != layouts_differ_->one && self_ != layouts_differ_->other)) return;
  const Peer& one = members_[layouts_differ_->one];
  const Peer& other = members_[layouts_differ_->other];
  const bool first = self_ == layouts_differ_->one;
  const std::optional<wire::SyncLayout>& theirs = first ? other.layout : one.layout;
  if (!theirs) return;
  const wire::SyncLayout& mine = local_.layout->description();
  std::string text = first ? first_difference(one.member.who, mine, other.member.who, *theirs)
                           : first_difference(one.member.who, *theirs, other.member.who, mine);
  if (text.empty()) {
    text = fmt::format("layouts of the shared state have different digests at {} and {}", one.member.who,
                       other.member.who);
  }
  vote(FaultReason::mismatch, text, actions);
}

// -------------------------------------------------------------------------------------------------------- the sources

Status Sync::on(Peer& from, const wire::SyncHashRequest& request, Actions& actions) {
  const std::uint64_t blocks = local_.layout->blocks();
  if (!serves() || request.count == 0 || request.count > wire::sync_hashes_max || request.first >= blocks ||
      request.count > blocks - request.first) {
    return nonsense(fmt::format("{} asks for the hashes of {} blocks from {}, of {}", from.member.who, request.count,
                                request.first, blocks));
  }
  const auto first = local_.leaves.begin() + static_cast<std::ptrdiff_t>(request.first);
  actions.push_back(Send{from.member.id, wire::SyncHashes{request.first, {first, first + request.count}}});
  return {};
}

Status Sync::on(Peer& from, const wire::SyncBlockRequest& request, Actions& actions) {
  const std::uint64_t blocks = local_.layout->blocks();
  std::uint64_t total = 0;
  bool valid = serves() && !request.ranges.empty();
  for (const wire::BlockRange& range : request.ranges) {
    total += range.count;
    valid = valid && range.count > 0 && range.first < blocks && range.count <= blocks - range.first;
  }
  if (!valid || total > wire::sync_request_blocks_max) {
    return nonsense(fmt::format("{} asks for {} blocks in {} ranges that are not to be had", from.member.who, total,
                                request.ranges.size()));
  }
  for (const wire::BlockRange& range : request.ranges) {
    for (std::uint64_t block = range.first; block < range.first + range.count; ++block) {
      actions.push_back(SendBlock{from.member.id, block});
      ++counts_.blocks_sent;
      counts_.bytes_sent += local_.layout->block(block).bytes;
    }
  }
  return {};
}

// ------------------------------------------------------------------------------------------------------ the receivers

void Sync::fetch(Actions& actions) {
  for (const std::size_t rank : decision_->sources) members_[rank].source = true;
  if (hashes_root_ == decision_->root) return have_hashes(actions);
  hashes_root_.reset();
  // Receivers spread over the sources.
  const auto place = std::find(decision_->receivers.begin(), decision_->receivers.end(), self_);
  const auto index = static_cast<std::size_t>(place - decision_->receivers.begin());
  hash_source_ = decision_->sources[index % decision_->sources.size()];
  hashes_.clear();
  ask_hashes(actions);
}

void Sync::ask_hashes(Actions& actions) {
  Peer& source = members_[hash_source_];
  source.asked_hashes = true;
  const std::uint64_t missing = local_.layout->blocks() - hashes_.size();
  const auto count = static_cast<std::uint32_t>(std::min<std::uint64_t>(missing, wire::sync_hashes_max));
  actions.push_back(Send{source.member.id, wire::SyncHashRequest{hashes_.size(), count}});
}

// From the beginning, from the next member that has proved nothing against itself.
void Sync::next_hash_source(Actions& actions) {
  hashes_.clear();
  for (std::size_t step = 0; step < members_.size(); ++step) {
    hash_source_ = (hash_source_ + 1) % members_.size();
    if (members_[hash_source_].source) return ask_hashes(actions);
  }
  vote(FaultReason::diverged, "no member that claims to hold the decided content has the hashes of its blocks",
       actions);
}

Status Sync::on(Peer& from, const wire::SyncHashes& message, Actions& actions) {
  if (!from.asked_hashes) return nonsense(fmt::format("unasked hashes from {}", from.member.who));
  const bool current = &from == &members_[hash_source_] && from.source;
  // What was asked for before may come again, and late.
  if (!current || hashes_root_ || voted_ || finished_ || message.first < hashes_.size()) return {};
  const std::uint64_t missing = local_.layout->blocks() - hashes_.size();
  bool right = message.first == hashes_.size() &&
               message.hashes.size() == std::min<std::uint64_t>(missing, wire::sync_hashes_max);
  if (right) {
    hashes_.insert(hashes_.end(), message.hashes.begin(), message.hashes.end());
    if (hashes_.size() < local_.layout->blocks()) {
      ask_hashes(actions);
      return {};
    }
    right = merkle_root(layout_digest_, hashes_) == decision_->root;
  }
  if (right) {
    hashes_root_ = decision_->root;
    have_hashes(actions);
  } else {
    drop_source(from);
    next_hash_source(actions);
  }
  return {};
}

void Sync::have_hashes(Actions& actions) {
  for (std::uint64_t block = 0; block < hashes_.size(); ++block) {
    if (hashes_[block] == local_.leaves[block]) continue;
    dirty_.push_back(block);
    auto kept = kept_.find(block);
    if (kept == kept_.end() || kept->second != hashes_[block]) wanted_.insert(block);
  }
  if (wanted_.empty()) return finish(actions);
  ask_blocks(actions);
}

// A source is never asked for more than its share of what is still to come, measured by what it has sent so far: so a
// slow one does not sit on the last blocks while fast ones have nothing to do.
void Sync::ask_blocks(Actions& actions) {
  const auto weight = [](const Peer& source) { return source.sent + window_min; };
  const std::uint64_t left = wanted_.size() + asked_.size();
  std::uint64_t weights = 0;
  for (const Peer& peer : members_) weights += peer.source ? weight(peer) : 0;
  // Each receiver begins at another member, so that few blocks do not all come from the first.
  for (std::size_t step = 1; step <= members_.size() && !wanted_.empty(); ++step) {
    Peer& source = members_[(self_ + step) % members_.size()];
    if (!source.source) continue;
    const std::uint64_t share = (left * weight(source) + weights - 1) / weights;
    const std::uint64_t limit = std::min<std::uint64_t>({window_max, weight(source), share});
    if (limit <= source.asked) continue;
    std::size_t free = static_cast<std::size_t>(limit) - source.asked;
    if (source.asked > 0 && free < std::min(batch, wanted_.size())) continue;  // in larger pieces, later
    wire::SyncBlockRequest request;
    for (auto it = wanted_.begin(); it != wanted_.end() && free > 0;) {
      const std::uint64_t block = *it;
      auto wrong = wrong_.find(block);
      if (wrong != wrong_.end() && wrong->second.contains(source.member.id)) {
        ++it;
        continue;
      }
      std::vector<wire::BlockRange>& ranges = request.ranges;
      if (!ranges.empty() && ranges.back().first + ranges.back().count == block) {
        ++ranges.back().count;
      } else {
        ranges.push_back({block, 1});
      }
      asked_.emplace(block, source.member.id);
      ++source.asked;
      --free;
      kept_.erase(block);  // its place is about to be overwritten
      it = wanted_.erase(it);
    }
    if (!request.ranges.empty()) actions.push_back(Send{source.member.id, std::move(request)});
  }
}

bool Sync::block_expected(PeerId from, std::uint64_t block, std::uint64_t bytes) const {
  auto it = asked_.find(block);
  return it != asked_.end() && it->second == from && local_.layout->block(block).bytes == bytes;
}

bool Sync::block_arrived(PeerId from, std::uint64_t block, const Digest128& digest, Actions& actions) {
  auto it = asked_.find(block);
  if (it == asked_.end() || it->second != from) return false;
  Peer& source = *find(from);
  asked_.erase(it);
  --source.asked;
  const bool right = digest == hashes_[block];
  if (right) {
    kept_.emplace(block, digest);
    wrong_.erase(block);
    ++source.sent;
    ++counts_.blocks_received;
    counts_.bytes_received += local_.layout->block(block).bytes;
    counts_.sources.insert(from);
    if (wanted_.empty() && asked_.empty()) {
      finish(actions);
      return true;
    }
  } else {
    wanted_.insert(block);
    wrong_[block].insert(from);
    ++counts_.blocks_wrong;
    if (++source.wrong >= wrong_max) drop_source(source);
    if (vote_if_unobtainable(actions)) return false;
  }
  ask_blocks(actions);
  return right;
}

// Whatever is under way from it is asked for elsewhere; what it still sends is not expected any more.
void Sync::drop_source(Peer& source) {
  source.source = false;
  source.asked = 0;
  for (auto it = asked_.begin(); it != asked_.end();) {
    if (it->second != source.member.id) {
      ++it;
      continue;
    }
    wanted_.insert(it->first);
    it = asked_.erase(it);
  }
}

bool Sync::vote_if_unobtainable(Actions& actions) {
  const auto can_send = [&](std::uint64_t block) {
    auto wrong = wrong_.find(block);
    return std::any_of(members_.begin(), members_.end(), [&](const Peer& peer) {
      return peer.source && (wrong == wrong_.end() || !wrong->second.contains(peer.member.id));
    });
  };
  auto block = std::find_if_not(wanted_.begin(), wanted_.end(), can_send);
  if (block == wanted_.end()) return false;
  const Block place = local_.layout->block(*block);
  vote(FaultReason::diverged,
       fmt::format("nobody sent block {} of the shared state (tensor \"{}\", byte {}) as its hash says; were tensors "
                   "changed during the sync?",
                   *block, local_.layout->tensors()[place.tensor].name, place.offset),
       actions);
  return true;
}

// ------------------------------------------------------------------------------------------------------------ the end

void Sync::finish(Actions& actions) {
  finished_ = true;
  std::vector<std::uint8_t> bytes;
  wire::Writer writer(bytes);
  writer.bits128(decision_->root);
  writer.number(decision_->revision);
  writer.number(static_cast<std::uint8_t>(decision_->by));
  writer.boolean(local_.check_only);
  actions.push_back(Finished{wire::digest128(bytes, result_seed)});
}

void Sync::vote(FaultReason reason, const std::string& text, Actions& actions) {
  voted_ = true;
  wanted_.clear();
  asked_.clear();
  actions.push_back(Vote{reason, clean_text(text, wire::text_bytes_max)});
}

}  // namespace hawser::protocol
