// The process around a Member; see the header.
#include "sim/peer.hpp"

#include <algorithm>
#include <array>
#include <type_traits>

#include "sim/world.hpp"

namespace hawser::sim {

namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

std::string text_of(const wire::OpKey& key) { return fmt::format("{}/{}/{}", key.generation, key.tag, key.sequence); }

PeerId make_id(Random& random, PeerIndex index) {
  PeerId id;
  id.high = random.next();
  id.low = index + 1;
  return id;
}

}  // namespace

Peer::Peer(World& world, PeerIndex index, std::uint32_t group, std::uint32_t slot, std::uint32_t min_size)
    : world_(world),
      index_(index),
      group_(group),
      slot_(slot),
      name_(fmt::format("g{}s{}p{}", group, slot, index)),
      id_(make_id(world.random, index)),
      actor_(world.scheduler.add()),
      machine_(protocol::MemberConfig{id_, group, min_size, name_}),
      random_(world.random.fork()) {}

protocol::Env Peer::env() { return {world_.scheduler.now() / 1000, random_.id()}; }

void Peer::begin() {
  world_.network.dial(index_, random_.range(1, 2 * world_.settings.control_delay));
  // The user's patience; the call fails with TIMEOUT and is made again.
  world_.scheduler.after(8 * world_.settings.timeout(), actor_, [this] {
    if (state_ == State::joining) abort();
  });
}

// ------------------------------------------------------------------------------------------------------- the machine

void Peer::event(const Member::Event& event) {
  if (state_ == State::gone) return;
  Member::Actions actions;
  machine_.step(event, env(), actions);
  perform(actions);
  retime();
}

void Peer::retime() {
  if (state_ == State::gone) return;
  const auto due = machine_.next_deadline();
  const Micros when = due ? std::max(*due * 1000, world_.scheduler.now()) : INT64_MAX;
  if (when == tick_at_) return;
  tick_at_ = when;
  if (when == INT64_MAX) return;
  world_.scheduler.at(when, actor_, [this, when] {
    if (tick_at_ != when) return;
    tick_at_ = INT64_MAX;
    event(Member::Tick{});
  });
}

void Peer::resumed() { event(Member::Tick{}); }

void Peer::perform(Member::Actions& actions) {
  for (Member::Action& action : actions) {
    if (state_ == State::gone) violation("{}: an action follows Ended", name_);
    if (crash_in_ && (*crash_in_)-- == 0) {
      world_.counters.count(Sometimes::crash_between_actions);
      state_ = State::gone;
      return world_.crash(index_, random_.chance(0.2));
    }
    perform_one(action);
  }
  actions.clear();
}

void Peer::perform_one(Member::Action& action) {
  Network& network = world_.network;
  const Micros now = world_.scheduler.now();
  std::visit(Overloaded{
                 [&](Member::SendControl& a) {
                   if (conn_ == 0) violation("{} sends {} without a connection", name_, wire::message_name(a.message));
                   if (const auto* fault = std::get_if<wire::OpFault>(&a.message);
                       fault != nullptr && installing_ != nullptr) {
                     world_.counters.count(Sometimes::fault_repeated);
                   }
                   if (!std::holds_alternative<wire::Heartbeat>(a.message)) {
                     world_.trace.line(now, "{} -> coordinator: {}", name_, wire::message_name(a.message));
                   }
                   world_.faults.at_message(*this, a.message);
                   network.send_to_coordinator(conn_, std::move(a.message));
                 },
                 [&](Member::CloseControl&) {
                   if (conn_ == 0) violation("{} closes a connection that it does not have", name_);
                   network.close_by_peer(conn_);
                   conn_ = 0;
                   if (greeted_) world_.counters.count(Sometimes::coordinator_silent);
                   disturbed_ = true;
                   if (!machine_.is_ended()) network.dial(index_, random_.range(1, world_.settings.timeout()));
                 },
                 [&](Member::Listen&) {
                   world_.scheduler.after(random_.range(1, 2 * world_.settings.control_delay), actor_, [this] {
                     event(Member::Listening{"", static_cast<std::uint16_t>(1 + index_)});
                   });
                 },
                 [&](Member::Meet& a) { network.allow(index_, world_.peer(a.peer.id).index(), a.dial); },
                 [&](Member::Part& a) { network.part(index_, world_.peer(a.peer).index()); },
                 [&](Member::ViewInstalled& a) {
                   world_.trace.line(now, "{} installs view {} (epoch {}, generation {}, {} members)", name_,
                                     a.view.number, a.view.epoch, a.view.generation, a.view.members.size());
                   for (const auto& gone : a.departures) network.part(index_, world_.peer(gone.id).index());
                 },
                 [&](Member::Joined&) { joined(); },
                 [&](Member::Admitted&) {
                   ++points_;
                   if (state_ == State::admitting && !admit_late_) {
                     state_ = State::running;
                     ++position_;
                     ++admit_call_;
                     wake();
                   } else {
                     violation("{} is admitted but does not stand at an admission point", name_);
                   }
                 },
                 [&](Member::Ended& a) { ended(a.code, a.text); },
                 [&](protocol::SayDone& a) {
                   Op& op = ops_.at(a.key);
                   if (!op.finished || op.epoch != a.epoch) violation("{} says Done for what it does not hold", name_);
                   op.said_done = true;
                   world_.trace.line(now, "{} says Done {} in epoch {}", name_, text_of(a.key), a.epoch);
                   for (const PeerId& to : a.to) {
                     network.send(index_, world_.peer(to).index(), Frame{true, a.epoch, a.key, {}, a.done});
                   }
                 },
                 [&](protocol::OpCommitted& a) { op_ended(a.key, Code::OK, ""); },
                 [&](protocol::OpFailed& a) { op_ended(a.key, a.code, a.text); },
                 [&](protocol::OpRestarted& a) {
                   auto it = ops_.find(a.key);
                   if (it == ops_.end()) violation("{} restarts {} which is not open", name_, text_of(a.key));
                   world_.counters.count(Sometimes::rerun);
                   if (it->second.said_done) world_.counters.count(Sometimes::rerun_after_done);
                   if (machine_.view().epoch <= it->second.epoch) violation("{} restarts in the same epoch", name_);
                   world_.trace.line(now, "{} restarts {}", name_, text_of(a.key));
                   begin_attempt(a.key, it->second);
                 },
                 [&](protocol::ReportFault&) { violation("{}: ReportFault comes out of the member", name_); },
             },
             action);
}

// -------------------------------------------------------------------------------------------------- control connection

void Peer::control_opened(Network::ConnId id, std::uint32_t coordinator) {
  if (state_ == State::gone || conn_ != 0) return world_.network.close_by_peer(id);
  conn_ = id;
  world_.trace.line(world_.scheduler.now(), "{} is connected with coordinator {}", name_, coordinator);
  if (!machine_.is_member()) run_ = coordinator;
  event(Member::ControlOpened{});
}

void Peer::control_closed(Network::ConnId id, const std::string& why) {
  if (id != conn_) return;
  conn_ = 0;
  world_.trace.line(world_.scheduler.now(), "{} loses the coordinator: {}", name_, why);
  event(Member::ControlClosed{why});
  if (state_ != State::gone) world_.network.dial(index_, random_.range(1, world_.settings.timeout()));
}

void Peer::control_received(Network::ConnId id, const wire::Message& message) {
  if (id != conn_ || state_ == State::gone) return;
  if (!std::holds_alternative<wire::Heartbeat>(message)) {
    world_.trace.line(world_.scheduler.now(), "coordinator -> {}: {}", name_, wire::message_name(message));
  }
  world_.faults.at_message(*this, message);
  if (std::holds_alternative<wire::Welcome>(message)) greeted_ = true;
  if (const auto* refuse = std::get_if<wire::Refuse>(&message); refuse != nullptr && machine_.is_member()) {
    if (refuse->code != static_cast<std::uint32_t>(Code::EXPELLED)) violation("{} is refused: {}", name_, refuse->text);
    if (world_.coordinators.size() > 1) world_.counters.count(Sometimes::foreign_coordinator);
  }
  if (std::holds_alternative<wire::AdmitQuery>(message)) admission_asked_ = true;
  if (std::holds_alternative<wire::AdmitCancel>(message)) {
    if (state_ == State::admitting) world_.counters.count(Sometimes::admission_cancelled);
    admission_asked_ = false;
  }
  if (std::holds_alternative<wire::Seal>(message) && machine_.is_member()) sealed_ = true;
  const auto* install = std::get_if<wire::Install>(&message);
  if (install == nullptr) {
    event(Member::ControlReceived{message});
    return;
  }
  const wire::View before = machine_.view();
  world_.checker.installed(*this, before, *install);
  std::size_t left = 0;
  for (const auto& gone : install->departures) left += gone.left ? 1 : 0;
  if (left > 0) world_.counters.count(Sometimes::left);
  if (left > 0 && left < install->departures.size()) world_.counters.count(Sometimes::left_and_lost);
  if (install->sealed) {
    if (!install->departures.empty() && admission_asked_) {
      world_.counters.count(Sometimes::admission_interrupted);
    }
    sealed_ = false;
  }
  if (install->admit_target != 0) {
    admission_asked_ = false;
    if (before.number != 0) {
      if (points_ + 1 != install->admit_target) {
        violation("{} has passed {} points, newcomers are admitted at {}", name_, points_, install->admit_target);
      }
      if (admit_late_) world_.counters.count(Sometimes::admit_credit);
      if (!ops_.empty()) world_.counters.count(Sometimes::open_at_admission);
      world_.counters.count(Sometimes::admission);
      if (install->view.members.size() > before.members.size() + 1) world_.counters.count(Sometimes::two_joiners);
    } else {
      points_ = install->admit_target;
    }
  }
  installing_ = install;
  event(Member::ControlReceived{message});
  installing_ = nullptr;
  if (state_ == State::gone) return;
  unpark();
}

void Peer::linked(PeerIndex other) { event(Member::Linked{world_.peers[other]->id()}); }

void Peer::unreachable(PeerIndex other) {
  const Peer& peer = *world_.peers[other];
  const auto& members = machine_.view().members;
  if (std::none_of(members.begin(), members.end(), [&](const auto& m) { return m.peer.id == peer.id(); })) return;
  world_.trace.line(world_.scheduler.now(), "{} cannot reach {}", name_, peer.name());
  // The two cannot tell whose fault it is; either may be removed.
  disturbed_ = true;
  world_.peers[other]->disturb();
  world_.counters.count(Sometimes::suspected);
  event(Member::Unreachable{peer.id(), "no connection"});
}

// ---------------------------------------------------------------------------------------------------------- data plane

void Peer::frame(PeerIndex from, const Frame& frame) {
  if (state_ == State::gone) return;
  dispatch(from, frame);
}

void Peer::dispatch(PeerIndex from, const Frame& frame) {
  const wire::View& view = machine_.view();
  if (frame.epoch < view.epoch) {
    world_.counters.count(Sometimes::frame_stale);
    if (!world_.settings.stale_frames) return;
  }
  if (frame.epoch > view.epoch || frame.key.generation > view.generation) {
    world_.counters.count(Sometimes::frame_parked);
    parked_.emplace_back(from, frame);
    return;
  }
  const PeerId sender = world_.peers[from]->id();
  if (machine_.ledger().is_future(frame.key)) {
    world_.counters.count(frame.is_done ? Sometimes::early_done : Sometimes::early_begin);
  }
  Member::Actions actions;
  if (frame.is_done) {
    machine_.done_from(sender, frame.epoch, frame.key, frame.done, actions);
  } else {
    machine_.begin_from(sender, frame.epoch, frame.key, frame.params, actions);
  }
  perform(actions);
  retime();
}

void Peer::unpark() {
  std::deque<std::pair<PeerIndex, Frame>> parked;
  parked.swap(parked_);
  for (const auto& [from, frame] : parked) {
    if (state_ == State::gone) return;
    dispatch(from, frame);
  }
}

void Peer::begin_attempt(const wire::OpKey& key, Op& op) {
  op.epoch = machine_.view().epoch;
  op.participants = machine_.ledger().participants(key.generation);
  op.arrived.clear();
  op.finished = false;
  op.said_done = false;
  const std::size_t size = op.participants.size();
  const auto self = std::find(op.participants.begin(), op.participants.end(), id_);
  if (self == op.participants.end()) violation("{} takes no part in its own operation", name_);
  const auto rank = static_cast<std::size_t>(self - op.participants.begin());
  for (std::size_t i = 0; i < size; ++i) {
    const bool neighbour = i == (rank + 1) % size || (i + 1) % size == rank;
    if (i == rank || (!world_.settings.begin_to_all && !neighbour)) continue;
    world_.network.send(index_, world_.peer(op.participants[i]).index(), Frame{false, op.epoch, key, op.params, {}});
  }
  if (op.spec.eager || size == 1) {
    op.arrived = std::set<PeerId>(op.participants.begin(), op.participants.end());
    world_.scheduler.after(random_.range(0, world_.settings.transfer / 8), actor_,
                           [this, key, epoch = op.epoch] { finish(key, epoch); });
  } else {
    op.arrived.insert(id_);
    world_.data_started(*this, key, op.epoch, op.params, op.participants);
  }
}

bool Peer::contributes(const wire::OpKey& key, std::uint64_t epoch) const {
  auto it = ops_.find(key);
  return state_ != State::gone && it != ops_.end() && it->second.epoch == epoch;
}

void Peer::contribution(const wire::OpKey& key, std::uint64_t epoch, PeerId from) {
  auto it = ops_.find(key);
  if (it == ops_.end() || it->second.epoch != epoch) return;
  it->second.arrived.insert(from);
  if (it->second.arrived.size() == it->second.participants.size()) finish(key, epoch);
}

void Peer::finish(const wire::OpKey& key, std::uint64_t epoch) {
  auto it = ops_.find(key);
  if (state_ == State::gone || it == ops_.end() || it->second.epoch != epoch || it->second.finished) return;
  Op& op = it->second;
  op.finished = true;
  op.finished_at = world_.scheduler.now();
  op.contributions = 0;
  for (const PeerId& id : op.participants) op.contributions |= world_.peer(id).bit();
  // Whose data it is: that of all in a sum, of the root in a broadcast, nobody's in a barrier.
  op.digest = {0, op.params.count};
  if (op.params.kind == wire::OpKind::all_reduce) op.digest.high = op.contributions;
  if (op.params.kind == wire::OpKind::broadcast) op.digest.high = world_.peer(op.params.root).bit();
  if (op.spec.diverges && op.spec.diverger == slot_) {
    op.digest.low ^= 1;
    world_.checker.diverged(op_id(key));
  }
  if (sealed_) world_.counters.count(Sometimes::finish_while_sealed);
  world_.trace.line(world_.scheduler.now(), "{} holds {} of epoch {}", name_, text_of(key), epoch);
  Member::Actions actions;
  machine_.finished(key, epoch, op.digest, actions);
  perform(actions);
}

void Peer::op_ended(const wire::OpKey& key, Code code, const std::string& text) {
  auto it = ops_.find(key);
  if (it == ops_.end()) violation("{}: {} ends but is not open", name_, text_of(key));
  const Op op = std::move(it->second);
  ops_.erase(it);
  world_.trace.line(world_.scheduler.now(), "{} ends {}: {} {}", name_, text_of(key), code_name(code), text);
  if (code == Code::OK) {
    if (!op.finished) violation("{}: {} is committed but not held", name_, text_of(key));
    committed_at_[key] = world_.scheduler.now();
    if (op.participants.size() > 1) {
      if (installing_ != nullptr) {
        world_.counters.count(Sometimes::commit_by_install);
        if (!installing_->departures.empty()) world_.counters.count(Sometimes::commit_with_lost);
      } else {
        world_.counters.count(Sometimes::committed);
        if (!machine_.has_coordinator()) world_.counters.count(Sometimes::uncoordinated);
        if (stopped_ && world_.coordinator_alive()) {
          const wire::View* newest = world_.coordinators.back()->machine().view(group_);
          if (newest != nullptr && std::none_of(newest->members.begin(), newest->members.end(),
                                                [&](const auto& m) { return m.peer.id == id_; })) {
            world_.counters.count(Sometimes::zombie_commit);
          }
        }
      }
    }
    world_.checker.succeeded(*this, op_id(key), Success{op.contributions, op.epoch, op.digest, op.call});
  } else {
    if (installing_ != nullptr) world_.counters.count(Sometimes::abort_by_install);
    world_.checker.failed(*this, op_id(key), code, text);
  }
  wake();
}

// ------------------------------------------------------------------------------------------------------------ the user

void Peer::joined() {
  lineage_ = world_.lineage(run_, group_, installing_->view.number);
  position_ = lineage_->program->after_point(points_);
  if (points_ > 0 && (random_.chance(0.5) || !lineage_->program->calls_before_admission(position_))) {
    // The loop of the program begins with the call at which this peer was let in.
    --position_;
    --points_;
  }
  state_ = State::running;
  world_.trace.line(world_.scheduler.now(), "{} starts at position {}", name_, position_);
  wake();
}

bool Peer::is_finished() const { return state_ == State::finished && ops_.empty(); }

void Peer::wake() {
  world_.scheduler.after(0, actor_, [this] { run_program(); });
}

void Peer::run_program() {
  constexpr std::size_t open_max = 24;
  if (state_ == State::waiting && ops_.empty()) state_ = State::running;
  while (state_ == State::running) {
    if (leave_wanted_) {
      if (!ops_.empty()) {
        state_ = State::waiting;
        return;
      }
      state_ = State::leaving;
      return event(Member::LeaveCalled{});
    }
    if (position_ >= lineage_->limit) {
      state_ = State::finished;
      return;
    }
    const Step& step = lineage_->program->at(position_);
    switch (step.kind) {
      case Step::Kind::think:
        ++position_;
        state_ = State::thinking;
        world_.scheduler.after(random_.range(0, 2 * world_.settings.think), actor_, [this] {
          if (state_ != State::thinking) return;
          state_ = State::running;
          run_program();
        });
        return;
      case Step::Kind::wait_all:
        if (!ops_.empty()) {
          state_ = State::waiting;
          return;
        }
        ++position_;
        break;
      case Step::Kind::admit: {
        state_ = State::admitting;
        admit_late_ = false;
        const std::uint64_t call = ++admit_call_;
        world_.scheduler.after(random_.range(1, 8 * world_.settings.timeout()), actor_, [this, call] {
          if (state_ != State::admitting || admit_call_ != call) return;
          world_.counters.count(Sometimes::admit_given_up);
          admit_late_ = true;
          event(Member::AdmitGivenUp{});
          // The same call again, or the user has had enough and leaves.
          world_.scheduler.after(random_.range(1, world_.settings.think), actor_, [this] {
            if (state_ != State::admitting) return;
            state_ = State::running;
            run_program();
          });
        });
        return event(Member::AdmitCalled{});
      }
      case Step::Kind::call: {
        if (ops_.size() >= open_max) {
          state_ = State::waiting;
          return;
        }
        // Calls that stand together come from threads of their own, one for each tag.
        std::vector<std::size_t> calls;
        while (lineage_->program->at(position_).kind == Step::Kind::call) calls.push_back(position_++);
        if (world_.settings.shuffle) {
          std::map<std::uint64_t, std::deque<std::size_t>> threads;
          for (const std::size_t at : calls) threads[lineage_->program->at(at).call.tag].push_back(at);
          calls.clear();
          while (!threads.empty()) {
            auto thread = threads.begin();
            std::advance(thread, static_cast<std::ptrdiff_t>(random_.index(threads.size())));
            calls.push_back(thread->second.front());
            thread->second.pop_front();
            if (thread->second.empty()) threads.erase(thread);
          }
        }
        state_ = State::calling;
        Micros when = world_.scheduler.now();
        for (const std::size_t at : calls) {
          if (random_.chance(0.5)) when += random_.range(0, world_.settings.transfer);
          world_.scheduler.at(when, actor_, [this, at] { call(at); });
        }
        world_.scheduler.at(when, actor_, [this] {
          if (state_ != State::calling) return;
          state_ = State::running;
          run_program();
        });
        return;
      }
    }
  }
}

void Peer::call(std::size_t position) {
  if (state_ == State::gone) return;
  const CallSpec& spec = lineage_->program->at(position).call;
  const wire::View& view = machine_.view();
  wire::OpParams params;
  params.kind = spec.kind;
  params.dtype = Dtype::u64;
  params.strict = spec.strict ? 1 : 0;
  params.min_participants = spec.min_participants;
  params.count = spec.count;
  if (spec.kind == wire::OpKind::broadcast) params.root = view.members[spec.root % view.members.size()].peer.id;
  std::uint64_t tag = spec.tag;
  if (spec.deviator == slot_ && !world_.quiet) {
    if (spec.deviation == Deviation::skip) return;
    if (spec.deviation == Deviation::params) ++params.count;
    if (spec.deviation == Deviation::tag) tag += 1000000;
  }
  wire::OpKey key{view.generation, tag, next_[{view.generation, tag}]++};
  world_.checker.called(op_id(key), spec, params);
  world_.trace.line(world_.scheduler.now(), "{} calls {} in view {} (call {})", name_, text_of(key), view.number,
                    position);
  if (sealed_) world_.counters.count(Sometimes::start_while_sealed);
  Member::Actions actions;
  const Result<wire::OpKey> result = machine_.start(tag, params, actions);
  if (!result.ok()) {
    const Status status = result.status();
    if (status.code() == Code::PEER_LOST) {
      world_.counters.count(Sometimes::lost_before_start);
    } else if (status.code() != Code::TOO_FEW) {
      world_.counters.count(Sometimes::ended_before_start);
    }
    world_.trace.line(world_.scheduler.now(), "{} cannot start {}: {}", name_, text_of(key), code_name(status.code()));
    // Which number this call had is not said; while members count differently it is not known here.
    if (!world_.checker.unaligned(op_id(key))) {
      world_.checker.failed(*this, op_id(key), status.code(), status.text());
    }
    return perform(actions);
  }
  if (result.value() != key) {
    if (!world_.checker.unaligned(op_id(key))) {
      violation("{} calls {} and gets {}", name_, text_of(key), text_of(result.value()));
    }
    key = result.value();
    next_[{key.generation, key.tag}] = key.sequence + 1;
    world_.checker.called(op_id(key), spec, params);
  }
  Op& op = ops_[key];
  op.spec = spec;
  op.params = params;
  op.call = position;
  perform(actions);
  auto it = ops_.find(key);
  if (state_ == State::gone || it == ops_.end()) return;
  begin_attempt(key, it->second);
  world_.scheduler.after(spec.deadline, actor_, [this, key] { deadline(key, false); });
  if (spec.cancelled && spec.canceller == slot_) {
    world_.scheduler.after(spec.cancel_after, actor_, [this, key] {
      if (state_ == State::gone || !ops_.contains(key)) return;
      world_.checker.cancelled(op_id(key));
      Member::Actions out;
      machine_.vote(key, wire::FaultReason::cancelled, "cancelled by the user", out);
      perform(out);
    });
  }
}

void Peer::deadline(const wire::OpKey& key, bool voted) {
  if (state_ == State::gone || !ops_.contains(key)) return;
  Member::Actions actions;
  if (!voted) {
    if (ops_.at(key).spec.deadline > 4 * world_.settings.timeout()) expect_undecided(key);
    world_.checker.voted_timeout(op_id(key));
    if (sealed_) world_.counters.count(Sometimes::vote_while_sealed);
    if (!machine_.vote(key, wire::FaultReason::timeout, "the deadline has passed", actions)) {
      world_.counters.count(Sometimes::vote_after_done);
    }
    perform(actions);
  } else if (!machine_.has_coordinator()) {
    world_.counters.count(Sometimes::abandoned);
    machine_.abandon(key, Code::NO_COORDINATOR, "no coordinator could be asked", actions);
    perform(actions);
    if (state_ != State::gone && ops_.contains(key))
      violation("{}: {} is given up and still open", name_, text_of(key));
    // Nobody can help this membership any more, unless all others are there: the user may see it so and start anew.
    if (world_.quiet || random_.chance(0.5)) abort();
    return;
  }
  if (state_ == State::gone || !ops_.contains(key)) return;
  world_.scheduler.after(2 * world_.settings.timeout(), actor_, [this, key] { deadline(key, true); });
}

bool Peer::has_held(const wire::OpKey& key, std::uint64_t epoch, Micros since) const {
  if (state_ == State::gone || sealed_ || machine_.view().epoch != epoch) return false;
  auto number = next_.find({key.generation, key.tag});
  if (number == next_.end() || number->second <= key.sequence) return false;
  auto it = ops_.find(key);
  if (it != ops_.end()) return it->second.finished && it->second.finished_at < since;
  auto committed = committed_at_.find(key);
  return committed != committed_at_.end() && committed->second < since;
}

// At a deadline: when everybody has held the result for long and nothing stood between them, somebody forgot to say so.
void Peer::expect_undecided(const wire::OpKey& key) const {
  const Op& op = ops_.at(key);
  if (!world_.coordinator_alive() || world_.coordinators.size() > 1) return;  // it may be needed to decide
  const Micros since = world_.scheduler.now() - 2 * world_.settings.timeout();
  for (const PeerId& id : op.participants) {
    const Peer& other = world_.peer(id);
    if (!world_.scheduler.alive(other.actor()) || world_.scheduler.paused(other.actor()) || other.was_stopped()) return;
    if (!other.has_held(key, op.epoch, since)) return;
    if (id != id_ && !world_.network.data_flows(index_, other.index())) return;
  }
  violation("{}: all have held {} for long, but it is not committed", name_, text_of(key));
}

void Peer::leave() {
  if (state_ == State::gone || state_ == State::joining || leave_wanted_) return;
  leave_wanted_ = true;
  wake();
}

void Peer::abort() {
  if (state_ == State::gone) return;
  disturbed_ = true;  // the others see a lost peer
  event(Member::AbortCalled{});
}

void Peer::ended(Code code, const std::string& text) {
  world_.trace.line(world_.scheduler.now(), "{} ends: {} {}", name_, code_name(code), text);
  if (!ops_.empty()) violation("{} ends with {} open operations", name_, ops_.size());
  world_.checker.ended(*this, code, text);
  state_ = State::gone;
  world_.process_ended(*this, code);
}

std::string Peer::describe() const {
  static constexpr std::array<const char*, 9> states = {"joining",   "running", "calling",  "thinking", "waiting",
                                                        "admitting", "leaving", "finished", "gone"};
  std::string text = fmt::format("{}: {}, view {}, position {}, {} open, coordinator {}", name_,
                                 states[static_cast<std::size_t>(state_)], machine_.view().number, position_,
                                 ops_.size(), machine_.has_coordinator());
  if (state_ == State::joining) text += ", " + machine_.waiting_for();
  for (const auto& [key, op] : ops_) text += fmt::format(", {}{}", text_of(key), op.finished ? " held" : "");
  return text;
}

}  // namespace hawser::sim
