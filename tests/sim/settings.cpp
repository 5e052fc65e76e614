// Drawing the settings of a seed; see the header.
#include "sim/settings.hpp"

#include <algorithm>

namespace hawser::sim {

const char* fault_name(Fault fault) {
  static constexpr const char* names[fault_kinds] = {"crash",
                                                     "vanish",
                                                     "crash_at_message",
                                                     "crash_in_actions",
                                                     "abort",
                                                     "leave",
                                                     "join",
                                                     "pause",
                                                     "long_pause",
                                                     "control_break",
                                                     "control_cut",
                                                     "control_one_way",
                                                     "strand_cut",
                                                     "edge_dead",
                                                     "edge_gone",
                                                     "slow_control",
                                                     "slow_strand",
                                                     "cut_way",
                                                     "partition",
                                                     "partition_at_accept",
                                                     "coordinator_pause",
                                                     "coordinator_crash",
                                                     "coordinator_crash_at_message",
                                                     "coordinator_crash_at_persist",
                                                     "coordinator_and_peers",
                                                     "log_fails"};
  return names[static_cast<std::size_t>(fault)];
}

const char* focus_name(Focus focus) {
  static constexpr const char* names[] = {"all", "plain", "log", "forgetful", "quorum", "arbiter", "changes", "churn"};
  return names[static_cast<std::size_t>(focus)];
}

namespace {

// Who leads the groups of this history, and where views are kept.
void draw_rule(Settings& s, Random& random, Focus focus) {
  const double which = random.chance(0.5) ? 0.0 : static_cast<double>(random.below(1000)) / 1000.0;
  const double log = random.chance(0.7) ? 1.0 : 0.0;
  const auto several = static_cast<std::uint32_t>(random.range(2, 3));
  s.standbys = random.chance(0.7);
  wire::Rule rule = which < 0.25 ? wire::Rule::alone : which < 0.8 ? wire::Rule::quorum : wire::Rule::arbiter;
  s.log = log > 0.5;
  switch (focus) {
    case Focus::plain:
    case Focus::changes:
    case Focus::churn:
      rule = wire::Rule::alone;
      break;
    case Focus::log:
      rule = wire::Rule::alone;
      s.log = true;
      break;
    case Focus::forgetful:
      rule = wire::Rule::alone;
      s.log = false;
      break;
    case Focus::quorum:
      rule = wire::Rule::quorum;
      break;
    case Focus::arbiter:
      rule = wire::Rule::arbiter;
      break;
    default:
      break;
  }
  s.rule = static_cast<std::uint32_t>(rule);
  s.coordinators = rule == wire::Rule::alone ? 1 : several;
  if (rule == wire::Rule::quorum) s.log = random.chance(0.4);
  if (rule == wire::Rule::arbiter) s.log = false;
}

}  // namespace

Settings draw_settings(std::uint64_t seed, Focus focus) {
  Random random(seed);
  Settings s;
  s.seed = seed;
  draw_rule(s, random, focus);
  s.groups = random.chance(0.15) ? 2 : 1;
  // Small groups reach more states an hour than large ones do; large ones reach other states.
  s.peers = static_cast<std::uint32_t>(random.chance(0.7) ? random.range(2, 4) : random.range(1, 9));
  s.peers_first = static_cast<std::uint32_t>(random.range(1, s.peers));
  s.min_size = static_cast<std::uint32_t>(random.range(1, s.peers_first));
  s.heartbeat_ms = static_cast<std::uint32_t>(random.range(40, 200));
  s.peer_timeout_ms = s.heartbeat_ms * static_cast<std::uint32_t>(random.range(3, 6));
  const Micros timeout = s.timeout();
  // From far below the heartbeat up to a good part of it.
  const auto delay = [&](double share) {
    return std::max<Micros>(
        1, static_cast<Micros>(share * static_cast<double>(s.heartbeat_ms) * 1000.0) / (Micros{1} << random.below(9)));
  };
  s.control_delay = delay(0.3);
  s.strand_delay = delay(0.5);
  s.transfer = delay(1.0);
  s.persist = random.chance(0.5) ? 0 : delay(1.0);
  s.think = timeout / random.range(3, 12);
  s.fault_time = timeout * (random.chance(0.25) ? 24 : 8);

  const auto sometimes = [&](double chance, double low, double high) {
    if (!random.chance(chance)) return 0.0;
    return low + (high - low) * static_cast<double>(random.below(1000)) / 1000.0;
  };
  std::array<std::uint32_t, fault_kinds> counts{};
  const auto many = [&](Fault kind, std::int64_t least, std::int64_t most) {
    counts[static_cast<std::size_t>(kind)] = static_cast<std::uint32_t>(random.range(least, most));
  };
  const auto fault = [&](Fault kind, double chance, std::int64_t most) {
    if (random.chance(chance)) many(kind, 1, most);
  };
  if (!random.chance(0.05)) {  // else nothing goes wrong, and nothing may
    fault(Fault::crash, 0.3, 3);
    fault(Fault::vanish, 0.15, 2);
    fault(Fault::crash_at_message, 0.5, 6);
    fault(Fault::crash_in_actions, 0.4, 4);
    fault(Fault::abort, 0.15, 2);
    fault(Fault::leave, 0.4, 3);
    fault(Fault::join, 0.6, 4);
    fault(Fault::pause, 0.3, 4);
    fault(Fault::long_pause, 0.25, 2);
    fault(Fault::control_break, 0.3, 3);
    fault(Fault::control_cut, 0.15, 2);
    fault(Fault::control_one_way, 0.1, 1);
    fault(Fault::strand_cut, 0.35, 6);
    fault(Fault::edge_dead, 0.15, 2);
    fault(Fault::edge_gone, 0.1, 2);
    fault(Fault::slow_control, 0.25, 3);
    fault(Fault::slow_strand, 0.25, 3);
    fault(Fault::cut_way, 0.15, 2);
    fault(Fault::partition, 0.15, 2);
    fault(Fault::coordinator_pause, 0.15, 1);
    if (random.chance(s.group_rule() == wire::Rule::alone && !s.log ? 0.3 : 0.7)) {
      fault(Fault::coordinator_crash, 0.4, 3);
      fault(Fault::coordinator_crash_at_message, 0.4, 3);
      fault(Fault::coordinator_and_peers, 0.2, 1);
      if (s.log || s.group_rule() == wire::Rule::arbiter) fault(Fault::coordinator_crash_at_persist, 0.3, 2);
    }
    if (s.log) fault(Fault::log_fails, 0.2, 2);
    if (s.group_rule() == wire::Rule::quorum) fault(Fault::partition_at_accept, 0.3, 2);
    s.straggler = sometimes(0.15, 0.05, 0.3);
    s.short_deadline = sometimes(0.3, 0.02, 0.3);
    s.cancel = sometimes(0.4, 0.02, 0.3);
    s.deviate = sometimes(0.25, 0.02, 0.2);
    s.diverge = sometimes(0.15, 0.02, 0.2);
  }
  s.ops_per_round = static_cast<std::uint32_t>(random.range(1, 4));
  s.admit = random.chance(0.7) ? 0.9 : 0.4;
  s.wait_all = random.chance(0.5) ? 0.9 : 0.4;
  s.tagged = sometimes(0.6, 0.2, 0.9);
  s.strict = random.chance(0.15) ? 1.0 : sometimes(0.5, 0.1, 0.5);
  s.broadcast = sometimes(0.5, 0.1, 0.5);
  s.barrier = sometimes(0.5, 0.1, 0.5);
  s.eager = sometimes(0.4, 0.1, 0.7);
  s.min_participants = sometimes(0.2, 0.1, 0.6);
  s.begin_to_all = random.chance(0.5);
  s.shuffle = random.chance(0.4);
  s.stale_frames = random.chance(0.5);
  // Two kinds of trouble that need much of the same at once.
  const bool changes = random.chance(0.2);
  const bool churn = random.chance(0.15);
  if (focus == Focus::changes ||
      (focus != Focus::churn && changes)) {  // view changes without a loss, close to one with
    s.groups = 1;
    s.peers = s.peers_first = s.min_size = 3;
    s.control_delay = std::max<Micros>(s.control_delay, 500);
    // Up to what a view change takes, so that frames of the old epoch come after it.
    s.strand_delay = std::max<Micros>(1, 4 * s.control_delay / (Micros{1} << random.below(7)));
    s.transfer = s.control_delay;
    s.think = std::min(timeout / 3, s.control_delay * random.range(4, 40));
    s.fault_time = std::min(s.fault_time, 60 * s.think);
    s.cancel = 0.4;
    s.wait_all = 0.3;
    s.ops_per_round = 4;
    s.barrier = 0.8;
    many(Fault::crash_at_message, 1, 6);
    many(Fault::crash_in_actions, 0, 4);
    many(Fault::slow_strand, 0, 4);
  } else if (focus == Focus::churn || churn) {  // newcomers that go again while others go, too
    s.peers = static_cast<std::uint32_t>(random.range(3, 5));
    s.persist = random.chance(0.7) ? static_cast<Micros>(s.heartbeat_ms) * 1000 / 4 : s.persist;
    many(Fault::join, 2, 8);
    many(Fault::crash, 1, 6);
    many(Fault::leave, 1, 6);
    many(Fault::abort, 0, 4);
    s.cancel = 0.3;
  }
  if (focus == Focus::plain || focus == Focus::changes || focus == Focus::churn) {
    for (std::size_t kind = static_cast<std::size_t>(Fault::cut_way); kind < fault_kinds; ++kind) counts[kind] = 0;
  }
  for (std::size_t kind = 0; kind < fault_kinds; ++kind) {
    for (std::uint32_t i = 0; i < counts[kind]; ++i) {
      FaultEvent event;
      event.kind = static_cast<Fault>(kind);
      event.at = random.range(0, s.fault_time);
      event.a = static_cast<std::uint32_t>(random.below(64));
      event.b = static_cast<std::uint32_t>(random.below(64));
      event.pick = random.next() >> 32;
      s.faults.push_back(event);
    }
  }
  std::stable_sort(s.faults.begin(), s.faults.end(), [](const auto& x, const auto& y) { return x.at < y.at; });
  return s;
}

}  // namespace hawser::sim
