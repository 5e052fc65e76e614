// What `hawser stress` was asked to do, shared by the supervisor (stress_supervisor.cpp) and its children
// (stress_peer.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tool {

enum class Placement { any, in_place, out_of_place };

// A place to kill processes at, and the passage at which they die; 0: a drawn one.
struct KillAt {
  std::string name;
  std::uint32_t passage = 0;
};

struct StressOptions {
  std::uint32_t spawn = 4;
  double seconds = 10;
  std::uint64_t seed = 0;
  double kill_every = 0;  // seconds, 0: never; so are the others
  double stop_every = 0;
  double join_every = 0;
  double leave_every = 0;
  double coordinator_kill_every = 0;
  double coordinator_stop_every = 0;
  double strand_kill_every = 0;
  double cut_every = 0;
  double starve_every = 0;
  std::uint32_t cpu_quota = 5;  // percent, of a starved peer
  std::uint32_t standbys = 0;
  std::string coordinator_log;      // a directory; empty: a temporary one; "none"
  std::vector<KillAt> kill_at;      // in turn
  std::uint32_t kill_at_times = 0;  // after so many turns the run ends; 0: by time
  Placement placement = Placement::any;
  bool figures = false;
  std::uint32_t repeats = 5;  // of each figure
  std::uint64_t max_bytes = std::uint64_t{4} << 20;
  std::uint32_t peer_timeout_ms = 1000;
  std::uint32_t op_timeout_ms = 30000;
  std::uint32_t hang_bound_ms = 5000;
  std::uint32_t cancel_percent = 0;
  std::uint32_t strands = 0;
  std::uint32_t io_threads = 0;
  std::string transport = "mixed";
  bool keep_hung = false;
  bool json = false;
  bool quiet = false;
  std::uint64_t corrupt_round = 0;  // hidden: peers damage one result element in rounds that are multiples of this

  // Hidden, for the children.
  std::int64_t child = -1;
  std::int64_t parent = 0;
  std::string coordinator;
  std::uint32_t min_size = 1;
  std::uint64_t first_round = 0;  // rounds up to this one have been used by others
};

// More peers than this do not fit a report.
inline constexpr std::uint32_t stress_peers_max = 63;
// The default of `--join-timeout`: also the deadline of admission points.
inline constexpr std::uint32_t stress_join_timeout_ms = 30000;

int run_stress_supervisor(const StressOptions& options);
int run_stress_figures(const StressOptions& options);
int run_stress_peer(const StressOptions& options);
int run_figures_peer(const StressOptions& options);

}  // namespace tool
