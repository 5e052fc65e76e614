// What peers may say in a sync of shared state. What must hold of the decoder: what is taken encodes to the very bytes
// it came from, and memory follows the bytes. Of the machine, whatever anybody says and sends: it asks only for what
// there is, holds what it says it holds, and ends at most once.
//
// Input: byte 0 chooses: 0 one message for the decoder; else a play for a machine among four members, of words: a kind,
// a peer, and what the kind needs. Members hold one of four contents.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "protocol/sync/sync.hpp"
#include "support/memory.hpp"

using namespace hawser;
using protocol::Sync;

namespace {

constexpr std::size_t members = 4;
constexpr std::uint64_t blocks = 20;

void require(bool condition, const char* sentence) {
  if (condition) return;
  std::fprintf(stderr, "fuzz_sync: %s\n", sentence);
  std::abort();
}

void decode(std::span<const std::uint8_t> input) {
  const test_memory::Watch watch;
  const auto decoded = wire::decode_sync(input);
  require(watch.peak_bytes() <= 8 * input.size() + 4096, "memory does not follow the bytes that came");
  if (!decoded.ok()) {
    require(!decoded.status().text().empty(), "an error without a reason");
    return;
  }
  require(std::ranges::equal(wire::encode_sync(decoded.value()), input), "a message does not encode to its bytes");
}

PeerId peer(std::size_t number) { return PeerId{{1, number}}; }

const protocol::Layout& layout() {
  static const protocol::Layout shared = [] {
    protocol::Layout made;
    require(made.add("a", Dtype::f32, 100).ok() && made.add("b", Dtype::u8, 18 * protocol::sync_block_bytes + 1).ok(),
            "no layout");
    return made;
  }();
  return shared;
}

// Block b of content v: the four contents have some blocks in common.
wire::Digest128 hash_of(std::uint64_t variant, std::uint64_t block) {
  return {variant == 0 || (block * variant) % 3 == 0 ? 0 : variant, block};
}
std::vector<wire::Digest128> leaves_of(std::uint64_t variant) {
  std::vector<wire::Digest128> out;
  for (std::uint64_t block = 0; block < blocks; ++block) out.push_back(hash_of(variant, block));
  return out;
}

class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return at_ == bytes_.size(); }
  std::uint8_t byte() { return empty() ? 0 : bytes_[at_++]; }
  std::uint64_t below(std::uint64_t bound) { return byte() % bound; }
  std::span<const std::uint8_t> take(std::size_t count) {
    const auto out = bytes_.subspan(at_, std::min(count, bytes_.size() - at_));
    at_ += out.size();
    return out;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

class Play {
 public:
  explicit Play(std::span<const std::uint8_t> bytes) : input_(bytes), mine_(input_.below(4)), machine_(local()) {
    begin();
  }

  void run() {
    while (!input_.empty()) word();
  }

 private:
  Sync::Local local() {
    const std::uint8_t flags = input_.byte();
    Sync::Local out;
    out.layout = &layout();
    out.leaves = leaves_of(mine_);
    out.strategy = static_cast<wire::SyncStrategy>(flags % 3);
    out.newcomer = (flags & 4) != 0;
    out.check_only = (flags & 8) != 0 && (flags & 16) != 0;
    if ((flags & 32) != 0) out.record = Sync::Record{1, protocol::merkle_root(layout().digest(), leaves_of(mine_))};
    out.revision = 1;
    return out;
  }

  void begin() {
    std::vector<Sync::Member> present;
    self_ = input_.below(members);
    const std::uint8_t who = input_.byte();
    for (std::size_t i = 0; i < members; ++i) {
      if (i == self_ || (who >> i & 1) != 0) present.push_back({peer(i), "rank " + std::to_string(i)});
    }
    ended_ = false;
    Sync::Actions actions;
    machine_.begin(std::move(present), peer(self_), actions);
    look(actions);
  }

  void word() {
    Sync::Actions actions;
    const std::uint64_t kind = input_.below(8);
    const PeerId from = peer(input_.below(members + 1));
    switch (kind) {
      case 0: {
        const auto decoded = wire::decode_sync(input_.take(input_.byte()));
        if (decoded.ok()) hear(from, decoded.value(), actions);
        break;
      }
      case 1: {
        wire::SyncOffer offer;
        offer.layout = layout().digest();
        if (const std::uint8_t odd = input_.byte(); odd == 255) offer.layout.low ^= 1;
        offer.root = protocol::merkle_root(layout().digest(), leaves_of(input_.below(4)));
        offer.revision = input_.below(3);
        offer.strategy = static_cast<wire::SyncStrategy>(input_.below(3));
        offer.newcomer = input_.below(2) != 0;
        hear(from, offer, actions);
        break;
      }
      case 2: {
        wire::SyncHashes hashes{0, leaves_of(input_.below(4))};
        const std::uint8_t odd = input_.byte();
        if (odd > 250) hashes.first = odd - 250;
        if (odd > 240) hashes.hashes.resize(odd - 235);
        hear(from, hashes, actions);
        break;
      }
      case 3:
        hear(from, wire::SyncHashRequest{input_.byte(), input_.byte()}, actions);
        break;
      case 4: {
        wire::SyncBlockRequest request;
        for (std::uint64_t left = input_.below(5); left > 0; --left)
          request.ranges.push_back({input_.byte(), input_.byte()});
        hear(from, request, actions);
        break;
      }
      case 5:
        return begin();
      default: {
        const std::uint64_t block = input_.below(blocks + 1);
        const wire::Digest128 digest = hash_of(input_.below(4), block);
        const std::uint64_t bytes = block < blocks ? layout().block(block).bytes : 1;
        const bool expected = machine_.block_expected(from, block, bytes);
        if (!expected && kind == 6) return;
        if (expected) places_.erase(block);
        if (machine_.block_arrived(from, block, digest, actions)) {
          require(expected, "a block that was not expected is kept");
          places_[block] = digest;
        }
        require(!machine_.block_expected(from, block, bytes) || places_.count(block) == 0, "a block is expected again");
      }
    }
    look(actions);
  }

  void hear(PeerId from, const wire::SyncMessage& message, Sync::Actions& actions) {
    const Status status = machine_.heard(from, message, actions);
    require(status.ok() || !status.text().empty(), "an error without a reason");
  }

  void look(const Sync::Actions& actions) {
    for (const Sync::Action& action : actions) {
      if (const auto* send = std::get_if<Sync::Send>(&action)) {
        require(send->to != peer(self_), "talks to itself");
        require(wire::decode_sync(wire::encode_sync(send->message)).ok(), "says what nobody can read");
      } else if (const auto* block = std::get_if<Sync::SendBlock>(&action)) {
        require(block->block < blocks && block->to != peer(self_), "sends a block that is not there");
      } else {
        require(!ended_, "ends twice");
        ended_ = true;
        if (std::holds_alternative<Sync::Finished>(action)) finished();
        if (const auto* vote = std::get_if<Sync::Vote>(&action)) require(!vote->text.empty(), "votes without a reason");
      }
    }
  }

  // What it would write is of the decided content.
  void finished() {
    require(machine_.decision() != nullptr && machine_.finished(), "finished without a decision");
    std::vector<wire::Digest128> content = leaves_of(mine_);
    for (const std::uint64_t block : machine_.dirty()) {
      auto place = places_.find(block);
      require(place != places_.end(), "finished without a block");
      content[block] = place->second;
    }
    require(protocol::merkle_root(layout().digest(), content) == machine_.decision()->root,
            "finished with another content");
  }

  Input input_;
  std::uint64_t mine_;
  std::size_t self_ = 0;
  Sync machine_;
  bool ended_ = false;
  std::map<std::uint64_t, wire::Digest128> places_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::uint8_t> input(data + 1, size - 1);
  if (data[0] % 4 == 0) {
    decode(input);
  } else {
    Play(input).run();
  }
  return 0;
}
