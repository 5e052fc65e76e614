// What a seed decides before its history begins: sizes, delays, and which faults happen how often. Every seed draws a
// subset of the faults (swarm testing: Groce et al., ISSTA 2012), since a fault that always happens hides the others.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "sim/random.hpp"
#include "sim/trace.hpp"

namespace hawser::sim {

enum class Fault : std::uint8_t {
  crash,             // at any time; the connections are reset
  vanish,            // the same, but nobody hears of it
  crash_at_message,  // as a message of some type comes
  crash_in_actions,  // between two actions of one step
  abort,             // the user gives up
  leave,
  join,
  pause,            // shorter than the peer timeout
  long_pause,       // longer: a zombie afterwards
  control_cut,      // a control connection breaks; one end or both may not hear of it
  control_one_way,  // one direction of it swallows everything
  strand_cut,       // the connection of two peers breaks and is made again
  edge_dead,        // it cannot be made again
  slow_control,     // messages of one control connection take long for a while
  coordinator_pause,
  coordinator_crash,  // and perhaps another coordinator, of another run
  count_
};
inline constexpr std::size_t fault_kinds = static_cast<std::size_t>(Fault::count_);
const char* fault_name(Fault fault);

struct Settings {
  std::uint64_t seed = 0;
  std::uint32_t groups = 1;
  std::uint32_t peers = 1;  // slots of each group
  std::uint32_t peers_first = 1;
  std::uint32_t min_size = 1;
  std::uint32_t heartbeat_ms = 100;
  std::uint32_t peer_timeout_ms = 600;

  Micros control_delay = 1000;  // typical one-way delays
  Micros strand_delay = 1000;
  Micros transfer = 1000;  // of the data of an operation
  Micros persist = 0;
  Micros think = 50000;
  Micros fault_time = 1000000;  // faults happen until then

  std::array<std::uint32_t, fault_kinds> faults{};  // how many of each

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
  bool begin_to_all = true;   // or to neighbours of the ring only
  bool stale_frames = false;  // the machine itself gets frames of old epochs, too
  bool shuffle = false;       // operations of different tags start in another order at each member

  [[nodiscard]] std::uint32_t faults_of(Fault fault) const { return faults[static_cast<std::size_t>(fault)]; }
  [[nodiscard]] Micros timeout() const { return static_cast<Micros>(peer_timeout_ms) * 1000; }
};

Settings draw_settings(std::uint64_t seed);

}  // namespace hawser::sim
