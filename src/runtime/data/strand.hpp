// One TCP connection of a rope: reads frames and feeds their payload to where the engine says, and sends the frames
// that the engine hands it. It belongs to an io thread, which polls it; a user thread that waits for a small operation
// may read and send in its place (engine_drive.cpp), so both hold `reins_` while they do. `guard` is held while the
// user's memory is touched, so that the engine can take a buffer away (detach) and know that nobody uses it any more.
#pragma once

#include <uv.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.hpp"
#include "io/shared_memory.hpp"
#include "io/unique_fd.hpp"
#include "kernels/kernels.hpp"
#include "runtime/data/op_run.hpp"
#include "runtime/data/ring.hpp"
#include "wire/frame.hpp"

namespace hawser::runtime {

class Engine;
class IoThread;

// A frame to be sent, or sent and not yet acknowledged.
struct OutFrame {
  wire::FrameHeader header;
  std::array<std::uint8_t, wire::frame_header_bytes> bytes = {};  // the header, encoded
  std::vector<std::uint8_t> small;                                // payload of begin, done and note
  ByteBuffer owned;                                               // payload of relay
  PeerId origin;                                                  // relay: whose frame this one passes on; zero: none
  std::span<const std::byte> payload;  // of data: in the user's memory while the operation lives
  std::shared_ptr<OpRun> op;           // data: whose it is
  std::uint64_t attempt = 0;
  std::uint32_t slice = 0;
  std::uint32_t step = 0;
  bool digests = false;  // the sender is the source of these bytes and digests them as they go
  kernels::Digest digest;

  // Acknowledged, and sent again where that is missing.
  [[nodiscard]] bool tracked() const {
    return header.type != wire::FrameType::ack && header.type != wire::FrameType::ping &&
           header.type != wire::FrameType::share;
  }
  // Bytes after the header, wherever they are.
  [[nodiscard]] std::span<const std::byte> body() const {
    if (owned) return owned.bytes();
    return small.empty() ? payload : std::as_bytes(std::span(small));
  }
  // Data of an attempt that is over. By the engine, under its mutex.
  [[nodiscard]] bool is_void() const {
    return header.type == wire::FrameType::data && !(op && !op->ended && op->attempt.load() == attempt);
  }
};

// From queue to queue they go by splice: what is kept for each frame is taken once.
using Frames = std::list<OutFrame>;

// What is sent of a frame whose bytes nobody wants any more.
const std::byte* zeros();

// Of the group: how often a strand shows life, and after what silence it is given up.
struct Liveness {
  std::int64_t heartbeat_ms = 1000;
  std::int64_t timeout_ms = 6000;
};

class Strand : public std::enable_shared_from_this<Strand> {
 public:
  Strand(Engine& engine, IoThread& thread, PeerId peer, std::uint32_t index, bool dialled, io::UniqueFd fd,
         std::vector<std::uint8_t> received, std::vector<std::uint8_t> unsent);
  Strand(const Strand&) = delete;
  Strand& operator=(const Strand&) = delete;

  [[nodiscard]] PeerId peer() const { return peer_; }
  // Whose frame is being read: of another member if this one passes it on. By whoever reads it.
  [[nodiscard]] PeerId sender() const { return relayed_from_.is_zero() ? peer_ : relayed_from_; }
  [[nodiscard]] bool relays() const { return !relayed_from_.is_zero(); }
  [[nodiscard]] std::uint32_t index() const { return index_; }
  [[nodiscard]] bool dialled() const { return dialled_; }
  [[nodiscard]] bool is_local() const { return local_; }  // both ends are on this host
  [[nodiscard]] IoThread& thread() const { return thread_; }

  // On the io thread.
  void open(uv_loop_t* loop);  // begins to poll and to send
  void on_ready(int status, int events);
  void close();  // now; the engine has forgotten it
  // Polls again where it left that to user threads and none of them reads. False: one still does, or did since the last
  // time; to be asked again soon.
  bool rouse(bool at_once);

  // On the io thread, or one that drives.
  void resume();  // looks again at the frame that was parked, and sends what the engine has

  // On a thread that drives: from lend to give_back the io thread leaves reading to it.
  void lend();
  void give_back();
  bool read_now();  // true: something was there
  [[nodiscard]] bool reads_memory() const { return reads_memory_; }

  // Says that it lives, if nothing else did for a heartbeat, and gives the connection up when the other end is silent
  // or acknowledges nothing. `slept`: this thread has not run for a while, so its own sleep may look like their
  // silence. When to look again.
  std::int64_t watch(std::int64_t now, const Liveness& liveness, bool slept);

  // Looks at a way that is in use. False: it is not, or needs no looks.
  bool survey(std::int64_t now);

  // When anything last came from the other end, by io::now_ms. Any thread.
  [[nodiscard]] std::int64_t heard() const { return heard_ms_.load(); }
  // What was sent does not arrive, as far as the kernel knows, or what the other end sends.
  [[nodiscard]] bool stands_still() const { return stands_still_.load(); }

  // By the engine, under its mutex: nothing of this attempt is touched any more when it returns. Of a frame that is
  // half sent the rest is zeros, which nobody takes in when the group has ended the attempt; when this member gives it
  // up alone, the connection ends in the middle instead.
  void detach(const OpRun& op, bool alone);
  void drop_sink(const OpRun& op);  // only what comes in
  template <typename Change>
  void for_each_unsent(Change change) {  // frames that are queued or half sent
    const std::lock_guard hold(guard);
    for (OutFrame& frame : out) change(frame);
  }
  void push(OutFrame frame);  // behind what is queued
  // Everything that was to be sent and was not acknowledged, in order; the strand is dead.
  Frames take_back();

  // Guarded by the engine's mutex.
  struct Shared {
    Frames unacked;               // sent; kept until the other end says it has taken them in
    std::uint64_t frames_in = 0;  // tracked frames taken in
    std::uint64_t bytes_in = 0;   // since the last ack
    std::uint64_t acked_in = 0;   // of them, acknowledged
    [[nodiscard]] std::uint64_t unanswered() const { return frames_in - acked_in; }
    std::size_t stashing = 0;  // bytes of the frame that is being stashed
    bool idle = true;          // has nothing to send and will be woken
    bool scheduled = false;    // in its thread's list
    bool parked = false;       // holds a frame for a view that is not installed here yet
    bool lost = false;
    bool closing = false;
  } shared;

  // Guarded by `guard` (and, to add frames other than pings, by the engine's mutex before it).
  std::mutex guard;
  Frames out;

 private:
  struct Poll;
  void pump();  // sends what the engine has, as far as the kernel takes it
  enum class Reading : std::uint8_t { header, small, sink, stash, parked };

  void read_some();
  void read_connection();
  bool read_into_buffer();  // false: nothing more to read now
  bool read_into_place();
  ssize_t receive(std::byte* place, std::size_t size);
  bool got(ssize_t bytes);
  void parse();  // what is in the buffer
  std::size_t take_at_once(std::span<const std::byte> ahead);
  void begin_frame();  // the header is there, or was parked
  void feed(std::span<const std::byte> bytes);
  std::size_t fill_sink(std::span<const std::byte> bytes);
  void leave_sink();
  void feed_sink(std::span<const std::byte> bytes);
  void reduce_scratch(std::size_t bytes);
  void frame_complete();
  [[nodiscard]] bool is_wanted();
  void sum_up(std::span<const std::byte> bytes);
  void read_relayed(const ByteBuffer& payload);  // the frame that a relay frame brings
  void refuse(const std::string& why);           // what was read
  bool send_some();                              // false: the kernel takes no more now
  void set_interest();
  bool doze();
  void shut();
  void release();
  std::byte* scratch();  // of the thread that reads; throws std::bad_alloc
  void fail(const std::string& why);
  void ping();
  void look_at_path(std::int64_t now);
  void survey_later();
  void suit_path(std::int64_t rtt_us);
  void renew_control(std::int64_t now);

  // Over shared memory (strand_ring.cpp).
  [[nodiscard]] bool is_same_host() const;
  void offer_memory();
  void say_share(const wire::FrameHeader& header);
  void say_share(wire::Share what);
  void on_share();
  void take_memory();
  void cannot_share(const std::string& why);
  void switch_sending();
  bool hear_bells();
  void ring_bell();
  bool read_chunk();
  void read_ring();
  // What the kernel knows of the connection; false: nothing.
  bool ask_kernel(std::int64_t now);

  Engine& engine_;
  IoThread& thread_;
  const PeerId peer_;
  const std::uint32_t index_;
  const bool dialled_;
  std::atomic<std::uint32_t> readers_{0};     // user threads that have it lent
  std::atomic<std::uint32_t> lent_count_{0};  // times that it was
  std::atomic<bool> dozes_{false};            // not polled, because of them

  std::mutex reins_;  // before the engine's; guards everything below but what is said to be guarded otherwise
  io::UniqueFd fd_;
  const bool local_;  // else payloads are sent with a checksum
  std::shared_ptr<Poll> poll_;
  std::uint32_t lent_seen_ = 0;  // when it was last asked whether it dozes for nothing
  bool interest_posted_ = false;
  std::size_t arrived_ = 0;  // bytes in all
  int interest_ = 0;
  bool want_write_ = false;
  bool closed_ = false;
  std::atomic<std::int64_t> heard_ms_;
  std::int64_t watch_ms_ = 0;  // when `watch` has something to do
  std::int64_t sent_ms_;       // when the kernel last took bytes
  std::int64_t path_ms_ = 0;   // when it was last asked about the path
  bool surveyed_ = false;      // it is asked again and again, until nothing is under way
  enum class Way : std::uint8_t { unknown, near, far };
  Way way_ = Way::unknown;       // what the socket is set up for
  std::uint64_t pace_ = 0;       // bytes a second that the kernel was told; 0: no limit
  int window_ = 0;               // bytes under way that the kernel was told; 0: its own choice
  std::int64_t renewed_ms_ = 0;  // when congestion control last began anew
  std::string usual_control_;    // of congestion, before that was changed
  std::atomic<bool> stands_still_{false};
  kernels::Checksum arriving_;      // of the payload that is read, if it has one
  kernels::RunningDigest written_;  // of what the sink has written into place
  bool digests_running_ = false;    // of a unit that is large
  std::int64_t unacked_ms_ = 0;     // since when the kernel has bytes that the other end has not acknowledged; 0: none

  Reading reading_ = Reading::header;
  std::array<std::byte, 65536> in_;  // as much as a handshake may have read ahead
  std::size_t in_begin_ = 0;
  std::size_t in_end_ = 0;
  wire::FrameHeader header_;
  std::size_t left_ = 0;  // payload bytes of the frame still to come
  std::vector<std::uint8_t> small_;
  ByteBuffer stash_;
  PeerId relayed_from_;                  // while what a relay frame brings is read
  bool untaken_ = false;                 // and that was not taken
  bool whole_ = false;                   // stash_ is for an operation that is here, not for one that may come
  Sink sink_;                            // guarded by `guard`
  std::atomic<std::uint32_t> drops_{0};  // of sinks; changed under `guard`
  bool broken_ = false;                  // likewise: nothing more may be sent
  std::array<std::byte, 8> carry_ = {};  // bytes of an element that is not whole yet
  std::size_t carried_ = 0;

  io::SharedMemory memory_;
  std::optional<RingReader> ring_in_;  // what comes is there
  std::atomic<bool> reads_memory_{false};
  std::optional<RingWriter> ring_out_;  // what goes out goes there
  std::size_t padding_ = 0;             // behind the frame that is being read
  bool waits_for_room_ = false;
  bool owes_bell_ = false;  // until what is sent goes into the ring, too
  bool reading_posted_ = false;

  std::vector<std::uint8_t> unsent_;  // of the handshake, before all frames
  Frames gone_;                       // of what was sent just now, what the other end has to acknowledge
  std::size_t out_offset_ = 0;        // bytes of the first frame of `out` that are gone
};

}  // namespace hawser::runtime
