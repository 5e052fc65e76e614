// `hawser stress --figures`: how long faults keep a group waiting. One group at a time, its members reducing the same
// buffer back to back; a script of faults, each repeated; medians.
//
// What is measured, all from the times that the peers themselves take (one clock for all processes of a machine):
//   kill                SIGKILL of a member until the last of the others has committed an operation without it
//   stop, silence       the same for SIGSTOP, and for a member whose packets vanish in both directions
//   restart, standby    SIGKILL of the coordinator, which comes back at once with its log, or which stays away while a
//                       standby takes over, until a newcomer that begins to join at that moment is a member. And the
//                       operations that failed meanwhile
//   join                a newcomer's call of join until it has committed its first operation
//   join call           of that, until the call returned
//   gap                 the longest time between two commits of a member around that join, less its usual one
//   op                  the usual one, which is part of all the others
//
// Every element of every result is compared, so times include some reading of memory.
//
// Threads: the main thread only, in the peers too.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "child.hpp"
#include "command.hpp"
#include "reference.hpp"
#include "stress.hpp"
#include "stress_cluster.hpp"
#include "stress_report.hpp"
#include "text.hpp"

namespace tool {
namespace {

constexpr std::uint32_t detection_ms = 500;  // of a member that says nothing
constexpr std::uint64_t step_limit_ms = 30000;
constexpr std::uint64_t quiet_ms = 300;  // between faults, and what a usual time between commits is taken from

std::uint32_t short_id(const hawser_peer_id_t& id) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < sizeof(value); ++i) value = value << 8 | id.bytes[i];
  return value;
}

// Small, so that sums are exact.
float contribution(std::int64_t number) { return static_cast<float>(number % 1000 + 1); }

// Which peers members are: their names say it.
class Numbers {
 public:
  explicit Numbers(hawser_comm_t* comm) : comm_(comm) {}

  std::int64_t of(const hawser_peer_id_t& id) {
    const std::uint32_t key = short_id(id);
    if (!known_.contains(key)) learn();
    const auto found = known_.find(key);
    return found == known_.end() ? -1 : found->second;
  }

 private:
  void learn() {
    hawser_view_t view = HAWSER_VIEW_INIT;
    if (hawser_comm_view(comm_, &view) != HAWSER_OK) return;
    for (std::uint32_t rank = 0; rank < view.world_size; ++rank) {
      hawser_member_t member = HAWSER_MEMBER_INIT;
      if (hawser_comm_member(comm_, rank, &member) != HAWSER_OK) return;
      known_[short_id(member.id)] = std::strtoll(std::strchr(member.name, ' '), nullptr, 10);
    }
  }

  hawser_comm_t* comm_;
  std::map<std::uint32_t, std::int64_t> known_;  // also of those who are gone
};

}  // namespace

// ------------------------------------------------------------ a peer

int run_figures_peer(const StressOptions& options) {
  die_with_parent(static_cast<pid_t>(options.parent));
  signal(SIGINT, SIG_IGN);
  const auto send = [](Report report) {
    if (!write_report(report_fd, report)) _exit(exit_failed);
  };
  hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
  config.coordinators = options.coordinator.c_str();
  const std::string name = fmt::format("figures {}", options.child);
  config.name = name.c_str();
  config.min_size = options.min_size;
  config.strands = options.strands;
  config.io_threads = options.io_threads;
  config.transport = options.transport == "tcp" ? HAWSER_TRANSPORT_TCP : HAWSER_TRANSPORT_AUTO;
  config.op_timeout_ms = options.op_timeout_ms;
  hawser_comm_t* raw = nullptr;
  require(hawser_comm_create(&config, &raw), "the communicator");
  const Comm comm(raw);
  const std::size_t count = options.max_bytes / sizeof(float);
  const std::vector<float> input(count, contribution(options.child));
  std::vector<float> result(count);
  send({.kind = ReportKind::begin, .call = ReportCall::join});
  require(hawser_comm_join(raw, stress_join_timeout_ms), name);
  hawser_view_t view = HAWSER_VIEW_INIT;
  hawser_member_t self = HAWSER_MEMBER_INIT;
  require(hawser_comm_view(raw, &view), name);
  require(hawser_comm_member(raw, view.rank, &self), name);
  const std::uint32_t own = short_id(self.id);
  Report joined{.kind = ReportKind::joined, .view = view.number, .participant_count = 1};
  joined.participants[0] = own;
  send(joined);
  Numbers numbers(raw);

  std::array<hawser_peer_id_t, report_participants_max> ids{};
  while (true) {
    const std::uint64_t began_ns = monotonic_ns();
    const hawser_status_t admitted = hawser_comm_admit(raw, 0);
    if (admitted == HAWSER_EXPELLED) return exit_ok;  // it was stopped or cut off
    require(admitted, name);
    hawser_op_info_t info = HAWSER_OP_INFO_INIT;
    info.participant_ids = ids.data();
    info.participant_capacity = static_cast<std::uint32_t>(ids.size());
    const hawser_status_t status =
        hawser_all_reduce(raw, input.data(), result.data(), count, HAWSER_F32, HAWSER_SUM, nullptr, &info);
    Report report{.kind = ReportKind::result,
                  .call = ReportCall::all_reduce,
                  .status = status,
                  .view = info.view,
                  .duration_us = (monotonic_ns() - began_ns) / 1000,
                  .attempts = info.attempts};
    if (status == HAWSER_EXPELLED) return exit_ok;
    if (status != HAWSER_OK) report.set_text(describe(status, "all_reduce"));
    float expected = 0;
    report.participant_count = info.participants;
    for (std::uint32_t i = 0; status == HAWSER_OK && i < info.participants; ++i) {
      report.participants[i] = short_id(ids[i]);
      expected += contribution(numbers.of(ids[i]));
    }
    send(report);  // before the comparison, which is no part of the operation
    if (status != HAWSER_OK) continue;
    const auto wrong = count - static_cast<std::size_t>(std::count(result.begin(), result.end(), expected));
    if (wrong == 0) continue;
    Report damage{.kind = ReportKind::damage, .wrong = wrong};
    damage.set_text(fmt::format("{} wrong elements of a sum of {} peers", wrong, info.participants));
    send(damage);
  }
}

// ------------------------------------------------------------ the script

namespace {

struct Member {
  std::uint32_t number = 0;
  Child child;
  Descriptor reports;
  ReportStream stream;
  PeerPlace place;
  std::uint32_t id = 0;  // 0: not joined yet
  std::uint64_t join_ns = 0;
  std::uint64_t joined_ns = 0;
  std::vector<std::uint64_t> commits_ns = {};                 // all of them
  std::vector<std::vector<std::uint32_t>> participants = {};  // of each
  bool is_victim = false;                                     // what it says is of no interest any more
};

struct Figure {
  std::string name;
  double target_ms = 0;
  std::vector<double> values_ms;
};

// One group with its coordinators, from start to end.
class Stage {
 public:
  Stage(const StressOptions& options, const ClusterNeeds& needs) : options_(options), cluster_(options_, needs) {
    for (std::uint32_t i = 0; i < options_.spawn; ++i) start_peer(options_.spawn);
    wait("all first peers are members", [&] { return all_of([](const Member& m) { return !m.commits_ns.empty(); }); });
    rest();
  }

  [[nodiscard]] Cluster& cluster() { return cluster_; }
  [[nodiscard]] std::uint64_t failed() const { return failed_; }
  [[nodiscard]] std::uint64_t wrong() const { return wrong_; }
  [[nodiscard]] std::uint64_t commits() const { return commits_; }

  Member& start_peer(std::uint32_t min_size) {
    Pipe pipe = make_pipe();
    ChildRequest request;
    request.arguments = {"stress", "--figures", "--child", fmt::to_string(next_number_)};
    const auto add = [&](const char* name, const auto& value) {
      request.arguments.emplace_back(name);
      request.arguments.push_back(fmt::to_string(value));
    };
    add("--parent", getpid());
    add("--coordinator", cluster_.addresses());
    add("--min-size", min_size);
    add("--max-bytes", options_.max_bytes);
    add("--op-timeout-ms", options_.op_timeout_ms);
    add("--strands", options_.strands);
    add("--io-threads", options_.io_threads);
    add("--transport", options_.transport);
    request.report_end = pipe.write_end.get();
    request.stdout_is_stderr = true;
    const PeerPlace place = cluster_.take_place();
    members_.push_back(std::make_unique<Member>(
        Member{next_number_++, cluster_.start_peer(request, place), std::move(pipe.read_end), {}, place}));
    return *members_.back();
  }

  // A different one each time.
  Member& victim() {
    Member& one = *members_[next_victim_++ % members_.size()];
    one.is_victim = true;
    return one;
  }

  // Until the last of the others has committed without the victim, from `since`.
  double wait_without(const Member& victim, std::uint64_t since_ns) {
    double longest_ms = 0;
    const auto first_without = [&](const Member& member) -> std::optional<std::uint64_t> {
      for (std::size_t i = 0; i < member.commits_ns.size(); ++i) {
        const auto& ids = member.participants[i];
        if (member.commits_ns[i] >= since_ns && std::find(ids.begin(), ids.end(), victim.id) == ids.end())
          return member.commits_ns[i];
      }
      return std::nullopt;
    };
    wait("the others have committed without the lost one",
         [&] { return all_of([&](const Member& member) { return first_without(member).has_value(); }); });
    for (const auto& member : members_) {
      if (member->is_victim) continue;
      longest_ms = std::max(longest_ms, static_cast<double>(*first_without(*member) - since_ns) / 1e6);
    }
    return longest_ms;
  }

  // Ends a victim and forgets it.
  void remove(Member& victim) {
    victim.child.send_signal(SIGKILL);
    wait("a killed process has ended", [&] { return victim.child.reap().has_value(); });
    cluster_.give_place_back(victim.place);
    std::erase_if(members_, [&](const auto& one) { return one.get() == &victim; });
  }

  void wait_for_commit(const Member& member) {
    wait("the newcomer has committed", [&] { return !member.commits_ns.empty(); });
  }

  // The longest time between two commits of those who were there before, from `since_ns` on, less their median.
  double gap(const Member& newcomer, std::uint64_t since_ns) {
    rest();
    double longest_ms = 0;
    for (const auto& member : members_) {
      if (member.get() == &newcomer || member->is_victim) continue;
      std::vector<double> between_ms;
      double widest_ms = 0;
      for (std::size_t i = 1; i < member->commits_ns.size(); ++i) {
        const double ms = static_cast<double>(member->commits_ns[i] - member->commits_ns[i - 1]) / 1e6;
        if (member->commits_ns[i] < since_ns) {
          between_ms.push_back(ms);
        } else if (member->commits_ns[i - 1] <= newcomer.commits_ns.front()) {
          widest_ms = std::max(widest_ms, ms);
        }
      }
      const std::size_t kept = std::min<std::size_t>(between_ms.size(), 20);
      between_ms.erase(between_ms.begin(), between_ms.end() - static_cast<std::ptrdiff_t>(kept));
      longest_ms = std::max(longest_ms, widest_ms - percentile(between_ms, 50).value_or(0));
    }
    return longest_ms;
  }

  // The median time between two commits of one member, of late.
  [[nodiscard]] double usual_ms() const {
    std::vector<double> between_ms;
    const auto& commits_ns = members_.front()->commits_ns;
    for (std::size_t i = commits_ns.size() > 10 ? commits_ns.size() - 10 : 1; i < commits_ns.size(); ++i)
      between_ms.push_back(static_cast<double>(commits_ns[i] - commits_ns[i - 1]) / 1e6);
    return percentile(between_ms, 50).value_or(0);
  }

  // Operations go on for a while without a fault.
  void rest() {
    const std::uint64_t end_ns = monotonic_ns() + quiet_ms * ns_per_ms;
    wait("a while has passed", [&] { return monotonic_ns() >= end_ns; });
  }

  void wait(const char* what, const std::function<bool()>& is_so) {
    const std::uint64_t limit_ns = monotonic_ns() + step_limit_ms * ns_per_ms;
    while (!is_so()) {
      if (monotonic_ns() >= limit_ns)
        throw Failure(exit_failed, fmt::format("not within {} ms: {}", step_limit_ms, what));
      poll_once();
    }
  }

 private:
  [[nodiscard]] bool all_of(const std::function<bool(const Member&)>& is_so) const {
    return std::all_of(members_.begin(), members_.end(),
                       [&](const auto& member) { return member->is_victim || is_so(*member); });
  }

  void poll_once() {
    std::vector<pollfd> polled;
    for (const auto& member : members_) {
      polled.push_back({member->reports.get(), POLLIN, 0});
      polled.push_back({member->child.pidfd(), POLLIN, 0});
    }
    if (poll(polled.data(), polled.size(), 10) < 0 && errno != EINTR) throw Failure(exit_resource, "poll failed");
    for (std::size_t i = 0; i < members_.size(); ++i) {
      Member& member = *members_[i];
      if (polled[2 * i].revents != 0) read_reports(member);
      if (polled[2 * i + 1].revents == 0 || member.is_victim) continue;
      if (const auto status = member.child.reap()) {
        throw Failure(exit_failed, fmt::format("peer {} {}", member.number, describe_end(*status)));
      }
    }
  }

  void read_reports(Member& member) {
    std::array<std::byte, 65536> buffer;
    const ssize_t got = read(member.reports.get(), buffer.data(), buffer.size());
    if (got <= 0) {
      if (got == 0) member.reports.reset();
      return;
    }
    member.stream.append(buffer.data(), static_cast<std::size_t>(got));
    bool is_broken = false;
    while (const auto report = member.stream.next(is_broken)) on_report(member, *report);
  }

  void on_report(Member& member, const Report& report) {
    switch (report.kind) {
      case ReportKind::begin:
        member.join_ns = report.time_ns;
        return;
      case ReportKind::joined:
        member.joined_ns = report.time_ns;
        member.id = report.participants[0];
        return;
      case ReportKind::result:
        if (member.is_victim) return;
        if (static_cast<hawser_status_t>(report.status) != HAWSER_OK) {
          ++failed_;
          fmt::print(stderr, "hawser stress: peer {}: {}\n", member.number, report.text.data());
          return;
        }
        ++commits_;
        member.commits_ns.push_back(report.time_ns);
        member.participants.emplace_back(report.members().begin(), report.members().end());
        return;
      case ReportKind::damage:
        wrong_ += report.wrong;
        fmt::print(stderr, "hawser stress: peer {}: {}\n", member.number, report.text.data());
        return;
      case ReportKind::end:
      case ReportKind::repeat:
      case ReportKind::expelled:
      case ReportKind::error:
        return;
    }
  }

  const StressOptions options_;
  Cluster cluster_;
  std::vector<std::unique_ptr<Member>> members_;
  std::uint32_t next_number_ = 0;
  std::size_t next_victim_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t wrong_ = 0;
  std::uint64_t commits_ = 0;
};

class Figures {
 public:
  explicit Figures(const StressOptions& options) : options_(options) {}

  int run() {
    losses_and_joins();
    stops();
    if (geteuid() == 0) {
      silence();
    } else {
      note("silence: left out, network namespaces take root");
    }
    coordinator(false);
    coordinator(true);
    print();
    return wrong_ == 0 && failed_ == 0 ? exit_ok : exit_failed;
  }

 private:
  [[nodiscard]] ClusterNeeds needs() const {
    ClusterNeeds needs;
    needs.processes = true;
    needs.peers_max = options_.spawn + std::size_t{2};
    return needs;
  }

  void losses_and_joins() {
    Figure kill{"kill_ms", 100, {}};
    Figure join{"join_ms", 100, {}};
    Figure gap{"join_gap_ms", 50, {}};
    Figure call{"join_call_ms", 0, {}};
    Figure op{"op_ms", 0, {}};
    Stage stage(options_, needs());
    for (std::uint32_t i = 0; i < options_.repeats; ++i) {
      Member& victim = stage.victim();
      const std::uint64_t killed_ns = monotonic_ns();
      victim.child.send_signal(SIGKILL);
      add(kill, stage.wait_without(victim, killed_ns));
      stage.remove(victim);
      stage.rest();
      const Member& newcomer = stage.start_peer(1);
      stage.wait_for_commit(newcomer);
      add(join, static_cast<double>(newcomer.commits_ns.front() - newcomer.join_ns) / 1e6);
      add(call, static_cast<double>(newcomer.joined_ns - newcomer.join_ns) / 1e6);
      add(gap, stage.gap(newcomer, newcomer.join_ns));
      add(op, stage.usual_ms());
    }
    done(stage, {kill, join, call, gap, op});
  }

  void stops() {
    Figure stop{"stop_ms", 1000, {}};
    Stage stage(with_detection(), needs());
    for (std::uint32_t i = 0; i < options_.repeats; ++i) {
      Member& victim = stage.victim();
      const std::uint64_t stopped_ns = monotonic_ns();
      victim.child.send_signal(SIGSTOP);
      add(stop, stage.wait_without(victim, stopped_ns));
      replace(stage, victim);
    }
    done(stage, {stop});
  }

  void silence() {
    Figure silence{"silence_ms", 1000, {}};
    ClusterNeeds needed = needs();
    needed.network = true;
    Stage stage(with_detection(), needed);
    Network& network = *stage.cluster().network();
    for (std::uint32_t i = 0; i < options_.repeats; ++i) {
      Member& victim = stage.victim();
      const auto every_way = [&](const std::function<void(std::size_t, std::size_t)>& change) {
        for (std::size_t host = 0; host < network.size(); ++host) {
          if (host == victim.place.slot) continue;
          change(host, victim.place.slot);
          change(victim.place.slot, host);
        }
        network.apply();
      };
      const std::uint64_t cut_ns = monotonic_ns();
      every_way([&](std::size_t from, std::size_t to) { network.cut(from, to); });
      add(silence, stage.wait_without(victim, cut_ns));
      victim.child.send_signal(SIGKILL);
      every_way([&](std::size_t from, std::size_t to) { network.heal(from, to); });
      replace(stage, victim);
    }
    done(stage, {silence});
  }

  // A newcomer begins to join when the coordinator is gone.
  void coordinator(bool with_standby) {
    Figure served{with_standby ? "standby_join_ms" : "restart_join_ms", 2000, {}};
    StressOptions options = options_;
    options.standbys = with_standby ? 1 : 0;
    Stage stage(options, needs());
    for (std::uint32_t i = 0; i < options_.repeats; ++i) {
      // The one that leads: each takes over from the other in turn.
      CoordinatorProcess& leader = stage.cluster().coordinators()[with_standby ? i % 2 : 0];
      const std::uint64_t killed_ns = monotonic_ns();
      leader.child->send_signal(SIGKILL);
      stage.wait("the coordinator has ended", [&] { return leader.child->reap().has_value(); });
      if (!with_standby) stage.cluster().start_coordinator(leader);
      Member& newcomer = stage.start_peer(1);
      stage.wait_for_commit(newcomer);
      add(served, static_cast<double>(newcomer.joined_ns - killed_ns) / 1e6);
      if (with_standby) stage.cluster().start_coordinator(leader);
      Member& victim = stage.victim();
      const std::uint64_t removed_ns = monotonic_ns();
      victim.child.send_signal(SIGKILL);
      stage.wait_without(victim, removed_ns);
      stage.remove(victim);
      stage.rest();
    }
    coordinator_failed_ += stage.failed();
    done(stage, {served});
  }

  void replace(Stage& stage, Member& victim) {
    stage.remove(victim);
    stage.wait_for_commit(stage.start_peer(1));
    stage.rest();
  }

  [[nodiscard]] StressOptions with_detection() const {
    StressOptions options = options_;
    options.peer_timeout_ms = detection_ms;
    return options;
  }

  void add(Figure& figure, double value_ms) const {
    figure.values_ms.push_back(value_ms);
    if (!options_.quiet) note(fmt::format("{} {:.1f}", figure.name, value_ms));
  }

  void done(const Stage& stage, const std::vector<Figure>& figures) {
    failed_ += stage.failed();
    wrong_ += stage.wrong();
    commits_ += stage.commits();
    figures_.insert(figures_.end(), figures.begin(), figures.end());
  }

  void print() const {
    nlohmann::ordered_json out;
    for (const Figure& figure : figures_) {
      const double median = percentile(figure.values_ms, 50).value_or(0);
      if (!options_.json) {
        const std::string target = figure.target_ms > 0 ? fmt::format("{:.0f} wanted; ", figure.target_ms) : "";
        fmt::print("{:<22} {:>8.1f} ms  ({}from {:.1f} to {:.1f})\n", figure.name, median, target,
                   percentile(figure.values_ms, 1).value_or(0), percentile(figure.values_ms, 100).value_or(0));
      }
      out[figure.name] = median;
      if (figure.target_ms > 0) out["targets"][figure.name] = figure.target_ms;
      out["all"][figure.name] = figure.values_ms;
    }
    out["coordinator_failed_ops"] = coordinator_failed_;
    out["failed_ops"] = failed_;
    out["ops"] = commits_;
    out["wrong"] = wrong_;
    out["spawn"] = options_.spawn;
    out["bytes"] = options_.max_bytes;
    out["repeats"] = options_.repeats;
    if (options_.json) {
      fmt::print("{}\n", out.dump());
    } else {
      for (const char* name : {"coordinator_failed_ops", "failed_ops", "ops", "wrong"})
        fmt::print("{:<22} {:>8}\n", name, out[name].dump());
    }
    std::fflush(stdout);
  }

  static void note(const std::string& text) { fmt::print(stderr, "hawser stress: {}\n", text); }

  const StressOptions& options_;
  std::vector<Figure> figures_;
  std::uint64_t failed_ = 0;
  std::uint64_t coordinator_failed_ = 0;
  std::uint64_t wrong_ = 0;
  std::uint64_t commits_ = 0;
};

}  // namespace

int run_stress_figures(const StressOptions& options) { return Figures(options).run(); }

}  // namespace tool
