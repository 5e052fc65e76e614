// Drawing the settings of a seed; see the header.
#include "sim/settings.hpp"

#include <algorithm>

namespace hawser::sim {

const char* fault_name(Fault fault) {
  static constexpr const char* names[fault_kinds] = {
      "crash",     "vanish",       "crash_at_message",  "crash_in_actions", "abort",           "leave",
      "join",      "pause",        "long_pause",        "control_cut",      "control_one_way", "strand_cut",
      "edge_dead", "slow_control", "coordinator_pause", "coordinator_crash"};
  return names[static_cast<std::size_t>(fault)];
}

Settings draw_settings(std::uint64_t seed) {
  Random random(seed);
  Settings s;
  s.seed = seed;
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
  const auto fault = [&](Fault kind, double chance, std::int64_t most) {
    if (random.chance(chance)) {
      s.faults[static_cast<std::size_t>(kind)] = static_cast<std::uint32_t>(random.range(1, most));
    }
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
    fault(Fault::control_cut, 0.2, 2);
    fault(Fault::control_one_way, 0.1, 1);
    fault(Fault::strand_cut, 0.35, 6);
    fault(Fault::edge_dead, 0.15, 1);
    fault(Fault::slow_control, 0.25, 3);
    fault(Fault::coordinator_pause, 0.1, 1);
    fault(Fault::coordinator_crash, 0.06, 1);
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
  const auto many = [&](Fault kind, std::int64_t least, std::int64_t most) {
    s.faults[static_cast<std::size_t>(kind)] = static_cast<std::uint32_t>(random.range(least, most));
  };
  if (random.chance(0.2)) {  // view changes without a loss, close to one with
    s.groups = 1;
    s.peers = s.peers_first = s.min_size = 3;
    s.control_delay = std::max<Micros>(s.control_delay, 500);
    s.strand_delay = std::max<Micros>(1, s.control_delay / (Micros{1} << random.below(5)));
    s.transfer = s.control_delay;
    s.think = std::min(timeout / 3, s.control_delay * random.range(4, 40));
    s.fault_time = std::min(s.fault_time, 60 * s.think);
    s.cancel = 0.2;
    s.wait_all = 0.3;
    s.ops_per_round = 4;
    s.barrier = 0.5;
    many(Fault::crash_at_message, 1, 6);
    many(Fault::crash_in_actions, 0, 4);
  } else if (random.chance(0.15)) {  // newcomers that go again while others go, too
    s.peers = static_cast<std::uint32_t>(random.range(3, 5));
    s.persist = random.chance(0.7) ? static_cast<Micros>(s.heartbeat_ms) * 1000 / 4 : s.persist;
    many(Fault::join, 2, 8);
    many(Fault::crash, 1, 6);
    many(Fault::leave, 1, 6);
    many(Fault::abort, 0, 4);
    s.cancel = 0.3;
  }
  return s;
}

}  // namespace hawser::sim
