// A child of `hawser stress`: joins, then issues the rounds of the shared program until it is asked to leave (SIGTERM).
//
// Every round is: an admission point; the sync, an all_reduce(max) of the last round's number, from which all members,
// newcomers included, know the next; the operations of plan_round. It is the sync that keeps members in step, and it is
// made every round: whether a view has changed is not something that all members see at the same place of their
// program. A round with an operation that failed for good starts again at its sync under a new number. The admission
// point is not made again, since members count them.
//
// Every result is compared, element by element, with the reduction of the inputs of exactly those peers that the
// operation's info names; after every failure the inputs are compared with what they were; bytes around the buffers
// must stay as they are.
//
// A round may be a sync of shared state: all fill their copy with the content of the round, but one member, which holds
// something else and only receives. Afterwards all must hold the content of the round.
//
// Threads: the main thread makes all calls; one more waits for SIGTERM, so that it can abort a join that is still
// waiting.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "child.hpp"
#include "command.hpp"
#include "reference.hpp"
#include "stress.hpp"
#include "stress_program.hpp"
#include "stress_report.hpp"
#include "text.hpp"

namespace tool {
namespace {

constexpr std::size_t guard_bytes = 64;
constexpr std::byte guard_value{0x5c};
constexpr std::byte poison{0xa5};
constexpr std::uint32_t join_attempts_max = 5;
constexpr std::size_t state_bytes_max = std::size_t{1} << 20;  // four blocks
constexpr std::uint32_t failures_in_a_row_max = 40;
constexpr std::uint32_t poll_ms = 20;
constexpr std::uint64_t rounds_after_expulsion = 500000;  // half of what the supervisor leaves between newcomers

std::uint64_t key_of(const hawser_peer_id_t& id) {
  std::uint64_t key = 0;
  for (const std::uint8_t byte : id.bytes) key = mix(key, byte);
  return key;
}

std::uint32_t short_id(const hawser_peer_id_t& id) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < sizeof(value); ++i) value = value << 8 | id.bytes[i];
  return value;
}

bool same(const hawser_peer_id_t& a, const hawser_peer_id_t& b) {
  return std::memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

std::uint64_t digest_of(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  std::uint64_t digest = mix(0, bytes);
  for (std::size_t at = 0; at < bytes; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, from + at, std::min<std::size_t>(8, bytes - at));
    digest = mix(digest, word);
  }
  return digest;
}

// A buffer whose neighbouring bytes are watched.
class GuardedBuffer {
 public:
  std::byte* place(std::size_t bytes, std::size_t offset_bytes) {
    const std::size_t needed = bytes + offset_bytes + 2 * guard_bytes + 64;
    if (memory_.size() < needed) memory_.resize(needed);
    void* aligned = memory_.data() + guard_bytes;
    std::size_t space = memory_.size() - guard_bytes;
    aligned = std::align(64, bytes, aligned, space);
    data_ = static_cast<std::byte*>(aligned) + offset_bytes;
    bytes_ = bytes;
    std::memset(data_ - guard_bytes, static_cast<int>(guard_value), guard_bytes);
    std::memset(data_ + bytes_, static_cast<int>(guard_value), guard_bytes);
    return data_;
  }
  [[nodiscard]] bool is_intact() const {
    const auto is_guard = [](std::byte byte) { return byte == guard_value; };
    return std::all_of(data_ - guard_bytes, data_, is_guard) &&
           std::all_of(data_ + bytes_, data_ + bytes_ + guard_bytes, is_guard);
  }

 private:
  std::vector<std::byte> memory_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// An operation's info with room for its participants.
struct Info {
  Info() {
    raw.participant_ids = ids.data();
    raw.participant_capacity = static_cast<std::uint32_t>(ids.size());
  }
  Info(const Info&) = delete;
  Info& operator=(const Info&) = delete;
  [[nodiscard]] std::span<const hawser_peer_id_t> participants() const {
    return {ids.data(), std::min<std::size_t>(raw.participants, ids.size())};
  }
  hawser_op_info_t raw = HAWSER_OP_INFO_INIT;
  std::array<hawser_peer_id_t, report_participants_max> ids{};
};

struct OpDeleter {
  void operator()(hawser_op_t* op) const { hawser_op_release(op); }
};

struct StateDeleter {
  void operator()(hawser_state_t* state) const { hawser_state_destroy(state); }
};

// One operation of the current round.
struct Slot {
  PlannedOp plan;
  std::uint32_t index = 0;  // in the round, from 1
  std::size_t bytes = 0;
  GuardedBuffer send_buffer;
  GuardedBuffer recv_buffer;
  std::byte* send = nullptr;  // == recv when in place
  std::byte* recv = nullptr;
  std::unique_ptr<Pattern> input;
  std::unique_ptr<hawser_op_t, OpDeleter> op;
  hawser_status_t start_status = HAWSER_OK;  // without a handle: what the start ended with, and its sentence
  std::string start_text;
};

// What the peer does next.
enum class Next {
  go_on,
  repeat,  // the operation, at once
  resync,  // the round, from its sync
  rejoin,
};

// SIGTERM, waited for by a thread of its own, because a join that has to be broken off blocks the main thread.
class LeaveRequest {
 public:
  LeaveRequest() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    // The supervisor has blocked it already; threads that the library starts inherit that.
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::thread([this, set] {
      int signal = 0;
      while (sigwait(&set, &signal) != 0) {
      }
      const std::scoped_lock lock(mutex_);
      requested_ = true;
      if (joining_ != nullptr) hawser_comm_abort(joining_);
    }).detach();
  }
  [[nodiscard]] bool is_requested() const { return requested_; }
  // While set, a request aborts this communicator. Nothing is joined after a request.
  bool set_joining(hawser_comm_t* comm) {
    const std::scoped_lock lock(mutex_);
    joining_ = comm;
    return !requested_;
  }

 private:
  std::mutex mutex_;
  std::atomic<bool> requested_{false};
  hawser_comm_t* joining_ = nullptr;
};

class Peer {
 public:
  Peer(const StressOptions& options, LeaveRequest& leave_request)
      : options_(options), leave_request_(leave_request), round_(options.first_round) {}

  int run() {
    while (join()) {
      if (!work()) break;
      send({.kind = ReportKind::expelled});
      // The others have gone on, and may be gone before they say how far: as a newcomer it begins with unused numbers.
      round_ += rounds_after_expulsion + 1000 * static_cast<std::uint64_t>(options_.child);
    }
    return exit_ok;
  }

 private:
  // ------------------------------------------------------------ reports
  void send(Report report) {
    report.round = round_;
    // Without a supervisor there is nobody to work for.
    if (!write_report(report_fd, report)) _exit(exit_failed);
  }

  void begin(ReportCall call, std::uint32_t deadline_ms, std::uint32_t op = 0) {
    call_began_ns_ = monotonic_ns();
    send({.kind = ReportKind::begin, .call = call, .op = op, .deadline_ms = deadline_ms});
  }

  void end(ReportCall call, hawser_status_t status, std::uint32_t deadline_ms) {
    send({.kind = ReportKind::end,
          .call = call,
          .status = status,
          .deadline_ms = deadline_ms,
          .duration_us = (monotonic_ns() - call_began_ns_) / 1000});
  }

  void report_error(ReportCall call, hawser_status_t status, const std::string& text, std::uint32_t op = 0,
                    bool was_cancelled = false) {
    Report report{.kind = ReportKind::error, .call = call, .status = status, .op = op, .was_cancelled = was_cancelled};
    report.set_text(text);
    send(report);
    if (++failures_in_a_row_ > failures_in_a_row_max) {
      throw Failure(exit_failed, fmt::format("stress peer {}: nothing succeeds any more: {}", options_.child, text));
    }
  }

  void report_damage(std::uint32_t op, std::uint64_t wrong, const std::string& text) {
    Report report{.kind = ReportKind::damage, .op = op, .wrong = wrong};
    report.set_text(text);
    send(report);
  }

  // The last report of an operation in this round.
  void report_result(ReportCall call, std::uint32_t op, hawser_status_t status, const Info& info,
                     std::uint64_t digest) {
    Report report{.kind = ReportKind::result,
                  .call = call,
                  .status = status,
                  .op = op,
                  .deadline_ms = options_.op_timeout_ms,
                  .view = info.raw.view,
                  .digest = digest,
                  .duration_us = (monotonic_ns() - call_began_ns_) / 1000,
                  .attempts = info.raw.attempts};
    if (status == HAWSER_OK) {
      report.participant_count = static_cast<std::uint32_t>(info.participants().size());
      for (std::size_t i = 0; i < info.participants().size(); ++i) {
        report.participants[i] = short_id(info.participants()[i]);
        report.identity_digest = mix(report.identity_digest, key_of(info.participants()[i]));
      }
    }
    send(report);
  }

  // ------------------------------------------------------------ membership

  // False: asked to leave before there was anything to leave.
  bool join() {
    comm_.reset();
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = options_.coordinator.c_str();
    const std::string name = fmt::format("stress {}", options_.child);
    config.name = name.c_str();
    config.min_size = options_.min_size;
    config.strands = options_.strands;
    config.io_threads = options_.io_threads;
    const bool is_tcp = options_.transport == "tcp" || (options_.transport == "mixed" && options_.child % 3 == 2);
    config.transport = is_tcp ? HAWSER_TRANSPORT_TCP : HAWSER_TRANSPORT_AUTO;
    config.join_timeout_ms = stress_join_timeout_ms;
    config.op_timeout_ms = options_.op_timeout_ms;
    hawser_comm_t* raw = nullptr;
    require(hawser_comm_create(&config, &raw), "the communicator");
    comm_.reset(raw);
    for (std::uint32_t attempt = 1; attempt <= join_attempts_max; ++attempt) {
      if (!leave_request_.set_joining(raw)) return false;
      begin(ReportCall::join, stress_join_timeout_ms);
      const hawser_status_t status = hawser_comm_join(raw, 0);
      const std::string text = status == HAWSER_OK ? "" : describe(status, "join");
      leave_request_.set_joining(nullptr);
      if (leave_request_.is_requested() && status == HAWSER_ABORTED) return false;
      end(ReportCall::join, status, stress_join_timeout_ms);
      if (status == HAWSER_OK) return learn_own_id();
      report_error(ReportCall::join, status, text);
      if (status != HAWSER_TIMEOUT && status != HAWSER_NO_COORDINATOR)
        throw Failure(exit_code_of(status), fmt::format("stress peer {}: {}", options_.child, text));
    }
    throw Failure(exit_no_coordinator,
                  fmt::format("stress peer {}: could not join in {} attempts", options_.child, join_attempts_max));
  }

  bool learn_own_id() {
    hawser_view_t before = HAWSER_VIEW_INIT;
    hawser_view_t after = HAWSER_VIEW_INIT;
    hawser_member_t member = HAWSER_MEMBER_INIT;
    do {  // ranks hold for one view only
      if (const auto status = hawser_comm_view(comm_.get(), &before); status != HAWSER_OK)
        return is_lost_at_once(status);
      if (const auto status = hawser_comm_member(comm_.get(), before.rank, &member);
          status != HAWSER_OK && status != HAWSER_INVALID_ARGUMENT) {
        return is_lost_at_once(status);
      }
      if (const auto status = hawser_comm_view(comm_.get(), &after); status != HAWSER_OK)
        return is_lost_at_once(status);
    } while (before.number != after.number);
    own_id_ = member.id;
    Report report{.kind = ReportKind::joined, .view = after.number, .participant_count = 1};
    report.participants[0] = short_id(own_id_);
    send(report);
    return true;
  }

  // Removed between joining and the first look at the view: possible when this process was stopped there. The next call
  // says so. Or asked to leave in the moment in which the join succeeded: then it was aborted, and there is nothing
  // left to do.
  bool is_lost_at_once(hawser_status_t status) {
    if (status == HAWSER_ABORTED && leave_request_.is_requested()) return false;
    if (status != HAWSER_EXPELLED) require(status, fmt::format("stress peer {}: view after join", options_.child));
    own_id_ = {};
    return true;
  }

  void leave() {
    begin(ReportCall::leave, stress_join_timeout_ms);
    const hawser_status_t status = hawser_comm_leave(comm_.get(), 0);
    end(ReportCall::leave, status, stress_join_timeout_ms);
    if (status != HAWSER_OK && status != HAWSER_EXPELLED)
      report_error(ReportCall::leave, status, describe(status, "leave"));
  }

  // ------------------------------------------------------------ rounds

  // False: left. True: expelled.
  bool work() {
    while (true) {
      if (leave_request_.is_requested()) {
        leave();
        return false;
      }
      if (admit() == Next::rejoin) return true;
      Next next = Next::resync;
      while (next == Next::resync) {
        next = sync();
        if (next == Next::go_on) next = run_round();
      }
      if (next == Next::rejoin) return true;
    }
  }

  Next admit() {
    while (true) {
      begin(ReportCall::admit, stress_join_timeout_ms);
      const hawser_status_t status = hawser_comm_admit(comm_.get(), 0);
      const std::string text = status == HAWSER_OK ? "" : describe(status, "admit");
      end(ReportCall::admit, status, stress_join_timeout_ms);
      if (status == HAWSER_OK) return Next::go_on;
      if (status == HAWSER_EXPELLED) return Next::rejoin;
      report_error(ReportCall::admit, status, text);
    }
  }

  // Agrees on the number of the round that begins.
  Next sync() {
    const std::uint64_t last = round_;
    std::uint64_t agreed = 0;
    Info info;
    begin(ReportCall::sync, options_.op_timeout_ms);
    const hawser_status_t status =
        hawser_all_reduce(comm_.get(), &last, &agreed, 1, HAWSER_U64, HAWSER_MAX, nullptr, &info.raw);
    if (status == HAWSER_EXPELLED) return Next::rejoin;
    if (status == HAWSER_NO_COORDINATOR) is_healing_ = true;  // others may have gone on without this member
    if (status != HAWSER_OK) {
      const std::string text = describe(status, "sync");
      end(ReportCall::sync, status, options_.op_timeout_ms);
      // Others may still be in the broadcast that this member has given up.
      if (!(status == HAWSER_MISMATCH && is_healing_)) report_error(ReportCall::sync, status, text);
      return Next::resync;
    }
    if (agreed < last) report_damage(0, 1, fmt::format("sync gave {}, less than this peer's {}", agreed, last));
    is_healing_ = false;
    round_ = std::max(agreed, last) + 1;
    check_participants(info, 0);
    // What committed by a view change ended in a view that has lost some of its participants.
    hawser_view_t view = HAWSER_VIEW_INIT;
    const bool is_same = hawser_comm_view(comm_.get(), &view) == HAWSER_OK && view.number == info.raw.view &&
                         view.world_size == info.raw.participants;
    sync_view_ = is_same ? info.raw.view : 0;
    sync_members_.assign(info.participants().begin(), info.participants().end());
    report_result(ReportCall::sync, 0, status, info, agreed);
    return Next::go_on;
  }

  Next run_round() {
    std::vector<PlannedOp> planned = plan_round(options_.seed, round_, options_.max_bytes, options_.cancel_percent);
    for (PlannedOp& op : planned) {
      if (options_.placement != Placement::any) op.in_place = options_.placement == Placement::in_place;
    }
    while (slots_.size() < planned.size()) slots_.push_back(std::make_unique<Slot>());
    const std::span slots(slots_.data(), planned.size());
    for (std::uint32_t i = 0; i < planned.size(); ++i) {
      slots[i]->plan = planned[i];
      slots[i]->index = i + 1;
      prepare(*slots[i]);
    }
    if (planned.front().op == StressOp::state_sync) return sync_state(planned.front());
    const bool blocking = planned.size() == 1 && !planned.front().poll && !planned.front().cancel;
    std::vector<Slot*> open;
    for (const auto& slot : slots) open.push_back(slot.get());
    Next worst = Next::go_on;
    while (!open.empty()) {
      std::vector<Slot*> again;
      if (!blocking) start_all(open);
      for (Slot* slot : open) {
        const Next next = blocking ? call(*slot) : wait(*slot);
        slot->op.reset();
        if (next == Next::repeat) again.push_back(slot);
        if (next == Next::rejoin || (next == Next::resync && worst != Next::rejoin)) worst = next;
      }
      if (worst != Next::go_on) break;
      for (Slot* slot : again) prepare(*slot);
      open = std::move(again);
    }
    for (const auto& slot : slots) slot->op.reset();
    if (worst == Next::go_on) failures_in_a_row_ = 0;
    return worst;
  }

  // ------------------------------------------------------------ shared state
  [[nodiscard]] Pattern state_content(std::uint64_t key) const {
    return input_pattern(HAWSER_U64, HAWSER_SUM, key, state_.size());
  }

  void make_state() {
    state_.resize(std::clamp<std::size_t>(options_.max_bytes, 64, state_bytes_max) / sizeof(std::uint64_t));
    hawser_state_t* raw = nullptr;
    require(hawser_state_create(&raw), "the shared state");
    state_handle_.reset(raw);
    require(hawser_state_add_tensor(raw, "w", state_.data(), state_.size(), HAWSER_U64), "the shared state");
  }

  Next sync_state(const PlannedOp& plan) {
    if (!state_handle_) make_state();
    const std::uint64_t key = mix(mix(options_.seed, 0x7374617465U), round_);
    const bool is_behind = sync_members_.size() > 1 && is_rank(plan.root_draw);
    const Pattern before = state_content(is_behind ? mix(key_of(own_id_), round_) : key);
    before.fill(state_.data(), state_.size());
    const std::uint64_t revision = is_behind ? 0 : round_;
    require(hawser_state_set_revision(state_handle_.get(), revision), "the shared state");
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.tag = plan.tag;
    options.priority = plan.priority;
    hawser_sync_info_t raw = HAWSER_SYNC_INFO_INIT;
    begin(ReportCall::state_sync, options_.op_timeout_ms, 1);
    const hawser_status_t status = hawser_state_sync(
        comm_.get(), state_handle_.get(), is_behind ? HAWSER_SYNC_RECEIVE_ONLY : HAWSER_SYNC_AGREE, &options, &raw);
    const std::string text = status == HAWSER_OK ? "" : describe(status, "state sync");
    // It names no participants: only the content can be compared.
    Info info;
    info.raw.view = raw.view;
    info.raw.attempts = raw.attempts;
    const Pattern expected = status == HAWSER_OK ? state_content(key) : before;
    if (const std::uint64_t wrong = expected.mismatches(state_.data(), state_.size()); wrong > 0) {
      report_damage(1, wrong,
                    fmt::format("shared state: {} wrong elements after {}", wrong, hawser_status_name(status)));
    }
    std::uint64_t agreed = 0;
    require(hawser_state_revision(state_handle_.get(), &agreed), "the shared state");
    if (agreed != (status == HAWSER_OK ? round_ : revision)) {
      report_damage(1, 1, fmt::format("shared state: revision {} after {}", agreed, hawser_status_name(status)));
    }
    report_result(ReportCall::state_sync, 1, status, info, digest_of(state_.data(), state_.size() * sizeof(state_[0])));
    if (status == HAWSER_OK) {
      failures_in_a_row_ = 0;
      return Next::go_on;
    }
    if (status == HAWSER_EXPELLED) return Next::rejoin;
    // Who held the content of the round may be lost: then the others have no source, or nobody who may decide.
    if (status != HAWSER_PEER_LOST && status != HAWSER_NO_MAJORITY)
      report_error(ReportCall::state_sync, status, text, 1);
    return Next::resync;
  }

  // Whether this peer had that rank when the round began; of a larger number its remainder counts.
  [[nodiscard]] bool is_rank(std::uint32_t draw) const {
    return !sync_members_.empty() && same(sync_members_[draw % sync_members_.size()], own_id_);
  }

  // ------------------------------------------------------------ operations
  [[nodiscard]] std::uint64_t input_key(const hawser_peer_id_t& id, const Slot& slot) const {
    return mix(mix(key_of(id), round_), slot.index);
  }

  void prepare(Slot& slot) {
    const PlannedOp& plan = slot.plan;
    const std::size_t element_bytes = hawser_dtype_size(plan.dtype);
    slot.bytes = plan.count * element_bytes;
    slot.input = std::make_unique<Pattern>(input_pattern(plan.dtype, plan.redop, input_key(own_id_, slot), plan.count));
    slot.recv = slot.recv_buffer.place(slot.bytes, plan.offset * element_bytes);
    if (plan.in_place) {
      slot.send = slot.recv;
    } else {
      slot.send = slot.send_buffer.place(slot.bytes, plan.offset * element_bytes);
      std::memset(slot.recv, static_cast<int>(poison), slot.bytes);
    }
    slot.input->fill(slot.send, plan.count);
  }

  [[nodiscard]] std::uint32_t broadcast_root(const Slot& slot) const {
    return sync_members_.empty() ? 0 : slot.plan.root_draw % static_cast<std::uint32_t>(sync_members_.size());
  }

  [[nodiscard]] hawser_op_options_t op_options(const Slot& slot, hawser_compression_t& compression) const {
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.tag = slot.plan.tag;
    options.policy = slot.plan.strict ? HAWSER_POLICY_STRICT : HAWSER_POLICY_RETRY;
    options.priority = slot.plan.priority;
    if (slot.plan.codec != HAWSER_CODEC_NONE) {
      compression.codec = slot.plan.codec;
      options.compression = &compression;
    }
    options.weighted = slot.plan.weighted ? 1 : 0;
    options.weight = slot.plan.weighted ? 1.0 : 0.0;
    return options;
  }

  static ReportCall report_call(const Slot& slot) {
    switch (slot.plan.op) {
      case StressOp::all_reduce:
        return ReportCall::all_reduce;
      case StressOp::broadcast:
        return ReportCall::broadcast;
      case StressOp::barrier:
      case StressOp::state_sync:  // has no slot
        break;
    }
    return ReportCall::barrier;
  }

  Next call(Slot& slot) {
    hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
    const hawser_op_options_t options = op_options(slot, compression);
    const PlannedOp& plan = slot.plan;
    Info info;
    hawser_status_t status = HAWSER_OK;
    begin(report_call(slot), options_.op_timeout_ms, slot.index);
    switch (plan.op) {
      case StressOp::all_reduce:
        status = hawser_all_reduce(comm_.get(), slot.send, slot.recv, plan.count, plan.dtype, plan.redop, &options,
                                   &info.raw);
        break;
      case StressOp::broadcast:
        status = hawser_broadcast(comm_.get(), slot.send, slot.recv, plan.count, plan.dtype, broadcast_root(slot),
                                  &options, &info.raw);
        break;
      case StressOp::barrier:
      case StressOp::state_sync:
        status = hawser_barrier(comm_.get(), &options, &info.raw);
        break;
    }
    return settle(slot, status, info, sentence(slot, status));
  }

  // A start may already be the operation's end: others can have ended it, or lost a participant of it, before this
  // call.
  void start_all(std::span<Slot* const> slots) {
    begin(ReportCall::start, 0);
    for (Slot* slot : slots) {
      hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
      const hawser_op_options_t options = op_options(*slot, compression);
      const PlannedOp& plan = slot->plan;
      hawser_op_t* raw = nullptr;
      switch (plan.op) {
        case StressOp::all_reduce:
          slot->start_status = hawser_all_reduce_start(comm_.get(), slot->send, slot->recv, plan.count, plan.dtype,
                                                       plan.redop, &options, &raw);
          break;
        case StressOp::broadcast:
          slot->start_status = hawser_broadcast_start(comm_.get(), slot->send, slot->recv, plan.count, plan.dtype,
                                                      broadcast_root(*slot), &options, &raw);
          break;
        case StressOp::barrier:
        case StressOp::state_sync:
          slot->start_status = hawser_barrier_start(comm_.get(), &options, &raw);
          break;
      }
      slot->start_text = slot->start_status == HAWSER_OK
                             ? ""
                             : describe(slot->start_status, fmt::format("{} start", stress_op_name(plan.op)));
      slot->op.reset(raw);
      if (raw != nullptr && plan.cancel && is_canceller(*slot)) hawser_op_cancel(raw);
    }
    end(ReportCall::start, HAWSER_OK, 0);
  }

  [[nodiscard]] bool is_canceller(const Slot& slot) const { return is_rank(slot.plan.root_draw); }

  Next wait(Slot& slot) {
    Info info;
    begin(report_call(slot), options_.op_timeout_ms, slot.index);
    if (!slot.op) return settle(slot, slot.start_status, info, slot.start_text);
    hawser_status_t status = HAWSER_PENDING;
    if (slot.plan.poll) {
      while (status == HAWSER_PENDING) status = hawser_op_wait(slot.op.get(), poll_ms, &info.raw);
    } else {
      status = hawser_op_wait(slot.op.get(), 0, &info.raw);
    }
    const Next next = settle(slot, status, info, sentence(slot, status));
    if (const hawser_status_t asked_again = hawser_op_test(slot.op.get(), nullptr); asked_again != status) {
      report_error(report_call(slot), asked_again,
                   fmt::format("asked again, the operation ended with {} instead of {}",
                               hawser_status_name(asked_again), hawser_status_name(status)),
                   slot.index);
    }
    return next;
  }

  // What the library says about the call that has just returned.
  static std::string sentence(const Slot& slot, hawser_status_t status) {
    return status == HAWSER_OK ? "" : describe(status, stress_op_name(slot.plan.op));
  }

  // Checks what the operation left behind, reports it, and says what to do next.
  Next settle(Slot& slot, hawser_status_t status, const Info& info, const std::string& text) {
    const ReportCall call = report_call(slot);
    if (status == HAWSER_OK) {
      damage_on_purpose(slot);
      check_result(slot, info);
      report_result(call, slot.index, status, info, digest_of(slot.recv, slot.bytes));
      return Next::go_on;
    }
    check_inputs(slot, status);
    if (status == HAWSER_EXPELLED) {
      report_result(call, slot.index, status, info, 0);
      return Next::rejoin;
    }
    if (status == HAWSER_PEER_LOST && slot.plan.strict && slot.plan.op != StressOp::broadcast) {
      send({.kind = ReportKind::repeat, .call = call, .status = status, .op = slot.index, .view = info.raw.view});
      return Next::repeat;
    }
    if (status == HAWSER_PEER_LOST && slot.plan.op == StressOp::broadcast) {
      // The root is lost, or under the strict policy anybody: there is nothing left to repeat under this number.
      is_healing_ = true;
      report_result(call, slot.index, status, info, 0);
      return Next::resync;
    }
    if (is_stale_broadcast(slot, status, info)) {
      is_healing_ = true;
      end(call, status, options_.op_timeout_ms);
      return Next::resync;
    }
    report_result(call, slot.index, status, info, 0);
    if (status == HAWSER_NO_COORDINATOR) is_healing_ = true;
    if (status == HAWSER_CANCELLED && slot.plan.cancel) return Next::go_on;
    report_error(call, status, text, slot.index, slot.plan.cancel);
    return Next::resync;
  }

  // A root is a rank. When the view has changed since the sync, members may mean different peers by it, or nobody.
  [[nodiscard]] bool is_stale_broadcast(const Slot& slot, hawser_status_t status, const Info& info) const {
    if (slot.plan.op != StressOp::broadcast) return false;
    if (status != HAWSER_MISMATCH && status != HAWSER_INVALID_ARGUMENT) return false;
    hawser_view_t view = HAWSER_VIEW_INIT;
    const bool known = hawser_comm_view(comm_.get(), &view) == HAWSER_OK;
    return !known || view.number != sync_view_ || (info.raw.view != 0 && info.raw.view != sync_view_);
  }

  // ------------------------------------------------------------ checks
  [[nodiscard]] static std::string named(const Slot& slot) {
    const PlannedOp& plan = slot.plan;
    return fmt::format("{} of {} elements, {} {}, tag {}{}{}", stress_op_name(plan.op), plan.count,
                       dtype_name(plan.dtype), redop_name(plan.redop), plan.tag, plan.in_place ? ", in place" : "",
                       plan.strict ? ", strict" : "");
  }

  void damage_on_purpose(const Slot& slot) const {
    if (options_.corrupt_round == 0 || options_.child != 0 || slot.bytes == 0) return;
    if (round_ % options_.corrupt_round == 0) slot.recv[0] ^= std::byte{1};
  }

  void check_participants(const Info& info, std::uint32_t op) {
    const auto participants = info.participants();
    if (info.raw.participants == 0 || info.raw.participants > info.ids.size()) {
      report_damage(op, 1, fmt::format("an operation with {} participants", info.raw.participants));
    }
    for (std::size_t i = 0; i < participants.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        if (same(participants[i], participants[j])) report_damage(op, 1, "a participant is named twice");
      }
    }
    const auto is_own = [&](const hawser_peer_id_t& id) { return same(id, own_id_); };
    if (std::none_of(participants.begin(), participants.end(), is_own))
      report_damage(op, 1, "success without this peer");
  }

  void check_result(const Slot& slot, const Info& info) {
    const PlannedOp& plan = slot.plan;
    check_participants(info, slot.index);
    std::uint64_t wrong = 0;
    if (plan.op == StressOp::all_reduce) {
      std::vector<std::uint64_t> keys;
      for (const hawser_peer_id_t& id : info.participants()) keys.push_back(input_key(id, slot));
      if (!keys.empty())
        wrong = expected_pattern(plan.dtype, plan.redop, keys, plan.count).mismatches(slot.recv, plan.count);
    } else if (plan.op == StressOp::broadcast) {
      wrong = broadcast_mismatches(slot, info);
    }
    if (wrong > 0) report_damage(slot.index, wrong, fmt::format("{}: {} wrong elements", named(slot), wrong));
    if (!plan.in_place && plan.op != StressOp::barrier) check_send_untouched(slot, HAWSER_OK);
    check_guards(slot);
  }

  // The result is the input of whoever had the root's rank: in the sync's view, unless the view has changed since.
  [[nodiscard]] std::uint64_t broadcast_mismatches(const Slot& slot, const Info& info) const {
    const std::uint32_t root = broadcast_root(slot);
    std::vector<hawser_peer_id_t> candidates;
    if (root < sync_members_.size()) candidates.push_back(sync_members_[root]);
    if (info.raw.view != sync_view_ || info.raw.attempts > 1) {
      candidates.insert(candidates.end(), info.participants().begin(), info.participants().end());
    }
    std::uint64_t least = slot.plan.count;
    for (const hawser_peer_id_t& id : candidates) {
      const Pattern expected = input_pattern(slot.plan.dtype, slot.plan.redop, input_key(id, slot), slot.plan.count);
      least = std::min(least, expected.mismatches(slot.recv, slot.plan.count));
    }
    return least;
  }

  void check_inputs(const Slot& slot, hawser_status_t status) {
    // A broadcast has one input, the root's; elsewhere an in-place buffer is a result only.
    const bool is_root = !sync_members_.empty() && same(sync_members_[broadcast_root(slot)], own_id_);
    const bool has_input = slot.plan.op == StressOp::all_reduce ||
                           (slot.plan.op == StressOp::broadcast && (is_root || !slot.plan.in_place));
    if (has_input) check_send_untouched(slot, status);
    check_guards(slot);
  }

  void check_send_untouched(const Slot& slot, hawser_status_t status) {
    const std::uint64_t wrong = slot.input->mismatches(slot.send, slot.plan.count);
    if (wrong == 0) return;
    report_damage(slot.index, wrong,
                  fmt::format("{}: {} elements of the input changed by an operation that ended with {}", named(slot),
                              wrong, hawser_status_name(status)));
  }

  void check_guards(const Slot& slot) {
    const bool intact = slot.recv_buffer.is_intact() && (slot.plan.in_place || slot.send_buffer.is_intact());
    if (!intact) report_damage(slot.index, 1, fmt::format("{}: bytes beside the buffer were overwritten", named(slot)));
  }

  const StressOptions& options_;
  LeaveRequest& leave_request_;
  Comm comm_;
  hawser_peer_id_t own_id_{};
  std::uint64_t round_;                         // the current one, or the last one while a sync has not given the next
  std::uint64_t sync_view_ = 0;                 // 0: its members are not those of the sync
  std::vector<hawser_peer_id_t> sync_members_;  // in rank order
  bool is_healing_ = false;                     // an operation was given up and others may still be in it
  std::vector<std::uint64_t> state_;
  std::unique_ptr<hawser_state_t, StateDeleter> state_handle_;  // the same one in every membership
  std::vector<std::unique_ptr<Slot>> slots_;  // after comm_: operations are released before the communicator
  std::uint64_t call_began_ns_ = 0;
  std::uint32_t failures_in_a_row_ = 0;
};

}  // namespace

int run_stress_peer(const StressOptions& options) {
  die_with_parent(static_cast<pid_t>(options.parent));
  // Ctrl-C on a terminal reaches all processes; it is the supervisor who ends the run.
  signal(SIGINT, SIG_IGN);
  // Never destroyed: its thread waits for a signal until the process ends.
  static LeaveRequest& leave_request = *new LeaveRequest;
  return Peer(options, leave_request).run();
}

}  // namespace tool
