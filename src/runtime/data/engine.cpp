// The data plane of one membership: its machine, its operations, and the threads of the user. See the header.
#include "runtime/data/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <limits>
#include <new>

#include "base/kill_point.hpp"
#include "base/log.hpp"
#include "io/address.hpp"
#include "io/random.hpp"
#include "protocol/round/sentences.hpp"
#include "runtime/data/io_thread.hpp"
#include "runtime/data/without.hpp"

namespace hawser::runtime {
namespace {

using protocol::Member;

constexpr std::size_t copy_bytes = 2U << 20;  // piece of a local copy
constexpr std::size_t actions_usual = 6;      // room is made for as many before anything is changed

// No machine of a member asks for random numbers.
protocol::Env env_now() { return {io::now_ms(), {}}; }

}  // namespace

Engine::Engine(protocol::MemberConfig config, std::uint32_t straggler_ms, bool shares_memory,
               std::function<void()> kick, std::function<void()> alarm)
    : config_(config),
      straggler_ms_(straggler_ms),
      kick_(std::move(kick)),
      alarm_(std::move(alarm)),
      shares_memory_(shares_memory),
      member_(std::move(config)) {
  heartbeat_ms_ = member_.heartbeat_ms();
  timeout_ms_ = member_.peer_timeout_ms();
}

Engine::~Engine() { stop_threads(); }

Engine::Critical::~Critical() {
  if (std::uncaught_exceptions() > before_) engine_.give_out();
}

void Engine::exhausted() noexcept {
  const Lock lock(mutex_);
  give_out();
}

// Short sentences need no memory. What was overwritten is written back here and now: the tasks of io threads take
// memory, and those that are at work already are waited for.
void Engine::give_out() noexcept {
  if (!ended_) ended_.emplace(Code::RESOURCE, "out of memory");
  while (!ops_.empty()) {
    const std::shared_ptr<OpRun> op = ops_.begin()->second;
    detach(*op, true);
    return_credit(*op);
    if (!op->restoring && op->overwritten()) op->next_restore = 0;
    while (op->snapshot && op->restore_some()) {
    }
    { const std::unique_lock wait(op->local_mutex); }
    op->restoring = false;
    end(*op, Status(Code::RESOURCE, "out of memory"));
  }
  changed_.notify_all();
  for (const auto& thread : threads_) thread->alarm();  // the others see it by closed strands
  alarm_();
}

Status Engine::start_threads(std::uint32_t count) {
  for (std::uint32_t i = 0; i <= count; ++i) {
    auto thread = IoThread::start(*this, i);
    if (!thread.ok()) return thread.status();
    threads_.push_back(std::move(thread.value()));
  }
  return {};
}

void Engine::stop_threads() {
  for (const auto& thread : threads_) thread->stop();
  // What they were restoring is nobody's work any more.
  const Lock lock(mutex_);
  stopped_ = true;
  for (auto it = ops_.begin(); it != ops_.end();) {
    const std::shared_ptr<OpRun> op = it->second;
    ++it;
    if (!op->restoring) continue;
    while (op->restore_some()) {
    }
    restored(*op);
    it = ops_.begin();
  }
  ByteBuffer::forget_unused(0);
}

// ----------------------------------------------------------------------------------------------- the machine

void Engine::task(ControlTask task) {
  tasks_.push_back(std::move(task));
  if (kicked_) return;
  kick_();
  kicked_ = true;
}

std::deque<ControlTask> Engine::take_tasks() {
  const Lock lock(mutex_);
  kicked_ = false;
  return std::exchange(tasks_, {});
}

void Engine::step(const Member::Event& event) {
  const Lock lock(mutex_);
  Actions actions;
  member_.step(event, env_now(), actions);
  heartbeat_ms_ = member_.heartbeat_ms();
  timeout_ms_ = member_.peer_timeout_ms();
  perform(actions);
}

void Engine::perform(Actions& actions, bool gives_up) {
  const bool alone = gives_up || std::any_of(actions.begin(), actions.end(), [](const auto& action) {
                       return std::holds_alternative<Member::Ended>(action);
                     });
  for (protocol::Member::Action& action : actions) {
    if (auto* committed = std::get_if<protocol::OpCommitted>(&action)) {
      HAWSER_KILL_POINT("op.committed");
      if (OpRun* op = find(committed->key)) finish(*op, {}, false);
    } else if (auto* failed = std::get_if<protocol::OpFailed>(&action)) {
      if (OpRun* op = find(failed->key)) finish(*op, Status(failed->code, failed->text), alone);
    } else if (auto* restarted = std::get_if<protocol::OpRestarted>(&action)) {
      if (OpRun* op = find(restarted->key)) {
        const auto keep = op->shared_from_this();
        detach(*op);
        ++metrics_.ops_rerun;
        if (op->restoring) continue;  // it will begin among those who are members then
        op->overwritten() ? restore(*op) : begin(*op);
      }
    } else if (auto* say = std::get_if<protocol::SayDone>(&action)) {
      say_done(*say);
    } else if (auto* installed = std::get_if<Member::ViewInstalled>(&action)) {
      perform_view(*installed);
      task(std::move(*installed));
    } else if (std::holds_alternative<Member::Joined>(action)) {
      joined_ = true;
      changed_.notify_all();
    } else if (std::holds_alternative<Member::Admitted>(action)) {
      ++admitted_;
      changed_.notify_all();
    } else if (auto* ended = std::get_if<Member::Ended>(&action)) {
      if (ended_) continue;  // out of memory before
      ended_ = ended->code == Code::OK ? Status(Code::ABORTED, "this communicator has left its group")
                                       : Status(ended->code, ended->text);
      changed_.notify_all();
      task(std::move(*ended));
    } else if (auto* meet = std::get_if<Member::Meet>(&action)) {
      Link& link = links_[meet->peer.id];
      link.peer = meet->peer.id;
      link.heard_ms = link.down_ms = io::now_ms();
      task(std::move(*meet));
    } else if (auto* part = std::get_if<Member::Part>(&action)) {
      drop_link(part->peer);
      task(*part);
    } else if (auto* sent = std::get_if<Member::SendControl>(&action)) {
      if (auto* heartbeat = std::get_if<wire::Heartbeat>(&sent->message)) heartbeat->progress = progress();
      task(std::move(*sent));
    } else if (auto* closed = std::get_if<Member::CloseControl>(&action)) {
      task(std::move(*closed));
    } else if (auto* listen = std::get_if<Member::Listen>(&action)) {
      task(*listen);
    }
  }
  actions.clear();
}

void Engine::perform_view(const Member::ViewInstalled& installed) {
  ++metrics_.views;
  for (const auto& gone : installed.departures) {
    if (!gone.left) ++metrics_.peers_lost;
    drop_link(gone.id);
  }
  drop_stale();
  for (auto& [id, link] : links_) {
    for (const auto& strand : link.strands) {
      if (strand->shared.parked) schedule(*strand);
    }
  }
  changed_.notify_all();
}

// What was kept for calls that have not come: only those that may still come are worth keeping.
void Engine::drop_stale() {
  const std::uint64_t epoch = member_.view().epoch;
  for (auto it = stash_.begin(); it != stash_.end();) {
    std::erase_if(it->second, [&](const Stashed& piece) {
      const bool stale = piece.header.epoch != epoch || !comes_later(it->first);
      if (auto link = links_.find(piece.from); stale && link != links_.end())
        link->second.stashed -= piece.payload.size();
      return stale;
    });
    it = it->second.empty() ? stash_.erase(it) : std::next(it);
  }
  for (auto it = begun_.begin(); it != begun_.end();) {
    it = it->second.epoch != epoch || !comes_later(it->first) ? begun_.erase(it) : std::next(it);
  }
}

OpRun* Engine::find(const wire::OpKey& key) {
  auto it = ops_.find(key);
  return it == ops_.end() ? nullptr : it->second.get();
}

bool Engine::comes_later(const wire::OpKey& key) {
  const OpRun* const op = find(key);
  return op == nullptr ? member_.ledger().is_future(key) : op->restoring && !op->ending;
}

// ------------------------------------------------------------------------------------------------- operations

Result<std::shared_ptr<OpRun>> Engine::start(const OpCall& call) {
  auto op = std::make_shared<OpRun>();
  if (call.coding) {
    op->coded = std::make_unique<TwoShot>(*call.coding,
                                          ReduceBuffers{call.send, call.recv, call.count, call.dtype, call.redop});
    if (!op->coded->acquire()) return Status(Code::INVALID_ARGUMENT, "the residual is in use by another operation");
  }
  Status status;
  {
    Driver driver(*this, call.waits && is_driven(call));  // sends what the start lets go
    const Lock lock(mutex_);
    status = start_locked(*op, call);
  }
  if (!call.waits) rouse();
  if (!status.ok()) return status;
  // The root's own copy. What is sent comes from `send`, so this need not be done before the others have it.
  if (op->params.root == config_.id && call.recv != nullptr && !op->in_place() && call.count != 0) {
    std::memcpy(call.recv, call.send, call.count * op->element());
  }
  if (op->coded) {
    try {
      encode(*op);
    } catch (const std::bad_alloc&) {
      const Lock lock(mutex_);
      starve(*op);
    }
  }
  return op;
}

Status Engine::start_locked(OpRun& op, const OpCall& call) {
  if (ended_) return *ended_;
  if (leaving_) return Status(Code::ABORTED, "this communicator is leaving its group");
  if (!member_.is_member()) return Status(Code::NOT_MEMBER, "not a member of the group; call hawser_comm_join first");
  op.call = call;
  op.params.kind = call.kind;
  op.params.dtype = call.dtype;
  op.params.redop = call.redop;
  op.params.count = call.count;
  op.params.strict = call.strict ? 1 : 0;
  op.params.uniform = call.uniform ? 1 : 0;
  op.params.min_participants = call.min_participants;
  if (call.coding) {
    const codec::Format& format = call.coding->format;
    op.params.coded = 1;
    op.params.weighted = call.coding->weighted ? 1 : 0;
    op.params.codec = static_cast<std::uint8_t>(format.codec);
    op.params.rounding = static_cast<std::uint8_t>(format.rounding);
    op.params.block = format.block;
    const auto& members = member_.view().members;
    for (std::size_t rank = 0; rank < members.size(); ++rank) {
      if ((members[rank].peer.codecs >> op.params.codec & 1) != 0) continue;
      return Status(Code::UNSUPPORTED,
                    fmt::format("rank {} ({}) does not know the codec {}; use another one or update that peer", rank,
                                members[rank].peer.name, codec::codec_name(format.codec)));
    }
  }
  if (call.kind == wire::OpKind::broadcast) {
    const auto& members = member_.view().members;
    if (call.root >= members.size()) {
      return Status(Code::INVALID_ARGUMENT, fmt::format("root {} is no rank of view {}, which has {} members",
                                                        call.root, member_.view().number, members.size()));
    }
    op.params.root = members[call.root].peer.id;
    const bool root = op.params.root == config_.id;
    if (root && call.send == nullptr && call.count != 0) {
      return Status(Code::INVALID_ARGUMENT, "send is NULL at the root of the broadcast");
    }
    if (!root && call.recv == nullptr && call.count != 0) {
      return Status(Code::INVALID_ARGUMENT, "recv is NULL at a member that is not the root of the broadcast");
    }
  }
  if (checked_.second == 0 || checked_.first != op.params) checked_ = {op.params, wire::params_check(op.params)};
  op.check = checked_.second;
  op.order = orders_++;
  op.started_us = now_us();
  op.attempt_ms = op.called_ms = io::now_ms();
  op.deadline_ms = op.called_ms + call.timeout_ms;
  op.slow_ms = patience_.limit_ms(op.params.kind, op.call.count * op.element());
  op.next_slow_ms = op.called_ms + op.slow_ms;
  Orders actions(*this);
  const Critical critical(*this);
  auto key = member_.start(call.tag, op.params, actions);
  if (!key.ok()) return key.status();
  op.key = key.value();
  if (op.coded) {
    op.coded->set_noise(
        {call.coding->seed, op.key.generation, op.key.tag, op.key.sequence, config_.id.high, config_.id.low});
  }
  ops_.emplace(op.key, op.shared_from_this());
  std::int64_t due = std::min(op.deadline_ms, op.next_slow_ms);
  if (straggler_ms_ != 0) due = std::min(due, op.attempt_ms + straggler_ms_);
  if (armed_ms_ == 0 || due < armed_ms_) task(Member::Tick{});
  // Before the first byte: what came early may complete it at once, and a vote after this peer's Done can be too late.
  if (call.fault.reason != wire::FaultReason::none) {
    member_.vote(op.key, call.fault.reason, call.fault.text, actions);
  }
  begin(op);
  perform(actions);
  return {};
}

// An operation for which memory was lacking ends for all.
void Engine::starve(OpRun& op) {
  if (op.ended) return;
  op.laid_out = false;
  const Critical critical(*this);
  Actions actions;
  member_.vote(op.key, wire::FaultReason::resource, "out of memory", actions);
  perform(actions);
}

// For traces: which call this is.
void Engine::trace(const char* what, const OpRun& op) const {
  if (!log::enabled(log::Subsystem::data, log::Level::trace)) return;  // before the arguments are made
  log::message(log::Subsystem::data, log::Level::trace,
               "{} {}: op {}.{}.{}, epoch {}, {} participants, {} units to come", short_name(config_.id), what,
               op.key.generation, op.key.tag, op.key.sequence, op.epoch, op.participants.size(), op.remaining);
}

void Engine::begin(OpRun& op) {
  return_credit(op);
  op.laid_out = false;
  try {
    const Status status =
        op.begin_attempt(member_.view().epoch, member_.ledger().participants(op.key.generation), config_.id);
    op.attempt_ms = io::now_ms();
    op.straggler_asked = false;
    trace("begins", op);
    op.laid_out = status.ok();
    if (op.laid_out) return announce(op);
    Actions actions;
    member_.vote(op.key, wire::FaultReason::resource, status.text(), actions);
    perform(actions);
  } catch (const std::bad_alloc&) {
    starve(op);
  }
}

void Engine::announce(OpRun& op) {
  const auto keep = op.shared_from_this();
  HAWSER_KILL_POINT("op.begin");
  if (op.participants.size() > 1) {
    if (!op.begins_with_data()) {
      say_begin(op, op.audience());
    }
    if (auto it = begun_.find(op.key); it != begun_.end()) {
      const Begun begun = std::move(it->second);
      begun_.erase(it);
      if (begun.epoch == op.epoch) {
        for (const auto& [peer, weight] : begun.peers) {
          if (const auto rank = op.rank_of(peer)) partner_begun(op, *rank, weight);
        }
      }
    }
  }
  if (op.sync() != nullptr) {
    begin_sync(op);
    return take_stash(op);
  }
  if (op.coded) {
    release(op);
  } else if (op.exchange) {
    for (std::uint32_t step = 0; step < op.schedule.steps() && op.schedule.scatters(step); ++step) {
      unit_ready(op, 0, step);
    }
  } else if (op.participants.size() == 1) {
    return copy_locally(keep);
  } else {
    for (std::uint32_t slice = 0; slice < op.schedule.slices(); ++slice) unit_ready(op, slice, 0);
  }
  if (op.remaining == 0) return unit_done(op);
  take_stash(op);
}

void Engine::say_begin(const OpRun& op, const std::vector<std::uint32_t>& to) {
  const auto payload = wire::encode_begin({op.params, op.weights[op.rank]});
  for (const std::uint32_t rank : to) {
    send_small(links_[op.participants[rank]], {.type = wire::FrameType::begin, .epoch = op.epoch, .key = op.key},
               payload);
  }
}

// What was sent before its receivers said Begin no longer counts.
void Engine::return_credit(OpRun& op) {
  for (std::size_t rank = 0; rank < op.partners.size(); ++rank) {
    OpRun::Partner& partner = op.partners[rank];
    if (partner.eager_bytes == 0) continue;
    if (auto link = links_.find(op.participants[rank]); link != links_.end()) {
      link->second.eager_out -= partner.eager_bytes;
    }
    partner.eager_bytes = 0;
  }
}

// As much as arrives before their Begin can, so that a long way is not empty until then.
std::size_t Engine::eager_limit(const Link& link) {
  return std::clamp(link.rope.under_way() / 2, eager_bytes_near, eager_bytes_max);
}

void Engine::unit_ready(OpRun& op, std::uint32_t slice, std::uint32_t step) {
  if (!op.schedule.sends(step)) return;
  const std::uint32_t rank = op.to(step);
  OpRun::Partner& partner = op.partners[rank];
  if (!partner.begun) {
    const std::size_t bytes = op.sent_bytes(slice, step);
    Link& link = links_[op.participants[rank]];
    if (link.eager_out + bytes > eager_limit(link)) {
      // Where the data is the Begin the other one may hold its own back, too, for the same reason.
      if (op.begins_with_data() && partner.held.empty()) say_begin(op, {rank});
      partner.held.push_back({slice, step});
      return;
    }
    link.eager_out += bytes;
    partner.eager_bytes += bytes;
  }
  enqueue(op, {slice, step});
}

void Engine::enqueue(OpRun& op, OpRun::Unit unit) {
  Link& link = links_[op.participants[op.to(unit.step)]];
  if (op.small) {
    ++op.queued;
    add_frame(link.control) = data_frame(op, unit);
  } else {
    queue_unit(link, op, unit);
  }
  wake(link);
}

// Each hears of each: ring neighbours for credit, all members of a coded operation also for the weights.
void Engine::partner_begun(OpRun& op, std::uint32_t rank, double weight) {
  OpRun::Partner& partner = op.partners[rank];
  if (partner.begun) return;
  partner.begun = true;
  op.weights[rank] = weight;
  if (partner.eager_bytes != 0) {
    links_[op.participants[rank]].eager_out -= partner.eager_bytes;
    partner.eager_bytes = 0;
  }
  const auto held = std::exchange(partner.held, {});
  for (const OpRun::Unit& unit : held) enqueue(op, unit);
  if (!op.coded) return;
  for (std::uint32_t slice = 0; slice < op.schedule.slices(); ++slice) reduce_when_ready(op, slice);
  one_less(op);
}

void Engine::one_less(OpRun& op) {
  if (--op.remaining == 0) unit_done(op);
}

OutFrame& Engine::add_frame(Frames& queue) {
  if (spare_frames_.empty()) return queue.emplace_back();
  queue.splice(queue.end(), spare_frames_, spare_frames_.begin());
  return queue.back();
}

OutFrame Engine::data_frame(OpRun& op, OpRun::Unit unit) {
  OutFrame frame;
  frame.payload = op.payload(unit.slice, unit.step);
  frame.header.type = wire::FrameType::data;
  frame.header.epoch = op.epoch;
  frame.header.key = op.key;
  frame.header.slice = unit.slice;
  frame.header.step = unit.step;
  frame.header.length = static_cast<std::uint32_t>(frame.payload.size());
  frame.header.check = op.check;
  frame.bytes = wire::encode_header(frame.header);
  frame.op = op.shared_from_this();
  frame.attempt = op.attempt.load();
  frame.slice = unit.slice;
  frame.step = unit.step;
  frame.digests = op.schedule.shape() == plan::Shape::chain && unit.step == 0;
  op.bytes_sent += frame.payload.size();
  metrics_.bytes_sent += frame.payload.size();
  return frame;
}

void Engine::complete_unit(OpRun& op, std::uint32_t slice, std::uint32_t step) {
  HAWSER_KILL_POINT("unit.received");
  if (op.schedule.completes(step)) HAWSER_KILL_POINT("unit.reduced");
  const std::size_t unit = op.unit_index(slice, step);
  op.received[unit] = 1;
  op.receiving[unit] = nullptr;
  if (op.exchange) {
    if (op.schedule.scatters(step)) contributed(op);
  } else if (!op.coded) {
    unit_ready(op, slice, step + 1);
  } else if (op.schedule.scatters(step)) {
    ++op.coded->slices[slice].arrived;
    reduce_when_ready(op, slice);
  } else {
    ++op.coded->slices[slice].gathered;
    slice_moved(op);
  }
  one_less(op);
}

// Small enough to be reduced at once, here.
void Engine::contributed(OpRun& op) {
  if (!op.exchange->arrived()) return;
  op.digest.combine(op.exchange->reduce());
  for (std::uint32_t step = 0; step < op.schedule.steps(); ++step) {
    if (!op.schedule.scatters(step)) unit_ready(op, 0, step);
  }
  --op.remaining;  // the unit that brought it is counted by the caller
}

void Engine::unit_done(OpRun& op) {
  trace("has its result", op);
  HAWSER_KILL_POINT("op.finished");
  const Critical critical(*this);
  Orders actions(*this);
  member_.finished(op.key, op.epoch, {op.digest.high, op.digest.low}, actions);
  perform(actions);
  if (without().commit) end_uncommitted(op);
}

// For measurements: as soon as the result is here and the others have been sent theirs.
void Engine::end_uncommitted(OpRun& op) {
  if (!op.ended && !op.restoring && op.laid_out && op.remaining == 0 && op.queued == 0) end(op, {});
}

void Engine::root_sent(OpRun& op, const OutFrame& frame) {
  const std::size_t unit = op.unit_index(frame.slice, frame.step);
  if (op.received[unit] != 0) return;
  op.received[unit] = 1;
  if (!without().digest) op.digest.combine(frame.digest);
  if (--op.remaining == 0) unit_done(op);
}

void Engine::say_done(const protocol::SayDone& say) {
  for (const PeerId& id : say.to) {
    auto link = links_.find(id);
    if (link == links_.end()) continue;
    send_small(link->second, {.type = wire::FrameType::done, .epoch = say.epoch, .key = say.key},
               wire::encode_done(say.done));
  }
  HAWSER_KILL_POINT("done.queued");
}

// A world of one: the result is the input.
void Engine::copy_locally(const std::shared_ptr<OpRun>& op) {
  const bool copies = op->call.kind == wire::OpKind::all_reduce && op->call.count != 0 && !op->in_place();
  if (!copies) return unit_done(*op);
  copy_from(op, op->attempt.load(), 0);
}

// A task a piece, as in restore_on.
void Engine::copy_from(const std::shared_ptr<OpRun>& op, std::uint64_t attempt, std::size_t at) {
  threads_.back()->run([this, op, attempt, at] {
    const std::size_t piece = std::min(copy_bytes, op->call.count * op->element() - at);
    {
      const std::shared_lock hold(op->local_mutex);
      if (op->attempt.load() != attempt) return;
      std::memcpy(op->call.recv + at, op->call.send + at, piece);
    }
    if (at + piece < op->call.count * op->element()) return copy_from(op, attempt, at + piece);
    {
      const Lock lock(mutex_);
      if (op->attempt.load() == attempt) unit_done(*op);
    }
    threads_.back()->run_scheduled();
  });
}

// Takes the buffers away from everybody who might still touch them. The user may have them back afterwards.
void Engine::detach(OpRun& op, bool alone) {
  op.attempt.fetch_add(1);
  { const std::unique_lock wait(op.local_mutex); }
  bool receiving = std::any_of(op.receiving.begin(), op.receiving.end(), [](const Strand* s) { return s != nullptr; });
  if (op.queued == 0 && !receiving) return;
  for (auto& [id, link] : links_) {
    std::erase_if(link.bulk, [&](const auto& entry) { return entry.second.first.get() == &op; });
    std::erase_if(link.control, [&](const OutFrame& frame) { return frame.op.get() == &op; });
    std::erase_if(link.held, [&](const auto& entry) { return entry.second.frame.op.get() == &op; });
    for (const auto& strand : link.strands) strand->detach(op, alone);
  }
  std::fill(op.receiving.begin(), op.receiving.end(), nullptr);
  op.queued = 0;
}

void Engine::finish(OpRun& op, const Status& status, bool alone) {
  const auto keep = op.shared_from_this();
  detach(op, alone);
  return_credit(op);
  if (op.restoring || (!status.ok() && op.overwritten())) {
    op.ending = status;
    if (!op.restoring) restore(op);
    return;
  }
  end(op, status);
}

void Engine::restore(OpRun& op) {
  op.restoring = true;
  op.next_restore = 0;
  if (threads_.empty() || stopped_) {
    while (op.restore_some()) {
    }
    return restored(op);
  }
  op.restorers = threads_.size() - 1;
  for (std::size_t i = 0; i < op.restorers; ++i) restore_on(bulk_thread(i), op.shared_from_this());
}

// A task a piece: in between the thread serves its strands, so nobody takes it for silent.
void Engine::restore_on(IoThread& thread, const std::shared_ptr<OpRun>& op) {
  thread.run([this, &thread, op] {
    bool more = false;
    {
      const std::shared_lock hold(op->local_mutex);
      more = op->restore_some();
    }
    if (more) {
      HAWSER_KILL_POINT("op.restoring");
      return restore_on(thread, op);
    }
    {
      const Lock lock(mutex_);
      if (--op->restorers == 0 && !op->ended) restored(*op);
    }
    thread.run_scheduled();
  });
}

void Engine::restored(OpRun& op) {
  const auto keep = op.shared_from_this();
  op.restoring = false;
  op.ending ? end(op, *op.ending) : begin(op);
}

// Nobody touches the buffers any more, and without a result they are what they were at the call.
void Engine::end(OpRun& op, const Status& status) {
  const auto keep = op.shared_from_this();
  if (op.coded) {
    op.undecoded = status.ok() && op.call.count != 0;
    status.ok() ? op.coded->commit() : op.coded->close();
  }
  if (op.exchange && status.ok()) op.exchange->commit();
  trace(code_name(status.code()), op);
  op.ended = true;
  op.over = true;
  op.result = status;
  op.view = member_.view().number;
  op.ended_us = now_us();
  ++(status.ok() ? metrics_.ops_committed : metrics_.ops_failed);
  if (status.ok() && op.attempts == 1) {
    try {
      patience_.took(op.params.kind, op.call.count * op.element(), op.ended_us - op.started_us);
    } catch (const std::bad_alloc&) {  // one sample less
    }
  }
  ops_.erase(op.key);
  op.done.notify_all();
  if (ops_.empty()) changed_.notify_all();
}

// The place for a unit. Without memory for its partial sums the operation ends for all: false.
bool Engine::make_sink(OpRun& op, const wire::FrameHeader& header, Sink& sink) {
  try {
    sink = op.make_sink(header.slice, header.step);
    // Who sends data has begun; a Begin may come later, on another strand, or not at all. Those of coded operations
    // bring weights.
    if (!op.coded) partner_begun(op, op.from(header.step), 1);
    return true;
  } catch (const std::bad_alloc&) {
    Actions actions;
    member_.vote(op.key, wire::FaultReason::resource, "no memory for partial sums", actions);
    perform(actions);
    return false;
  }
}

// A unit whose bytes are all here. False: there was no memory for it.
bool Engine::take_whole(OpRun& op, const wire::FrameHeader& header, std::span<const std::byte> payload) {
  Sink sink;
  if (!make_sink(op, header, sink)) return false;
  sink.take(payload);
  if (sink.digests) op.digest.combine(sink.digest());
  op.bytes_received += payload.size();
  metrics_.bytes_received += payload.size();
  complete_unit(op, header.slice, header.step);
  return true;
}

// Data that came before the call did.
void Engine::take_stash(OpRun& op) {
  auto it = stash_.find(op.key);
  if (it == stash_.end()) return;
  const auto keep = op.shared_from_this();
  const std::vector<Stashed> pieces = std::move(it->second);
  stash_.erase(it);
  for (const Stashed& piece : pieces) {
    if (auto link = links_.find(piece.from); link != links_.end()) link->second.stashed -= piece.payload.size();
    std::string why;
    if (op.ended || op.restoring || !op.laid_out || piece.header.epoch != op.epoch) continue;
    if (op.sync() != nullptr) {
      if (piece.header.type == wire::FrameType::note && piece.header.check == op.check) {
        (void)hear(op, piece.from, piece.payload.bytes(), why);
      }
      continue;
    }
    if (piece.header.type != wire::FrameType::data || !wanted(op, piece.from, piece.header, why)) continue;
    if (!take_whole(op, piece.header, piece.payload.bytes())) return;
  }
}

// Whether a data frame is a unit that this operation still needs. Bytes of a call with other parameters are not: a
// Begin ends the operation by name, that of the sender or, where it says none, the one that it is told here. A frame
// that fits no schedule is a mistake of the peer.
bool Engine::wanted(const OpRun& op, PeerId from, const wire::FrameHeader& header, std::string& why) {
  if (header.check != op.check) {
    const auto rank = op.rank_of(from);
    if (op.begins_with_data() && rank) say_begin(op, {*rank});
    return false;
  }
  if (header.slice >= op.schedule.slices() || !op.schedule.receives(header.step) ||
      from != op.participants[op.from(header.step)] || header.length != op.received_bytes(header.slice, header.step)) {
    why = fmt::format("a data frame for slice {}, step {} with {} bytes fits no unit of its operation", header.slice,
                      header.step, header.length);
    return false;
  }
  return op.received[op.unit_index(header.slice, header.step)] == 0;
}

// -------------------------------------------------------------------------------------------------- deadlines

std::optional<std::int64_t> Engine::next_deadline() {
  const Lock lock(mutex_);
  std::optional<std::int64_t> due = member_.next_deadline();
  for (const auto& [key, op] : ops_) {
    if (op->ending) continue;
    due = due ? std::min(*due, op->next_slow_ms) : op->next_slow_ms;
    if (straggler_ms_ != 0 && !op->straggler_asked && member_.has_coordinator()) {
      due = std::min(*due, op->attempt_ms + straggler_ms_);
    }
    const std::int64_t at = op->deadline_ms + (op->deadline_voted ? 2 * member_.peer_timeout_ms() : 0);
    due = due ? std::min(*due, at) : at;
  }
  for (const auto& [id, link] : links_) {
    if (needs_relay(link)) due = due ? std::min(*due, link.look_ms) : link.look_ms;
  }
  armed_ms_ = due.value_or(0);
  return due;
}

void Engine::on_time() {
  const Lock lock(mutex_);
  Actions actions;
  member_.step(Member::Tick{}, env_now(), actions);
  perform(actions);
  const std::int64_t now = io::now_ms();
  for (auto& [id, link] : links_) {
    if (now >= link.look_ms) wait_for(link);
  }
  std::vector<std::shared_ptr<OpRun>> open;
  for (const auto& [key, op] : ops_) open.push_back(op);
  for (const auto& op : open) {
    if (op->ended || op->ending) continue;
    if (now >= op->next_slow_ms) name_slow(*op, now);
    if (straggler_ms_ != 0 && !op->straggler_asked && member_.has_coordinator() &&
        now >= op->attempt_ms + straggler_ms_) {
      report_stragglers(*op, now);
    }
    if (op->ended || op->ending || now < op->deadline_ms) continue;
    if (!op->deadline_voted) {
      op->deadline_voted = true;
      if (!member_.has_coordinator() && !member_.ledger().said_done(op->key)) {
        fail_undecided(*op);
      } else {
        member_.vote(op->key, wire::FaultReason::timeout,
                     fmt::format("the deadline of {} ms passed", op->call.timeout_ms), actions);
        perform(actions);
      }
    } else if (now >= op->deadline_ms + 2 * static_cast<std::int64_t>(member_.peer_timeout_ms())) {
      fail_undecided(*op);  // no coordinator is there, or it has no majority
    }
  }
}

std::string Engine::who(PeerId id) const {
  const auto& members = member_.view().members;
  for (std::size_t rank = 0; rank < members.size(); ++rank) {
    const wire::PeerInfo& peer = members[rank].peer;
    if (peer.id == id)
      return fmt::format("rank {} ({}, {})", rank, peer.name, io::format_endpoint(peer.host, peer.port));
  }
  return short_name(id);
}

std::vector<Engine::Awaited> Engine::awaited(const OpRun& op, std::int64_t now) const {
  std::vector<Awaited> out;
  if (op.restoring || op.partners.size() != op.participants.size()) return out;
  const bool done = member_.ledger().said_done(op.key);
  std::vector<std::uint8_t> listed(op.participants.size(), 0);
  const auto list = [&](std::uint32_t rank, std::string what) {
    if (rank != op.rank && listed[rank]++ == 0) out.push_back({rank, std::move(what)});
  };
  for (const std::uint32_t rank : op.audience()) {
    if (op.partners[rank].begun || member_.ledger().heard_done(op.key, op.participants[rank])) continue;
    list(rank, "has not entered it");
  }
  if (!out.empty()) return out;  // the others may well wait for the same
  for (std::uint32_t step = 0; step < op.schedule.steps(); ++step) {
    if (!op.schedule.receives(step) || listed[op.from(step)] != 0) continue;
    for (std::uint32_t slice = 0; slice < op.schedule.slices(); ++slice) {
      if (op.received[op.unit_index(slice, step)] != 0) continue;
      const std::int64_t data_ms = op.partners[op.from(step)].data_ms;
      list(op.from(step), data_ms == 0 ? "has sent no data"
                                       : fmt::format("has more data to send, the last came {} ms ago", now - data_ms));
      break;
    }
  }
  for (std::uint32_t rank = 0; done && rank < op.participants.size(); ++rank) {
    if (!member_.ledger().heard_done(op.key, op.participants[rank])) list(rank, "has not finished it");
  }
  return out;
}

std::string Engine::describe_awaited(const OpRun& op, std::int64_t now) const {
  std::string text;
  for (const Awaited& one : awaited(op, now)) {
    text += fmt::format("{}{} {}", text.empty() ? "" : "; ", who(op.participants[one.rank]), one.what);
  }
  return text;
}

// Each time after twice as long, so that a call that waits for hours is some lines.
void Engine::name_slow(OpRun& op, std::int64_t now) {
  const std::int64_t waited = now - op.called_ms;
  op.next_slow_ms = op.called_ms + 2 * std::max(waited, op.slow_ms);
  const std::string text = describe_awaited(op, now);
  std::uint64_t left_out = 0;
  if (text.empty() || !slow_lines_.admit(now, left_out)) return;
  log::message(log::Subsystem::data, log::Level::warn, "{}, {}, is open for {} ms, more than the usual: {}{}",
               protocol::describe(op.params), protocol::describe(op.key), waited, text,
               left_out == 0 ? "" : fmt::format(" ({} such lines left out)", left_out));
}

// For people who ask the coordinator.
wire::Progress Engine::progress() const {
  wire::Progress out;
  out.ops = metrics_.ops_committed;
  out.bytes_sent = metrics_.bytes_sent;
  out.bytes_received = metrics_.bytes_received;
  const std::int64_t now = io::now_ms();
  const OpRun* slowest = nullptr;
  for (const auto& [key, op] : ops_) {
    if (op->ending || now - op->called_ms < op->slow_ms) continue;
    if (slowest == nullptr || op->called_ms < slowest->called_ms) slowest = op.get();
  }
  if (slowest == nullptr) return out;
  const std::string text = describe_awaited(*slowest, now);
  out.slow_ms = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(now - slowest->called_ms, 1, std::numeric_limits<std::uint32_t>::max()));
  out.waits_for = fmt::format("{}, {}: {}", protocol::describe(slowest->params), protocol::describe(slowest->key),
                              text.empty() ? "the coordinator" : text);
  return out;
}

// Once an attempt. Each participant is heard by some others that it has entered, so one of them misses a straggler; it
// asks that the operation go on without it, and the coordinator, who hears all, judges.
void Engine::report_stragglers(OpRun& op, std::int64_t now) {
  op.straggler_asked = true;
  std::string late;
  if (op.restoring) return;
  for (const std::uint32_t rank : op.audience()) {
    if (op.partners[rank].begun || member_.ledger().heard_done(op.key, op.participants[rank])) continue;
    late += (late.empty() ? "" : ", ") + who(op.participants[rank]);
  }
  if (late.empty()) return;
  Actions actions;
  member_.vote(op.key, wire::FaultReason::straggler,
               fmt::format("{} did not enter {} within {} ms", late, protocol::describe(op.key), now - op.attempt_ms),
               actions);
  perform(actions);
}

// Nobody could be asked what became of it. Before its Done this peer has not agreed to anything; afterwards it cannot
// know.
void Engine::fail_undecided(OpRun& op) {
  Actions actions;
  if (member_.ledger().said_done(op.key)) {
    member_.abandon(op.key, Code::EXPELLED,
                    "the result was ready here, but whether the others have it could not be learnt before the deadline",
                    actions);
  } else {
    member_.abandon(
        op.key, Code::NO_COORDINATOR,
        fmt::format("the deadline of {} ms passed and no coordinator could decide the operation", op.call.timeout_ms),
        actions);
  }
  perform(actions, true);
}

// ---------------------------------------------------------------------------------------------- user threads

OpReport Engine::report(const OpRun& op) const {
  OpReport out;
  out.status = op.result;
  out.view = op.view;
  out.participants = op.participants;
  out.attempts = op.attempts;
  out.bytes_sent = op.bytes_sent;
  out.bytes_received = op.bytes_received;
  out.time_us = op.ended_us - op.started_us;
  out.weights = op.weights;
  out.weighted = op.call.coding && op.call.coding->weighted;
  out.run = op.shared_from_this();
  return out;
}

OpReport Engine::wait(OpRun& op, std::int64_t timeout_ms) {
  OpRun::Memory unused;  // given back when the mutex is free again
  Lock lock = when_ended(op, timeout_ms, unused);
  if (lock.owns_lock()) return report(op);
  OpReport pending;
  pending.status = Status(Code::PENDING, "the operation has not ended yet");
  return pending;
}

bool Engine::wait_end(OpRun& op, std::int64_t timeout_ms) {
  OpRun::Memory unused;
  return when_ended(op, timeout_ms, unused).owns_lock();
}

Engine::Lock Engine::when_ended(OpRun& op, std::int64_t timeout_ms, OpRun::Memory& unused) {
  if (timeout_ms != 0) drive(op);
  Lock lock(mutex_);
  if (!ops_.empty()) rouse();
  const auto ended = [&] { return op.ended; };
  if (timeout_ms < 0) {
    op.done.wait(lock, ended);
  } else if (!op.done.wait_for(lock, std::chrono::milliseconds(timeout_ms), ended)) {
    return {};
  }
  HAWSER_KILL_POINT("op.returning");
  if (std::exchange(op.undecoded, false)) {
    op.decoding = true;
    lock.unlock();
    op.coded->decode();
    lock.lock();
    op.decoding = false;
    op.ended_us = now_us();
    op.done.notify_all();
  }
  op.done.wait(lock, [&] { return !op.decoding; });
  unused = op.take_memory();  // frames that are not acknowledged yet hold the operation for a while
  return lock;
}

void Engine::cancel(OpRun& op) {
  const Lock lock(mutex_);
  if (op.ended) return;
  const Critical critical(*this);
  Actions actions;
  if (member_.has_coordinator()) {
    member_.vote(op.key, wire::FaultReason::cancelled, "the operation was cancelled", actions);
  } else if (!member_.ledger().said_done(op.key)) {
    // The others may be told another reason, so this is no CANCELLED.
    member_.abandon(op.key, Code::NO_COORDINATOR,
                    "the operation was cancelled while no coordinator was there to end it for all", actions);
    return perform(actions, true);
  }
  perform(actions);
}

wire::OpKey Engine::next_key(std::uint64_t tag) {
  const Lock lock(mutex_);
  return member_.ledger().next_key(tag);
}

void Engine::skip_to(const wire::OpKey& next) {
  const Lock lock(mutex_);
  member_.skip_to(next);
  drop_stale();
}

Status Engine::wait_joined(std::int64_t timeout_ms) {
  Lock lock(mutex_);
  const bool done = changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return joined_ || ended_; });
  if (ended_) return *ended_;
  if (!done) return {Code::TIMEOUT, fmt::format("not a member after {} ms: {}", timeout_ms, member_.waiting_for())};
  return {};
}

Status Engine::admit(std::int64_t timeout_ms) {
  Lock lock(mutex_);
  if (ended_) return *ended_;
  if (!member_.is_member()) return {Code::NOT_MEMBER, "not a member of the group; call hawser_comm_join first"};
  if (admitting_) return {Code::INVALID_ARGUMENT, "another thread stands at an admission point of this communicator"};
  const std::uint64_t before = admitted_;
  Actions actions;
  actions.reserve(actions_usual);
  const Critical critical(*this);
  member_.step(Member::AdmitCalled{}, env_now(), actions);
  perform(actions);
  if (admitted_ != before) return {};
  admitting_ = true;
  const bool done =
      changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return admitted_ != before || ended_; });
  admitting_ = false;
  if (ended_) return *ended_;
  if (done) return {};
  member_.step(Member::AdmitGivenUp{}, env_now(), actions);
  perform(actions);
  return {Code::TIMEOUT,
          fmt::format("newcomers wait, but not every member came to its admission point within {} ms", timeout_ms)};
}

Status Engine::leave(std::int64_t timeout_ms) {
  Lock lock(mutex_);
  if (ended_) return *ended_;
  if (!member_.is_member()) return {Code::NOT_MEMBER, "not a member of the group"};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  leaving_ = true;
  if (!changed_.wait_until(lock, deadline, [&] { return ops_.empty() || ended_; })) {
    leaving_ = false;
    return {Code::TIMEOUT, fmt::format("{} operations were still open after {} ms", ops_.size(), timeout_ms)};
  }
  if (ended_) return *ended_;
  Actions actions;
  actions.reserve(actions_usual);
  const Critical critical(*this);
  member_.step(Member::LeaveCalled{}, env_now(), actions);
  perform(actions);
  task(Member::Tick{});  // its deadline is another now
  if (!changed_.wait_until(lock, deadline, [&] { return ended_.has_value(); })) {
    member_.step(Member::AbortCalled{}, env_now(), actions);
    perform(actions);
    return {Code::TIMEOUT,
            fmt::format("left without the coordinator's answer, which did not come within {} ms", timeout_ms)};
  }
  return ended_->code() == Code::ABORTED ? Status{} : *ended_;
}

void Engine::abort() noexcept {
  const Lock lock(mutex_);
  try {
    Actions actions;
    member_.step(Member::AbortCalled{}, env_now(), actions);
    perform(actions);
  } catch (const std::bad_alloc&) {
    give_out();
  }
}

std::optional<Status> Engine::ended() {
  const Lock lock(mutex_);
  return ended_;
}

bool Engine::is_member() {
  const Lock lock(mutex_);
  return member_.is_member();
}

wire::View Engine::view() {
  const Lock lock(mutex_);
  return member_.view();
}

std::uint32_t Engine::peer_timeout_ms() {
  const Lock lock(mutex_);
  return member_.peer_timeout_ms();
}

EngineMetrics Engine::metrics() {
  const Lock lock(mutex_);
  EngineMetrics out = metrics_;
  out.strands_shared = shared_.load();
  out.ops_open = static_cast<std::uint32_t>(ops_.size());
  const std::int64_t now = io::now_ms();
  const auto& members = member_.view().members;
  for (const auto& entry : ops_) {
    const OpRun& op = *entry.second;
    const std::int64_t waited = now - op.called_ms;
    if (op.ending || waited < op.slow_ms || waited <= static_cast<std::int64_t>(out.slow_ms)) continue;
    for (const Awaited& one : awaited(op, now)) {
      const PeerId id = op.participants[one.rank];
      const auto member = std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.peer.id == id; });
      if (member == members.end()) continue;
      out.slow_rank = static_cast<std::int32_t>(member - members.begin());
      out.slow_ms = static_cast<std::uint32_t>(waited);
      break;
    }
  }
  return out;
}

}  // namespace hawser::runtime
