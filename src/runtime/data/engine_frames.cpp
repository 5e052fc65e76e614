// Frames: where the payload goes of those that come in, and which go out next over which strand, again when a strand is
// lost. Called by io threads; see engine.hpp.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

#include "base/kill_point.hpp"
#include "base/log.hpp"
#include "io/random.hpp"
#include "runtime/data/engine.hpp"
#include "runtime/data/io_thread.hpp"
#include "runtime/data/without.hpp"

namespace hawser::runtime {
namespace {

// Frames are acknowledged together. Over TCP that goes with what is sent anyway, for a system call of its own costs
// more than all of the rest; in shared memory it is said at once, while this end waits.
constexpr std::uint64_t ack_frames = 8;
constexpr std::uint64_t ack_frames_alone = 64;  // when nothing is sent
constexpr std::uint64_t ack_bytes = 1U << 20;   // when so much came
constexpr std::size_t fill_bytes = 512U << 10;  // handed to a strand at once
constexpr std::size_t fill_frames = 16;
constexpr std::size_t spare_frames_max = 64;

void pass_sent([[maybe_unused]] wire::FrameType type) {
  switch (type) {
    case wire::FrameType::begin:
      HAWSER_KILL_POINT("begin.sent");
      return;
    case wire::FrameType::data:
      HAWSER_KILL_POINT("unit.sent");
      return;
    case wire::FrameType::done:
      HAWSER_KILL_POINT("done.sent");
      return;
    case wire::FrameType::note:
      HAWSER_KILL_POINT("sync.note_sent");
      return;
    case wire::FrameType::ack:
    case wire::FrameType::ping:
    case wire::FrameType::relay:
    case wire::FrameType::share:
      return;
  }
}

}  // namespace

// --------------------------------------------------------------------------------------------- what comes in

Engine::Verdict Engine::on_header(Strand& strand, const wire::FrameHeader& header, Sink& sink, std::string& why) {
  const Lock lock(mutex_);
  strand.shared.parked = false;
  if (strand.shared.lost) {
    why = "the connection is no longer wanted";
    return Verdict::refuse;
  }
  if (header.type == wire::FrameType::ack) {
    acknowledged(strand, header.check);
    return Verdict::discard;
  }
  const wire::View& view = member_.view();
  if (header.epoch > view.epoch || header.key.generation > view.generation) {
    strand.shared.parked = true;
    return Verdict::park;
  }
  if (header.type == wire::FrameType::relay) {
    try {
      sink.whole = ByteBuffer(header.length);
      return Verdict::whole;
    } catch (const std::bad_alloc&) {
      return Verdict::discard;  // it comes again
    }
  }
  if (header.type == wire::FrameType::begin || header.type == wire::FrameType::done) return Verdict::small;
  if (header.epoch < view.epoch) {
    ++metrics_.frames_stale;
    return Verdict::discard;
  }
  if (OpRun* op = find(header.key); op != nullptr && !op->restoring) {
    if (!op->laid_out) return Verdict::discard;
    if (op->sync() != nullptr) {
      const bool fits = header.check == op->check &&
                        (header.type == wire::FrameType::note ||
                         op->sync()->machine.block_expected(strand.sender(), header.slice, header.length));
      return fits && make_whole(*op, header, sink) ? Verdict::whole : Verdict::discard;
    }
    if (header.type != wire::FrameType::data) return Verdict::discard;
    if (!wanted(*op, strand.sender(), header, why)) return why.empty() ? Verdict::discard : Verdict::refuse;
    Strand*& receiving = op->receiving[op->unit_index(header.slice, header.step)];
    if (op->resent) retire(*op, header);
    // The other end sends it again because it gave the first connection up; that one must not write any more.
    if (receiving != nullptr && receiving != &strand) receiving->drop_sink(*op);
#if defined(__SANITIZE_THREAD__)
    // What comes replaces at most what went out before it: the partial sum of this piece (Shape::ring; other shapes
    // receive where nothing is sent from before it came). It is the sum of that and more, so the successor had all of
    // the partial sum, which the kernel or RingWriter::write had thus finished reading; what went twice was retired
    // above. That is an order, but by way of other members, through kernels and memory that is mapped twice, where
    // ThreadSanitizer follows nothing, and it notes what sendmsg reads only when that returns. The guards stand for it.
    for (const auto& [id, link] : links_) {
      for (const auto& other : link.strands) const std::lock_guard sent(other->guard);
    }
#endif
    if (!make_sink(*op, header, sink)) return Verdict::discard;
    receiving = &strand;
    return Verdict::sink;
  }
  if (!comes_later(header.key)) return Verdict::discard;
  // Sent again because its first connection was lost.
  if (auto kept = stash_.find(header.key); kept != stash_.end() && header.type == wire::FrameType::data) {
    const bool here = std::any_of(kept->second.begin(), kept->second.end(), [&](const Stashed& piece) {
      return piece.from == strand.sender() && piece.header == header;
    });
    if (here) return Verdict::discard;
  }
  const auto from = links_.find(strand.sender());
  if (from == links_.end()) return Verdict::discard;
  Link& link = from->second;
  std::size_t stashed = link.stashed;
  if (strand.relays()) {  // what its own strands were bringing when they fell silent comes again
    for (const auto& own : link.strands) stashed -= own->shared.stashing;
  }
  if (stashed + header.length > eager_bytes_max || stash_.size() >= wire::ops_open_max) {
    why = "more data for calls that were not made here yet than the limit allows";
    return Verdict::refuse;
  }
  link.stashed += header.length;
  if (!strand.relays()) strand.shared.stashing = header.length;
  sink.whole = ByteBuffer(header.length);
  return Verdict::stash;
}

// Frames of a view that is not installed here yet are for on_header, which parks them.
bool Engine::is_here(const Strand& strand, const wire::FrameHeader& header) const {
  const wire::View& view = member_.view();
  return !strand.shared.lost && header.epoch <= view.epoch && header.key.generation <= view.generation;
}

bool Engine::on_small_now(Strand& strand, const wire::FrameHeader& header, std::span<const std::uint8_t> payload,
                          std::string& why) {
  const Lock lock(mutex_);
  if (!is_here(strand, header)) return false;
  strand.shared.parked = false;
  take_small(strand, header, payload, why);
  return true;
}

// Only the first copy of a unit, and only of an exchange: nothing else can be writing what it writes.
bool Engine::on_data(Strand& strand, const wire::FrameHeader& header, std::span<const std::byte> payload,
                     std::string& why) {
  const Lock lock(mutex_);
  if (!is_here(strand, header) || header.epoch != member_.view().epoch) return false;
  OpRun* const op = find(header.key);
  if (op == nullptr || op->restoring || !op->laid_out || !op->exchange || op->resent || header.check != op->check) {
    return false;
  }
  if (!wanted(*op, strand.peer(), header, why)) {
    why.clear();
    return false;
  }
  if (op->receiving[op->unit_index(header.slice, header.step)] != nullptr) return false;
  strand.shared.parked = false;
  const auto keep = op->shared_from_this();
  taken_in(strand, payload.size());
  op->partners[op->from(header.step)].data_ms = io::about_now_ms();
  (void)take_whole(*op, header, payload);
  return true;
}

bool Engine::on_small(Strand& strand, const wire::FrameHeader& header, std::span<const std::uint8_t> payload,
                      std::string& why) {
  const Lock lock(mutex_);
  return take_small(strand, header, payload, why);
}

bool Engine::take_small(Strand& strand, const wire::FrameHeader& header, std::span<const std::uint8_t> payload,
                        std::string& why) {
  taken_in(strand, payload.size());
  Orders actions(*this);
  if (header.type == wire::FrameType::done) {
    auto done = wire::decode_done(payload);
    if (!done.ok()) {
      why = done.status().text();
      return false;
    }
    member_.done_from(strand.sender(), header.epoch, header.key, done.value(), actions);
    perform(actions);
    return true;
  }
  auto begin = wire::decode_begin(payload);
  if (!begin.ok()) {
    why = begin.status().text();
    return false;
  }
  member_.begin_from(strand.sender(), header.epoch, header.key, begin.value().params, actions);
  if (header.epoch == member_.view().epoch) {
    if (comes_later(header.key)) {
      if (begun_.contains(header.key) || begun_.size() < wire::ops_open_max) {
        Begun& begun = begun_[header.key];
        begun.epoch = header.epoch;
        begun.peers[strand.sender()] = begin.value().weight;
      }
    } else if (OpRun* op = find(header.key)) {
      const auto rank = op->rank_of(strand.sender());
      const bool same = op->laid_out && op->epoch == header.epoch && begin.value().params == op->params;
      if (rank && same) partner_begun(*op, *rank, begin.value().weight);
    }
  }
  perform(actions);
  return true;
}

bool Engine::on_unit(Strand& strand, const Sink& sink, const kernels::Digest& digest) {
  const Lock lock(mutex_);
  const std::size_t bytes = sink.bytes();
  OpRun& op = *sink.op;
  const bool current = !op.ended && op.attempt.load() == sink.attempt;
  const std::size_t unit = op.unit_index(sink.slice, sink.step);
  const bool taken_over = current && op.receiving[unit] != &strand;
  if (taken_over && op.received[unit] == 0 && !strand.relays()) return false;
  taken_in(strand, bytes);
  metrics_.bytes_received += bytes;
  if (!current) return true;
  if (taken_over) return op.received[unit] != 0;
  op.bytes_received += bytes;
  op.partners[op.from(sink.step)].data_ms = io::about_now_ms();
  if (sink.digests) op.digest.combine(digest);
  complete_unit(op, sink.slice, sink.step);
  return true;
}

bool Engine::on_stash(Strand& strand, const wire::FrameHeader& header, ByteBuffer payload, std::string& why) {
  const Lock lock(mutex_);
  if (!strand.relays()) {
    if (strand.shared.lost) return true;  // it comes again
    strand.shared.stashing = 0;
  }
  taken_in(strand, payload.size());
  auto link = links_.find(strand.sender());
  if (link == links_.end()) return true;
  OpRun* op = find(header.key);
  if (header.epoch == member_.view().epoch && comes_later(header.key)) {
    stash_[header.key].push_back({strand.sender(), header, std::move(payload)});
    return true;
  }
  link->second.stashed -= payload.size();
  if (op == nullptr || op->restoring || !op->laid_out || op->epoch != header.epoch) return true;
  // The call came while the bytes did.
  if (op->sync() != nullptr) {
    const bool fits = header.type == wire::FrameType::note && header.check == op->check;
    return !fits || hear(*op, strand.sender(), payload.bytes(), why);
  }
  if (header.type != wire::FrameType::data) return true;
  if (!wanted(*op, strand.sender(), header, why)) return why.empty();
  const auto keep = op->shared_from_this();
  Strand*& receiving = op->receiving[op->unit_index(header.slice, header.step)];
  if (receiving != nullptr) receiving->drop_sink(*op);
  (void)take_whole(*op, header, payload.bytes());
  return true;
}

void Engine::on_discarded(Strand& strand, const wire::FrameHeader& header) {
  if (header.type == wire::FrameType::ack) return;
  const Lock lock(mutex_);
  taken_in(strand, header.length);
}

// Another strand had brought this unit's header since. That may have been a connection which the other end has given
// up, read late, and half of the unit is all that ever comes there: what nobody has in whole must not be acknowledged.
bool Engine::on_dropped(Strand& strand, const wire::FrameHeader& header) {
  const Lock lock(mutex_);
  const OpRun* const op = find(header.key);
  const bool open = op != nullptr && op->laid_out && !op->restoring && op->epoch == header.epoch &&
                    op->sync() == nullptr && header.check == op->check;
  const bool missing = open && op->received[op->unit_index(header.slice, header.step)] == 0;
  if (!missing || strand.relays()) taken_in(strand, header.length);
  return !missing;
}

// Acknowledgements let the other end forget frames that it would have to send again if this connection were lost.
void Engine::taken_in(Strand& strand, std::size_t bytes) {
  ++strand.shared.frames_in;
  strand.shared.bytes_in += bytes;
  if (strand.shared.lost) return;
  const std::uint64_t limit = strand.reads_memory() ? ack_frames : ack_frames_alone;
  if (strand.shared.unanswered() < limit && strand.shared.bytes_in < ack_bytes) return;
  strand.push(acknowledgement(strand));
  schedule(strand);
}

OutFrame Engine::acknowledgement(Strand& strand) {
  OutFrame frame;
  frame.header.type = wire::FrameType::ack;
  frame.header.check = static_cast<std::uint32_t>(strand.shared.unanswered());
  frame.bytes = wire::encode_header(frame.header);
  strand.shared.acked_in = strand.shared.frames_in;
  strand.shared.bytes_in = 0;
  return frame;
}

void Engine::acknowledged(Strand& strand, std::uint32_t count) {
  const auto link = links_.find(strand.peer());
  for (; count > 0 && !strand.shared.unacked.empty(); --count) {
    OutFrame& frame = strand.shared.unacked.front();
    if (frame.op && frame.op->attempt.load() == frame.attempt && frame.op->is_wide(frame.step)) {
      frame.op->wide.erase(frame.op->unit_index(frame.slice, frame.step));
    }
    if (link != links_.end()) passed(link->second, frame);
    frame = {};
    auto& unacked = strand.shared.unacked;
    if (spare_frames_.size() < spare_frames_max) {
      spare_frames_.splice(spare_frames_.end(), unacked, unacked.begin());
    } else {
      unacked.pop_front();
    }
  }
}

// --------------------------------------------------------------------------------------------- what goes out

// What a thread for bulk strands has to say is little, and is said sooner by itself than by a thread that it would
// wake.
IoThread& Engine::sender_of(Strand& strand) {
  if (strand.index() == 0) {
    for (const auto& thread : threads_) {
      if (thread->on_thread()) return *thread;
    }
  }
  return strand.thread();
}

void Engine::schedule(Strand& strand) {
  if (strand.shared.scheduled || strand.shared.lost) return;
  if (Driver::take(*this, strand.shared_from_this())) {
    strand.shared.scheduled = true;
    strand.shared.idle = false;
    return;
  }
  IoThread& thread = sender_of(strand);
  thread.scheduled.push_back(strand.shared_from_this());
  strand.shared.scheduled = true;
  strand.shared.idle = false;
  if (thread.posted || thread.on_thread()) return;  // an io thread looks at its list before it goes to sleep
  thread.run([&thread] { thread.run_scheduled(); });
  thread.posted = true;
}

std::vector<std::shared_ptr<Strand>> Engine::take_scheduled(IoThread& thread) {
  const Lock lock(mutex_);
  thread.posted = false;
  for (const auto& strand : thread.scheduled) strand->shared.scheduled = false;
  return std::exchange(thread.scheduled, {});
}

// Control frames go on the light strand, units on the others, as long as there are such.
bool Engine::carries_control(const Link& link, const Strand& strand) {
  return strand.index() == 0 ||
         std::none_of(link.strands.begin(), link.strands.end(), [](const auto& s) { return s->index() == 0; });
}

// Within a host several strands of one thread would only share its time, and the cache in which what is under way
// should stay: the first of them carries all.
bool Engine::carries_bulk(const Link& link, const Strand& strand) {
  const bool light = strand.index() == 0;
  if (!light && !strand.is_local()) return true;
  return std::none_of(link.strands.begin(), link.strands.end(), [&](const auto& other) {
    const bool before = other->index() < strand.index() && &other->thread() == &strand.thread();
    return other->index() != 0 && (light || before);
  });
}

void Engine::wake(Link& link) {
  if (link.strands.empty()) return wait_for(link);
  std::size_t units = link.bulk.size() + link.relayed.size();
  for (const auto& strand : link.strands) {
    if (!strand->shared.idle) continue;
    if (!link.control.empty() && carries_control(link, *strand)) {
      schedule(*strand);
    } else if (units > 0 && carries_bulk(link, *strand)) {
      --units;
      schedule(*strand);
    }
  }
}

void Engine::send_small(Link& link, wire::FrameHeader header, std::vector<std::uint8_t> payload) {
  OutFrame& frame = add_frame(link.control);
  frame.header = header;
  frame.header.length = static_cast<std::uint32_t>(payload.size());
  frame.small = std::move(payload);
  frame.bytes = wire::encode_header(frame.header);
  wake(link);
}

// Of the units that are ready those go first that are furthest: what came last is still in the cache, and little is
// open at a time. On a long way that would leave it empty at the end, when each step of the last slices waits for the
// one before: there a step goes so many slices later than the one before as are under way meanwhile.
void Engine::queue_unit(Link& link, OpRun& op, OpRun::Unit unit) {
  ++op.queued;
  std::uint64_t place = unit.slice;
  if (op.schedule.shape() == plan::Shape::ring) {
    place += unit.step * (link.rope.under_way() / std::max<std::size_t>(1, op.sent_bytes(unit.slice, unit.step)));
  }
  link.bulk.emplace(BulkKey{-op.call.priority, op.order, place, ~unit.step, unit.slice, op.attempt.load()},
                    std::pair{op.shared_from_this(), unit});
}

bool Engine::fill(Strand& strand, Frames& sent) {
  const Lock lock(mutex_);
  strand.shared.scheduled = false;
  book_sent(strand, sent);
  if (strand.shared.lost) return false;
  auto it = links_.find(strand.peer());
  if (it == links_.end()) return false;
  Link& link = it->second;
  const std::lock_guard hold(strand.guard);
  std::size_t bytes = 0;
  for (const OutFrame& frame : strand.out) bytes += frame.body().size();
  if (carries_control(link, strand)) {
    while (!link.control.empty() && strand.out.size() < fill_frames && bytes < fill_bytes) {
      bytes += link.control.front().body().size();
      strand.out.splice(strand.out.end(), link.control, link.control.begin());
    }
  }
  if (carries_bulk(link, strand)) {
    // At most what a few members that lost one another may have under way.
    while (!link.relayed.empty() && strand.out.size() < fill_frames && bytes < fill_bytes) {
      bytes += link.relayed.front().body().size();
      strand.out.splice(strand.out.end(), link.relayed, link.relayed.begin());
    }
    while (!link.bulk.empty() && strand.out.size() < fill_frames && bytes < fill_bytes) {
      const auto [op, unit] = std::move(link.bulk.begin()->second);
      link.bulk.erase(link.bulk.begin());
      add_frame(strand.out) = data_frame(*op, unit);
      bytes += strand.out.back().payload.size();
    }
  }
  strand.shared.idle = strand.out.empty();
  if (strand.out.empty()) return false;
  if (strand.shared.unanswered() >= ack_frames) strand.out.push_back(acknowledgement(strand));
  return true;
}

void Engine::on_sent(Strand& strand, Frames& frames) {
  if (frames.empty()) return;
  const Lock lock(mutex_);
  book_sent(strand, frames);
}

void Engine::book_sent(Strand& strand, Frames& frames) {
  for (OutFrame& frame : frames) {
    pass_sent(frame.header.type);
    const std::shared_ptr<OpRun> op = frame.op;
    const bool current = op && !op->ended && op->attempt.load() == frame.attempt;
    if (current && op->queued > 0) --op->queued;
    if (!current) frame.op.reset();
    if (current && frame.digests) root_sent(*op, frame);
    if (current && without().commit) end_uncommitted(*op);
  }
  if (!strand.shared.lost) {
    strand.shared.unacked.splice(strand.shared.unacked.end(), frames);
  } else if (auto link = links_.find(strand.peer()); link != links_.end()) {
    // Given up by another thread while they went.
    send_again(link->second, std::move(frames));
    if (link->second.strands.empty()) bounce(link->second);
  }
  frames.clear();
}

void Engine::on_lost(Strand& strand, const std::string& why) {
  const Lock lock(mutex_);
  if (!strand.shared.lost) forget(strand, why, io::now_ms());
}

Engine::Share Engine::on_path(Strand& strand, const io::TcpPath& path) {
  const Lock lock(mutex_);
  const auto it = links_.find(strand.peer());
  if (it == links_.end() || strand.shared.lost) return {};
  Link& link = it->second;
  if (strand.index() == 0) {
    link.rope.round_trip(path.min_rtt_us);
  } else {
    link.rope.sample(strand.index(), path, !link.bulk.empty(), now_us());
  }
  want_strands(link);
  const auto bulk =
      std::count_if(link.strands.begin(), link.strands.end(), [&](const auto& s) { return carries_bulk(link, *s); });
  return {link.rope.pace(strand.index()), std::max(1U, static_cast<std::uint32_t>(bulk))};
}

void Engine::want_strands(Link& link) {
  if (link.rope.wanted() <= link.strands_told) return;
  link.strands_told = link.rope.wanted();
  task(StrandsWanted{link.peer, link.strands_told});
}

// The other end finds that more would help; this one dials.
void Engine::on_ping(Strand& strand, const wire::FrameHeader& header) {
  if (header.check == 0) return;
  const Lock lock(mutex_);
  const auto it = links_.find(strand.peer());
  if (it == links_.end() || strand.shared.lost) return;
  it->second.rope.remember(header.check);
  want_strands(it->second);
}

std::uint32_t Engine::strands_wanted(PeerId peer) {
  const Lock lock(mutex_);
  const auto it = links_.find(peer);
  return it == links_.end() ? strands_near : it->second.rope.wanted();
}

void Engine::strands_helped(PeerId peer, std::uint32_t count) {
  const Lock lock(mutex_);
  if (const auto it = links_.find(peer); it != links_.end()) it->second.rope.remember(count);
}

void Engine::ask_strands(PeerId peer, std::uint32_t count) {
  const Lock lock(mutex_);
  const auto it = links_.find(peer);
  if (it == links_.end()) return;
  for (const auto& strand : it->second.strands) {
    if (strand->index() != 0) continue;
    OutFrame frame;
    frame.header.type = wire::FrameType::ping;
    frame.header.check = count;
    strand->push(std::move(frame));
    schedule(*strand);
  }
}

void Engine::on_silent(Strand& strand, const std::string& why) {
  const Lock lock(mutex_);
  if (!strand.shared.lost) forget(strand, why, strand.heard());
}

// The strand is dead: what it carried and was not acknowledged goes to the others.
void Engine::forget(Strand& strand, const std::string& why, std::int64_t heard_ms, bool replaced) {
  strand.shared.lost = true;
  strand.shared.parked = false;
  --metrics_.strands_open;
  Frames frames = strand.take_back();
  for (auto& [key, op] : ops_)
    std::replace(op->receiving.begin(), op->receiving.end(), &strand, static_cast<Strand*>(nullptr));
  auto it = links_.find(strand.peer());
  if (it == links_.end()) return;
  Link& link = it->second;
  // A way may pass what is small and drop what is large without a word (RFC 2923, section 2.1).
  std::int64_t spoke_ms = strand.heard();
  for (const auto& one : link.strands) spoke_ms = std::max(spoke_ms, one->heard());
  const bool large_vanish = strand.stands_still() && io::now_ms() - spoke_ms < member_.peer_timeout_ms() / 2;
  const auto keep = strand.shared_from_this();
  std::erase(link.strands, keep);
  link.rope.lost(strand.index());
  if (strand.index() == 0) link.strands_told = 0;  // what was asked for may not have come there
  link.heard_ms = std::max(link.heard_ms, heard_ms);
  link.stashed -= std::exchange(strand.shared.stashing, 0);
  if (link.strands.empty()) link.down_ms = io::now_ms();
  send_again(link, std::move(frames));
  if (link.strands.empty() && !replaced) {
    bounce(link);
    lose_way(strand.peer());
  }
  log::message(log::Subsystem::data, log::Level::debug, "strand {} to {} is lost: {}", strand.index(),
               short_name(strand.peer()), why);
  task(StrandLost{strand.peer(), strand.index(), strand.dialled(), link.strands.empty() && !replaced, large_vanish,
                  why});
}

// In order and before what waits. The other end may have some of it already: it drops units that it has, and Begin,
// Done and notes may come twice.
void Engine::send_again(Link& link, Frames frames) {
  while (!frames.empty()) {
    const auto frame = std::prev(frames.end());
    Frames last;
    last.splice(last.end(), frames, frame);
    if (!frame->tracked()) continue;
    ++metrics_.frames_resent;
    if (frame->header.type == wire::FrameType::data) {
      const bool current = frame->op && !frame->op->ended && frame->op->attempt.load() == frame->attempt;
      if (!current || is_replaced(*frame->op, frame->slice, frame->step)) continue;
      frame->op->resent = true;
      queue_unit(link, *frame->op, {frame->slice, frame->step});
    } else {
      link.control.splice(link.control.begin(), last);
    }
  }
  wake(link);
}

// What comes replaces a partial sum that this member has passed on. It could not come had that not been taken in, so
// where it is being sent again nobody misses it, and it must not be read while it is overwritten.
void Engine::retire(OpRun& op, const wire::FrameHeader& header) {
  if (op.schedule.shape() != plan::Shape::ring || op.schedule.reduces(header.step)) return;
  const std::uint64_t piece = op.schedule.piece(header.slice, header.step, false);
  const auto same = [&](std::uint32_t slice, std::uint32_t step) {
    return slice == header.slice && op.schedule.reduces(step) && op.schedule.piece(slice, step, true) == piece;
  };
  const auto link = links_.find(op.participants[op.to(header.step)]);
  if (link == links_.end()) return;
  std::erase_if(link->second.bulk, [&](const auto& entry) {
    return entry.second.first.get() == &op && same(entry.second.second.slice, entry.second.second.step);
  });
  const auto wipe = [&](OutFrame& frame) {
    if (frame.op.get() == &op && same(frame.slice, frame.step)) frame.payload = {zeros(), frame.payload.size()};
  };
  for (auto& [serial, held] : link->second.held) wipe(held.frame);
  for (const auto& strand : link->second.strands) strand->for_each_unsent(wipe);
}

// Whether what replaces this partial sum is here or on its way, so that nobody misses it and it must not be read.
bool Engine::is_replaced(const OpRun& op, std::uint32_t slice, std::uint32_t step) {
  const plan::Schedule& schedule = op.schedule;
  if (schedule.shape() != plan::Shape::ring || !schedule.reduces(step)) return false;
  const std::uint64_t piece = schedule.piece(slice, step, true);
  for (std::uint32_t later = 0; later < schedule.steps(); ++later) {
    if (schedule.reduces(later) || !schedule.receives(later) || schedule.piece(slice, later, false) != piece) continue;
    const std::size_t unit = op.unit_index(slice, later);
    return op.received[unit] != 0 || op.receiving[unit] != nullptr;
  }
  return false;
}

void Engine::drop_link(PeerId peer) {
  auto it = links_.find(peer);
  if (it == links_.end()) return;
  for (const auto& strand : it->second.strands) {
    strand->shared.lost = true;
    strand->shared.parked = false;
    --metrics_.strands_open;
    strand->take_back();
    strand->thread().run([strand] { strand->close(); });
    for (auto& [key, op] : ops_) {
      std::replace(op->receiving.begin(), op->receiving.end(), strand.get(), static_cast<Strand*>(nullptr));
    }
  }
  links_.erase(it);
  lose_way(peer);
  for (auto& [key, op] : ops_) {
    if (const auto rank = op->rank_of(peer)) op->partners[*rank].eager_bytes = 0;
  }
}

void Engine::part_all() noexcept {
  const Lock lock(mutex_);
  try {
    while (!links_.empty()) drop_link(links_.begin()->first);
  } catch (const std::bad_alloc&) {  // the rest is closed with this object
  }
}

void Engine::add_strand(PeerId peer, std::uint32_t index, bool dialled, io::UniqueFd fd,
                        std::vector<std::uint8_t> received, std::vector<std::uint8_t> unsent) {
  const Lock lock(mutex_);
  auto it = links_.find(peer);
  if (it == links_.end() || threads_.empty() || ended_) return;
  Link& link = it->second;
  for (const auto& old : link.strands) {
    if (old->index() != index) continue;
    const auto replaced = old;
    forget(*replaced, "replaced by a newer connection", io::now_ms(), true);
    replaced->thread().run([replaced] { replaced->close(); });
    break;
  }
  IoThread& thread = index == 0 ? *threads_.front() : bulk_thread(next_thread_++);
  auto strand = std::make_shared<Strand>(*this, thread, peer, index, dialled, std::move(fd), std::move(received),
                                         std::move(unsent));
  strand->shared.idle = false;  // its first pump finds out
  link.strands.push_back(strand);
  send_directly(link);
  ++metrics_.strands_open;
  thread.run([&thread, strand] { thread.own(strand); });
}

std::vector<std::pair<PeerId, std::int64_t>> Engine::unlinked() {
  const Lock lock(mutex_);
  std::vector<std::pair<PeerId, std::int64_t>> out;
  for (const auto& [id, link] : links_) {
    if (link.strands.empty()) out.emplace_back(id, link.heard_ms);
  }
  return out;
}

}  // namespace hawser::runtime
