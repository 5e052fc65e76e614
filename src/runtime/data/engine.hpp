// The data plane of one membership and the place where it meets the member's machine. One mutex guards the machine, the
// table of operations and the queues; system calls and arithmetic on user memory happen outside it, under a strand's
// guard (lock order: engine mutex, then guard). What the control thread has to do is put into an outbox, in order.
// docs/threading.md has the picture.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/status.hpp"
#include "protocol/membership/member.hpp"
#include "runtime/data/op_run.hpp"
#include "runtime/data/patience.hpp"
#include "runtime/data/rope.hpp"
#include "runtime/data/strand.hpp"
#include "runtime/log_limit.hpp"

namespace hawser::runtime {

// Sent before the receiver has posted its buffers. It keeps that much per peer and no more.
inline constexpr std::size_t eager_bytes_max = 8U << 20;
inline constexpr std::size_t eager_bytes_near = 1U << 20;  // where no more than that is under way

struct StrandLost {
  PeerId peer;
  std::uint32_t index = 0;
  bool dialled = false;
  bool link_lost = false;     // it was the last one to that peer, and nothing replaces it
  bool large_vanish = false;  // it stood still while small packets came through
  std::string why;
};
struct StrandsWanted {  // so many bulk strands to a ring neighbour
  PeerId peer;
  std::uint32_t count = 0;
};
// Orders for the control thread.
using ControlTask =
    std::variant<protocol::Member::SendControl, protocol::Member::CloseControl, protocol::Member::Listen,
                 protocol::Member::Meet, protocol::Member::Part, protocol::Member::ViewInstalled,
                 protocol::Member::Ended, protocol::Member::Tick, StrandLost, StrandsWanted>;

struct EngineMetrics {
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::uint64_t ops_committed = 0;
  std::uint64_t ops_failed = 0;
  std::uint64_t ops_rerun = 0;
  std::uint64_t views = 0;
  std::uint64_t peers_lost = 0;
  std::uint64_t frames_stale = 0;
  std::uint64_t frames_resent = 0;
  std::uint64_t bytes_relayed = 0;  // by way of a third member: sent so, or passed on
  std::uint32_t strands_open = 0;
  std::uint64_t strands_shared = 0;  // that came to send by shared memory, since the beginning
  std::uint32_t ops_open = 0;
  std::int32_t slow_rank = -1;  // of a member that an operation waits for unusually long, in the current view
  std::uint32_t slow_ms = 0;    // since that operation was called
};

struct OpReport {
  Status status;
  std::uint64_t view = 0;
  std::span<const PeerId> participants;
  std::uint32_t attempts = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t bytes_received = 0;
  std::int64_t time_us = 0;
  std::span<const double> weights;  // by participant; wire::weight_left_out: not counted, its values were not finite
  bool weighted = false;
  std::shared_ptr<const OpRun> run;  // that the spans look into. A result is told without memory, which may be lacking
};

class Engine {
 public:
  // `kick` is called under no lock of the caller's when the outbox got its first task; it makes the control thread
  // drain. `alarm`, which takes no memory, makes it close what it has (exhausted).
  Engine(protocol::MemberConfig config, std::uint32_t straggler_ms, bool shares_memory, std::function<void()> kick,
         std::function<void()> alarm);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // So many for bulk strands, and one for the light ones.
  Status start_threads(std::uint32_t count);
  void stop_threads();

  // Any thread: memory was lacking where what was half done could not be undone. The membership ends with RESOURCE: the
  // buffers are given back, every call returns, the others see a lost peer. Takes no memory.
  void exhausted() noexcept;
  // Closes all strands.
  void part_all() noexcept;

  // ------------------------------------------------------------------------------------------------- control thread
  void step(const protocol::Member::Event& event);
  std::deque<ControlTask> take_tasks();
  void add_strand(PeerId peer, std::uint32_t index, bool dialled, io::UniqueFd fd, std::vector<std::uint8_t> received,
                  std::vector<std::uint8_t> unsent);
  // How many bulk strands help, as far as is known; by the number for the next connection to the same place.
  std::uint32_t strands_wanted(PeerId peer);
  void strands_helped(PeerId peer, std::uint32_t count);
  // Asks the other end, which dials.
  void ask_strands(PeerId peer, std::uint32_t count);
  // When on_time is due next.
  std::optional<std::int64_t> next_deadline();
  void on_time();
  // Peers of the view (and, while joining, others) with no strand, and when they were last heard of.
  std::vector<std::pair<PeerId, std::int64_t>> unlinked();

  // ---------------------------------------------------------------------------------------------------- user threads
  Result<std::shared_ptr<OpRun>> start(const OpCall& call);
  // PENDING: not ended within timeout_ms (negative: until it ends).
  OpReport wait(OpRun& op, std::int64_t timeout_ms);
  // The same without a report: whether it has ended.
  bool wait_end(OpRun& op, std::int64_t timeout_ms);
  void cancel(OpRun& op);
  // For lists of operations: as in Ledger.
  wire::OpKey next_key(std::uint64_t tag);
  void skip_to(const wire::OpKey& next);
  // Waits for joined, admitted, or for the end of operations and the machine.
  Status wait_joined(std::int64_t timeout_ms);
  Status admit(std::int64_t timeout_ms);
  Status leave(std::int64_t timeout_ms);
  void abort() noexcept;
  [[nodiscard]] std::optional<Status> ended();
  [[nodiscard]] bool is_member();
  wire::View view();
  std::uint32_t peer_timeout_ms();
  EngineMetrics metrics();
  [[nodiscard]] PeerId self() const { return config_.id; }

  // ------------------------------------------------------------------------------------------------------ io threads
  enum class Verdict : std::uint8_t { small, sink, stash, whole, discard, park, refuse };
  // What to do with the frame whose header came; fills the sink, or says why it is refused.
  Verdict on_header(Strand& strand, const wire::FrameHeader& header, Sink& sink, std::string& why);
  bool on_small(Strand& strand, const wire::FrameHeader& header, std::span<const std::uint8_t> payload,
                std::string& why);
  // Frames that are here whole, in one turn of the mutex: a Begin or Done, and a unit of an exchange. False: nothing
  // was done, it is to be read like any other, header first.
  bool on_small_now(Strand& strand, const wire::FrameHeader& header, std::span<const std::uint8_t> payload,
                    std::string& why);
  bool on_data(Strand& strand, const wire::FrameHeader& header, std::span<const std::byte> payload, std::string& why);
  // False: these bytes were not taken, and nobody has them: they must come again.
  bool on_unit(Strand& strand, const Sink& sink, const kernels::Digest& digest);
  bool on_stash(Strand& strand, const wire::FrameHeader& header, ByteBuffer payload, std::string& why);
  // Payloads that an operation wants in one piece: notes, and blocks of shared state with their hash.
  bool on_whole(Strand& strand, const wire::FrameHeader& header, ByteBuffer payload, const kernels::Digest& digest,
                std::string& why);
  void on_discarded(Strand& strand, const wire::FrameHeader& header);
  // The same for a unit whose sink was taken away in between. False: nobody has it; it must come again.
  bool on_dropped(Strand& strand, const wire::FrameHeader& header);
  // A relay frame is here whole: it is passed on, or an answer, or brings a frame that is to be read like any other.
  enum class Brought : std::uint8_t { nothing, frame, refuse };
  Brought on_relay(Strand& strand, const wire::FrameHeader& header, const ByteBuffer& payload, wire::Relay& relay,
                   std::string& why);
  void on_brought(Strand& strand, const wire::Relay& relay);  // that frame was taken in
  // Puts the next frames into the strand's queue, after `sent` have gone out whole; false: there are none, the strand
  // is idle.
  bool fill(Strand& strand, Frames& sent);
  // These frames have gone out whole.
  void on_sent(Strand& strand, Frames& frames);
  void on_lost(Strand& strand, const std::string& why);
  // What the kernel says of the strand's way.
  struct Share {
    std::uint64_t pace = 0;     // bytes a second that the strand may send, 0: no limit
    std::uint32_t strands = 1;  // that bring bulk data from the same peer
  };
  Share on_path(Strand& strand, const io::TcpPath& path);
  void on_ping(Strand& strand, const wire::FrameHeader& header);
  void on_silent(Strand& strand, const std::string& why);  // lost, and not heard of for a while
  [[nodiscard]] bool shares_memory() const { return shares_memory_; }
  void on_shared() { ++shared_; }     // a strand sends by shared memory from now on
  void on_doze() { dozing_ = true; }  // a strand leaves reading to user threads
  // Needs no mutex.
  [[nodiscard]] Liveness liveness() const { return {heartbeat_ms_.load(), timeout_ms_.load()}; }
  std::vector<std::shared_ptr<Strand>> take_scheduled(IoThread& thread);

 private:
  using Actions = protocol::Member::Actions;
  struct Stashed {  // data for an operation that has not been called here yet
    PeerId from;
    wire::FrameHeader header;
    ByteBuffer payload;
  };
  // Units in the order in which they are sent: priority, then age of the operation, then place (queue_unit); later
  // steps first.
  struct BulkKey {
    std::int32_t priority = 0;  // negated: smaller goes first
    std::uint64_t order = 0;
    std::uint64_t place = 0;
    std::uint32_t step = 0;  // negated likewise
    std::uint32_t slice = 0;
    std::uint64_t attempt = 0;
    auto operator<=>(const BulkKey&) const = default;  // NOLINT(modernize-use-nullptr): see Id128
  };
  struct Held {  // a frame that went, or is to go, by way of a third member
    OutFrame frame;
    std::int64_t sent_ms = 0;
    PeerId via;  // zero: it has to be sent (again)
  };
  struct NoWay {
    std::int64_t until_ms = 0;
    std::int64_t delay_ms = 0;
  };
  struct Link {
    PeerId peer;
    std::vector<std::shared_ptr<Strand>> strands;
    Frames control;
    std::map<BulkKey, std::pair<std::shared_ptr<OpRun>, OpRun::Unit>> bulk;
    std::size_t eager_out = 0;  // bytes sent for calls the peer has not entered yet
    std::size_t stashed = 0;    // bytes kept here of its calls
    std::int64_t heard_ms = 0;  // when the other end was last heard, on strands that are lost
    Rope rope;
    std::uint32_t strands_told = 0;  // StrandsWanted, to the control thread

    // By way of others, while there is no strand (engine_relay.cpp).
    std::int64_t down_ms = 0;               // since when
    std::int64_t look_ms = 0;               // when to look again
    std::map<std::uint64_t, Held> held;     // by serial number, until the receipt
    PeerId via;                             // who passes them on
    bool proven = false;                    // and has brought a receipt
    std::map<PeerId, NoWay> no_way;         // members that have no strand to it either, and how long not to ask them
    bool relay_told = false;                // in the log
    Frames relayed;                         // for others, and by them: large frames
    std::map<PeerId, std::size_t> passing;  // bytes passed on to this peer and not taken in yet, by sender
  };
  using Lock = std::unique_lock<std::mutex>;

  // Around what changes the machine: what an exception leaves half done there ends the membership.
  class Critical {
   public:
    explicit Critical(Engine& engine) : engine_(engine) {}
    ~Critical();
    Critical(const Critical&) = delete;
    Critical& operator=(const Critical&) = delete;

   private:
    Engine& engine_;
    const int before_ = std::uncaught_exceptions();
  };
  // While one is there, strands that its thread has scheduled are pumped by that thread. Not under the engine's mutex.
  class Driver {
   public:
    Driver(Engine& engine, bool bulk);
    ~Driver();
    Driver(const Driver&) = delete;
    Driver& operator=(const Driver&) = delete;

    void send();
    // Under the engine's mutex. False: this thread drives nothing of it.
    static bool take(Engine& engine, const std::shared_ptr<Strand>& strand);

   private:
    struct Lists {
      std::vector<std::shared_ptr<Strand>> scheduled;
      std::vector<std::shared_ptr<Strand>> sending;
    };
    struct OfThread {
      Driver* current = nullptr;
      Lists kept;  // empty; memory that the last driver of this thread leaves to the next
    };
    static OfThread& of_thread();
    Engine& engine_;
    const bool bulk_;  // bulk strands too
    OfThread& here_;
    Driver* const before_;
    Lists lists_;
  };
  void drive(OpRun& op);
  void read_until_over(OpRun& op, const std::vector<std::shared_ptr<Strand>>& strands, bool bulk);
  static bool is_driven(const OpCall& call);
  void rouse() noexcept;
  Status start_locked(OpRun& op, const OpCall& call);
  void give_out() noexcept;
  void starve(OpRun& op);
  // gives_up: what fails is given up by this member alone.
  void perform(Actions& actions, bool gives_up = false);
  void perform_view(const protocol::Member::ViewInstalled& installed);
  void drop_stale();
  void say_done(const protocol::SayDone& say);
  void trace(const char* what, const OpRun& op) const;
  void begin(OpRun& op);     // an attempt among the members of the view
  void announce(OpRun& op);  // Begin to the neighbours, first units
  void unit_ready(OpRun& op, std::uint32_t slice, std::uint32_t step);
  void enqueue(OpRun& op, OpRun::Unit unit);
  void partner_begun(OpRun& op, std::uint32_t rank, double weight);
  void say_begin(const OpRun& op, const std::vector<std::uint32_t>& to);  // ranks
  void return_credit(OpRun& op);
  void encode(OpRun& op);   // the contribution of a coded operation, on the thread that starts it
  void release(OpRun& op);  // units of slices that are encoded and within the window
  void reduce_when_ready(OpRun& op, std::uint32_t slice);
  void reduced(OpRun& op, std::uint32_t slice);
  void slice_moved(OpRun& op);
  void begin_sync(OpRun& op);
  void perform_sync(OpRun& op, protocol::Sync::Actions& actions);
  bool hear(OpRun& op, PeerId from, std::span<const std::byte> note, std::string& why);
  void one_less(OpRun& op);
  void complete_unit(OpRun& op, std::uint32_t slice, std::uint32_t step);
  void contributed(OpRun& op);
  void unit_done(OpRun& op);
  void end_uncommitted(OpRun& op);
  // alone: this member gives it up without the others.
  void finish(OpRun& op, const Status& status, bool alone);
  void end(OpRun& op, const Status& status);
  void detach(OpRun& op, bool alone = false);
  // What was overwritten is written back by the io threads, piece by piece; then the operation ends or begins again.
  void restore(OpRun& op);
  void restore_on(IoThread& thread, const std::shared_ptr<OpRun>& op);
  void restored(OpRun& op);
  // Whether frames for this operation are kept until it begins.
  bool comes_later(const wire::OpKey& key);
  void take_stash(OpRun& op);
  bool make_sink(OpRun& op, const wire::FrameHeader& header, Sink& sink);
  bool make_whole(OpRun& op, const wire::FrameHeader& header, Sink& sink);
  bool take_whole(OpRun& op, const wire::FrameHeader& header, std::span<const std::byte> payload);
  // One more at the end of a queue.
  OutFrame& add_frame(Frames& queue);
  OutFrame data_frame(OpRun& op, OpRun::Unit unit);
  void send_small(Link& link, wire::FrameHeader header, std::vector<std::uint8_t> payload);
  void queue_unit(Link& link, OpRun& op, OpRun::Unit unit);  // of the current attempt
  bool wanted(const OpRun& op, PeerId from, const wire::FrameHeader& header, std::string& why);
  void copy_locally(const std::shared_ptr<OpRun>& op);
  void copy_from(const std::shared_ptr<OpRun>& op, std::uint64_t attempt, std::size_t at);
  void root_sent(OpRun& op, const OutFrame& frame);
  void book_sent(Strand& strand, Frames& frames);
  void taken_in(Strand& strand, std::size_t bytes);
  static OutFrame acknowledgement(Strand& strand);
  bool take_small(Strand& strand, const wire::FrameHeader& header, std::span<const std::uint8_t> payload,
                  std::string& why);
  // Orders of the machine, to be performed at once. Keeps its memory for the next; those within it have their own.
  class Orders {
   public:
    explicit Orders(Engine& engine) : engine_(engine), actions_(std::exchange(engine.spare_actions_, {})) {
      actions_.reserve(usual);
    }
    ~Orders() {
      actions_.clear();
      engine_.spare_actions_ = std::move(actions_);
    }
    Orders(const Orders&) = delete;
    Orders& operator=(const Orders&) = delete;
    operator Actions&() { return actions_; }  // NOLINT(google-explicit-constructor,hicpp-explicit-conversions)

   private:
    static constexpr std::size_t usual = 6;  // room is made for as many before anything is changed
    Engine& engine_;
    Actions actions_;
  };
  [[nodiscard]] bool is_here(const Strand& strand, const wire::FrameHeader& header) const;
  void acknowledged(Strand& strand, std::uint32_t count);
  void wake(Link& link);
  static std::size_t eager_limit(const Link& link);
  void want_strands(Link& link);
  static bool carries_control(const Link& link, const Strand& strand);
  static bool carries_bulk(const Link& link, const Strand& strand);
  void forget(Strand& strand, const std::string& why, std::int64_t heard_ms, bool replaced = false);
  void send_again(Link& link, Frames frames);
  void schedule(Strand& strand);
  IoThread& sender_of(Strand& strand);
  void retire(OpRun& op, const wire::FrameHeader& header);
  [[nodiscard]] static bool is_replaced(const OpRun& op, std::uint32_t slice, std::uint32_t step);
  void drop_link(PeerId peer);
  [[nodiscard]] bool in_view(PeerId peer) const;
  [[nodiscard]] bool needs_relay(const Link& link) const;
  void wait_for(Link& link);
  void look_again(Link& link, std::int64_t at);
  PeerId way_to(Link& link, std::int64_t now);
  void refuse_way(Link& link, PeerId via, std::int64_t now);
  void send_by_others(Link& link);
  void answered(PeerId speaker, const wire::Relay& relay);
  void lose_way(PeerId via);
  void send_directly(Link& link);
  void queue_relay(Link& link, OutFrame frame);
  void answer(PeerId by, const wire::Relay& relay);
  void pass_on(const wire::Relay& relay, const wire::FrameHeader& header, ByteBuffer payload);
  void passed(Link& link, const OutFrame& frame);
  void bounce(Link& link);
  void task(ControlTask task);
  void fail_undecided(OpRun& op);
  void report_stragglers(OpRun& op, std::int64_t now);
  struct Awaited {
    std::uint32_t rank = 0;  // among the participants
    std::string what;
  };
  [[nodiscard]] wire::Progress progress() const;
  // Whom an operation waits for, as far as it shows here.
  [[nodiscard]] std::vector<Awaited> awaited(const OpRun& op, std::int64_t now) const;
  [[nodiscard]] std::string describe_awaited(const OpRun& op, std::int64_t now) const;
  void name_slow(OpRun& op, std::int64_t now);
  [[nodiscard]] std::int64_t first_deadline(const OpRun& op) const;
  [[nodiscard]] std::string who(PeerId id) const;
  // With the mutex, when it has ended, and then with what it needs no more; without it when that took longer.
  Lock when_ended(OpRun& op, std::int64_t timeout_ms, OpRun::Memory& unused);
  OpReport report(const OpRun& op) const;
  OpRun* find(const wire::OpKey& key);
  // One of those that have bulk strands; any number.
  IoThread& bulk_thread(std::size_t number) { return *threads_[1 + number % (threads_.size() - 1)]; }

  const protocol::MemberConfig config_;
  const std::int64_t straggler_ms_;  // 0: no limit
  const std::function<void()> kick_;
  const std::function<void()> alarm_;
  std::vector<std::unique_ptr<IoThread>> threads_;  // first that of the light strands
  // Liveness, as the coordinator said.
  std::atomic<std::int64_t> heartbeat_ms_;
  std::atomic<std::int64_t> timeout_ms_;

  const bool shares_memory_;
  std::atomic<std::uint64_t> shared_{0};
  std::atomic<bool> dozing_{false};         // some strands are not polled
  std::atomic<std::uint32_t> turns_{100};   // how long it is worth to wait awake
  std::atomic<std::uint32_t> failures_{0};  // times in turn that this was too short

  std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  protocol::Member member_;
  std::map<wire::OpKey, std::shared_ptr<OpRun>> ops_;
  std::map<PeerId, Link> links_;
  std::map<wire::OpKey, std::vector<Stashed>> stash_;
  struct Begun {  // peers whose buffers are posted for a call that has not been made here yet, and their weights
    std::uint64_t epoch = 0;
    std::map<PeerId, double> peers;
  };
  std::map<wire::OpKey, Begun> begun_;
  Actions spare_actions_;
  Frames spare_frames_;  // empty; memory that those which are acknowledged leave to the next
  std::deque<ControlTask> tasks_;
  bool kicked_ = false;
  bool joined_ = false;
  bool leaving_ = false;
  bool stopped_ = false;  // the io threads have ended
  std::uint64_t admitted_ = 0;
  bool admitting_ = false;
  std::optional<Status> ended_;
  std::uint64_t orders_ = 0;
  std::pair<wire::OpParams, std::uint32_t> checked_;  // params_check of the last call, for the next like it
  std::uint64_t serials_ = 0;                         // of frames that went by way of others
  std::size_t next_thread_ = 0;
  std::int64_t armed_ms_ = 0;
  EngineMetrics metrics_;
  Patience patience_;
  LogLimit slow_lines_{1};
};

}  // namespace hawser::runtime
