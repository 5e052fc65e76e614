// Thousands of random syncs: layouts, contents, strategies, records, the order in which everything arrives, packets
// that come twice, members that die, sources that send wrong blocks and wrong hashes. A failure prints the seed;
// HAWSER_SYNC_SEED=n runs that one alone.
#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "support/catch.hpp"
#include "sync_world.hpp"

using namespace hawser;
using namespace hawser::sync_test;
using wire::FaultReason;
using wire::SyncStrategy;

namespace {

struct Seen {  // over all seeds, so that nothing is tested only on paper
  std::map<std::string, std::uint64_t> times;
};

class History {
 public:
  History(std::uint64_t seed, Seen& seen) : random_(seed), seen_(seen) {}

  void run() {
    set_up();
    World world(setups_, check_only_, random_);
    World* const w = &world;
    std::uint64_t budget = 200'000;
    unsigned kills = one_in(3) ? static_cast<unsigned>(below(members_)) : 0;
    const std::uint64_t kill_at = 1 + below(60);
    bool anybody_died = false;
    for (std::uint64_t step = 1;; ++step) {
      require(--budget > 0, "it does not end");
      if (kills > 0 && step % kill_at == 0 && may_kill(*w)) {
        const auto alive = w->alive();
        w->kill(turning_ && w->nodes[*turning_].alive ? *turning_ : alive[below(alive.size())]);
        anybody_died = true;
        --kills;
      }
      if (!advance(*w)) break;
    }
    judge(*w, anybody_died);
  }

 private:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  void count(const std::string& what) { ++seen_.times[what]; }

  void set_up() {
    members_ = 1 + below(6);
    check_only_ = one_in(8);
    clean_ = !one_in(3);
    const std::uint64_t tensors = below(6);
    const std::uint64_t size = one_in(20) ? 300 : 25;
    for (std::uint64_t i = 0; i < tensors; ++i) {
      const std::uint64_t bytes = one_in(5) ? 0 : below(size * sync_block_bytes);
      require(layout_.add("t" + std::to_string(i), Dtype::u8, bytes).ok(), "no layout");
    }
    other_layout_ = layout_;
    require(other_layout_.add("one more", Dtype::u8, 0).ok(), "no layout");

    const std::size_t blocks = layout_.blocks();
    std::vector<Content> contents;
    for (std::uint64_t i = 0; i < 1 + below(3); ++i) {
      Content content = contents.empty() ? Content(blocks) : contents[below(contents.size())];
      const std::uint64_t changes = contents.empty() ? 100 : 1 + below(100);  // of a hundred blocks
      for (std::uint64_t& block : content) {
        if (below(100) < changes) block = 1 + below(1000);
      }
      contents.push_back(std::move(content));
    }
    const std::uint64_t revision = below(3);
    std::optional<std::pair<std::uint64_t, std::size_t>> record;
    if (one_in(2)) record = {revision - (revision > 0 && one_in(3) ? 1 : 0), below(contents.size())};
    const bool some_new = one_in(2);
    const bool mixed_strategies = one_in(3);
    const bool one_content = one_in(2);
    const bool all_wrong = one_in(4);
    for (std::size_t i = 0; i < members_; ++i) {
      Setup setup;
      setup.layout = &layout_;
      setup.content = contents[one_content && !one_in(4) ? 0 : below(contents.size())];
      setup.revision = one_in(6) ? below(4) : revision;
      setup.newcomer = some_new && one_in(2);
      if (mixed_strategies && one_in(2)) setup.strategy = static_cast<SyncStrategy>(below(3));
      if (record && (!setup.newcomer || one_in(2)) && !one_in(8)) {
        setup.record = Sync::Record{record->first, merkle_root(layout_.digest(), leaves_of(contents[record->second]))};
      }
      if (one_in(60)) setup.layout = &other_layout_;
      if (!clean_ && (all_wrong || one_in(3))) {
        setup.wrong_blocks = one_in(2) ? static_cast<unsigned>(below(1001)) : 0;
        setup.wrong_hashes = one_in(3);
        setup.wrong_shape = one_in(6);
      }
      setups_.push_back(std::move(setup));
    }
    if (members_ > 2 && !check_only_ && one_in(4)) {
      // One holds the content of record and all others something newer: while it lives it decides, without it they do.
      turning_ = below(members_);
      const Sync::Record last{revision, merkle_root(layout_.digest(), leaves_of(contents.front()))};
      for (std::size_t i = 0; i < members_; ++i) {
        setups_[i].revision = revision;
        setups_[i].content = i == turning_ ? contents.front() : contents.back();
        if (i == (*turning_ + 1) % members_) setups_[i].content = contents[contents.size() / 2];
        setups_[i].record = last;
        setups_[i].newcomer = false;
      }
    }
    slow_ = below(members_);
  }

  // While everybody has finished or somebody has voted, the operation would be over.
  static bool may_kill(const World& world) {
    const auto alive = world.alive();
    if (alive.size() < 2) return false;
    bool all_finished = true;
    for (const std::size_t i : alive) {
      if (world.nodes[i].vote) return false;
      all_finished = all_finished && world.nodes[i].finished && world.nodes[i].epoch == world.epoch;
    }
    return !all_finished;
  }

  // One thing happens: somebody begins, or something arrives. False: nothing can.
  bool advance(World& world) {
    std::vector<std::size_t> behind;
    for (const std::size_t i : world.alive()) {
      if (world.nodes[i].epoch < world.epoch) behind.push_back(i);
    }
    if (!behind.empty() && (one_in(8) || world.packets.empty())) {
      world.begin(behind[below(behind.size())]);
      return true;
    }
    // A few tries to find a packet whose receiver can take it; then in order.
    const std::size_t packets = world.packets.size();
    const std::size_t start = packets == 0 ? 0 : below(packets);
    for (std::size_t i = 0; i < packets; ++i) {
      const std::size_t index = (start + i) % packets;
      const World::Packet& packet = world.packets[index];
      const World::Node& receiver = world.nodes[packet.to];
      if (receiver.alive && packet.epoch > receiver.epoch) continue;  // parked until the view is here
      if (packet.from == slow_ && i + 1 < packets && !one_in(4)) continue;
      world.deliver(index, one_in(50));
      return true;
    }
    if (!behind.empty()) {
      world.begin(behind[below(behind.size())]);
      return true;
    }
    for (std::size_t index = 0; index < packets; ++index) {
      const World::Packet& packet = world.packets[index];
      if (world.nodes[packet.to].alive && packet.epoch > world.nodes[packet.to].epoch) continue;
      world.deliver(index);
      return true;
    }
    return false;
  }

  void judge(const World& world, bool anybody_died) {
    const auto alive = world.alive();
    std::vector<Candidate> candidates;
    bool all_new = true;
    for (const std::size_t i : alive) {
      const Setup& setup = setups_[i];
      wire::SyncOffer offer;
      offer.layout = setup.layout->digest();
      offer.revision = setup.revision;
      offer.root = world.nodes[i].machine->root();
      offer.strategy = setup.strategy;
      offer.newcomer = setup.newcomer;
      offer.has_record = setup.record.has_value();
      if (setup.record) offer.record_revision = setup.record->revision, offer.record_root = setup.record->root;
      candidates.push_back({"rank " + std::to_string(i), offer});
      all_new = all_new && setup.newcomer;
    }
    const SyncVerdict verdict = check_only_ ? decide_check(candidates) : decide_sync(candidates);

    // Who never heard of anybody else may have come to a decision of newcomers: the vote of the others ends it for all.
    for (const std::size_t i : alive) {
      const auto& vote = world.nodes[i].vote;
      if (!vote || vote->reason != FaultReason::root_lost) continue;
      require(anybody_died && all_new && !check_only_, "what newcomers came for is not lost");
      return count("sources lost");
    }
    const Sync::Vote* vote = nullptr;
    for (const std::size_t i : alive) {
      const World::Node& node = world.nodes[i];
      require(node.epoch == world.epoch, "somebody did not begin");
      if (!node.vote) continue;
      if (vote != nullptr) {
        require(vote->reason == node.vote->reason, "votes of two kinds: " + vote->text + "; " + node.vote->text);
        require(vote->text == node.vote->text || !clean_, "two sentences: " + vote->text + "; " + node.vote->text);
      }
      vote = &*node.vote;
    }
    if (const auto* refusal = std::get_if<Refusal>(&verdict)) {
      for (const std::size_t i : alive) {
        const auto& one = world.nodes[i].vote;
        require(one && one->reason == refusal->reason && one->text == refusal->text, "no vote for: " + refusal->text);
      }
      return count(check_only_                                ? "check refused"
                   : refusal->reason == FaultReason::mismatch ? "send-only"
                                                              : "no majority");
    }
    if (const auto* differ = std::get_if<LayoutsDiffer>(&verdict)) {
      for (std::size_t rank = 0; rank < alive.size(); ++rank) {
        const World::Node& node = world.nodes[alive[rank]];
        const bool one_of_them = rank == differ->one || rank == differ->other;
        require(node.vote.has_value() == one_of_them && !node.finished, "layouts differ, and nobody says so");
      }
      require(vote->reason == FaultReason::mismatch && vote->text.find("\"one more\"") != std::string::npos,
              "layouts: " + vote->text);
      return count("layouts");
    }
    const auto& decision = std::get<Decision>(verdict);
    std::size_t honest = 0;
    for (const std::size_t rank : decision.sources) honest += setups_[alive[rank]].honest() ? 1U : 0U;
    if (vote != nullptr) {
      require(vote->reason == FaultReason::diverged && honest == 0, "a vote without a reason: " + vote->text);
      return count("no honest source");
    }

    std::optional<Content> content;
    for (std::size_t rank = 0; rank < alive.size(); ++rank) {
      if (candidates[rank].offer.root == decision.root) content = setups_[alive[rank]].content;
    }
    require(content.has_value(), "nobody held what was decided");
    for (std::size_t rank = 0; rank < alive.size(); ++rank) {
      const World::Node& node = world.nodes[alive[rank]];
      const Sync& machine = *node.machine;
      const std::string who = "rank " + std::to_string(rank);
      require(node.finished.has_value() && machine.finished(), who + " has not finished");
      require(*node.finished == *world.nodes[alive.front()].finished, who + " has another digest");
      require(machine.decision() != nullptr && machine.decision()->behind == decision.behind,
              who + " counts otherwise");
      require(world.result(alive[rank]) == *content, who + " has another content");
      std::size_t dirty = 0;
      std::set<std::size_t> tensors;
      for (std::uint64_t block = 0; block < content->size(); ++block) {
        if (node.setup.content[block] == (*content)[block]) continue;
        ++dirty;
        tensors.insert(layout_.block(block).tensor);
      }
      const Sync::Counts& counts = machine.counts();
      require(machine.dirty().size() == dirty, who + " writes more or fewer blocks than differ");
      require(machine.tensors_changed() == tensors.size(), who + " counts the tensors it changes wrong");
      if (!anybody_died) {
        require(counts.blocks_received == dirty, who + " fetched more than what differs");
        require(!clean_ || counts.blocks_wrong == 0, who + " saw wrong blocks");
        if (clean_ && dirty >= 2 && decision.sources.size() >= 2) {
          require(counts.sources.size() >= 2, who + " used one source of several");
          count("several sources");
        }
      } else if (dirty > 0 && node.fetched.size() < dirty) {
        count("kept over a loss");
      }
      if (counts.blocks_wrong > 0) count("wrong blocks");
      if (dirty > 0) count("fetched");
    }
    if (check_only_) return count("check passed");
    count(decision.by == DecidedBy::record ? "record" : decision.by == DecidedBy::majority ? "majority" : "unanimous");
    if (anybody_died) count("lost members");
  }

  Random random_;
  Seen& seen_;
  std::size_t members_ = 1;
  std::size_t slow_ = 0;
  std::optional<std::size_t> turning_;
  bool check_only_ = false;
  bool clean_ = true;
  Layout layout_;
  Layout other_layout_;
  std::vector<Setup> setups_;
};

}  // namespace

TEST_CASE("random syncs end as decided, with equal content", "[protocol][sync]") {
  const char* const setting = std::getenv("HAWSER_SYNC_SEED");  // NOLINT(concurrency-mt-unsafe): one thread
  const std::uint64_t first = setting == nullptr ? 1 : std::strtoull(setting, nullptr, 10);
  const std::uint64_t last = setting == nullptr ? 4000 : first;
  Seen seen;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    try {
      History(seed, seen).run();
    } catch (const std::exception& error) {
      FAIL("HAWSER_SYNC_SEED=" << seed << ": " << error.what());
    }
  }
  if (setting != nullptr) return;
  for (const char* what : {"sources lost", "check refused", "send-only", "no majority", "layouts", "no honest source",
                           "several sources", "kept over a loss", "wrong blocks", "fetched", "check passed", "record",
                           "majority", "unanimous", "lost members"}) {
    INFO(what << ": " << seen.times[what] << " times");
    CHECK(seen.times[what] >= 10);
  }
}
