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
    item.recv = item.call.recv;
  }
}

AllReduceMany::~AllReduceMany() {
  end_open();  // there are some only when memory failed in between
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
  report.status = reduce();
  find_reruns();
  report.uniform = report.status.ok() && which_.empty();
  report.first_failed = static_cast<std::size_t>(first_failure() - items_.cbegin());
  if (!report.status.ok() && report.first_failed == items_.size()) report.first_failed = which_.front();
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
      item.kept_back = ByteBuffer::zeroed(item.call.count * dtype_size(item.call.dtype));
      item.call.recv = item.kept_back.data();
    }
  } catch (const std::bad_alloc&) {
    // The others learn it by items that this member votes to end. Such an item cannot commit, and is restored in place.
    give_up(wire::FaultReason::resource, "no memory to keep the results of the list back until all are there");
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
  std::size_t next = 0;
  while (next < which_.size() || !open_.empty()) {
    while (next < which_.size() && (stopped_ || open_.size() < (fault_ ? ending_in_flight : options_.in_flight))) {
      if (!start(which_[next])) break;
      if (items_[which_[next]].run) open_.push_back(which_[next]);
      ++next;
    }
    look_for_interrupt();
    if (open_.empty()) continue;
    // The oldest goes first on the strands, so it is the next to end.
    (void)engine_.wait_end(*items_[open_.front()].run, options_.interrupted ? look_ms : -1);
    while (!open_.empty() && reap(items_[open_.front()])) open_.pop_front();
  }
}

void AllReduceMany::end_open() {
  for (const std::size_t index : open_) {
    try {
      engine_.cancel(*items_[index].run);
    } catch (const std::bad_alloc&) {  // its deadline ends it
    }
  }
  for (const std::size_t index : open_) (void)engine_.wait_end(*items_[index].run, -1);
  open_.clear();
}

// False: not now, when one of those in flight has ended.
bool AllReduceMany::start(std::size_t index) {
  Item& item = items_[index];
  if (stopped_) {
    item.result.report.status = *stopped_;
    return true;
  }
  const std::int64_t left_ms = deadline_ms_ - io::now_ms();
  if (left_ms <= 0) {
    give_up(wire::FaultReason::timeout,
            fmt::format("the deadline of {} ms for the whole list passed", options_.timeout_ms));
  }
  Status status;
  try {
    OpCall call = item.call;
    call.timeout_ms = static_cast<std::uint32_t>(std::max<std::int64_t>(1, fault_ ? 1 : left_ms));
    if (fault_) {
      call.fault = *fault_;
      if (call.coding) call.coding->residual.reset();
    } else if (item.user_residual) {
      (void)call.coding->residual->write(item.user_residual->values(), item.user_residual->count());
    }
    auto started = engine_.start(call);
    status = started.status();
    if (started.ok()) item.run = std::move(started.value());
  } catch (const std::bad_alloc&) {
    status = Status(Code::RESOURCE, "out of memory");
  }
  wire::OpKey counted = next_;
  ++counted.sequence;
  const bool in_step = engine_.next_key(options_.tag) == counted;
  if (status.code() == Code::RESOURCE && !in_step && !open_.empty()) return false;
  next_ = counted;
  ++item.result.runs;
  item.result.report.status = status;
  item.generation = next_.generation;
  if (status.ok()) return true;
  // An item that others had ended before it came here has used its number. Otherwise no more can be started here: what
  // is left counts as made, and the others see their deadlines pass.
  if (!in_step) {
    stopped_ = status;
  } else if (options_.uniform) {
    give_up(wire::FaultReason::cancelled, fmt::format("an item of its list failed: {}", status.text()));
  }
  return true;
}

// False: it has not ended.
bool AllReduceMany::reap(Item& item) {
  if (!engine_.wait_end(*item.run, 0)) return false;
  OpReport report = engine_.wait(*item.run, 0);
  ManyItem& result = item.result;
  item.generation = item.run->key.generation;
  item.run.reset();
  result.participants.assign(report.participants.begin(), report.participants.end());
  result.weights.assign(report.weights.begin(), report.weights.end());
  report.participants = result.participants;
  report.weights = result.weights;
  report.run.reset();
  report.attempts += result.report.attempts;
  report.bytes_sent += result.report.bytes_sent;
  report.bytes_received += result.report.bytes_received;
  report.time_us += result.report.time_us;
  result.report = std::move(report);
  if (!result.report.status.ok() && options_.uniform) {
    give_up(wire::FaultReason::cancelled, fmt::format("an item of its list failed: {}", result.report.status.text()));
  }
  return true;
}

void AllReduceMany::give_up(wire::FaultReason reason, std::string text) {
  if (!fault_) fault_ = OpCall::Fault{reason, std::move(text)};
}

void AllReduceMany::look_for_interrupt() {
  if (!options_.interrupted || io::now_ms() < looked_ms_ + look_ms) return;
  looked_ms_ = io::now_ms();
  if (!options_.interrupted() || std::exchange(cancelled_, true)) return;
  fault_ = OpCall::Fault{wire::FaultReason::cancelled, "the list was cancelled"};
  for (const std::size_t index : open_) engine_.cancel(*items_[index].run);
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
