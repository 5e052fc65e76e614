// `hawser stress`: options, and the choice between the supervisor and one of its children.
#include "stress.hpp"

#include <memory>
#include <random>

#include "command.hpp"
#include "options.hpp"

namespace tool {

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
  command->add_option("--max-bytes", options.max_bytes, "Largest buffer of an operation [4M]")
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
  command->add_option("--strands", options.strands, "Connections to each neighbour")
      ->type_name("N")
      ->check(CLI::Range(1, 64))
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
      "means: ops were committed, and wrong, hangs, disagreements, crashes and errors are all 0.\n" +
      footer("  hawser stress --spawn 4 --seconds 60 --kill-every 5\n"
             "  hawser stress --spawn 6 --kill-every 3 --join-every 2 --stop-every 4 --seed 7 --json\n"
             "  hawser stress --spawn 3 --keep-hung         stop at the first hang, for a debugger"));
  command->callback([owned, seed, &action] {
    if (seed->count() == 0) owned->seed = std::random_device{}();
    action = [owned] { return owned->child >= 0 ? run_stress_peer(*owned) : run_stress_supervisor(*owned); };
  });
}

}  // namespace tool
