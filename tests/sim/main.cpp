// Runs histories from seeds and says what broke.
//
//   sim                      the schedules of tests/sim/regress (bugs once found; mutant_N_* show a planted mistake and
//                            pass without it), then HAWSER_SIM_SEEDS histories from seed 1 on (an
//                            environment variable; the default is chosen by CMakeLists.txt); with 3000 and more, all
//                            rare states must be reached
//   sim --long               the same with 1,000,000 histories
//   sim --seeds FROM..TO     these
//   sim --seed S [--trace]   one; with all that happened in it
//   sim --seed S --shrink    makes its failure as small as it can and prints the schedule
//   sim --schedule FILE [--trace | --shrink]
//   sim_mutants --mutant N   histories against a planted mistake; success is to catch it. With one seed or schedule:
//                            that history with the mistake
//
//   --focus NAME             histories of one sort: plain, log, forgetful, quorum, arbiter, changes, churn
//   --jobs N                 so many processes share the seeds
//
// A long run says every minute on stderr how far it is.
// A failure prints its seed and the command that repeats it.
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/mutants.hpp"
#include "sim/counters.hpp"
#include "sim/schedule.hpp"
#include "sim/settings.hpp"
#include "sim/world.hpp"

#ifndef HAWSER_SIM_SEEDS
#define HAWSER_SIM_SEEDS 20000
#endif
#ifndef HAWSER_SIM_REGRESS
#define HAWSER_SIM_REGRESS ""
#endif

namespace {

using hawser::sim::Counters;
using hawser::sim::Focus;
using hawser::sim::Settings;

struct Outcome {
  std::string broken;  // empty: nothing was
  std::uint64_t hash = 0;
  std::uint64_t events = 0;
};

Outcome run_history(const Settings& settings, bool print, Counters& counters) {
  Outcome outcome;
  const auto world = std::make_unique<hawser::sim::World>(settings, counters, print);
  try {
    world->run();
  } catch (const std::exception& e) {  // Violation, and what a machine in a bad state may throw
    outcome.broken = e.what();
  }
  outcome.hash = world->trace.hash();
  outcome.events = world->scheduler.executed();
  return outcome;
}

struct Arguments {
  std::uint64_t from = 1;
  std::uint64_t to = HAWSER_SIM_SEEDS;
  bool all = true;  // the default run: rare states are demanded
  bool trace = false;
  bool shrink = false;
  std::uint64_t jobs = 1;
  int mutant = 0;
  Focus focus = Focus::all;
  std::string schedule;
  std::string program;
};

std::optional<std::uint64_t> number(std::string_view text) {
  char* end = nullptr;
  const std::string copy(text);
  const std::uint64_t value = std::strtoull(copy.c_str(), &end, 10);
  if (copy.empty() || *end != '\0') return std::nullopt;
  return value;
}

std::optional<Focus> focus_called(std::string_view name) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(Focus::count_); ++i) {
    if (name == hawser::sim::focus_name(static_cast<Focus>(i))) return static_cast<Focus>(i);
  }
  return std::nullopt;
}

// One argument and its value; false: no good.
bool take(Arguments& out, std::string_view argument, std::string_view value) {
  if (argument == "--seed") {
    const auto seed = number(value);
    if (!seed) return false;
    out.from = out.to = *seed;
    out.all = false;
  } else if (argument == "--seeds") {
    const std::size_t dots = value.find("..");
    if (dots == std::string_view::npos) return false;
    const auto from = number(value.substr(0, dots));
    const auto to = number(value.substr(dots + 2));
    if (!from || !to || *from > *to) return false;
    out.from = *from;
    out.to = *to;
    out.all = false;
  } else if (argument == "--focus") {
    const auto focus = focus_called(value);
    if (!focus) return false;
    out.focus = *focus;
    out.all = false;
  } else if (argument == "--jobs") {
    const auto jobs = number(value);
    if (!jobs || *jobs == 0 || *jobs > 64) return false;
    out.jobs = *jobs;
  } else if (argument == "--schedule") {
    out.schedule = value;
    out.all = false;
    return !value.empty();
  } else if (argument == "--mutant") {
    const auto mutant = number(value);
    if (!mutant || *mutant == 0 || *mutant > hawser::protocol::mutant_count) return false;
    out.mutant = static_cast<int>(*mutant);
    out.all = false;
  } else {
    return false;
  }
  return true;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments out;
  out.program = argv[0];
  if (const char* seeds = std::getenv("HAWSER_SIM_SEEDS")) {
    const auto count = number(seeds);
    if (!count || *count == 0) return std::nullopt;
    out.to = *count;
    out.all = *count >= 3000;
  }
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--trace") {
      out.trace = true;
    } else if (argument == "--shrink") {
      out.shrink = true;
    } else if (argument == "--long") {
      out.to = 1000000;
    } else {
      ++i;
      if (!take(out, argument, i < argc ? argv[i] : "")) return std::nullopt;
    }
  }
  return out;
}

std::optional<std::string> contents(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The planted mistakes, by number.
constexpr const char* mistakes[] = {
    "Done is said after the answer to a Seal",
    "an operation that was ended before its call came is forgotten",
    "whenever a participant is missing, the operation does not commit",
    "the answer to a Seal leaves out what is committed already",
    "a result that was complete while sealed is forgotten at the Install",
    "a Done of an old epoch counts",
    "an Install makes everything stable, also what was committed after the answer to its Seal",
    "a vote counts even when everybody is Done",
    "newcomers take part in operations that began before them",
    "a loss before a call came is forgotten under the strict policy",
    "a vote that came after the answer to a Seal is not repeated",
    "a Done that comes before the call is forgotten",
    "digests are not compared",
    "members are not released when nobody waits any more after a view change",
    "who leaves counts as lost",
    "a member ends a broadcast whose root was lost by itself",
    "a view change does not wait for all answers",
    "newcomers are admitted before all members stand at the point",
    "members obey terms below what they have promised",
    "a view is installed without acceptance",
    "recovery ignores accepted proposals",
    "a majority is not needed",
    "an Install of a lower term unseals",
    "an Install goes out before it is durable",
    "a member that comes back is not sent the Install that it missed",
    "a member that stands at its point walks on when the connection closes",
    "terms are not raised above what members have promised",
    "a coordinator that decides alone does not ask the members that stay",
    "a member that is Done with a call is taken to wait in it",
    "a coordinator forgets a group when its patience ends, and another is formed while its members are on their way",
    "those who have gone are told so first",
};
static_assert(std::size(mistakes) == hawser::protocol::mutant_count);

int run_mutant(const Arguments& arguments) {
#ifdef HAWSER_MUTANTS
  const char* mistake = mistakes[arguments.mutant - 1];
  Counters counters;
  for (std::uint64_t seed = arguments.from; seed <= arguments.to; ++seed) {
    const Outcome outcome = run_history(hawser::sim::draw_settings(seed, arguments.focus), false, counters);
    if (outcome.broken.empty()) continue;
    fmt::print("{}: {}\n  caught by seed {}: {}\n", arguments.mutant, mistake, seed, outcome.broken);
    return 0;
  }
  fmt::print("{}: {}\n  NOT caught by {} histories\n", arguments.mutant, mistake, arguments.to - arguments.from + 1);
#else
  fmt::print("{} was compiled without mistakes to plant\n", arguments.program);
#endif
  return 1;
}

// What broke without the names and numbers of the history, so that one failure is not mistaken for another.
std::string kind_of(const std::string& broken) {
  std::istringstream words(broken);
  std::string kind;
  std::string word;
  for (int i = 0; i < 8 && words >> word; ++i) {
    if (word.find_first_of("0123456789") == std::string::npos) kind += word + " ";
  }
  return kind;
}

// One history, from a file or a seed.
int run_one(const Arguments& arguments) {
  Settings settings;
  if (arguments.schedule.empty()) {
    settings = hawser::sim::draw_settings(arguments.from, arguments.focus);
  } else {
    const auto text = contents(arguments.schedule);
    std::string error = "cannot be read";
    const auto schedule = text ? hawser::sim::read_schedule(*text, error) : std::nullopt;
    if (!schedule) {
      fmt::print(stderr, "{}: {}\n", arguments.schedule, error);
      return 2;
    }
    settings = *schedule;
  }
  Counters counters;
  Outcome outcome = run_history(settings, arguments.trace, counters);
  if (!outcome.broken.empty()) fmt::print("FAILED: {}\n", outcome.broken);
  fmt::print("1 history, {} events, {} failed\n", outcome.events, outcome.broken.empty() ? 0 : 1);
  if (arguments.shrink && !outcome.broken.empty()) {
    std::uint64_t runs = 0;
    const Settings small = hawser::sim::shrink(settings, [&](const Settings& candidate) {
      ++runs;
      return kind_of(run_history(candidate, false, counters).broken) == kind_of(outcome.broken);
    });
    outcome = run_history(small, false, counters);
    fmt::print("# {} histories later: {} of {} faults, {} events: {}\n{}", runs, small.faults.size(),
               settings.faults.size(), outcome.events, outcome.broken, hawser::sim::write_schedule(small));
  }
  return outcome.broken.empty() ? 0 : 1;
}

struct Totals {
  std::uint64_t histories = 0;
  std::uint64_t events = 0;
  std::uint64_t broken = 0;
  Counters counters;
};

// Every `jobs`-th seed, beginning with the one of this job.
Totals run_share(const Arguments& arguments, std::uint64_t job, std::uint64_t& at) {
  Totals totals;
  for (std::uint64_t seed = arguments.from + job; seed <= arguments.to; seed += arguments.jobs) {
    at = seed;
    const Settings settings = hawser::sim::draw_settings(seed, arguments.focus);
    const Outcome outcome = run_history(settings, false, totals.counters);
    ++totals.histories;
    totals.events += outcome.events;
    if (!outcome.broken.empty()) {
      ++totals.broken;
      fmt::print("seed {} FAILED: {}\n  repeat with: {} --seed {} --focus {} --trace, or --shrink\n", seed,
                 outcome.broken, arguments.program, seed, hawser::sim::focus_name(arguments.focus));
      std::fflush(stdout);
      if (totals.broken == 10) break;
    }
    if (seed % 100 == 0) {  // the same seed again must be the same history
      Counters ignored;
      const Outcome again = run_history(settings, false, ignored);
      if (again.hash != outcome.hash || again.events != outcome.events) {
        ++totals.broken;
        fmt::print("seed {} FAILED: two runs of it differ\n", seed);
      }
    }
  }
  std::fflush(stdout);
  return totals;
}

// Waits until a share's totals can be read, and says meanwhile how far all are.
void await_share(int result, const Arguments& arguments, const std::uint64_t* at) {
  constexpr int minute_ms = 60000;
  pollfd one{result, POLLIN, 0};
  while (poll(&one, 1, minute_ms) == 0) {
    std::uint64_t done = 0;
    for (std::uint64_t job = 0; job < arguments.jobs; ++job) {
      if (at[job] != 0) done += (at[job] - arguments.from) / arguments.jobs;
    }
    fmt::print(stderr, "{} of {} histories\n", done, arguments.to - arguments.from + 1);
  }
}

// The shares in processes of their own; each writes its totals, as they are in memory, into a pipe.
bool run_jobs(const Arguments& arguments, Totals& totals) {
  struct Child {
    pid_t pid = 0;
    int result = -1;
  };
  std::vector<Child> children;
  // Which history each is at, for the case that it does not come back from it.
  void* const shared =
      mmap(nullptr, arguments.jobs * sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return false;
  auto* const at = static_cast<std::uint64_t*>(shared);
  std::fflush(stdout);
  for (std::uint64_t job = 0; job < arguments.jobs; ++job) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    const pid_t pid = fork();
    if (pid < 0) return false;
    if (pid == 0) {
      const Totals share = run_share(arguments, job, at[job]);
      const bool written = write(ends[1], &share, sizeof share) == static_cast<ssize_t>(sizeof share);
      _exit(written ? 0 : 1);
    }
    close(ends[1]);
    children.push_back({pid, ends[0]});
  }
  bool good = true;
  for (std::size_t job = 0; job < children.size(); ++job) {
    const Child& child = children[job];
    await_share(child.result, arguments, at);
    Totals share;
    const bool told = read(child.result, &share, sizeof share) == static_cast<ssize_t>(sizeof share);
    close(child.result);
    int status = 0;
    const bool ended = waitpid(child.pid, &status, 0) == child.pid && status == 0;
    if (!told || !ended) {
      fmt::print("a part of the run ended by itself, with status {:#x}, at seed {}\n", status, at[job]);
      good = false;
    }
    totals.histories += share.histories;
    totals.events += share.events;
    totals.broken += share.broken;
    totals.counters.add(share.counters);
  }
  return good;
}
static_assert(std::is_trivially_copyable_v<Totals>);

// What once failed, smallest first in mind.
std::uint64_t run_regressions(Totals& totals) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(HAWSER_SIM_REGRESS, error)) {
    if (entry.path().extension() == ".sched") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    const auto text = contents(path);
    std::string wrong = "cannot be read";
    const auto settings = text ? hawser::sim::read_schedule(*text, wrong) : std::nullopt;
    if (settings) wrong = run_history(*settings, false, totals.counters).broken;
    if (wrong.empty()) continue;
    ++totals.broken;
    fmt::print("{} FAILED: {}\n", path, wrong);
  }
  return paths.size();
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Arguments> arguments = parse(argc, argv);
  if (!arguments) {
    fmt::print(
        stderr,
        "usage: {} [--seed S | --seeds FROM..TO | --long | --schedule FILE | --mutant N] [--focus NAME] [--jobs N] "
        "[--trace] [--shrink]\n",
        argv[0]);
    return 2;
  }
#ifdef HAWSER_MUTANTS
  hawser::protocol::planted_mutant = arguments->mutant;
#endif
  const bool one = !arguments->schedule.empty() || arguments->from == arguments->to;
  if (arguments->mutant != 0 && !one) return run_mutant(*arguments);
  if (one) return run_one(*arguments);
  Totals totals;
  const std::uint64_t kept = run_regressions(totals);
  const bool complete = run_jobs(*arguments, totals);
  fmt::print("{} schedules that failed once, {} histories, {} events, {} failed\n", kept, totals.histories,
             totals.events, totals.broken);
  std::uint64_t missing = 0;
  for (std::size_t i = 0; i < Counters::size; ++i) {
    const bool reached = totals.counters.value(i) > 0;
    if (!reached && arguments->all) ++missing;
    fmt::print("{:>10}  {:<24} {}{}\n", totals.counters.value(i), Counters::name(i), Counters::text(i),
               reached ? "" : "   NEVER REACHED");
  }
  return totals.broken == 0 && missing == 0 && complete ? 0 : 1;
}
