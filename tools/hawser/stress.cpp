// `hawser stress`: options, and the choice between the supervisor and one of its children.
#include "stress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "command.hpp"
#include "options.hpp"
#include "stress_kill_points.hpp"

namespace tool {
namespace {

#ifdef HAWSER_KILL_POINTS
constexpr bool has_kill_points = true;
#else
constexpr bool has_kill_points = false;
#endif

const char* role_name(KillRole role) {
  switch (role) {
    case KillRole::member:
      return "member";
    case KillRole::newcomer:
      return "newcomer";
    case KillRole::coordinator:
      return "coordinator";
  }
  return "?";
}

int list_kill_points(bool json) {
  auto list = nlohmann::ordered_json::array();
  for (const KillPoint& point : all_kill_points()) {
    if (!json) {
      fmt::print("{:<26} {}{}\n", point.name, role_name(point.role), point.in_place ? ", in place" : "");
    }
    list.push_back({{"name", point.name}, {"role", role_name(point.role)}, {"in_place", point.in_place}});
  }
  if (json) fmt::print("{}\n", list.dump());
  return exit_ok;
}

// "NAME", "NAME:N" or "all" (that can be reached).
void add_kill_at(StressOptions& options, const std::string& text) {
  if (text == "all") {
    for (const KillPoint& point : all_kill_points()) {
      if (point.in_place && options.placement == Placement::out_of_place) continue;
      options.kill_at.push_back({std::string(point.name), 0});
    }
    return;
  }
  const std::size_t colon = text.find(':');
  KillAt one{text.substr(0, colon), 0};
  const KillPoint* const point = find_kill_point(one.name);
  if (point == nullptr) {
    throw Failure(exit_usage, fmt::format("--kill-at: '{}' is no kill point; --list-kill-points names them", one.name));
  }
  if (colon != std::string::npos) {
    const std::string number = text.substr(colon + 1);
    if (number.empty() || number.size() > 6 || number.find_first_not_of("0123456789") != std::string::npos ||
        std::stoul(number) == 0) {
      throw Failure(exit_usage, fmt::format("--kill-at {}: '{}' is no number of a passage", text, number));
    }
    one.passage = static_cast<std::uint32_t>(std::stoul(number));
  }
  options.kill_at.push_back(std::move(one));
}

void check_options(StressOptions& options, const std::vector<std::string>& kill_at) {
  if (!kill_at.empty() && !has_kill_points)
    throw Failure(exit_usage, "--kill-at takes a build with kill points: cmake -DHAWSER_KILL_POINTS=ON");
  for (const std::string& text : kill_at) add_kill_at(options, text);
  const bool needs_root = options.strand_kill_every > 0 || options.cut_every > 0;
  if (needs_root && geteuid() != 0) {
    throw Failure(exit_usage,
                  fmt::format("{} takes root", options.cut_every > 0 ? "--cut-every" : "--strand-kill-every"));
  }
}

int run_stress(const StressOptions& options) {
  if (options.child >= 0) return options.figures ? run_figures_peer(options) : run_stress_peer(options);
  return options.figures ? run_stress_figures(options) : run_stress_supervisor(options);
}

}  // namespace

void add_stress_command(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("stress", "Run peers, kill, stop, add and release some, check every value of every result");
  auto owned = std::make_shared<StressOptions>();
  StressOptions& options = *owned;
  command->add_option("--spawn", options.spawn, "Peer processes to begin with")
      ->type_name("N")
      ->check(CLI::Range(1, 32))
      ->capture_default_str();
  command->add_option("--seconds", options.seconds, "How long, from the moment that all are members")
      ->type_name("S")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  auto* seed =
      command->add_option("--seed", options.seed, "Of operations, victims and times [random, printed]")->type_name("K");
  const auto add_fault = [&](const char* name, double& every, const char* what) {
    command->add_option(name, every, what)->type_name("S")->check(CLI::NonNegativeNumber);
  };
  add_fault("--kill-every", options.kill_every, "SIGKILL a peer about every S seconds");
  add_fault("--stop-every", options.stop_every,
            "SIGSTOP a peer about every S seconds, some for longer than the peer timeout");
  add_fault("--join-every", options.join_every,
            "Start a newcomer about every S seconds, up to 2N peers [replace those lost]");
  add_fault("--leave-every", options.leave_every, "Let a peer leave in order about every S seconds");
  add_fault("--coordinator-kill-every", options.coordinator_kill_every,
            "SIGKILL a coordinator about every S seconds; it comes back at its address within 1.5 s");
  add_fault("--coordinator-stop-every", options.coordinator_stop_every,
            "SIGSTOP a coordinator about every S seconds, for up to 3 peer timeouts");
  add_fault("--strand-kill-every", options.strand_kill_every,
            "Close one connection between two peers about every S seconds (root; ss -K)");
  add_fault(
      "--cut-every", options.cut_every,
      "Cut ways about every S seconds, in one direction or both: peer to coordinator, peer to peer, two halves; for "
      "up to 3 peer timeouts (root; network namespaces)");
  auto* starve = command
                     ->add_option("--starve-every", options.starve_every,
                                  "Leave a peer --cpu-quota percent of its time about every S seconds")
                     ->type_name("S")
                     ->check(CLI::NonNegativeNumber);
  auto* quota = command->add_option("--cpu-quota", options.cpu_quota, "See --starve-every [5]; alone: every 5 seconds")
                    ->type_name("PERCENT")
                    ->check(CLI::Range(1, 90));
  command->add_option("--standbys", options.standbys, "Standby coordinators; which one is killed or stopped is drawn")
      ->type_name("N")
      ->check(CLI::Range(0, 8))
      ->capture_default_str();
  command
      ->add_option("--coordinator-log", options.coordinator_log,
                   "Where coordinators keep their views, or none [a temporary directory]")
      ->type_name("DIR");
  auto kill_at = std::make_shared<std::vector<std::string>>();
  command
      ->add_option("--kill-at", *kill_at,
                   "Let one process at a time kill itself at this place, at its N-th passage [a drawn one]; several in "
                   "turn, or all")
      ->type_name("NAME[:N]");
  command
      ->add_option("--kill-at-times", options.kill_at_times,
                   "End when each place has been met so often, --seconds being the limit")
      ->type_name("N");
  auto list = std::make_shared<bool>(false);
  command->add_flag("--list-kill-points", *list, "Print the names for --kill-at and end");
  static const std::map<std::string, Placement> placements = {
      {"any", Placement::any}, {"in-place", Placement::in_place}, {"out-of-place", Placement::out_of_place}};
  command->add_option("--placement", options.placement, "Operations: any, in-place, out-of-place [any]")
      ->transform(CLI::CheckedTransformer(placements).description(""));
  command->add_flag("--figures", options.figures,
                    "Measure instead: how long losses, joins and a lost coordinator keep --spawn peers waiting");
  command->add_option("--repeats", options.repeats, "Of each figure")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  auto* max_bytes =
      command->add_option("--max-bytes", options.max_bytes, "Largest buffer of an operation [4M; of --figures: 16M]")
          ->transform(size_value(8));
  command->add_option("--peer-timeout-ms", options.peer_timeout_ms, "Silence after which a peer is lost")
      ->type_name("MS")
      ->check(CLI::Range(100, 600000))
      ->capture_default_str();
  command->add_option("--op-timeout-ms", options.op_timeout_ms, "Deadline of an operation")
      ->type_name("MS")
      ->check(CLI::Range(1, 3600000))
      ->capture_default_str();
  command
      ->add_option("--hang-bound-ms", options.hang_bound_ms,
                   "Calls that outlast their deadline by this much hang, as do runs without results for so long")
      ->type_name("MS")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--cancel-percent", options.cancel_percent, "Operations that one member cancels after their start")
      ->type_name("P")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  command->add_option("--strands", options.strands, "Connections to each neighbour; 0: as many as help")
      ->type_name("N")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  command
      ->add_option("--transport", options.transport,
                   "auto: shared memory within a host; tcp; mixed: every third peer uses TCP only")
      ->type_name("NAME")
      ->check(CLI::IsMember({"auto", "tcp", "mixed"}))
      ->capture_default_str();
  command->add_option("--io-threads", options.io_threads, "Threads of a peer that move data; 0: the library's choice")
      ->type_name("N")
      ->capture_default_str();
  command->add_flag("--keep-hung", options.keep_hung,
                    "Leave a hung process as it is for a debugger, and wait for Ctrl-C");
  command->add_flag("--quiet", options.quiet, "No progress lines");
  command->add_flag("--json", options.json, "Print the summary as one JSON object");
  command->add_option("--corrupt-round", options.corrupt_round)->group("");
  command->add_option("--child", options.child)->group("");
  command->add_option("--parent", options.parent)->group("");
  command->add_option("--coordinator", options.coordinator)->group("");
  command->add_option("--min-size", options.min_size)->group("");
  command->add_option("--first-round", options.first_round)->group("");
  command->footer(
      "\nAll peers issue the same random operations, drawn from the seed: every element type and reduction, sizes from "
      "nothing\n"
      "to --max-bytes, in place and not, one or several in flight, with and without tags, retry and strict policy. "
      "Success\n"
      "means: ops were committed, and wrong, hangs, disagreements, crashes and errors are all 0. All faults can be "
      "combined.\n" +
      footer("  hawser stress --spawn 4 --seconds 60 --kill-every 5\n"
             "  hawser stress --spawn 6 --kill-every 3 --join-every 2 --stop-every 4 --seed 7 --json\n"
             "  hawser stress --spawn 3 --keep-hung         stop at the first hang, for a debugger\n"
             "  hawser stress --coordinator-kill-every 3 --kill-every 5              restarted with its log\n"
             "  hawser stress --standbys 2 --coordinator-kill-every 3 --coordinator-log none\n"
             "  sudo hawser stress --cut-every 4 --strand-kill-every 1               in network namespaces\n"
             "  hawser stress --kill-at done.sent --kill-at seal_reply.sent:1 --leave-every 1 --cancel-percent 20\n"
             "  hawser stress --figures --spawn 4 --max-bytes 16M --json"));
  command->callback([owned, seed, starve, quota, kill_at, list, max_bytes, &action] {
    if (seed->count() == 0) owned->seed = std::random_device{}();
    if (quota->count() != 0 && starve->count() == 0) owned->starve_every = 5;
    if (owned->figures && max_bytes->count() == 0) owned->max_bytes = std::uint64_t{16} << 20;
    if (*list) {
      action = [owned] { return list_kill_points(owned->json); };
      return;
    }
    action = [owned, kill_at] {
      check_options(*owned, *kill_at);
      return run_stress(*owned);
    };
  });
}

}  // namespace tool
