// What the commands share: exit codes, the exception that carries one to main, owners of the library's handles.
//
// A command is a free function that gets its parsed options and returns an exit code; anything that ends it early is
// thrown as a Failure and printed by main as one sentence. Nothing here crosses into the library: it is used through
// its C API.
#pragma once

#include <hawser/hawser.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

namespace tool {

// The same for every command; printed at the end of each --help.
enum ExitCode : int {
  exit_ok = 0,
  exit_failed = 1,          // wrong values, a failed operation, a hang, a child process that failed
  exit_usage = 2,           // options that are wrong, missing, contradictory or not supported
  exit_no_coordinator = 3,  // no coordinator answered, it refused this peer, or the group did not come together in time
  exit_resource = 4,        // an address that is taken, no memory, no descriptors, a process that cannot be started
};
extern const char* const exit_codes_text;

class Failure : public std::runtime_error {
 public:
  Failure(ExitCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  [[nodiscard]] ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// The exit code that a status of the library stands for; joining turns every TIMEOUT into exit_no_coordinator itself.
ExitCode exit_code_of(hawser_status_t status);

// Throws a Failure made of `what`, the status and the library's last sentence, unless the status is OK.
void require(hawser_status_t status, const std::string& what);
// "all_reduce: PEER_LOST: <the library's sentence>", for the call of this thread that has just failed.
std::string describe(hawser_status_t status, const std::string& what);

struct CommDeleter {
  void operator()(hawser_comm_t* comm) const { hawser_comm_destroy(comm); }
};
using Comm = std::unique_ptr<hawser_comm_t, CommDeleter>;

struct CoordinatorDeleter {
  void operator()(hawser_coordinator_t* coordinator) const { hawser_coordinator_destroy(coordinator); }
};
using Coordinator = std::unique_ptr<hawser_coordinator_t, CoordinatorDeleter>;

// Starts a coordinator; throws with the exit code of the failure.
Coordinator start_coordinator(const hawser_coordinator_config_t& config);
std::string address_of(const Coordinator& coordinator);

// Each adds its subcommand to the application. The action is what main runs after parsing.
using Action = std::function<int()>;
void add_coordinator_command(CLI::App& app, Action& action);
void add_bench_command(CLI::App& app, Action& action);
void add_stress_command(CLI::App& app, Action& action);
void add_status_command(CLI::App& app, Action& action);
void add_info_command(CLI::App& app, Action& action);

// The footer of a command: its examples, then the exit codes.
std::string footer(const std::string& examples);

}  // namespace tool
