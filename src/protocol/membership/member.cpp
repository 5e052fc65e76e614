// A peer's machine; see the header.
#include "protocol/membership/member.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/mutants.hpp"

namespace hawser::protocol {

void Member::step(const Event& event, const Env& env, Actions& actions) {
  if (phase_ == Phase::ended) return;
  std::visit([&](const auto& e) { on(e, env, actions); }, event);
}

std::optional<Millis> Member::next_deadline() const {
  if (phase_ == Phase::ended) return std::nullopt;
  if (!control_up_) return leave_by_;
  if (!welcomed_ && phase_ == Phase::joining) return std::nullopt;  // the call's own deadline holds
  return std::min<Millis>(next_heartbeat_, heard_ + peer_timeout_ms_);
}

// --------------------------------------------------------------------------------------------- the coordinator's end

void Member::on(const ControlOpened& event, const Env& env, Actions& actions) {
  control_up_ = true;
  welcomed_ = false;
  failures_ = event.failures;
  heard_ = env.now;
  last_tick_ = env.now;
  next_heartbeat_ = env.now + heartbeat_ms_;
  wire::Hello hello;
  hello.peer = config_.id;
  hello.group = config_.group;
  hello.min_size = config_.min_size;
  hello.name = config_.name;
  hello.lineage = accepted_ ? accepted_->view.lineage : view().lineage;
  hello.view = view().number;
  hello.promised = promised_;
  hello.sealed = ledger_.is_sealed();
  hello.addresses = config_.addresses;
  hello.asked = event.asked;
  hello.passed = admission_.passed;
  if (phase_ == Phase::joining) {  // this coordinator may know nothing of what another has said
    joined_sent_ = false;
    met_.clear();
    linked_.clear();
  }
  actions.push_back(SendControl{std::move(hello)});
}

void Member::on(const ControlClosed& /*event*/, const Env& env, Actions& actions) {
  control_up_ = false;
  welcomed_ = false;
  if (phase_ == Phase::joining) return;  // it begins again with the next connection
  if (leaving_) leave_without_coordinator(env, actions);
  if (phase_ == Phase::ended) return;
  if (admission_.standing && !HAWSER_MUTANT(26)) return;
  // The group goes on without a coordinator; nobody can be let in meanwhile, so nobody is waited for.
  release();
  walk(actions);
}

void Member::release() {
  admission_.round.reset();
  admission_.target.reset();
  admission_.standing = false;
}

void Member::on(const ControlReceived& event, const Env& env, Actions& actions) {
  heard_ = env.now;
  const wire::Message& message = event.message;
  if (const auto* welcome = std::get_if<wire::Welcome>(&message)) {
    on_welcome(*welcome, env, actions);
  } else if (const auto* refuse = std::get_if<wire::Refuse>(&message)) {
    on_refuse(*refuse, env, actions);
  } else if (const auto* meet = std::get_if<wire::Meet>(&message)) {
    if (meet->dial) met_[meet->peer.id] = meet->peer;
    actions.push_back(Meet{meet->peer, meet->ticket, meet->dial});
  } else if (const auto* forget = std::get_if<wire::Forget>(&message)) {
    met_.erase(forget->peer);
    linked_.erase(forget->peer);
    actions.push_back(Part{forget->peer});
  } else if (const auto* query = std::get_if<wire::AdmitQuery>(&message)) {
    if (phase_ != Phase::member) return;
    admission_.round = query->round;
    admission_.target.reset();
    admission_.standing = false;
    actions.push_back(SendControl{wire::AdmitPromise{query->round, admission_.passed}});
  } else if (const auto* target = std::get_if<wire::AdmitTarget>(&message)) {
    if (admission_.round != target->round) return;
    admission_.target = target->target;
    walk(actions);
  } else if (const auto* cancel = std::get_if<wire::AdmitCancel>(&message)) {
    if (!admission_.round || (cancel->round != 0 && admission_.round != cancel->round)) return;
    release();
    walk(actions);
  } else if (const auto* seal = std::get_if<wire::Seal>(&message)) {
    on_seal(*seal, actions);
  } else if (const auto* propose = std::get_if<wire::Propose>(&message)) {
    on_propose(*propose, actions);
  } else if (const auto* install = std::get_if<wire::Install>(&message)) {
    on_install(*install, actions);
  }
  // Heartbeats only prove that the coordinator lives. Messages that only peers send are none of ours: ignored.
}

void Member::on_welcome(const wire::Welcome& welcome, const Env& env, Actions& actions) {
  welcomed_ = true;
  others_ = 0;
  heartbeat_ms_ = std::max<std::uint32_t>(1, welcome.heartbeat_ms);
  peer_timeout_ms_ = std::max<std::uint32_t>(heartbeat_ms_, welcome.peer_timeout_ms);
  next_heartbeat_ = env.now + heartbeat_ms_;
  if (phase_ == Phase::joining) {
    actions.push_back(Listen{welcome.loopback_only});
    return;
  }
  // What was said on an earlier connection may not have been heard.
  if (leaving_) actions.push_back(SendControl{wire::Leave{}});
  Ledger::Actions faults;
  ledger_.repeat_faults(faults);
  forward(faults, actions);
}

void Member::on_refuse(const wire::Refuse& refuse, const Env& env, Actions& actions) {
  const Code code = code_name(static_cast<Code>(refuse.code)) == std::string("UNKNOWN")
                        ? Code::REFUSED
                        : static_cast<Code>(refuse.code);
  if (phase_ == Phase::joining && code != Code::NO_COORDINATOR) {
    return end(code, "the coordinator refused this peer: " + refuse.text, actions);
  }
  // Only a coordinator that leads this group can say that a member is none any more.
  const bool competent = refuse.lineage == view().lineage || config_.addresses <= 1;
  if (phase_ == Phase::member && code == Code::EXPELLED && competent) {
    return end(Code::EXPELLED, refuse.text, actions);
  }
  if (phase_ == Phase::member && code == Code::EXPELLED) {
    // Led by one that leads another group. Where all addresses are, one after the other, this group is led nowhere, and
    // whoever stands at an admission point would stand there for ever.
    others_ = others_ != 0 && others_next_ == failures_ ? others_ + 1 : 1;
    others_next_ = failures_ + 1;
    if (others_ >= config_.addresses) {
      return end(Code::EXPELLED, "every coordinator leads another group by now: " + refuse.text, actions);
    }
  }
  actions.push_back(CloseControl{refuse.text});
  if (phase_ == Phase::joining) {
    control_up_ = welcomed_ = false;
    // Had it been decided upon, somebody would know. It begins anew and owes nothing to any coordinator.
    accepted_.reset();
    promised_ = {};
    ledger_ = Ledger(config_.id);
  } else {
    on(ControlClosed{refuse.text}, env, actions);
  }
}

void Member::on_seal(const wire::Seal& seal, Actions& actions) {
  if (phase_ == Phase::joining && !accepted_) return;
  // The same term again: the answer may have been lost with a connection.
  const bool again = seal.term == promised_ && ledger_.is_sealed();
  if (seal.term <= promised_ && !again && !HAWSER_MUTANT(19)) return;
  promised_ = seal.term;
  wire::SealReply reply = ledger_.seal(seal.term);
  if (accepted_) reply.accepted.push_back(*accepted_);
  if (seal.recover && view().number != 0) reply.last.push_back(last_);
  actions.push_back(SendControl{std::move(reply)});
}

void Member::on_propose(const wire::Propose& propose, Actions& actions) {
  const wire::Install& next = propose.install;
  if (next.term < promised_ && !HAWSER_MUTANT(19)) return;
  if (phase_ == Phase::member) {
    if (next.view.lineage != view().lineage || next.view.number != view().number + 1) return;
    if (next.sealed) ledger_.hold();
  } else if (!next.view.contains(config_.id)) {
    return;
  }
  promised_ = next.term;
  accepted_ = next;
  actions.push_back(SendControl{wire::Accept{next.term, next.view.number}});
}

void Member::on(const Tick& /*event*/, const Env& env, Actions& actions) {
  if (!control_up_ && leaving_) return leave_without_coordinator(env, actions);
  if (!control_up_ || (!welcomed_ && phase_ == Phase::joining)) return;
  // A peer that was itself stopped must not take its own sleep for the coordinator's silence.
  const Millis gap = last_tick_ ? env.now - *last_tick_ : 0;
  if (gap > heartbeat_ms_) heard_ = std::min(env.now, heard_ + gap - heartbeat_ms_ / 2);
  last_tick_ = env.now;
  if (env.now >= next_heartbeat_) {
    next_heartbeat_ = env.now + heartbeat_ms_;
    if (welcomed_) actions.push_back(SendControl{wire::Heartbeat{++heartbeat_sequence_}});
  }
  if (env.now - heard_ >= peer_timeout_ms_) {
    const std::string why = fmt::format("the coordinator was silent for {} ms", env.now - heard_);
    actions.push_back(CloseControl{why});
    if (phase_ == Phase::member) return on(ControlClosed{why}, env, actions);
    control_up_ = welcomed_ = false;
  }
}

// ------------------------------------------------------------------------------------------------------------- joining

void Member::on(const Listening& event, const Env& /*env*/, Actions& actions) {
  joined_sent_ = true;
  actions.push_back(SendControl{wire::Join{event.advertise, event.port, config_.codecs}});
}

void Member::on(const Linked& event, const Env& /*env*/, Actions& actions) {
  linked_[event.peer] = true;
  if (control_up_ && welcomed_) actions.push_back(SendControl{wire::Connected{event.peer}});
}

void Member::on(const LinkLost& event, const Env& /*env*/, Actions& actions) {
  linked_.erase(event.peer);
  if (control_up_ && welcomed_) actions.push_back(SendControl{wire::LinkLost{event.peer}});
}

void Member::on(const Unreachable& event, const Env& /*env*/, Actions& actions) {
  if (phase_ == Phase::member && control_up_) actions.push_back(SendControl{wire::Suspect{event.peer, event.text}});
}

std::string Member::waiting_for() const {
  if (!control_up_) return "no coordinator answers";
  if (!welcomed_) return "the coordinator took the connection but did not answer";
  if (!joined_sent_) return "this peer does not listen yet";
  for (const auto& [id, peer] : met_) {
    if (!linked_.contains(id)) {
      return fmt::format("no connection with peer {} at {}:{} yet (is its port reachable from here?)", peer.name,
                         peer.host, peer.port);
    }
  }
  return fmt::format(
      "connected with {} other peers; either fewer than min_size = {} peers are there, or the members of the "
      "group have not called hawser_comm_admit",
      met_.size(), config_.min_size);
}

// ------------------------------------------------------------------------------------------------------------- views

void Member::on_install(const wire::Install& install, Actions& actions) {
  if (install.view.number <= view().number) return;
  if (phase_ == Phase::member && install.view.lineage != view().lineage) return;
  if (phase_ == Phase::member && install.view.number != view().number + 1) {
    return end(Code::EXPELLED, "a view was decided of which this peer did not hear", actions);
  }
  if (!install.view.contains(config_.id)) {
    for (const auto& gone : install.departures) {
      if (gone.id != config_.id) continue;
      if (gone.left) return end(Code::OK, "left", actions);
      return end(Code::EXPELLED, fmt::format("this peer was removed from the group: {}", gone.text), actions);
    }
    return end(Code::EXPELLED, "this peer was removed from the group", actions);
  }
  const bool joined = phase_ == Phase::joining;
  if (!joined && install.admit_target != 0 && install.admit_target <= admission_.passed) {
    // Its calls since then would be taken for others.
    return end(Code::EXPELLED, "newcomers were let in at an admission point that this peer has passed", actions);
  }
  phase_ = Phase::member;
  actions.push_back(ViewInstalled{install.view, install.departures});
  // Decided is decided, whoever says so. But a coordinator that has sealed this peer with a higher term waits for an
  // answer that stays true.
  const bool unseals = install.term >= promised_ || HAWSER_MUTANT(23);
  if (install.term > promised_) promised_ = install.term;
  accepted_.reset();
  last_ = install;
  if (install.view.rule == wire::Rule::quorum && !install.departures.empty()) {
    actions.push_back(SendControl{wire::Installed{install.view.number}});
  }
  Ledger::Actions ledger_actions;
  ledger_.install(install, ledger_actions, unseals);
  forward(ledger_actions, actions);
  if (joined) {
    met_.clear();
    linked_.clear();
    admission_.passed = install.admit_target;
    // The members let it in at this point. A newcomer whose loop begins with the same call stands there too.
    admission_.credit = install.admit_target != 0;
    actions.push_back(Joined{});
    return;
  }
  if (install.admit_target == 0) return;
  admission_.passed = install.admit_target;
  release();
  if (admission_.blocked) {
    admission_.blocked = false;
    actions.push_back(Admitted{});
  } else {
    admission_.credit = true;
  }
}

void Member::pass_point(Actions& actions) {
  ++admission_.passed;
  admission_.blocked = false;
  actions.push_back(Admitted{});
}

void Member::walk(Actions& actions) {
  if (!admission_.blocked) return;
  if (!admission_.round) return pass_point(actions);
  if (!admission_.target) return;  // promised to wait for it
  if (admission_.passed + 1 < *admission_.target) return pass_point(actions);
  admission_.standing = true;
  if (control_up_ && welcomed_) actions.push_back(SendControl{wire::AtPoint{*admission_.round}});
}

void Member::on(const AdmitCalled& /*event*/, const Env& /*env*/, Actions& actions) {
  if (admission_.credit) {
    admission_.credit = false;
    actions.push_back(Admitted{});
    return;
  }
  admission_.blocked = true;
  walk(actions);
}

// The call counts as not made. Whoever stood there keeps standing: newcomers may have been let in at this point.
void Member::on(const AdmitGivenUp& /*event*/, const Env& /*env*/, Actions& /*actions*/) { admission_.blocked = false; }

void Member::on(const LeaveCalled& /*event*/, const Env& env, Actions& actions) {
  leaving_ = true;
  if (!control_up_) return leave_without_coordinator(env, actions);
  actions.push_back(SendControl{wire::Leave{}});
}

// Where there are several coordinators one of them may answer soon. Whoever goes without a word counts as lost, and the
// others may be left without a majority.
void Member::leave_without_coordinator(const Env& env, Actions& actions) {
  if (config_.addresses <= 1) return end(Code::OK, "left without a coordinator", actions);
  if (!leave_by_) leave_by_ = env.now + peer_timeout_ms_;
  if (env.now < *leave_by_) return;
  end(Code::TIMEOUT, fmt::format("left without a coordinator: none took the word of it for {} ms", peer_timeout_ms_),
      actions);
}

void Member::on(const AbortCalled& /*event*/, const Env& /*env*/, Actions& actions) {
  if (control_up_ && welcomed_) actions.push_back(SendControl{wire::Leave{true}});
  end(Code::ABORTED, "this communicator was aborted", actions);
}

void Member::end(Code code, const std::string& text, Actions& actions) {
  if (leaving_ && code == Code::EXPELLED) return end(Code::OK, "left", actions);  // it was heard, or missed by then
  phase_ = Phase::ended;
  Ledger::Actions ledger_actions;
  ledger_.end_all(code == Code::OK ? Code::ABORTED : code, text, ledger_actions);
  forward(ledger_actions, actions);
  actions.push_back(Ended{code, text});
}

// -------------------------------------------------------------------------------------------------------- operations

void Member::forward(Ledger::Actions& from, Actions& to) {
  for (LedgerAction& action : from) {
    if (auto* fault = std::get_if<ReportFault>(&action)) {
      if (control_up_) to.push_back(SendControl{std::move(fault->fault)});
      continue;
    }
    std::visit(
        [&](auto& a) {
          if constexpr (!std::is_same_v<std::decay_t<decltype(a)>, ReportFault>) to.push_back(std::move(a));
        },
        action);
  }
  from.clear();
}

Result<wire::OpKey> Member::start(std::uint64_t tag, const wire::OpParams& params, Actions& actions) {
  admission_.credit = false;  // it went on without the call
  Ledger::Actions out;
  Result<wire::OpKey> key = ledger_.start(tag, params, out);
  forward(out, actions);
  return key;
}

void Member::finished(const wire::OpKey& key, std::uint64_t epoch, const wire::Digest128& digest, Actions& actions) {
  Ledger::Actions out;
  ledger_.finished(key, epoch, digest, out);
  forward(out, actions);
}

bool Member::vote(const wire::OpKey& key, wire::FaultReason reason, const std::string& text, Actions& actions) {
  if (reason == wire::FaultReason::straggler) {  // against members, not against the operation
    if (control_up_) actions.push_back(SendControl{wire::OpFault{view().number, key, reason, text}});
    return true;
  }
  Ledger::Actions out;
  const bool taken = ledger_.vote(key, reason, text, out);
  forward(out, actions);
  return taken;
}

void Member::abandon(const wire::OpKey& key, Code code, const std::string& text, Actions& actions) {
  Ledger::Actions out;
  ledger_.abandon(key, code, text, out);
  forward(out, actions);
}

void Member::begin_from(PeerId from, std::uint64_t epoch, const wire::OpKey& key, const wire::OpParams& params,
                        Actions& actions) {
  Ledger::Actions out;
  ledger_.begin_from(from, epoch, key, params, out);
  forward(out, actions);
}

void Member::done_from(PeerId from, std::uint64_t epoch, const wire::OpKey& key, const wire::Done& done,
                       Actions& actions) {
  Ledger::Actions out;
  ledger_.done_from(from, epoch, key, done, out);
  forward(out, actions);
}

}  // namespace hawser::protocol
