// The processes of a stress run and what is around them: coordinators as children that can be killed and come back, the
// network between all, the files that tell a process where to kill itself. It performs; when, whom and how often is for
// the supervisor to decide. Main thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "child.hpp"
#include "command.hpp"
#include "network.hpp"
#include "stress.hpp"

namespace tool {

inline constexpr std::uint64_t ns_per_ms = 1000000;
inline constexpr std::uint64_t never = UINT64_MAX;

// A directory that goes with its owner.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct CoordinatorProcess {
  std::string address;
  Descriptor port;  // bound, so that nobody gets its port while it is away
  std::size_t host = 0;
  std::vector<std::string> arguments;
  std::string kill_file;
  std::optional<Child> child;
  bool is_killed = false;  // its end by SIGKILL is ours
  bool is_stopped = false;
  std::uint64_t resume_ns = never;
  std::uint64_t restart_ns = never;
  [[nodiscard]] bool is_up() const { return child && !is_killed && !is_stopped; }
};

struct PeerPlace {
  std::size_t slot = 0;   // its host in the network; free again when the process has ended
  std::string kill_file;  // where it looks for a place to kill itself; empty: nowhere
};

struct ClusterNeeds {
  bool processes = false;  // coordinators of their own
  bool network = false;
  bool kill_files = false;
  std::size_t peers_max = 0;
};

class Cluster {
 public:
  Cluster(const StressOptions& options, const ClusterNeeds& needs);

  // For peers' configuration: all addresses, in the order in which they are asked.
  [[nodiscard]] const std::string& addresses() const { return addresses_; }
  // Empty when the coordinator is part of this process.
  std::vector<CoordinatorProcess>& coordinators() { return coordinators_; }
  [[nodiscard]] const std::vector<CoordinatorProcess>& coordinators() const { return coordinators_; }
  void start_coordinator(CoordinatorProcess& which);

  PeerPlace take_place();
  void give_place_back(const PeerPlace& place);
  Child start_peer(const ChildRequest& request, const PeerPlace& place);

  [[nodiscard]] Network* network() { return network_ ? &*network_ : nullptr; }
  [[nodiscard]] bool is_peer_address(const std::string& address) const;

  // From now on the process that looks at this file kills itself at the n-th passage of that place.
  static void arm(const std::string& kill_file, std::string_view name, std::uint64_t passage);
  static void disarm(const std::string& kill_file);

 private:
  [[nodiscard]] std::string kill_file(const std::string& whose) const;

  ClusterNeeds needs_;
  TemporaryDirectory directory_;
  std::optional<Network> network_;
  Coordinator embedded_;
  std::vector<CoordinatorProcess> coordinators_;
  std::string addresses_;
  std::vector<std::size_t> free_slots_;
  std::uint64_t kill_files_ = 0;
};

}  // namespace tool
