// Frames between two members that have no strand, by way of a third. The sender keeps each frame until the receiver's
// receipt has come back the same way, so a third that goes away loses nothing: the next one is asked. What may come
// twice anyway (engine_frames.cpp) may do so here too. Who passes frames on does not look into them and keeps no more
// than a limit for each pair. Under the engine's mutex; what is sent is copied, for this is the slow path.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/log.hpp"
#include "io/random.hpp"
#include "runtime/data/engine.hpp"

namespace hawser::runtime {
namespace {

// Under way by relay to one member, until its receipts come. Before the first of them one frame, as a question.
constexpr std::size_t window_bytes = 2U << 20;
constexpr std::size_t window_frames = 64;
// Passed on for one pair and not yet taken in by the receiver; more than any window and a repetition of it.
constexpr std::size_t passing_bytes_max = 12U << 20;

wire::Relay head_of(const OutFrame& frame) {
  const auto bytes = frame.owned.bytes().first(wire::relay_bytes);
  return wire::decode_relay({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}).value();
}

// Throws std::bad_alloc.
OutFrame relay_frame(wire::FrameHeader header, const wire::Relay& relay, std::span<const std::byte> body) {
  OutFrame out;
  out.owned = ByteBuffer(wire::relay_bytes + body.size());
  const auto head = wire::encode_relay(relay);
  std::memcpy(out.owned.data(), head.data(), head.size());
  if (!body.empty()) std::memcpy(out.owned.data() + head.size(), body.data(), body.size());
  out.header = header;
  out.header.type = wire::FrameType::relay;
  out.header.length = static_cast<std::uint32_t>(out.owned.size());
  out.bytes = wire::encode_header(out.header);
  return out;
}

std::optional<wire::Relayed> relayed_as(wire::FrameType type) {
  for (std::size_t i = 0; i < wire::relayed_count; ++i) {
    if (wire::relayed_type(static_cast<wire::Relayed>(i)) == type) return static_cast<wire::Relayed>(i);
  }
  return std::nullopt;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------- the sender

bool Engine::in_view(PeerId peer) const { return member_.view().contains(peer); }

bool Engine::needs_relay(const Link& link) const {
  const bool waits = !link.held.empty() || !link.control.empty() || !link.bulk.empty();
  return waits && link.strands.empty() && in_view(link.peer);
}

// Something waits for a link that has no strand. A strand that comes back within a heartbeat will do.
void Engine::wait_for(Link& link) {
  if (!needs_relay(link)) return;
  const std::int64_t heartbeat = heartbeat_ms_.load();
  if (io::now_ms() - link.down_ms >= heartbeat) {
    send_by_others(link);
  } else {
    look_again(link, link.down_ms + heartbeat);
  }
}

void Engine::look_again(Link& link, std::int64_t at) {
  link.look_ms = at;
  if (armed_ms_ == 0 || at < armed_ms_) task(protocol::Member::Tick{});
}

// Who is asked to pass frames on: whoever does it already, else the first member with a strand that is not known to
// have none to the receiver either.
PeerId Engine::way_to(Link& link, std::int64_t now) {
  const auto serves = [&](PeerId id) {
    const auto other = links_.find(id);
    const auto refused = link.no_way.find(id);
    return other != links_.end() && !other->second.strands.empty() &&
           (refused == link.no_way.end() || now >= refused->second.until_ms);
  };
  if (!link.via.is_zero() && in_view(link.via) && serves(link.via)) return link.via;
  link.via = {};
  link.proven = false;
  for (const auto& member : member_.view().members) {
    const PeerId id = member.peer.id;
    if (id == config_.id || id == link.peer || !serves(id)) continue;
    link.via = id;
    log::message(log::Subsystem::data, std::exchange(link.relay_told, true) ? log::Level::debug : log::Level::warn,
                 "no connection with {}: what it is to get goes by way of {}", who(link.peer), who(id));
    break;
  }
  return link.via;
}

void Engine::refuse_way(Link& link, PeerId via, std::int64_t now) {
  auto& refused = link.no_way[via];
  refused.delay_ms = std::clamp(2 * refused.delay_ms, heartbeat_ms_.load(), timeout_ms_.load());
  refused.until_ms = now + refused.delay_ms;
  for (auto& [serial, held] : link.held) {
    if (held.via == via) held.via = {};
  }
}

void Engine::send_by_others(Link& link) {
  const std::int64_t now = io::now_ms();
  look_again(link, now + heartbeat_ms_.load());
  std::erase_if(link.held, [](const auto& item) { return item.second.frame.is_void(); });
  for (const auto& [serial, held] : link.held) {
    if (held.via.is_zero() || now - held.sent_ms < timeout_ms_.load()) continue;
    refuse_way(link, PeerId(held.via), now);  // it may have lost what it was given
    break;
  }
  const PeerId via = way_to(link, now);
  if (via.is_zero()) return;
  std::size_t frames = 0;
  std::size_t bytes = 0;
  for (const auto& [serial, held] : link.held) {
    if (held.via.is_zero()) continue;
    ++frames;
    bytes += held.frame.body().size();
  }
  const auto room = [&] { return link.proven ? frames < window_frames && bytes < window_bytes : frames == 0; };
  const auto send = [&](std::uint64_t serial, Held& held) {
    const std::span<const std::byte> body = held.frame.body();
    OutFrame out;
    try {
      out = relay_frame(held.frame.header, {config_.id, link.peer, serial, relayed_as(held.frame.header.type).value()},
                        body);
    } catch (const std::bad_alloc&) {
      return false;
    }
    held.via = via;
    held.sent_ms = now;
    ++frames;
    bytes += body.size();
    metrics_.bytes_relayed += body.size();
    queue_relay(links_.at(via), std::move(out));
    return true;
  };
  for (auto& [serial, held] : link.held) {
    if (!held.via.is_zero()) continue;
    OutFrame& frame = held.frame;
    if (frame.header.type == wire::FrameType::data && frame.op) {
      if (is_replaced(*frame.op, frame.slice, frame.step)) frame.payload = {zeros(), frame.payload.size()};
      frame.op->resent = true;
    }
    if (!room() || !send(serial, held)) return;
  }
  while (room() && (!link.control.empty() || !link.bulk.empty())) {
    OutFrame frame;
    if (!link.control.empty()) {
      frame = std::move(link.control.front());
      link.control.pop_front();
    } else {
      const auto [op, unit] = std::move(link.bulk.begin()->second);
      link.bulk.erase(link.bulk.begin());
      frame = data_frame(*op, unit);
    }
    if (frame.is_void() || !relayed_as(frame.header.type)) continue;
    const std::uint64_t serial = ++serials_;
    if (!send(serial, link.held.emplace(serial, Held{std::move(frame), 0, {}}).first->second)) return;
  }
}

// The answer to a frame of ours.
void Engine::answered(PeerId speaker, const wire::Relay& relay) {
  const auto it = links_.find(relay.from);
  if (it == links_.end()) return;
  Link& link = it->second;
  const auto at = link.held.find(relay.serial);
  if (at == link.held.end()) return;
  const std::int64_t now = io::now_ms();
  if (relay.what == wire::Relayed::no_way) {
    if (at->second.via != speaker) return;
    refuse_way(link, speaker, now);
    return wait_for(link);
  }
  OutFrame frame = std::move(at->second.frame);
  link.held.erase(at);
  link.no_way.erase(speaker);
  if (speaker == link.via) link.proven = true;
  wait_for(link);
  if (!frame.op || frame.is_void()) return;
  const std::shared_ptr<OpRun> op = frame.op;
  if (op->queued > 0) --op->queued;
  if (op->is_wide(frame.step)) op->wide.erase(op->unit_index(frame.slice, frame.step));
  if (!frame.digests) return;
  const std::uint64_t piece = op->schedule.piece(frame.slice, frame.step, true);
  frame.digest = kernels::digest(frame.payload.data(), frame.payload.size(), piece);
  root_sent(*op, frame);
}

// Nothing goes by way of this member any more.
void Engine::lose_way(PeerId via) {
  const std::int64_t now = io::now_ms();
  for (auto& [id, link] : links_) {
    bool used = link.via == via;
    if (used) link.via = {};
    for (auto& [serial, held] : link.held) {
      if (held.via != via) continue;
      held.via = {};
      used = true;
    }
    if (used && needs_relay(link)) look_again(link, std::max(now, link.down_ms + heartbeat_ms_.load()));
  }
}

// A strand is there again. What is under way by others may come first or last, or twice.
void Engine::send_directly(Link& link) {
  Frames frames;
  for (auto& [serial, held] : link.held) {
    if (held.frame.is_void()) continue;
    if (held.frame.op && held.frame.op->queued > 0) --held.frame.op->queued;  // until it is queued again
    frames.push_back(std::move(held.frame));
  }
  link.held.clear();
  link.no_way.clear();
  link.via = {};
  link.proven = false;
  link.relay_told = false;
  send_again(link, std::move(frames));
}

// ---------------------------------------------------------------------------------------------- who passes frames on

void Engine::queue_relay(Link& link, OutFrame frame) {
  (frame.owned.size() > light_bytes_max ? link.relayed : link.control).push_back(std::move(frame));
  wake(link);
}

// Answers are small and not waited for: without memory or a strand they are left out, and the frame comes again.
void Engine::answer(PeerId by, const wire::Relay& relay) {
  const auto link = links_.find(by);
  if (link == links_.end() || link->second.strands.empty()) return;
  try {
    queue_relay(link->second, relay_frame({}, relay, {}));
  } catch (const std::bad_alloc&) {
  }
}

void Engine::pass_on(const wire::Relay& relay, const wire::FrameHeader& header, ByteBuffer payload) {
  const auto it = links_.find(relay.to);
  const bool way = it != links_.end() && !it->second.strands.empty();
  OutFrame frame;
  frame.header = header;
  frame.bytes = wire::encode_header(header);
  frame.owned = std::move(payload);
  if (wire::relayed_type(relay.what)) {
    if (!way || it->second.passing[relay.from] + frame.owned.size() > passing_bytes_max) {
      return answer(relay.from, {relay.to, relay.from, relay.serial, wire::Relayed::no_way});
    }
    it->second.passing[relay.from] += frame.owned.size();
    metrics_.bytes_relayed += frame.owned.size() - wire::relay_bytes;
    frame.origin = relay.from;
  }
  if (way) queue_relay(it->second, std::move(frame));
}

// A frame of another member has been taken in by the receiver, or will not be.
void Engine::passed(Link& link, const OutFrame& frame) {
  if (frame.origin.is_zero()) return;
  const auto of = link.passing.find(frame.origin);
  if (of == link.passing.end()) return;
  of->second -= std::min(of->second, frame.owned.size());
  if (of->second == 0) link.passing.erase(of);
}

// The last strand is gone: nothing is passed on over this link, and whoever sent it is told.
void Engine::bounce(Link& link) {
  std::vector<OutFrame> back;
  for (auto* queue : {&link.control, &link.relayed}) {
    std::erase_if(*queue, [&](OutFrame& frame) {
      if (frame.header.type != wire::FrameType::relay) return false;
      if (!frame.origin.is_zero()) back.push_back(std::move(frame));
      return true;
    });
  }
  for (const OutFrame& frame : back) {
    passed(link, frame);
    const wire::Relay relay = head_of(frame);
    answer(relay.from, {relay.to, relay.from, relay.serial, wire::Relayed::no_way});
  }
}

// ------------------------------------------------------------------------------------------------------ the receiver

Engine::Brought Engine::on_relay(Strand& strand, const wire::FrameHeader& header, const ByteBuffer& payload,
                                 wire::Relay& relay, std::string& why) {
  const Lock lock(mutex_);
  const auto bytes = payload.bytes().first(std::min(payload.size(), wire::relay_bytes));
  const auto decoded = wire::decode_relay({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  if (!decoded.ok()) {
    why = decoded.status().text();
    return Brought::refuse;
  }
  relay = decoded.value();
  const auto type = wire::relayed_type(relay.what);
  const bool here = relay.to == config_.id;
  if (here && type && relay.from != strand.peer() && links_.contains(relay.from)) {
    const bool small = type == wire::FrameType::begin || type == wire::FrameType::done;
    if (!small || payload.size() <= wire::relay_bytes + wire::small_payload_bytes_max) return Brought::frame;
  }
  taken_in(strand, payload.size());
  if (here) {
    if (!type) answered(strand.peer(), relay);
    return Brought::nothing;
  }
  if (relay.from != strand.peer() || relay.what == wire::Relayed::no_way) {
    why = "a relay frame in the name of another member";
    return Brought::refuse;
  }
  pass_on(relay, header, payload);
  return Brought::nothing;
}

void Engine::on_brought(Strand& strand, const wire::Relay& relay) {
  const Lock lock(mutex_);
  if (strand.shared.lost) return;
  answer(strand.peer(), {config_.id, relay.from, relay.serial, wire::Relayed::receipt});
}

}  // namespace hawser::runtime
