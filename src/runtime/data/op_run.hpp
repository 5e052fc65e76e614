// One operation on this member: the user's buffers, the schedule of the current attempt and how far it has come. Also
// Sink, the place where the payload of one unit goes: copied or reduced as the bytes arrive.
//
// OpRun is guarded by the engine's mutex, but for the memory of the buffers, which io threads read and write under the
// mutex of the strand that carries the unit (docs/threading.md#buffers).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <vector>

#include "base/status.hpp"
#include "kernels/kernels.hpp"
#include "plan/schedule.hpp"
#include "runtime/data/byte_buffer.hpp"
#include "runtime/data/exchange.hpp"
#include "runtime/data/sync_run.hpp"
#include "runtime/data/two_shot.hpp"
#include "wire/messages.hpp"

namespace hawser::runtime {

class Strand;
struct OpRun;

using wire::OpKind;

std::int64_t now_us();  // of the steady clock

inline constexpr std::size_t unit_bytes_default = 256U << 10;  // stays in a core's cache between arriving and leaving

// An operation whose units are no larger, or that is no larger in all, rides with its control frames.
inline constexpr std::size_t light_bytes_max = 64U << 10;

struct OpCall {
  wire::OpKind kind = wire::OpKind::barrier;
  const std::byte* send = nullptr;
  std::byte* recv = nullptr;
  std::size_t count = 0;
  Dtype dtype = Dtype::u8;
  Redop redop = Redop::sum;
  std::uint32_t root = 0;
  std::uint64_t tag = 0;
  std::uint32_t timeout_ms = 0;
  bool strict = false;
  bool uniform = false;  // of such a list
  bool waits = false;    // the thread that starts it waits for it next
  std::int32_t priority = 0;
  std::uint32_t min_participants = 0;
  std::optional<Coding> coding;   // all_reduce by direct exchange: compressed or weighted
  std::shared_ptr<SyncRun> sync;  // sync, check
  struct Fault {
    wire::FaultReason reason = wire::FaultReason::none;
    std::string text;
  };
  Fault fault;  // this member's vote to end it for all, made with the call
};

// Where a unit's payload goes. Used by one io thread; `take` touches the user's memory.
struct Sink {
  enum class Mode : std::uint8_t {
    discard,
    copy,    // final bytes, straight into place
    reduce,  // native elements: dst = in + own
    pair,    // half-width floats of two members: narrow(first(in, own))
    first,   // half-width: wide partial = first(in, own)
    next,    // wide partial = next(in, own)
    last,    // narrow(next(in, own))
  };
  Mode mode = Mode::discard;
  std::shared_ptr<OpRun> op;
  std::uint64_t attempt = 0;
  std::uint32_t slice = 0;
  std::uint32_t step = 0;
  std::size_t count = 0;           // elements
  std::size_t in_size = 1;         // bytes of one incoming element
  std::size_t out_size = 1;        // bytes of one element of the buffers
  std::byte* dst = nullptr;        // in the user's buffer
  const std::byte* own = nullptr;  // own contribution
  float* wide = nullptr;           // partial sums of half-width floats
  std::byte* save_to = nullptr;    // keep dst there before it is overwritten; `take` does so by and by
  std::uint8_t* saved = nullptr;   // and say so here
  bool divide = false;
  std::uint32_t divisor = 1;
  bool digests = false;  // what is in dst afterwards is final
  bool dropped = false;  // discards what it was to take, since another strand brings it
  std::uint64_t piece = 0;
  std::size_t taken = 0;  // elements
  ByteBuffer whole;       // no sink at all: the payload is wanted in one piece

  // Consumes whole elements from bytes that are aligned to them; gives the number of bytes used. What it writes is
  // added to `written`, if given, while the first cache has it.
  std::size_t take(std::span<const std::byte> bytes, kernels::RunningDigest* written = nullptr);
  void save();   // all that is not yet overwritten
  void leave();  // before it is given up: a piece of which some is overwritten is kept whole
  [[nodiscard]] kernels::Digest digest() const;
  [[nodiscard]] std::size_t bytes() const { return count * in_size; }
};

struct OpRun : std::enable_shared_from_this<OpRun> {
  // What was asked for.
  OpCall call;
  wire::OpKey key;
  wire::OpParams params;
  std::uint32_t check = 0;
  bool deadline_voted = false;
  std::atomic<bool> over{false};  // as `ended`, for who looks without the mutex
  bool laid_out = false;  // the attempt below is whole; else memory lacked for it, and what comes for it is thrown away
  std::uint64_t order = 0;  // of start, for fairness between operations of equal priority
  std::int64_t started_us = 0;
  std::int64_t deadline_ms = 0;
  std::int64_t called_ms = 0;
  std::int64_t slow_ms = 0;       // longer than this is unusual
  std::int64_t next_slow_ms = 0;  // when it is next said whom it waits for

  // The current attempt; `attempt` changes with every one, and once more at the end, so that what belongs to an old one
  // can be told.
  std::atomic<std::uint64_t> attempt{0};
  std::uint32_t attempts = 0;
  bool straggler_asked = false;  // whether all have entered it
  std::int64_t attempt_ms = 0;   // when it began
  std::uint64_t epoch = 0;
  std::vector<PeerId> participants;
  std::uint32_t rank = 0;  // own place among them
  bool resent = false;     // some units go twice
  bool small = false;      // all of it rides with control frames
  plan::Schedule schedule;
  std::vector<std::uint8_t> received;  // per unit: in
  std::vector<Strand*> receiving;      // per unit: the strand that brings it now
  std::size_t remaining = 0;           // units still to come, and for a root the pieces still to be digested
  kernels::Digest digest;
  struct Unit {
    std::uint32_t slice = 0;
    std::uint32_t step = 0;
  };
  struct Partner {                // another participant, as a receiver
    bool begun = false;           // its buffers are posted
    std::size_t eager_bytes = 0;  // sent to it before it said so
    std::vector<Unit> held;       // ready, waiting for that
    std::int64_t data_ms = 0;     // when a unit came from it; 0: none yet
  };
  std::vector<Partner> partners;     // by rank
  std::vector<double> weights;       // by rank, as far as they are known; 1 where nothing is weighted
  std::unique_ptr<TwoShot> coded;    // of an operation with coding
  std::optional<Exchange> exchange;  // of one that is small among so many members
  std::size_t queued = 0;            // frames and units in queues of links and strands
  std::map<std::uint64_t, std::unique_ptr<float[]>> wide;  // partial sums to be sent, by unit
  ByteBuffer snapshot;                                     // in place: what was overwritten
  std::vector<std::uint8_t> saved;                         // per piece, written under the strand's mutex

  // Work of io threads on these buffers that no strand carries (the copy in a world of one, reductions of coded
  // segments) holds this shared, piece by piece.
  std::shared_mutex local_mutex;

  // Between two attempts, or before an end without a result: io threads write back what was overwritten. No frame has a
  // place here meanwhile; what comes for the next attempt is kept as if the call had not been made yet.
  bool restoring = false;
  std::optional<Status> ending;                // how it ends when that is done; else it begins again
  std::size_t restorers = 0;                   // threads at work on it
  std::atomic<std::uint32_t> next_restore{0};  // slice

  // The end. What is left to do then, on a thread that waits: reading the result out of its codes.
  bool ended = false;
  bool undecoded = false;
  bool decoding = false;
  Status result;
  std::condition_variable done;
  std::uint64_t view = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::int64_t ended_us = 0;

  // Not a plan of units but a conversation: blocks go to whoever asks for them.
  [[nodiscard]] SyncRun* sync() const { return call.sync.get(); }
  [[nodiscard]] bool in_place() const { return call.send == call.recv; }
  [[nodiscard]] std::size_t element() const { return dtype_size(call.dtype); }
  [[nodiscard]] std::size_t unit_index(std::uint32_t slice, std::uint32_t step) const {
    return static_cast<std::size_t>(slice) * schedule.steps() + step;
  }
  // Partial sums of half-width floats travel as f32 from the second hop of the reduction on.
  [[nodiscard]] bool is_wide(std::uint32_t step) const {
    return call.kind == wire::OpKind::all_reduce && is_half(call.dtype) && step > 0 && schedule.reduces(step);
  }
  [[nodiscard]] std::size_t wire_element(std::uint32_t step) const { return is_wide(step) ? sizeof(float) : element(); }
  [[nodiscard]] std::size_t sent_bytes(std::uint32_t slice, std::uint32_t step) const {
    const plan::Segment segment = schedule.sent(slice, step);
    return coded ? coded->bytes_of(segment) : segment.count * wire_element(step);
  }
  [[nodiscard]] std::size_t received_bytes(std::uint32_t slice, std::uint32_t step) const {
    const plan::Segment segment = schedule.received(slice, step);
    return coded ? coded->bytes_of(segment) : segment.count * wire_element(step);
  }
  // Ranks to which units of a step go and from which they come.
  [[nodiscard]] std::uint32_t to(std::uint32_t step) const {
    return static_cast<std::uint32_t>((rank + schedule.distance(step)) % participants.size());
  }
  [[nodiscard]] std::uint32_t from(std::uint32_t step) const {
    return static_cast<std::uint32_t>((rank + participants.size() - schedule.distance(step)) % participants.size());
  }
  [[nodiscard]] std::optional<std::uint32_t> rank_of(PeerId id) const;
  // Ranks that hear this one's Begin: those to whom units go or from whom they come.
  [[nodiscard]] std::vector<std::uint32_t> audience() const;
  // Each of them gets data at once, which says the same; or a Begin after all, if there is no credit for it.
  [[nodiscard]] bool begins_with_data() const { return exchange && call.count >= schedule.parts(); }
  [[nodiscard]] std::size_t total_bytes() const { return coded ? coded->wire_bytes() : call.count * element(); }

  // Lays out an attempt among these members. RESOURCE when the snapshot cannot be had.
  Status begin_attempt(std::uint64_t epoch, std::vector<PeerId> members, PeerId self);
  // Whether the attempt wrote over inputs. No strand may refer to it any more.
  [[nodiscard]] bool overwritten() const;
  // Undoes that for some slices; false: none is left to begin with. Several threads at once, outside the engine's
  // mutex.
  bool restore_some();
  // Memory that an operation which has ended needs no more. Large areas take time to give back, so this is done by a
  // thread that waits, not under the engine's mutex.
  struct Memory {
    ByteBuffer snapshot;
    ByteBuffer exchange;
    std::map<std::uint64_t, std::unique_ptr<float[]>> wide;
    TwoShot::Memory coded;
  };
  [[nodiscard]] Memory take_memory();
  // The place for a unit that arrives now; the unit is valid and not in yet.
  Sink make_sink(std::uint32_t slice, std::uint32_t step);
  // What is sent for a unit.
  [[nodiscard]] std::span<const std::byte> payload(std::uint32_t slice, std::uint32_t step) const;
};

}  // namespace hawser::runtime
