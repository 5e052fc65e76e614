// The process around a Member; see the header.
#include "sim/peer.hpp"

#include <algorithm>
#include <array>
#include <type_traits>
#include <utility>

#include "sim/world.hpp"

namespace hawser::sim {

namespace {

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

std::string text_of(const wire::Term& term) {
  return fmt::format("term {}.{:04x}", term.count, term.instance & 0xffff);
}

std::string described(const wire::Message& message) {
  const auto in = [&](const wire::Term& term, std::uint64_t view) {
    return fmt::format("{} (view {}, {})", wire::message_name(message), view, text_of(term));
  };
  if (const auto* seal = std::get_if<wire::Seal>(&message)) {
    return fmt::format("{} ({}{})", wire::message_name(message), text_of(seal->term), seal->recover ? ", recover" : "");
  }
  if (const auto* reply = std::get_if<wire::SealReply>(&message)) {
    return fmt::format("{}, {} accepted", in(reply->term, reply->view), reply->accepted.size());
  }
  if (const auto* propose = std::get_if<wire::Propose>(&message)) {
    return in(propose->install.term, propose->install.view.number);
  }
  if (const auto* install = std::get_if<wire::Install>(&message)) return in(install->term, install->view.number);
  return wire::message_name(message);
}

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
      machine_([&] {
        protocol::MemberConfig config;
        config.id = id_;
        config.group = group;
        config.min_size = min_size;
        config.name = name_;
        config.addresses = world.settings.coordinators;
        return config;
      }()),
      random_(world.random.fork()),
      search_(world.settings.coordinators) {}

protocol::Env Peer::env() { return {world_.scheduler.now() / 1000, random_.id()}; }

void Peer::begin() {
  backoff_ = world_.settings.timeout() / 60;
  world_.scheduler.after(random_.range(1, 2 * world_.settings.control_delay), actor_, [this] { connect(); });
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
  std::visit(
      Overloaded{
          [&](Member::SendControl& a) {
            if (conn_ == 0) violation("{} sends {} without a connection", name_, wire::message_name(a.message));
            if (const auto* fault = std::get_if<wire::OpFault>(&a.message);
                fault != nullptr && installing_ != nullptr) {
              world_.counters.count(Sometimes::fault_repeated);
            }
            if (!std::holds_alternative<wire::Heartbeat>(a.message)) {
              world_.trace.line(now, "{} -> coordinator: {}", name_, described(a.message));
            }
            if (std::holds_alternative<wire::AtPoint>(a.message)) at_point_ = true;
            if (const auto* accept = std::get_if<wire::Accept>(&a.message)) {
              world_.checker.accepted(*this, *accept);
              proposer_ = coordinator_;
            }
            world_.faults.at_message(*this, a.message);
            network.send_to_coordinator(conn_, std::move(a.message));
          },
          [&](Member::CloseControl& a) {
            if (conn_ == 0) violation("{} closes a connection that it does not have", name_);
            world_.trace.line(now, "{} closes its connection: {}", name_, a.why);
            network.close_by_peer(conn_);
            conn_ = 0;
            if (greeted_ && a.why.find("silent") != std::string::npos) {
              world_.counters.count(Sometimes::coordinator_silent);
            }
            if (!machine_.is_ended()) coordinator_failed();
          },
          [&](Member::Listen&) {
            const Micros delay = random_.range(1, 2 * world_.settings.control_delay);
            world_.scheduler.after(delay, actor_, [this, id = conn_] {
              if (conn_ != id) return;
              event(Member::Listening{"", static_cast<std::uint16_t>(1 + index_)});
            });
          },
          [&](Member::Meet& a) { network.allow(index_, world_.peer(a.peer.id).index(), a.dial); },
          [&](Member::Part& a) { network.part(index_, world_.peer(a.peer).index()); },
          [&](Member::ViewInstalled& a) {
            world_.trace.line(now, "{} installs view {} (epoch {}, generation {}, {} members)", name_, a.view.number,
                              a.view.epoch, a.view.generation, a.view.members.size());
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
              network.send(index_, world_.peer(to).index(), Frame{Frame::Kind::done, a.epoch, a.key, {}, a.done});
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

void Peer::connect() {
  if (state_ == State::gone || conn_ != 0 || connecting_) return;
  connecting_ = true;
  world_.network.dial(index_, static_cast<std::uint32_t>(address_index_ % world_.settings.coordinators));
}

// The next address; after the last one, a pause.
void Peer::coordinator_failed() {
  if (state_ == State::gone) return;
  search_.failed(std::exchange(refused_, false));
  ++failures_;
  ++address_index_;
  Micros pause = 0;
  if (failures_ % world_.settings.coordinators == 0) {
    pause = backoff_ + random_.range(0, backoff_ / 4);
    backoff_ = std::min(2 * backoff_, world_.settings.timeout() / 6);
  }
  world_.scheduler.after(pause, actor_, [this] { connect(); });
}

void Peer::control_failed(const std::string& why) {
  if (state_ == State::gone || !connecting_) return;
  connecting_ = false;
  world_.trace.line(world_.scheduler.now(), "{} has no coordinator at address {}: {}", name_,
                    address_index_ % world_.settings.coordinators, why);
  coordinator_failed();
}

void Peer::control_opened(Network::ConnId id, std::uint32_t coordinator) {
  if (state_ == State::gone || conn_ != 0) return world_.network.close_by_peer(id);
  connecting_ = false;
  conn_ = id;
  coordinator_ = coordinator;
  greeted_ = false;
  const Settings& s = world_.settings;
  world_.trace.line(world_.scheduler.now(), "{} is connected with coordinator {}", name_, coordinator);
  // Whoever takes the connection and says nothing is stopped, or no coordinator.
  const Micros patience = s.coordinators > 1 ? s.timeout() / 3 + 4 * s.control_delay : 2 * s.timeout();
  world_.scheduler.after(patience, actor_, [this, id] {
    if (conn_ != id || greeted_ || state_ == State::gone) return;
    world_.network.close_by_peer(id);
    control_closed(id, "no message");
  });
  if (machine_.is_member() && is_sealed()) world_.counters.count(Sometimes::returned_sealed);
  event(Member::ControlOpened{search_.asked(), failures_});
}

void Peer::control_closed(Network::ConnId id, const std::string& why) {
  if (id != conn_) return;
  conn_ = 0;
  world_.trace.line(world_.scheduler.now(), "{} loses the coordinator: {}", name_, why);
  if (machine_.is_member()) {
    if (greeted_) --address_index_;  // the connection may have broken alone
    if (state_ == State::admitting && at_point_) {
      stood_alone_ = true;
      world_.counters.count(Sometimes::standing_alone);
    }
  }
  event(Member::ControlClosed{why});
  coordinator_failed();
}

void Peer::control_received(Network::ConnId id, const wire::Message& message) {
  if (id != conn_ || state_ == State::gone) return;
  if (!std::holds_alternative<wire::Heartbeat>(message)) {
    world_.trace.line(world_.scheduler.now(), "coordinator -> {}: {}", name_, described(message));
  }
  world_.faults.at_message(*this, message);
  if (std::holds_alternative<wire::Welcome>(message)) {
    greeted_ = true;
    greeted_at_ = world_.scheduler.now();
    if (machine_.is_member()) {
      world_.counters.count(Sometimes::attached);
      back_ = true;
      world_.scheduler.after(world_.settings.timeout(), actor_, [this, id, view = machine_.view().number] {
        if (conn_ == id && machine_.view().number == view) world_.counters.count(Sometimes::came_back_quietly);
      });
    }
    search_.welcomed();
    failures_ = 0;
    backoff_ = world_.settings.timeout() / 60;
  }
  if (const auto* refuse = std::get_if<wire::Refuse>(&message); refuse != nullptr) {
    const auto code = static_cast<Code>(refuse->code);
    world_.trace.line(world_.scheduler.now(), "{} is refused: {} {}", name_, code_name(code), refuse->text);
    if (code != Code::EXPELLED && code != Code::NO_COORDINATOR) violation("{} is refused: {}", name_, refuse->text);
    refused_ = true;
    if (!refuse->lineage.is_zero()) search_.led_elsewhere();
    // Sent away by one that had lost too many others, it may be long in coming back.
    if (refuse->text.find("no majority of the members") != std::string::npos && searches_long()) disturb();
    if (code == Code::NO_COORDINATOR) world_.counters.count(Sometimes::turned_away);
    if (refuse->text.find("another group was formed") != std::string::npos) {
      world_.counters.count(Sometimes::foreign_coordinator);
    }
  }
  if (std::holds_alternative<wire::AdmitQuery>(message)) admission_asked_ = true;
  if (std::holds_alternative<wire::AdmitCancel>(message)) {
    if (state_ == State::admitting) world_.counters.count(Sometimes::admission_cancelled);
    if (state_ == State::admitting && stood_alone_) world_.counters.count(Sometimes::standing_released);
    admission_asked_ = false;
  }
  if (const auto* seal = std::get_if<wire::Seal>(&message)) {
    if (is_sealed() && seal->term > machine_.promised()) world_.counters.count(Sometimes::seals_twice);
  }
  const auto* install = std::get_if<wire::Install>(&message);
  const bool back = std::exchange(back_, std::holds_alternative<wire::Welcome>(message) && back_);
  if (install == nullptr) {
    event(Member::ControlReceived{message});
    return;
  }
  const wire::View before = machine_.view();
  if (install->view.number <= before.number) return event(Member::ControlReceived{message});
  if (before.number != 0 && install->view.number != before.number + 1) return event(Member::ControlReceived{message});
  world_.checker.installed(*this, before, *install);
  // A record whose write had failed counted, since nobody had come in time who had gone on: this one is EXPELLED, for
  // which something else must have happened to it. No other view comes to members that have passed its point.
  if (before.number != 0 && install->admit_target != 0 && install->admit_target <= points_ &&
      world_.checker.is_found_again(*install)) {
    event(Member::ControlReceived{message});
    if (state_ != State::gone) violation("{} stays in a view whose point it has passed", name_);
    return;
  }
  if (before.number == 0) {
    lineage_ = world_.checker.lineage_of(install->view.lineage);
    if (proposer_ && *proposer_ != coordinator_) world_.counters.count(Sometimes::joined_elsewhere);
  } else if (proposer_ && *proposer_ != coordinator_) {
    world_.counters.count(Sometimes::adopted);
  }
  proposer_.reset();
  if (back && before.number != 0) world_.counters.count(Sometimes::returned);
  if (world_.checker.decider(lineage_, install->view.number) != coordinator_) {
    world_.counters.count(Sometimes::handed_on);
  }
  if (install->term < machine_.promised()) world_.counters.count(Sometimes::unsealed_not);
  std::size_t left = 0;
  for (const auto& gone : install->departures) left += gone.left ? 1 : 0;
  if (left > 0) world_.counters.count(Sometimes::left);
  if (left > 0 && left < install->departures.size()) world_.counters.count(Sometimes::left_and_lost);
  if (install->sealed) {
    if (!install->departures.empty() && admission_asked_) {
      world_.counters.count(Sometimes::admission_interrupted);
    }
  }
  if (install->admit_target != 0) {
    admission_asked_ = false;
    if (before.number != 0) {
      if (points_ + 1 != install->admit_target && !world_.checker.is_outside_lineage(lineage_)) {
        violation("{} has passed {} points, newcomers are admitted at {}", name_, points_, install->admit_target);
      }
      if (stood_alone_) world_.counters.count(Sometimes::standing_admitted);
      if (admit_late_) world_.counters.count(Sometimes::admit_credit);
      if (!ops_.empty()) world_.counters.count(Sometimes::open_at_admission);
      world_.counters.count(Sometimes::admission);
      if (install->view.members.size() > before.members.size() + 1) world_.counters.count(Sometimes::two_joiners);
    } else {
      points_ = install->admit_target;
    }
  }
  installing_ = install;
  if (is_sealed()) unsealed_at_ = world_.scheduler.now();
  event(Member::ControlReceived{message});
  installing_ = nullptr;
  if (state_ == State::gone) return;
  unpark();
}

void Peer::linked(PeerIndex other) { event(Member::Linked{world_.peers[other]->id()}); }

void Peer::link_lost(PeerIndex other) { event(Member::LinkLost{world_.peers[other]->id()}); }

void Peer::coordinator_lost() {
  if (world_.settings.coordinators == 1) return;
  if (searches_long()) disturb();
}

// Going through the list of coordinators takes so long that others may have gone on without it.
bool Peer::searches_long() const {
  const Settings& s = world_.settings;
  return s.coordinators > 1 && 4 * s.coordinators * s.control_delay > s.timeout() / 2;
}

void Peer::control_broken() {
  // It was on its way back to a coordinator that was started again, and one more attempt may come too late.
  const Settings& s = world_.settings;
  if (s.coordinators == 1 && conn_ != 0 && !greeted_) {
    const Micros attempt = 10 * s.control_delay + s.timeout() / 4;
    if (world_.scheduler.now() + attempt > world_.coordinators[coordinator_]->since() + s.timeout()) disturb();
  }
  if (searches_long() || (s.coordinators > 1 && !is_member())) disturb();
  control_broken_at_ = world_.scheduler.now();
  if (links_broken_at_ >= 0 && control_broken_at_ - links_broken_at_ < 3 * world_.settings.timeout()) disturb();
}

void Peer::links_broken() {
  links_broken_at_ = world_.scheduler.now();
  if (control_broken_at_ >= 0 && links_broken_at_ - control_broken_at_ < 3 * world_.settings.timeout()) disturb();
}

void Peer::unreachable(PeerIndex other) {
  const Peer& peer = *world_.peers[other];
  const auto& members = machine_.view().members;
  if (std::none_of(members.begin(), members.end(), [&](const auto& m) { return m.peer.id == peer.id(); })) return;
  world_.trace.line(world_.scheduler.now(), "{} cannot reach {}", name_, peer.name());
  event(Member::Unreachable{peer.id(), "no connection"});
}

// ---------------------------------------------------------------------------------------------------------- data plane

void Peer::frame(PeerIndex from, const Frame& frame) {
  if (state_ == State::gone) return;
  dispatch(from, frame);
}

bool Peer::is_ahead(const Frame& frame) const {
  const wire::View& view = machine_.view();
  return frame.epoch > view.epoch || frame.key.generation > view.generation;
}

// A third holds back what it is to pass on where it would hold back a frame for itself.
void Peer::relay(PeerIndex by, const Relay& relay) {
  if (state_ == State::gone) return;
  Network& network = world_.network;
  if (relay.what != Relay::What::frame) {
    return relay.to == index_ ? network.answered(index_, by, relay) : network.pass_on(index_, relay);
  }
  if (is_ahead(relay.frame)) {
    if (relay.to != index_) world_.counters.count(Sometimes::relay_parked);
    parked_.emplace_back(by, relay);
    return;
  }
  if (relay.to != index_) return network.pass_on(index_, relay);
  if (!network.may_hear(index_, relay.from)) return;
  dispatch(relay.from, relay.frame);
  if (state_ != State::gone) network.answer(index_, by, relay, Relay::What::receipt);
}

void Peer::dispatch(PeerIndex from, const Frame& frame) {
  const wire::View& view = machine_.view();
  if (frame.epoch < view.epoch) {
    world_.counters.count(Sometimes::frame_stale);
    if (!world_.settings.stale_frames) return;
  }
  if (is_ahead(frame)) {
    world_.counters.count(Sometimes::frame_parked);
    parked_.emplace_back(from, frame);
    return;
  }
  const PeerId sender = world_.peers[from]->id();
  if (frame.kind == Frame::Kind::data) return contribution(frame.key, frame.epoch, sender);
  if (machine_.ledger().is_future(frame.key)) {
    world_.counters.count(frame.kind == Frame::Kind::done ? Sometimes::early_done : Sometimes::early_begin);
  }
  Member::Actions actions;
  if (frame.kind == Frame::Kind::done) {
    machine_.done_from(sender, frame.epoch, frame.key, frame.done, actions);
  } else {
    machine_.begin_from(sender, frame.epoch, frame.key, frame.params, actions);
  }
  perform(actions);
  retime();
}

void Peer::unpark() {
  decltype(parked_) parked;
  parked.swap(parked_);
  for (const auto& [from, item] : parked) {
    if (state_ == State::gone) return;
    if (const auto* brought = std::get_if<Relay>(&item)) {
      relay(from, *brought);
    } else {
      dispatch(from, std::get<Frame>(item));
    }
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
    world_.network.send(index_, world_.peer(op.participants[i]).index(),
                        Frame{Frame::Kind::begin, op.epoch, key, op.params, {}});
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
  if (is_sealed()) world_.counters.count(Sometimes::finish_while_sealed);
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
        if (std::any_of(op.participants.begin(), op.participants.end(), [&](PeerId id) {
              const Peer& other = world_.peer(id);
              return &other != this && world_.scheduler.alive(other.actor()) &&
                     !world_.network.has_stood(index_, other.index(), world_.scheduler.now()) &&
                     world_.network.may_hear(index_, other.index());
            })) {
          world_.counters.count(Sometimes::served_commit);
        }
        if (stopped_) {
          const wire::View* newest = world_.checker.newest_view(lineage_);
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
  formation_ = world_.formation(lineage_, installing_->view.number);
  position_ = formation_->program->after_point(points_);
  if (points_ > 0 && (random_.chance(0.5) || !formation_->program->calls_before_admission(position_))) {
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
    if (position_ >= formation_->limit) {
      state_ = State::finished;
      return;
    }
    const Step& step = formation_->program->at(position_);
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
        at_point_ = false;
        stood_alone_ = false;
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
        while (formation_->program->at(position_).kind == Step::Kind::call) calls.push_back(position_++);
        if (world_.settings.shuffle) {
          std::map<std::uint64_t, std::deque<std::size_t>> threads;
          for (const std::size_t at : calls) threads[formation_->program->at(at).call.tag].push_back(at);
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
  const CallSpec& spec = formation_->program->at(position).call;
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
  if (is_sealed()) world_.counters.count(Sometimes::start_while_sealed);
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
  if (spec.straggler_after != 0) {
    world_.scheduler.after(spec.straggler_after, actor_, [this, key] {
      auto late = ops_.find(key);
      if (state_ == State::gone || late == ops_.end() || late->second.finished || world_.quiet) return;
      world_.checker.voted_straggler(op_id(key));
      Member::Actions out;
      machine_.vote(key, wire::FaultReason::straggler, "waited long enough", out);
      perform(out);
    });
  }
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
  const bool undecided = voted || (!machine_.has_coordinator() && !machine_.ledger().said_done(key));
  if (!voted && ops_.at(key).spec.deadline > 4 * world_.settings.timeout()) expect_undecided(key);
  if (undecided) {
    const bool done = machine_.ledger().said_done(key);
    world_.counters.count(Sometimes::abandoned);
    if (!done) world_.checker.voted_timeout(op_id(key));
    machine_.abandon(key, done ? Code::EXPELLED : Code::NO_COORDINATOR, "no coordinator could decide it", actions);
    perform(actions);
    if (state_ != State::gone && ops_.contains(key))
      violation("{}: {} is given up and still open", name_, text_of(key));
    return abandoned();
  }
  world_.checker.voted_timeout(op_id(key));
  if (is_sealed()) world_.counters.count(Sometimes::vote_while_sealed);
  if (!machine_.vote(key, wire::FaultReason::timeout, "the deadline has passed", actions)) {
    world_.counters.count(Sometimes::vote_after_done);
  }
  perform(actions);
  if (state_ == State::gone || !ops_.contains(key)) return;
  world_.scheduler.after(2 * world_.settings.timeout(), actor_, [this, key] { deadline(key, true); });
}

// An operation ended without a decision. The user may go on with what is left, or start anew; when nothing is wrong any
// more it must not happen.
void Peer::abandoned() {
  if (state_ == State::gone) return;
  // Two view changes, one after the other: the vote may have come too late for the first.
  const Settings& s = world_.settings;
  const bool in_time = 2 * (14 * s.control_delay + 2 * s.persist) < 2 * s.timeout();
  // It may have waited for somebody to be given up who is gone by now.
  if (world_.settled && world_.scheduler.now() - world_.settled_at < 2 * s.timeout()) return;
  if (world_.settled && in_time && !world_.is_excused(*this)) {
    violation("{}: nobody has decided an operation though nothing is wrong", name_);
  }
  if (world_.settled && !in_time) return;
  if (world_.quiet ? world_.is_excused(*this) : random_.chance(0.5)) abort();
}

bool Peer::has_held(const wire::OpKey& key, std::uint64_t epoch, Micros since) const {
  if (state_ == State::gone || is_sealed() || machine_.view().epoch != epoch) return false;
  // A vote that was not heard of keeps it from saying Done.
  if (!machine_.has_coordinator() || greeted_at_ > since || unsealed_at_ > since) return false;
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
  // A coordinator may be needed to decide.
  if (world_.coordinators.size() > 1 || !world_.any_coordinator()) return;
  const Micros since = world_.scheduler.now() - 2 * world_.settings.timeout();
  const Micros lately = world_.scheduler.now() - world_.settings.timeout();
  for (const PeerId& id : op.participants) {
    const Peer& other = world_.peer(id);
    if (!world_.scheduler.alive(other.actor()) || world_.scheduler.paused(other.actor()) || other.was_stopped()) return;
    if (!other.has_held(key, op.epoch, since)) return;
    if (id != id_ && !world_.network.has_stood(index_, other.index(), lately)) return;
    if (id != id_ && !world_.network.data_flows(index_, other.index())) return;
    if (id != id_ && !world_.network.data_flows(other.index(), index_)) return;
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
