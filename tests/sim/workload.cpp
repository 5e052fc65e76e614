// Making up programs; see the header.
#include "sim/workload.hpp"

#include <algorithm>

namespace hawser::sim {

const Step& Program::at(std::size_t position) {
  while (position >= steps_.size()) add_round();
  return steps_[position];
}

std::size_t Program::after_point(std::uint64_t point) {
  if (point == 0) return 0;
  while (points_.size() < point) add_round();
  return points_[point - 1];
}

bool Program::calls_before_admission(std::size_t position) {
  for (;; ++position) {
    const Step& step = at(position);
    if (step.kind == Step::Kind::admit) return false;
    if (step.kind == Step::Kind::call && step.call.deviation != Deviation::skip) return true;
  }
}

std::size_t Program::round_end(std::size_t position) {
  while (rounds_.empty() || rounds_.back() <= position) add_round();
  return *std::upper_bound(rounds_.begin(), rounds_.end(), position);
}

void Program::add_round() {
  rounds_.push_back(steps_.size());
  const auto add = [&](Step::Kind kind) {
    steps_.push_back(Step{kind, {}, points_.size()});
    if (kind == Step::Kind::admit) points_.push_back(steps_.size());
  };
  if (random_.chance(settings_.admit)) add(Step::Kind::admit);
  const std::uint64_t calls = random_.below(settings_.ops_per_round + 1);
  for (std::uint64_t i = 0; i < calls; ++i) {
    steps_.push_back(Step{Step::Kind::call, draw_call(), points_.size()});
  }
  if (random_.chance(settings_.wait_all)) add(Step::Kind::wait_all);
  add(Step::Kind::think);
}

CallSpec Program::draw_call() {
  CallSpec call;
  const std::uint64_t number = ++calls_;
  if (random_.chance(settings_.tagged)) call.tag = 1 + random_.below(3);
  if (random_.chance(settings_.broadcast)) {
    call.kind = wire::OpKind::broadcast;
    call.root = static_cast<std::uint32_t>(random_.below(8));
  } else if (random_.chance(settings_.barrier)) {
    call.kind = wire::OpKind::barrier;
  }
  call.strict = random_.chance(settings_.strict);
  if (call.kind != wire::OpKind::barrier) call.count = 1 + random_.below(1000);
  if (random_.chance(settings_.min_participants)) {
    call.min_participants = static_cast<std::uint32_t>(random_.range(1, settings_.peers));
  }
  call.eager = random_.chance(settings_.eager);
  const Micros timeout = settings_.timeout();
  call.deadline = 5 * timeout;
  if (random_.chance(settings_.short_deadline)) call.deadline = random_.range(1, timeout / 2);
  const auto slot = [&] { return static_cast<std::uint32_t>(random_.below(settings_.peers)); };
  if (random_.chance(settings_.deviate)) {
    call.deviation = static_cast<Deviation>(1 + random_.below(3));
    call.deviator = slot();
    // Whoever skips a call is one behind in its tag from then on, so such calls have a tag of their own.
    if (call.deviation != Deviation::params) call.tag = 1000 + number;
    if (call.deviation == Deviation::skip) call.deadline = timeout;
  }
  if (random_.chance(settings_.cancel)) {
    call.cancelled = true;
    call.canceller = slot();
    call.cancel_after = random_.range(0, settings_.transfer * 3);
  }
  if (random_.chance(settings_.straggler)) call.straggler_after = random_.range(timeout / 4, timeout * 2);
  if (random_.chance(settings_.diverge)) {
    call.diverges = true;
    call.diverger = slot();
  }
  return call;
}

}  // namespace hawser::sim
