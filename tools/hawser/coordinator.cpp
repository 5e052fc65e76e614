// `hawser coordinator`: the membership service as a process. The main thread waits; the library's own thread serves;
// the signal handler asks it to end.
#include <fmt/format.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "child.hpp"
#include "command.hpp"

namespace tool {
namespace {

struct CoordinatorOptions {
  std::string listen = "127.0.0.1:4900";
  std::uint32_t heartbeat_ms = 0;
  std::uint32_t peer_timeout_ms = 0;
  std::uint32_t peers_max = 0;
  std::string log_dir;
  std::vector<std::string> standby_of;
  std::vector<std::string> etcd;
  std::string etcd_prefix;
  std::int64_t parent = 0;  // hidden: dies with this process
  bool repair = false;
  bool json = false;
};

std::atomic<hawser_coordinator_t*> running{nullptr};
static_assert(std::atomic<hawser_coordinator_t*>::is_always_lock_free, "the signal handler reads it");

extern "C" void stop_running(int) {
  if (hawser_coordinator_t* coordinator = running.load()) hawser_coordinator_stop(coordinator);
}

// SIGINT and SIGTERM are held back until there is a coordinator to stop, so that none is lost or ends the process
// uncleanly.
class EndSignals {
 public:
  EndSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  void deliver_to(hawser_coordinator_t* coordinator) {
    running.store(coordinator);
    struct sigaction action {};
    action.sa_handler = stop_running;
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
  }
  // Afterwards a signal finds no coordinator and is without effect: the process is ending already.
  ~EndSignals() { running.store(nullptr); }
  EndSignals(const EndSignals&) = delete;
  EndSignals& operator=(const EndSignals&) = delete;

 private:
  sigset_t set_{};
};

const char* optional_text(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

int repair_log(const CoordinatorOptions& options) {
  std::array<char, 1024> text{};
  require(hawser_coordinator_repair_log(options.log_dir.c_str(), text.data(), text.size()), "cannot repair the log");
  fmt::print("{}\n", options.json ? nlohmann::json{{"repaired", text.data()}}.dump() : text.data());
  return exit_ok;
}

int run_coordinator(const CoordinatorOptions& options) {
  if (options.repair) return repair_log(options);
  if (options.parent != 0) die_with_parent(static_cast<pid_t>(options.parent));
  hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
  config.listen = options.listen.c_str();
  config.heartbeat_ms = options.heartbeat_ms;
  config.peer_timeout_ms = options.peer_timeout_ms;
  config.peers_max = options.peers_max;
  config.log_dir = optional_text(options.log_dir);
  const std::string standby_of = fmt::format("{}", fmt::join(options.standby_of, ","));
  config.standby_of = optional_text(standby_of);
  const std::string etcd = fmt::format("{}", fmt::join(options.etcd, ","));
  config.etcd = optional_text(etcd);
  config.etcd_prefix = optional_text(options.etcd_prefix);

  // A write to a reader that went away must not end the run of everybody else.
  signal(SIGPIPE, SIG_IGN);
  Coordinator coordinator;
  EndSignals signals;  // destroyed before the coordinator it points to
  coordinator = start_coordinator(config);
  signals.deliver_to(coordinator.get());

  const std::string address = address_of(coordinator);
  fmt::print("{}\n", options.json ? nlohmann::json{{"address", address}}.dump() : address);
  std::fflush(stdout);

  const hawser_status_t status = hawser_coordinator_wait(coordinator.get(), UINT32_MAX);
  require(status, "the coordinator ended by itself");
  return exit_ok;
}

}  // namespace

void add_coordinator_command(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("coordinator", "Run the membership service of a run until SIGINT or SIGTERM");
  auto options = std::make_shared<CoordinatorOptions>();
  command->add_option("--listen", options->listen, "Address to listen on; port 0: the kernel chooses")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  command
      ->add_option("--heartbeat-ms", options->heartbeat_ms, "Heartbeat interval of every control connection; 0: 1000")
      ->type_name("MS");
  command
      ->add_option("--peer-timeout-ms", options->peer_timeout_ms, "Silence after which a peer is lost; 0: 6 heartbeats")
      ->type_name("MS");
  command->add_option("--peers-max", options->peers_max, "Most peers, members and waiting ones together; 0: 1024")
      ->type_name("N");
  auto* log_dir = command
                      ->add_option("--log-dir", options->log_dir,
                                   "Keep the views in this directory; started again with it, the run goes on")
                      ->type_name("DIR");
  command
      ->add_option(
          "--standby-of", options->standby_of,
          "Coordinator before this one in the members' lists: this one takes over when most members come to it")
      ->type_name("HOST:PORT");
  command
      ->add_option("--etcd", options->etcd,
                   "Keep the views in this etcd; of all that do so one leads, by its leader key")
      ->type_name("URL")
      ->excludes(log_dir);
  command->add_option("--etcd-prefix", options->etcd_prefix, "In front of all keys of this run; empty: hawser/")
      ->type_name("TEXT");
  command
      ->add_flag(
          "--repair", options->repair,
          "Cut a damaged log in --log-dir where it cannot be read any more, keep the whole as *.damaged, and end")
      ->needs(log_dir);
  command->add_option("--parent", options->parent)->group("");
  command->add_flag("--json", options->json, "Print the address as one JSON object");
  command->footer(footer(
      "  hawser coordinator --listen 0.0.0.0:4900     every interface; the first line printed is the address\n"
      "  hawser coordinator --listen [::1]:0 --json   a free port of the IPv6 loopback, as {\"address\": ...}\n"
      "  hawser coordinator --heartbeat-ms 100        notice silent peers after 0.6 s instead of 6 s\n"
      "  hawser coordinator --log-dir /var/lib/hawser                      may be killed and started again\n"
      "  hawser coordinator --listen :4900 --standby-of first.host:4900    members list first.host, then this one\n"
      "  hawser coordinator --etcd http://10.0.0.1:2379 --etcd-prefix run7/"));
  command->callback([options, &action] { action = [options] { return run_coordinator(*options); }; });
}

}  // namespace tool
