// The outer optimizer; see the header.
#include "outer/outer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/kernels.hpp"

namespace hawser::outer {
namespace {

using runtime::Engine;
using runtime::OpCall;

constexpr std::size_t piece = 4096;  // elements of half-width parameters on their way through f32
constexpr const char* settings_prefix = "settings: ";
constexpr std::int64_t parting_ms_max = 2000;
constexpr int first_sync_attempts = 4;  // the first member may be lost while it is the only source

Status inside() { return {Code::INVALID_ARGUMENT, "another thread is inside a call on this outer optimizer"}; }

// Says in which phase of a call it failed.
Status within(const char* phase, const Status& status) {
  return {status.code(), fmt::format("{}: {}", phase, status.text())};
}

}  // namespace

Outer::Outer(std::vector<Param> params, const Config& config) : params_(std::move(params)), config_(config) {
  for (const Param& param : params_) {
    offsets_.push_back(count_);
    count_ += param.count;
  }
  anchor_.resize(count_);
  momentum_.resize(count_);
  if (config_.delayed) pending_.resize(count_);
  if (config_.error_feedback) residual_ = std::make_shared<runtime::Residual>(count_);
}

Result<std::unique_ptr<Outer>> Outer::create(std::vector<Param> params, const Config& config) {
  std::unique_ptr<Outer> outer(new Outer(std::move(params), config));
  if (Status status = outer->describe(); !status.ok()) return status;
  for (std::size_t i = 0; i < outer->params_.size(); ++i) {
    const Param& param = outer->params_[i];
    float* const anchor = outer->anchor_.data() + outer->offsets_[i];
    if (param.dtype == Dtype::f32) {
      if (param.count != 0) std::memcpy(anchor, param.data, param.count * sizeof(float));
    } else {
      kernels::widen(param.dtype, anchor, param.data, param.count, kernels::active_variant());
    }
  }
  return outer;
}

Outer::~Outer() {
  if (!flight_) return;
  // The others count on this contribution, so it is given up only when its round does not come to an end.
  Engine& engine = flight_->session->engine();
  if (engine.wait(*flight_->op, parting_ms_max).status.code() != Code::PENDING) return;
  engine.cancel(*flight_->op);
  (void)engine.wait(*flight_->op, -1);
}

// The shared state. What must be equal without being content goes into names and types of empty tensors, so that a
// difference is named as one of the layout.
Status Outer::describe() {
  const runtime::Coding& coding = config_.coding;
  settings_ =
      fmt::format("{}lr {}, momentum {}, {}, {}, codec {} in blocks of {}, {} rounding, {}, non-finite values {}",
                  settings_prefix, config_.lr, config_.momentum, config_.nesterov ? "nesterov" : "plain",
                  config_.delayed ? "delayed" : "synchronous", codec::codec_name(coding.format.codec),
                  coding.format.block, coding.format.rounding == codec::Rounding::nearest ? "nearest" : "stochastic",
                  config_.error_feedback ? "error feedback" : "no error feedback",
                  config_.fail_non_finite ? "fail" : "are left out");
  if (Status status = state_.add(settings_, nullptr, 0, Dtype::u8); !status.ok()) return status;
  for (std::size_t i = 0; i < params_.size(); ++i) {
    const Param& param = params_[i];
    if (Status status = state_.add("parameter/" + param.name, nullptr, 0, param.dtype); !status.ok()) return status;
    const auto share = [&](const char* what, std::vector<float>& all) {
      return state_.add(what + param.name, reinterpret_cast<std::byte*>(all.data() + offsets_[i]), param.count,
                        Dtype::f32);
    };
    if (Status status = share("anchor/", anchor_); !status.ok()) return status;
    if (Status status = share("momentum/", momentum_); !status.ok()) return status;
    if (!config_.delayed) continue;
    if (Status status = share("pending/", pending_); !status.ok()) return status;
    pending_names_.push_back("pending/" + param.name);
  }
  return state_.add("counters", reinterpret_cast<std::byte*>(counters_.data()), counters_.size(), Dtype::u64);
}

Status Outer::ready(const Session& session) const {
  if (synced_ == session->engine().self()) return {};
  return {Code::INVALID_ARGUMENT,
          "call hawser_outer_sync first: every member's first call, so that all begin with the same parameters"};
}

// A function of what the state is, so that all members have the same: 0 before the first sync.
void Outer::set_revision() { (void)state_.set_revision(1 + 2 * counters_[0] + counters_[1]); }

// ------------------------------------------------------------------------------------------------------ parameters

double Outer::take_delta() {
  flying_.resize(count_);
  double squares = 0;
  float wide[piece];
  for (std::size_t i = 0; i < params_.size(); ++i) {
    const Param& param = params_[i];
    float* const delta = flying_.data() + offsets_[i];
    const float* const anchor = anchor_.data() + offsets_[i];
    if (param.dtype == Dtype::f32) {
      squares += pseudo_gradient(delta, anchor, reinterpret_cast<const float*>(param.data), param.count);
      continue;
    }
    for (std::size_t at = 0; at < param.count; at += piece) {
      const std::size_t n = std::min(piece, param.count - at);
      kernels::widen(param.dtype, wide, param.data + at * dtype_size(param.dtype), n, kernels::active_variant());
      squares += pseudo_gradient(delta + at, anchor + at, wide, n);
    }
  }
  return std::isfinite(squares) ? std::sqrt(squares) : std::numeric_limits<double>::quiet_NaN();
}

void Outer::set_params() {
  for (std::size_t i = 0; i < params_.size(); ++i) {
    const Param& param = params_[i];
    const float* const anchor = anchor_.data() + offsets_[i];
    if (param.count == 0) continue;
    if (param.dtype == Dtype::f32) {
      std::memcpy(param.data, anchor, param.count * sizeof(float));
    } else {
      kernels::narrow(param.dtype, param.data, anchor, param.count, 1, kernels::active_variant());
    }
  }
}

void Outer::apply_pending(Info& info) {
  if (counters_[1] != 0) {
    outer_step(anchor_.data(), momentum_.data(), pending_.data(), count_,
               {static_cast<float>(config_.lr), static_cast<float>(config_.momentum), config_.nesterov});
    counters_ = {counters_[0] + 1, 0};
    set_revision();
  }
  if (!config_.delayed) std::swap(pending_, flying_);  // one buffer serves every round
  set_params();
  Info told = std::exchange(landed_, Info{});
  told.delta_norm = info.delta_norm;
  told.wait_us = info.wait_us;
  told.round = counters_[0];
  info = told;
}

// ---------------------------------------------------------------------------------------------------------- rounds

// Measures this member's contribution and starts to average it.
Status Outer::depart(const Session& session, const Limits& limits, double weight, double& norm) {
  norm = take_delta();
  flying_weight_ = std::isfinite(norm) ? weight : wire::weight_left_out;
  return launch(session, limits, norm);
}

// A flight that failed has left its contribution as it was: the same again.
Status Outer::depart_again(const Session& session, const Limits& limits) {
  if (!failed_) return {};
  if (Status status = launch(session, limits, 0); !status.ok()) return status;
  failed_ = false;
  return {};
}

Status Outer::launch(const Session& session, const Limits& limits, double norm) {
  OpCall call;
  call.kind = wire::OpKind::all_reduce;
  call.send = reinterpret_cast<const std::byte*>(flying_.data());
  call.recv = reinterpret_cast<std::byte*>(flying_.data());
  call.count = count_;
  call.dtype = Dtype::f32;
  call.redop = Redop::avg;
  call.tag = config_.tag;
  call.timeout_ms = limits.op_timeout_ms;
  call.strict = limits.strict;
  call.coding = config_.coding;
  call.coding->weighted = true;
  call.coding->weight = flying_weight_;
  if (flying_weight_ < 0 && config_.fail_non_finite) {
    call.fault = {wire::FaultReason::not_finite, "its pseudo-gradient has a NaN or an infinity in it"};
  }
  if (residual_) {
    call.coding->residual = residual_;
  }
  auto flight = std::make_unique<Flight>(Flight{session, nullptr, norm});  // for what has started there must be one
  auto started = session->engine().start(call);
  if (!started.ok()) return started.status();
  flight->op = std::move(started.value());
  flight_ = std::move(flight);
  return {};
}

// On failure the contribution is what it was.
Status Outer::land(Info& info) {
  if (!flight_) return {};
  Engine& engine = flight_->session->engine();
  const std::int64_t begin = runtime::now_us();
  const runtime::OpReport report = engine.wait(*flight_->op, -1);
  info.wait_us += runtime::now_us() - begin;
  const auto landed = std::move(flight_);
  if (!report.status.ok()) {
    failed_ = config_.delayed;
    return report.status;
  }
  landed_ = {};
  landed_.view = report.view;
  landed_.participants = static_cast<std::uint32_t>(report.participants.size());
  landed_.attempts = report.attempts;
  landed_.bytes_sent = report.bytes_sent;
  landed_.bytes_received = report.bytes_received;
  for (std::size_t i = 0; i < report.participants.size(); ++i) {
    const double weight = report.weights[i];
    landed_.total_weight += std::max(0.0, weight);
    if (weight > 0) ++landed_.contributors;
    if (weight != wire::weight_left_out) continue;
    ++landed_.left_out;
    if (report.participants[i] == engine.self()) landed_.self_left_out = true;
  }
  std::swap(pending_, flying_);
  counters_[1] = landed_.contributors > 0 ? 1 : 0;
  share_pending();
  if (!synced_.is_zero()) set_revision();
  return {};
}

void Outer::share_pending() {
  if (!config_.delayed) return;
  for (std::size_t i = 0; i < params_.size(); ++i) {
    (void)state_.move(pending_names_[i], reinterpret_cast<std::byte*>(pending_.data() + offsets_[i]));
  }
}

Status Outer::begin(const Session& session, const Limits& limits, double weight) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  if (config_.delayed) {
    return {Code::INVALID_ARGUMENT, "a delayed outer optimizer overlaps by itself: call hawser_outer_step"};
  }
  if (Status status = ready(session); !status.ok()) return status;
  if (flight_) return {Code::INVALID_ARGUMENT, "begin was called already; hawser_outer_finish comes next"};
  double norm = 0;
  return depart(session, limits, weight, norm);
}

Status Outer::finish(const Session& session, const Limits& limits, Info& info) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  if (Status status = ready(session); !status.ok()) return status;
  if (!flight_ && !config_.delayed) {
    return {Code::INVALID_ARGUMENT, "finish without begin: nothing is in flight"};
  }
  info.round = counters_[0];
  if (flight_) info.delta_norm = flight_->norm;
  if (Status status = depart_again(session, limits); !status.ok()) return status;
  if (Status status = land(info); !status.ok()) return status;
  apply_pending(info);
  return config_.delayed ? Status{} : admit(session, limits, info);
}

Status Outer::step(const Session& session, const Limits& limits, double weight, Info& info) {
  if (!config_.delayed) {
    if (Status status = begin(session, limits, weight); !status.ok()) return status;
    return finish(session, limits, info);
  }
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  if (Status status = ready(session); !status.ok()) return status;
  info.round = counters_[0];
  // The average of the round before; again, when it had failed.
  if (Status status = depart_again(session, limits); !status.ok()) return status;
  if (Status status = land(info); !status.ok()) return within("the average of the round before", status);
  // This round's is measured against the anchor before it is updated.
  if (Status status = depart(session, limits, weight, info.delta_norm); !status.ok()) return status;
  apply_pending(info);
  return admit(session, limits, info);
}

// The end of a round: newcomers are let in and get the state.
Status Outer::admit(const Session& session, const Limits& limits, Info& info) {
  if (config_.manual_admission) return {};
  constexpr const char* made = "the round was made, but not the admission after it; call hawser_outer_sync";
  Engine& engine = session->engine();
  if (Status status = engine.admit(limits.join_timeout_ms); !status.ok()) return within(made, status);
  if (engine.view().generation == generation_) return {};
  runtime::SyncReport report;
  if (Status status = synchronize(session, limits, report); !status.ok()) return within(made, status);
  info.synced = true;
  return {};
}

// ------------------------------------------------------------------------------------------------------------ state

Status Outer::sync(const Session& session, const Limits& limits, runtime::SyncReport& report) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  if (flight_ && !config_.delayed) {
    return {Code::INVALID_ARGUMENT, "a round is in flight; hawser_outer_finish comes first"};
  }
  return synchronize(session, limits, report);
}

Status Outer::synchronize(const Session& session, const Limits& limits, runtime::SyncReport& report) {
  // What is in flight has members that a newcomer does not know of: its outcome is shared instead. After a rejoin it
  // has none.
  const bool continuing = flight_ && flight_->session == session;
  Info ignored;
  const Status landed = land(ignored);
  Engine& engine = session->engine();
  Status status;
  for (int attempt = 0; attempt < first_sync_attempts; ++attempt) {
    OpCall call;
    call.tag = config_.tag;
    call.timeout_ms = limits.op_timeout_ms;
    call.strict = limits.strict;
    auto strategy = wire::SyncStrategy::agree;
    if (state_.revision() == 0) {  // nobody has made a round: the first member's parameters are everyone's
      const wire::View view = engine.view();
      const bool first = !view.members.empty() && view.members.front().peer.id == engine.self();
      strategy = first ? wire::SyncStrategy::send_only : wire::SyncStrategy::receive_only;
    }
    report = {};
    status = state_.sync(engine, strategy, call, report);
    // The first member may have been lost before it had sent: all see that, and all try again among the rest.
    if (status.code() != Code::NO_MAJORITY) break;
  }
  if (status.code() == Code::MISMATCH && status.text().find(settings_prefix) != std::string::npos) {
    return {status.code(), fmt::format("{}; this peer's {}", status.text(), settings_)};
  }
  if (!status.ok()) return status;
  generation_ = engine.view().generation;
  synced_ = engine.self();
  failed_ = false;
  set_revision();
  set_params();
  if (continuing && !landed.ok()) return within("the state is synced, but the average in flight is lost", landed);
  return {};
}

Status Outer::move_param(const Param& param) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  const auto it = std::find_if(params_.begin(), params_.end(), [&](const Param& p) { return p.name == param.name; });
  if (it == params_.end()) return {Code::INVALID_ARGUMENT, fmt::format("there is no parameter named '{}'", param.name)};
  if (it->count != param.count || it->dtype != param.dtype) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("parameter {} was {} elements of {}, now it is {} of {}; make a new outer optimizer",
                        param.name, it->count, dtype_name(it->dtype), param.count, dtype_name(param.dtype))};
  }
  it->data = param.data;
  return {};
}

Result<float*> Outer::locate(Tensor which, std::size_t index, std::size_t count) {
  if (which == Tensor::pending && !config_.delayed) {
    return Status(Code::INVALID_ARGUMENT, "only a delayed outer optimizer has a pending average");
  }
  if (index >= params_.size() || count != params_[index].count) {
    return Status(Code::INVALID_ARGUMENT, fmt::format("there is no parameter {} with {} elements", index, count));
  }
  // Waits for what is in flight first: its landing exchanges the buffers.
  if (config_.delayed) {
    Info ignored;
    if (Status status = land(ignored); !status.ok()) return status;
  }
  std::vector<float>& all = which == Tensor::anchor ? anchor_ : which == Tensor::momentum ? momentum_ : pending_;
  return all.data() + offsets_[index];
}

Status Outer::read(Tensor which, std::size_t index, float* out, std::size_t count) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  const auto from = locate(which, index, count);
  if (!from.ok()) return from.status();
  if (which == Tensor::pending && counters_[1] == 0) {
    std::fill_n(out, count, 0.0F);
  } else if (count != 0) {
    std::memcpy(out, from.value(), count * sizeof(float));
  }
  return {};
}

Status Outer::write(Tensor which, std::size_t index, const float* values, std::size_t count) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  if (flight_ && !config_.delayed) {
    return {Code::INVALID_ARGUMENT, "a round is in flight; hawser_outer_finish comes first"};
  }
  const auto to = locate(which, index, count);
  if (!to.ok()) return to.status();
  if (count != 0) std::memcpy(to.value(), values, count * sizeof(float));
  if (which == Tensor::anchor) set_params();
  return {};
}

Status Outer::round(std::uint64_t& round, bool& pending) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  if (config_.delayed) {
    Info ignored;
    if (Status status = land(ignored); !status.ok()) return status;
  }
  round = counters_[0];
  pending = config_.delayed && counters_[1] != 0;
  return {};
}

Status Outer::set_round(std::uint64_t round, bool pending) {
  const std::unique_lock hold(busy_, std::try_to_lock);
  if (!hold) return inside();
  if (pending && !config_.delayed)
    return {Code::INVALID_ARGUMENT, "only a delayed outer optimizer has a pending average"};
  if (round > std::numeric_limits<std::uint64_t>::max() / 4) {
    return {Code::INVALID_ARGUMENT, fmt::format("round {} is more than anyone can make", round)};
  }
  counters_ = {round, pending ? 1U : 0U};
  set_revision();
  return {};
}

}  // namespace hawser::outer
