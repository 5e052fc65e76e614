// What a seed decides before its history begins: sizes, delays, how the coordinators are set up, and every fault with
// its time and its victims. Every seed draws a subset of the kinds of faults (swarm testing: Groce et al., ISSTA 2012),
// since a fault that always happens hides the others. schedule.hpp writes all of it to a file and reads it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "sim/random.hpp"
#include "sim/trace.hpp"
#include "wire/messages.hpp"

namespace hawser::sim {

enum class Fault : std::uint8_t {
  crash,             // at any time; the connections are reset
  vanish,            // the same, but nobody hears of it
  crash_at_message,  // as a message of some type comes or goes
  crash_in_actions,  // between two actions of one step
  abort,             // the user gives up
  leave,
  join,
  pause,                // shorter than the peer timeout
  long_pause,           // longer: a zombie afterwards
  control_break,        // a control connection breaks, both ends hear of it, and it is made again
  control_cut,          // the same, but an end may not hear of it
  control_one_way,      // one direction of it swallows everything
  strand_cut,           // the connection of two peers breaks and is made again
  edge_dead,            // it cannot be made again for a while
  edge_gone,            // never again, not even when all else is well
  slow_control,         // messages of one control connection take long for a while
  slow_strand,          // what one peer sends another does
  cut_way,              // nothing gets from one place to another for a while: two peers, or a peer and a coordinator
  partition,            // nothing gets from some places to the others for a while, nor back
  partition_at_accept,  // the same, in the moment in which a proposal has so many acceptances
  coordinator_pause,
  coordinator_crash,             // and it is started again, with its log or without
  coordinator_crash_at_message,  // as a message of some type comes or goes
  coordinator_crash_at_persist,  // while the log is being written
  coordinator_and_peers,         // both in one moment
  log_fails,                     // for a while
  count_
};
inline constexpr std::size_t fault_kinds = static_cast<std::size_t>(Fault::count_);
const char* fault_name(Fault fault);

// One fault of a schedule. Victims are places: whoever lives there then is hit, or else a neighbour.
struct FaultEvent {
  Fault kind = Fault::crash;
  Micros at = 0;
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint64_t pick = 0;  // seed of all else that is to be chosen
};

struct Settings {
  std::uint64_t seed = 0;
  std::uint32_t groups = 1;
  std::uint32_t peers = 1;  // slots of each group
  std::uint32_t peers_first = 1;
  std::uint32_t min_size = 1;
  std::uint32_t heartbeat_ms = 100;
  std::uint32_t peer_timeout_ms = 600;

  std::uint32_t rule = 0;          // wire::Rule
  std::uint32_t coordinators = 1;  // addresses that every peer knows
  bool standbys = true;            // all but the first are standbys
  bool log = false;                // each coordinator has one

  Micros control_delay = 1000;  // typical one-way delays
  Micros strand_delay = 1000;
  Micros transfer = 1000;  // of the data of an operation
  Micros persist = 0;
  Micros think = 50000;
  Micros fault_time = 1000000;  // faults happen until then

  // Of the program; chances per operation or round.
  std::uint32_t ops_per_round = 2;
  double admit = 0.9;
  double wait_all = 0.7;
  double tagged = 0.5;
  double strict = 0;
  double broadcast = 0;
  double barrier = 0.1;
  double eager = 0;  // ends without the others, as an operation without bytes may
  double min_participants = 0;
  double short_deadline = 0;
  double cancel = 0;
  double deviate = 0;         // one member calls something else
  double diverge = 0;         // one member gets other bits
  double straggler = 0;       // callers will not wait for those who have not come
  bool begin_to_all = true;   // or to neighbours of the ring only
  bool stale_frames = false;  // the machine itself gets frames of old epochs, too
  bool shuffle = false;       // operations of different tags start in another order at each member

  std::vector<FaultEvent> faults;

  [[nodiscard]] Micros timeout() const { return static_cast<Micros>(peer_timeout_ms) * 1000; }
  [[nodiscard]] Micros heartbeat() const { return static_cast<Micros>(heartbeat_ms) * 1000; }
  // Whether faults of one of these kinds may happen.
  [[nodiscard]] bool has_any(std::initializer_list<Fault> kinds) const {
    return std::any_of(faults.begin(), faults.end(), [&](const FaultEvent& fault) {
      return std::find(kinds.begin(), kinds.end(), fault.kind) != kinds.end();
    });
  }
  [[nodiscard]] wire::Rule group_rule() const { return static_cast<wire::Rule>(rule); }
};

// Every setting with its name, in one order; faults apart.
template <typename S, typename F>
void visit_settings(S& s, F&& f) {
  f("seed", s.seed);
  f("groups", s.groups);
  f("peers", s.peers);
  f("peers_first", s.peers_first);
  f("min_size", s.min_size);
  f("heartbeat_ms", s.heartbeat_ms);
  f("peer_timeout_ms", s.peer_timeout_ms);
  f("rule", s.rule);
  f("coordinators", s.coordinators);
  f("standbys", s.standbys);
  f("log", s.log);
  f("control_delay", s.control_delay);
  f("strand_delay", s.strand_delay);
  f("transfer", s.transfer);
  f("persist", s.persist);
  f("think", s.think);
  f("fault_time", s.fault_time);
  f("ops_per_round", s.ops_per_round);
  f("admit", s.admit);
  f("wait_all", s.wait_all);
  f("tagged", s.tagged);
  f("strict", s.strict);
  f("broadcast", s.broadcast);
  f("barrier", s.barrier);
  f("eager", s.eager);
  f("min_participants", s.min_participants);
  f("short_deadline", s.short_deadline);
  f("cancel", s.cancel);
  f("deviate", s.deviate);
  f("diverge", s.diverge);
  f("straggler", s.straggler);
  f("begin_to_all", s.begin_to_all);
  f("stale_frames", s.stale_frames);
  f("shuffle", s.shuffle);
}

// What a run concentrates on.
enum class Focus : std::uint8_t { all, plain, log, forgetful, quorum, arbiter, changes, churn, count_ };
const char* focus_name(Focus focus);

Settings draw_settings(std::uint64_t seed, Focus focus);

}  // namespace hawser::sim
