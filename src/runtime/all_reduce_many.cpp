// Lists of all-reduces; see the header.
#include "runtime/all_reduce_many.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <utility>

#include "io/random.hpp"
#include "protocol/round/uniform.hpp"

namespace hawser::runtime {
namespace {

constexpr std::int64_t look_ms = 50;           // between looks at a caller who may interrupt
constexpr std::size_t ending_in_flight = 256;  // items that are started only to be ended

}  // namespace

OpReport wait_interruptible(Engine& engine, OpRun& op, const Interrupted& interrupted) {
  if (!interrupted) return engine.wait(op, -1);
  for (bool cancelled = false;;) {
    OpReport report = engine.wait(op, look_ms);
    if (report.status.code() != Code::PENDING) return report;
    // Asked again after the first yes: a caller in a hurry may do more about it then, such as abort the communicator.
    if (interrupted() && !std::exchange(cancelled, true)) engine.cancel(op);
  }
}

AllReduceMany::AllReduceMany(Engine& engine, std::vector<OpCall> calls, ManyOptions options)
    : engine_(engine),
      options_(std::move(options)),
      items_(calls.size()),
      which_(calls.size()),
      participants_(calls.size()) {
  std::iota(which_.begin(), which_.end(), 0);
  for (std::size_t i = 0; i < calls.size(); ++i) {
    Item& item = items_[i];
    item.call = std::move(calls[i]);
    item.call.tag = options_.tag;
    item.call.strict = options_.strict;
    item.call.uniform = options_.uniform;
    item.recv = item.call.recv;
  }
}

AllReduceMany::~AllReduceMany() {
  for (const Item& item : items_) {
    if (item.user_residual) item.user_residual->release();
  }
}

ManyReport AllReduceMany::run() {
  const std::int64_t started_us = now_us();
  ManyReport report;
  report.items.resize(items_.size());
  report.status = take_residuals();
  if (!report.status.ok()) return report;
  make_room();
  try {
    report.status = reduce();
  } catch (const std::bad_alloc&) {  // of bookkeeping, in the middle
    end_round();
    find_reruns();
    const bool done = first_failure() == items_.end() && (which_.empty() || !options_.uniform);
    if (!done) report.status = Status(Code::RESOURCE, "out of memory");
  }
  find_reruns();
  report.uniform = report.status.ok() && which_.empty();
  report.first_failed = static_cast<std::size_t>(first_failure() - items_.cbegin());
  if (!report.status.ok() && report.first_failed == items_.size()) report.first_failed = which_.empty() ? 0 : which_[0];
  if (options_.uniform) report.status.ok() ? publish() : withhold(report.status, report.first_failed);
  report.rounds = rounds_;
  report.reruns = reruns_;
  for (std::size_t i = 0; i < items_.size(); ++i) std::swap(report.items[i], items_[i].result);
  report.time_us = now_us() - started_us;
  return report;
}

// Before anything starts, so that a residual in use elsewhere costs nobody anything.
Status AllReduceMany::take_residuals() {
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    if (!item.call.coding || !item.call.coding->residual) continue;
    const std::shared_ptr<Residual>& residual = item.call.coding->residual;
    if (!residual->acquire()) {
      return {Code::INVALID_ARGUMENT, fmt::format("items[{}]: the residual is in use by another operation", i)};
    }
    if (options_.uniform) {
      item.user_residual = residual;
    } else {
      residual->release();  // each operation takes its own
    }
  }
  return {};
}

// What a result is told with is there before anything starts: members only go while the list is reduced.
void AllReduceMany::make_room() {
  const std::size_t members = engine_.view().members.size();
  for (Item& item : items_) {
    item.result.participants.reserve(members);
    item.result.weights.reserve(members);
  }
}

// Results go elsewhere until it is known that they count. What is reduced out of place has a place of its own: nothing
// is promised about recv after a failure.
void AllReduceMany::keep_back() {
  try {
    for (Item& item : items_) {
      if (item.user_residual) item.call.coding->residual = std::make_shared<Residual>(item.user_residual->count());
      if (item.call.send != item.call.recv || item.call.count == 0) continue;
      item.kept_back = ByteBuffer::reused(item.call.count * dtype_size(item.call.dtype));
      item.call.recv = item.kept_back.data();
    }
  } catch (const std::bad_alloc&) {
    // The others learn it by items that this member votes to end. Such an item cannot commit, and is restored in place.
    fault_.emplace(OpCall::Fault{wire::FaultReason::resource, "no memory to keep the results of the list back"});
  }
}

// spec: protocol.md#lists
Status AllReduceMany::reduce() {
  deadline_ms_ = io::now_ms() + options_.timeout_ms;
  looked_ms_ = io::now_ms();
  next_ = engine_.next_key(options_.tag);
  if (options_.uniform) keep_back();
  for (;;) {
    run_items();
    engine_.skip_to(next_);
    if (const auto failed = first_failure(); failed != items_.end()) return failed->result.report.status;
    if (!options_.uniform) return {};
    find_reruns();
    if (which_.empty()) return {};
    if (options_.strict) return {Code::PEER_LOST, "a member was lost after some items of the list had committed"};
    for (const Item& item : items_) {
      if (item.generation == items_.front().generation) continue;
      return {Code::INVALID_ARGUMENT, "newcomers were admitted by another thread while the list was reduced"};
    }
    ++rounds_;
    reruns_ += which_.size();
  }
}

void AllReduceMany::run_items() {
  oldest_ = unstarted_ = in_flight_ = 0;
  for (const std::size_t index : which_) items_[index].ended = false;
  while (oldest_ < which_.size()) {
    while (unstarted_ < which_.size() && (stopped_ || in_flight_ < (fault_ ? ending_in_flight : options_.in_flight))) {
      if (!start(items_[which_[unstarted_]])) break;
      ++unstarted_;
    }
    look_for_interrupt();
    while (oldest_ < unstarted_ && reap(items_[which_[oldest_]])) ++oldest_;
    // The oldest goes first on the strands, so it is the next to end.
    if (oldest_ < unstarted_) {
      (void)engine_.wait_end(*items_[which_[oldest_]].run, options_.interrupted ? look_ms : -1);
    }
  }
}

Status AllReduceMany::start_run(Item& item, std::int64_t left_ms, const std::optional<OpCall::Fault>& fault) {
  try {
    OpCall call = item.call;
    call.timeout_ms = static_cast<std::uint32_t>(std::max<std::int64_t>(1, fault ? 1 : left_ms));
    if (fault) {
      call.fault = *fault;
      if (call.coding) call.coding->residual.reset();
    } else if (item.user_residual) {
      (void)call.coding->residual->write(item.user_residual->values(), item.user_residual->count());
    }
    auto started = engine_.start(call);
    if (started.ok()) item.run = std::move(started.value());
    return started.status();
  } catch (const std::bad_alloc&) {
    return {Code::RESOURCE, "out of memory"};
  }
}

// False: not now, when one of those in flight has ended.
bool AllReduceMany::start(Item& item) {
  wire::OpKey counted = next_;
  ++counted.sequence;
  const auto in_step = [&] { return engine_.next_key(options_.tag) == counted; };
  Status status;
  if (stopped_) {
    status = *stopped_;
  } else {
    const std::int64_t left_ms = deadline_ms_ - io::now_ms();
    if (left_ms <= 0) give_up(wire::FaultReason::timeout, "the deadline for the whole list passed", {});
    status = start_run(item, left_ms, fault_);
    if (status.code() == Code::RESOURCE && !in_step()) {
      if (in_flight_ > 0) return false;  // when one has ended there may be memory, or room for an operation
      // The others shall not wait for it in vain.
      if (started_) status = start_run(item, left_ms, OpCall::Fault{wire::FaultReason::resource, "out of memory"});
    }
  }
  if (status.ok()) {
    started_ = true;
    ++item.result.runs;
    ++in_flight_;
    next_ = counted;
    return true;
  }
  // An item that others had ended before it came here has used its number. Otherwise no more can be started here. What
  // is left counts as made once something was started, and the others see their deadlines pass.
  if (in_step()) {
    started_ = true;
    ++item.result.runs;
  } else if (!stopped_) {
    stopped_ = status;
  }
  end(item, status);
  if (started_) next_ = counted;
  return true;
}

// False: it has not ended.
bool AllReduceMany::reap(Item& item) {
  if (item.ended) return true;
  if (!engine_.wait_end(*item.run, 0)) return false;
  OpReport report = engine_.wait(*item.run, 0);
  ManyItem& result = item.result;
  item.generation = item.run->key.generation;
  item.run.reset();
  --in_flight_;
  result.participants.assign(report.participants.begin(), report.participants.end());
  result.weights.assign(report.weights.begin(), report.weights.end());
  report.participants = result.participants;
  report.weights = result.weights;
  report.run.reset();
  report.attempts += result.report.attempts;
  report.bytes_sent += result.report.bytes_sent;
  report.bytes_received += result.report.bytes_received;
  report.time_us += result.report.time_us;
  const Status status = report.status;
  result.report = std::move(report);
  end(item, status);
  return true;
}

void AllReduceMany::end(Item& item, const Status& status) {
  item.result.report.status = status;
  item.ended = true;
  if (!status.ok() && options_.uniform) {
    give_up(wire::FaultReason::cancelled, "an item of its list failed", status);
  }
}

void AllReduceMany::give_up(wire::FaultReason reason, const char* why, const Status& status) {
  if (fault_) return;
  fault_.emplace(OpCall::Fault{reason, status.ok() ? std::string(why) : fmt::format("{}: {}", why, status.text())});
}

// Nothing is left in flight, and what of this round has not ended has failed.
void AllReduceMany::end_round() noexcept {
  for (std::size_t i = oldest_; i < unstarted_; ++i) {
    const Item& item = items_[which_[i]];
    try {
      if (item.run) engine_.cancel(*item.run);
    } catch (const std::bad_alloc&) {  // the membership has ended then, and the operation with it
    }
  }
  for (std::size_t i = oldest_; i < which_.size(); ++i) {
    Item& item = items_[which_[i]];
    if (i >= unstarted_ && !item.run && started_) ++next_.sequence;
    try {
      if (item.run) (void)engine_.wait_end(*item.run, -1);
      if (item.run) (void)reap(item);
    } catch (const std::bad_alloc&) {  // of the sentence: it has failed
    }
    if (!item.ended) item.result.report.status = Status(Code::RESOURCE, "out of memory");
    item.ended = true;
  }
  try {
    engine_.skip_to(next_);
  } catch (const std::bad_alloc&) {  // nothing was started under this tag
  }
}

void AllReduceMany::look_for_interrupt() {
  if (!options_.interrupted || io::now_ms() < looked_ms_ + look_ms) return;
  looked_ms_ = io::now_ms();
  if (!options_.interrupted() || std::exchange(cancelled_, true)) return;
  fault_.emplace(OpCall::Fault{wire::FaultReason::cancelled, "the list was cancelled"});
  for (std::size_t i = oldest_; i < unstarted_; ++i) {
    if (const Item& item = items_[which_[i]]; item.run) engine_.cancel(*item.run);
  }
}

void AllReduceMany::find_reruns() {
  for (std::size_t i = 0; i < items_.size(); ++i) participants_[i] = items_[i].result.participants;
  protocol::items_to_rerun(participants_, which_);
}

std::vector<AllReduceMany::Item>::const_iterator AllReduceMany::first_failure() const {
  return std::find_if(items_.begin(), items_.end(), [](const Item& item) { return !item.result.report.status.ok(); });
}

void AllReduceMany::publish() {
  for (Item& item : items_) {
    if (item.kept_back) std::memcpy(item.recv, item.kept_back.data(), item.kept_back.size());
    if (item.user_residual) item.user_residual->take_over(*item.call.coding->residual);
  }
}

// What has committed is nobody's result either.
void AllReduceMany::withhold(const Status& status, std::size_t why) {
  items_[why].result.report.status = status;
  for (Item& item : items_) {
    if (item.result.report.status.ok()) item.result.report.status = Status(Code::CANCELLED, "");
  }
}

}  // namespace hawser::runtime
