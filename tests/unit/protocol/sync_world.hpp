// Members of a sync, a network that delivers in any order, and nobody's clock. Content is one number a block, so that
// thousands of histories take seconds: a block's hash is that of its content and number. What the runtime promises the
// machine (epochs, places for blocks) is done here the same way, and what the machine promises the runtime is checked
// with every action; a broken promise is thrown as a sentence.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/sync/sync.hpp"

namespace hawser::sync_test {

using namespace hawser::protocol;
using Random = std::mt19937_64;
using Content = std::vector<std::uint64_t>;

inline constexpr std::uint64_t garbage = ~std::uint64_t{0};

inline void require(bool condition, const std::string& sentence) {
  if (!condition) throw std::runtime_error(sentence);
}

inline wire::Digest128 hash_of(std::uint64_t content, std::uint64_t block) {
  std::uint64_t mixed = content * 0x9e3779b97f4a7c15ULL + block;
  mixed = (mixed ^ mixed >> 31) * 0xbf58476d1ce4e5b9ULL;
  return {mixed ^ mixed >> 29, content + 1};
}
inline std::vector<wire::Digest128> leaves_of(const Content& content) {
  std::vector<wire::Digest128> out;
  for (std::uint64_t block = 0; block < content.size(); ++block) out.push_back(hash_of(content[block], block));
  return out;
}

inline PeerId peer(std::size_t number) { return PeerId{{7, number + 1}}; }
inline std::size_t number_of(PeerId id) { return static_cast<std::size_t>(id.low) - 1; }

// What a member is like; the machine is made of it when it begins.
struct Setup {
  Content content;
  std::uint64_t revision = 0;
  wire::SyncStrategy strategy = wire::SyncStrategy::agree;
  bool newcomer = false;
  std::optional<Sync::Record> record;
  const Layout* layout = nullptr;
  // As a source: of a thousand blocks, so many wrong; every list of hashes wrong; lists that were not asked for.
  unsigned wrong_blocks = 0;
  bool wrong_hashes = false;
  bool wrong_shape = false;
  [[nodiscard]] bool honest() const { return wrong_blocks == 0 && !wrong_hashes && !wrong_shape; }
};

struct Carried {
  std::uint64_t block = 0;
  std::uint64_t content = 0;
};

class World {
 public:
  struct Packet {
    std::size_t from = 0;
    std::size_t to = 0;
    std::uint64_t epoch = 0;
    std::variant<wire::SyncMessage, Carried> what;
  };
  struct Node {
    Setup setup;
    std::unique_ptr<Sync> machine;
    bool alive = true;
    std::uint64_t epoch = 0;  // 0: has not begun
    Content places;           // of blocks that came
    std::optional<wire::Digest128> finished;
    std::optional<Sync::Vote> vote;
    std::set<std::uint64_t> fetched;               // in this epoch
    std::map<std::size_t, std::size_t> under_way;  // blocks asked of each source in this epoch, not come
    std::uint64_t blocks_sent = 0;
  };

  World(std::vector<Setup> setups, bool check_only, Random& random) : random_(random) {
    for (Setup& setup : setups) {
      Node node;
      Sync::Local local;
      local.layout = setup.layout;
      local.leaves = leaves_of(setup.content);
      local.revision = setup.revision;
      local.strategy = setup.strategy;
      local.newcomer = setup.newcomer;
      local.record = setup.record;
      local.check_only = check_only;
      node.machine = std::make_unique<Sync>(std::move(local));
      node.places.assign(setup.content.size(), garbage);
      node.setup = std::move(setup);
      nodes.push_back(std::move(node));
    }
  }

  // The view of the epoch is here: the operation begins, or begins again.
  void begin(std::size_t self) {
    Node& node = nodes[self];
    if (node.epoch != 0) {
      // Buffers were taken back in the middle of whatever was coming.
      for (Packet& packet : packets) {
        const auto* block = std::get_if<Carried>(&packet.what);
        if (packet.to != self || block == nullptr || packet.epoch != node.epoch) continue;
        if (expected(packet) && random_() % 2 == 0) node.places[block->block] = garbage;
      }
    }
    node.epoch = epoch;
    node.finished.reset();
    node.vote.reset();
    node.fetched.clear();
    node.under_way.clear();
    std::vector<Sync::Member> members;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].alive) members.push_back({peer(i), "rank " + std::to_string(i)});
    }
    Sync::Actions actions;
    node.machine->begin(std::move(members), peer(self), actions);
    perform(self, actions);
  }

  void kill(std::size_t victim) {
    nodes[victim].alive = false;
    ++epoch;
  }

  [[nodiscard]] bool expected(const Packet& packet) const {
    const auto& block = std::get<Carried>(packet.what);
    const Node& node = nodes[packet.to];
    const std::uint64_t bytes = node.setup.layout->block(block.block).bytes;
    return node.machine->block_expected(peer(packet.from), block.block, bytes);
  }

  // Takes the packet out of the network and in at its receiver, which stands in its epoch or a later one.
  void deliver(std::size_t index, bool again = false) {
    Packet packet = packets[index];
    if (!again) {
      std::swap(packets[index], packets.back());
      packets.pop_back();
    }
    Node& node = nodes[packet.to];
    if (!node.alive || packet.epoch < node.epoch) return;
    Sync::Actions actions;
    if (const auto* message = std::get_if<wire::SyncMessage>(&packet.what)) {
      const Status status = node.machine->heard(peer(packet.from), *message, actions);
      require(status.ok(), "refused: " + status.text());
    } else {
      const Carried block = std::get<Carried>(packet.what);
      const std::uint64_t bytes = node.setup.layout->block(block.block).bytes;
      require(!node.machine->block_expected(peer(packet.from), block.block, bytes + 1), "a longer block was expected");
      require(!node.machine->block_expected(peer(packet.to), block.block, bytes), "a block of its own was expected");
      if (!expected(packet)) return;
      node.places[block.block] = block.content;
      const wire::Digest128 digest = hash_of(block.content, block.block);
      const bool keep = node.machine->block_arrived(peer(packet.from), block.block, digest, actions);
      --node.under_way[packet.from];
      if (!keep) node.places[block.block] = garbage;
      if (keep) require(node.fetched.insert(block.block).second, "a block was kept twice");
      require(!node.machine->block_expected(peer(packet.from), block.block, bytes), "a block is expected that is here");
    }
    perform(packet.to, actions);
  }

  void perform(std::size_t self, const Sync::Actions& actions) {
    for (const Sync::Action& action : actions) std::visit([&](const auto& a) { perform(self, a); }, action);
  }

  // The content a member has if the operation commits now.
  [[nodiscard]] Content result(std::size_t self) const {
    Content content = nodes[self].setup.content;
    for (const std::uint64_t block : nodes[self].machine->dirty()) content.at(block) = nodes[self].places.at(block);
    return content;
  }

  [[nodiscard]] std::vector<std::size_t> alive() const {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].alive) out.push_back(i);
    }
    return out;
  }

  std::vector<Node> nodes;
  std::vector<Packet> packets;
  std::uint64_t epoch = 1;

 private:
  void perform(std::size_t self, const Sync::Send& send) {
    Node& node = nodes[self];
    const std::size_t to = number_of(send.to);
    require(to != self && to < nodes.size(), "a message to nobody");
    wire::SyncMessage message = send.message;
    require(wire::decode_sync(wire::encode_sync(message)).ok(), "a message that nobody can read");
    if (const auto* request = std::get_if<wire::SyncBlockRequest>(&message)) {
      const Node& source = nodes[to];
      require(source.setup.strategy != wire::SyncStrategy::receive_only, "asks one who only receives");
      require(node.setup.strategy != wire::SyncStrategy::send_only, "one who only sends asks for a block");
      for (const wire::BlockRange& range : request->ranges) {
        for (std::uint64_t block = range.first; block < range.first + range.count; ++block) {
          require(source.setup.content.at(block) != node.setup.content.at(block), "asks for a block that is the same");
          require(source.setup.content.at(block) != node.places[block], "asks for a block that is here already");
          ++node.under_way[to];
        }
      }
      require(node.under_way[to] <= wire::sync_request_blocks_max, "more than the window under way from one source");
    } else if (auto* hashes = std::get_if<wire::SyncHashes>(&message)) {
      require(!hashes->hashes.empty(), "hashes of nothing");
      if (node.setup.wrong_hashes) hashes->hashes[random_() % hashes->hashes.size()].low ^= 1;
      if (node.setup.wrong_shape) {
        if (random_() % 2 == 0)
          hashes->hashes.pop_back();
        else
          ++hashes->first;
      }
    }
    packets.push_back({self, to, node.epoch, std::move(message)});
  }
  void perform(std::size_t self, const Sync::SendBlock& send) {
    Node& node = nodes[self];
    const std::size_t to = number_of(send.to);
    require(to != self && to < nodes.size(), "a block to nobody");
    require(node.setup.content.at(send.block) != nodes[to].setup.content.at(send.block), "a block that is the same");
    const bool wrong = random_() % 1000 < node.setup.wrong_blocks;
    const std::uint64_t content = node.setup.content[send.block] ^ (wrong ? 1U << 20 : 0U);
    packets.push_back({self, to, node.epoch, Carried{send.block, content}});
    ++node.blocks_sent;
  }
  void perform(std::size_t self, const Sync::Finished& finished) {
    require(!nodes[self].finished && !nodes[self].vote, "finished twice, or after a vote");
    nodes[self].finished = finished.digest;
  }
  void perform(std::size_t self, const Sync::Vote& vote) {
    require(!nodes[self].finished && !nodes[self].vote, "votes twice, or after it has finished");
    require(!vote.text.empty(), "a vote without a sentence");
    nodes[self].vote = vote;
  }

  Random& random_;
};

}  // namespace hawser::sync_test
