// The parent of `hawser bench --spawn N`: an embedded coordinator on loopback and N children, waited for by pidfd. The
// main thread does all of it. When a child fails, the others, whose operations fail too, get some time to say so, and
// are then killed.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <vector>

#include "bench.hpp"
#include "child.hpp"
#include "command.hpp"

namespace tool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto grace_after_failure = std::chrono::seconds(10);

std::vector<std::string> rank_arguments(const BenchOptions& options, const std::string& coordinator,
                                        std::uint32_t index) {
  std::vector<std::string> arguments = {"bench", options.op};
  const auto add = [&](const char* name, const auto& value) {
    arguments.emplace_back(name);
    arguments.push_back(fmt::to_string(value));
  };
  add("--coordinator", coordinator);
  add("--min-size", options.spawn);
  add("--min-bytes", options.min_bytes);
  add("--max-bytes", options.max_bytes);
  add("--factor", options.factor);
  add("--dtype", options.dtypes);
  add("--op", options.redops);
  add("--strands", options.strands);
  add("--io-threads", options.io_threads);
  add("--in-flight", options.in_flight);
  add("--iters", options.iters);
  add("--warmup", options.warmup);
  add("--timeout-ms", options.timeout_ms);
  add("--join-timeout-ms", options.join_timeout_ms);
  add("--transport", options.transport);
  add("--compression", options.compression);
  add("--block", options.block);
  add("--rounding", options.rounding);
  add("--corrupt", options.corrupt);
  add("--beside", options.beside);
  if (!options.without.empty()) add("--without", options.without);
  add("--child", index);
  add("--parent", getpid());
  if (options.in_place) arguments.emplace_back("--in-place");
  if (!options.check) arguments.emplace_back("--no-check");
  if (options.json) arguments.emplace_back("--json");
  return arguments;
}

int exit_code_of_child(int wait_status) {
  if (!WIFEXITED(wait_status)) return exit_failed;
  const int code = WEXITSTATUS(wait_status);
  // 127 is posix_spawn's word for a program that could not be executed.
  return code <= exit_resource ? code : exit_failed;
}

// Waits for all; the exit code is that of the first child that failed.
int wait_for_all(std::vector<Child>& children) {
  int code = exit_ok;
  Clock::time_point kill_time = Clock::time_point::max();
  bool killed = false;
  while (true) {
    std::vector<pollfd> polled;
    std::vector<std::size_t> indices;
    for (std::size_t i = 0; i < children.size(); ++i) {
      if (children[i].reap()) continue;
      polled.push_back({children[i].pidfd(), POLLIN, 0});
      indices.push_back(i);
    }
    if (polled.empty()) return code;
    int timeout = -1;
    if (code != exit_ok && !killed) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(kill_time - Clock::now()).count();
      timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, 60000));
    }
    const int ready = poll(polled.data(), polled.size(), timeout);
    if (ready < 0 && errno != EINTR) throw Failure(exit_resource, "poll failed");
    if (ready == 0 && Clock::now() >= kill_time) {
      killed = true;
      for (const std::size_t i : indices) {
        fmt::print(stderr, "hawser bench: rank process {} (pid {}) did not end; it is killed\n", i, children[i].pid());
        children[i].send_signal(SIGKILL);
      }
      continue;
    }
    for (const std::size_t i : indices) {
      const auto status = children[i].reap();
      if (!status || *status == 0) continue;
      if (!killed)
        fmt::print(stderr, "hawser bench: rank process {} (pid {}) {}\n", i, children[i].pid(), describe_end(*status));
      if (code == exit_ok) {
        code = exit_code_of_child(*status);
        kill_time = Clock::now() + grace_after_failure;
      }
    }
  }
}

}  // namespace

int run_bench_spawn(const BenchOptions& options) {
  const hawser_coordinator_config_t config = HAWSER_COORDINATOR_CONFIG_INIT;
  const Coordinator coordinator = start_coordinator(config);
  const std::string address = address_of(coordinator);
  std::vector<Child> children;
  children.reserve(options.spawn);
  for (std::uint32_t i = 0; i < options.spawn; ++i) {
    ChildRequest request;
    request.arguments = rank_arguments(options, address, i);
    children.push_back(Child::start(request));
  }
  return wait_for_all(children);
}

}  // namespace tool
