// The engine's part in syncs and checks of shared state: performs what the machine of protocol/sync orders and hands it
// what comes in. Under the engine's mutex.
#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "base/kill_point.hpp"
#include "runtime/data/engine.hpp"
#include "runtime/data/strand.hpp"

namespace hawser::runtime {

void Engine::begin_sync(OpRun& op) {
  const auto& members = member_.view().members;
  std::vector<protocol::Sync::Member> who;
  for (const PeerId& id : op.participants) {
    const auto member = std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.peer.id == id; });
    who.push_back({id, fmt::format("rank {} ({})", member - members.begin(),
                                   member == members.end() ? short_name(id) : member->peer.name)});
  }
  protocol::Sync::Actions actions;
  op.sync()->machine.begin(std::move(who), config_.id, actions);
  perform_sync(op, actions);
}

void Engine::perform_sync(OpRun& op, protocol::Sync::Actions& actions) {
  const auto keep = op.shared_from_this();
  const std::uint64_t attempt = op.attempt.load();
  for (protocol::Sync::Action& action : actions) {
    if (op.attempt.load() != attempt) return;  // it has ended, or begun again, by one of them
    Actions orders;
    std::optional<Critical> critical;
    if (auto* send = std::get_if<protocol::Sync::Send>(&action)) {
      send_small(links_[send->to], {.type = wire::FrameType::note, .epoch = op.epoch, .key = op.key, .check = op.check},
                 wire::encode_sync(send->message));
    } else if (auto* block = std::get_if<protocol::Sync::SendBlock>(&action)) {
      Link& link = links_[block->to];
      queue_unit(link, op, {static_cast<std::uint32_t>(block->block), 0});
      wake(link);
    } else if (auto* finished = std::get_if<protocol::Sync::Finished>(&action)) {
      trace("has its result", op);
      critical.emplace(*this);
      member_.finished(op.key, op.epoch, finished->digest, orders);
    } else if (auto* vote = std::get_if<protocol::Sync::Vote>(&action)) {
      critical.emplace(*this);
      member_.vote(op.key, vote->reason, vote->text, orders);
    }
    perform(orders);
  }
}

bool Engine::hear(OpRun& op, PeerId from, std::span<const std::byte> note, std::string& why) {
  const auto message = wire::decode_sync({reinterpret_cast<const std::uint8_t*>(note.data()), note.size()});
  if (!message.ok()) {
    why = message.status().text();
    return false;
  }
  protocol::Sync::Actions actions;
  const Status status = op.sync()->machine.heard(from, message.value(), actions);
  if (!status.ok()) {
    why = status.text();
    return false;
  }
  perform_sync(op, actions);
  return true;
}

bool Engine::on_whole(Strand& strand, const wire::FrameHeader& header, ByteBuffer payload,
                      const kernels::Digest& digest, std::string& why) {
  const Lock lock(mutex_);
  taken_in(strand, payload.size());
  OpRun* const op = find(header.key);
  if (op == nullptr || op->sync() == nullptr || !op->laid_out) return true;
  if (op->epoch != header.epoch || op->check != header.check) return true;
  if (header.type == wire::FrameType::note) return hear(*op, strand.sender(), payload.bytes(), why);
  if (!op->sync()->machine.block_expected(strand.sender(), header.slice, payload.size())) return true;
  op->bytes_received += payload.size();
  metrics_.bytes_received += payload.size();
  protocol::Sync::Actions actions;
  if (op->sync()->machine.block_arrived(strand.sender(), header.slice, {digest.high, digest.low}, actions)) {
    op->sync()->staged[header.slice] = std::move(payload);
    HAWSER_KILL_POINT("sync.block_received");
  }
  perform_sync(*op, actions);
  return true;
}

// Memory for a payload that the conversation of an operation wants whole.
bool Engine::make_whole(OpRun& op, const wire::FrameHeader& header, Sink& sink) {
  try {
    sink.whole =
        header.type == wire::FrameType::data ? op.sync()->pool->take(header.length) : ByteBuffer(header.length);
    return true;
  } catch (const std::bad_alloc&) {
    Actions actions;
    member_.vote(op.key, wire::FaultReason::resource, "no memory for blocks of the shared state", actions);
    perform(actions);
    return false;
  }
}

}  // namespace hawser::runtime
