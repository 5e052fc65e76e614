// Runs histories from seeds and says what broke.
//
//   sim                      HAWSER_SIM_SEEDS histories from seed 1 on (an environment variable; the default is chosen
//   by
//                            CMakeLists.txt); with 3000 and more, all rare states must be reached
//   sim --seeds FROM..TO     these
//   sim --seed S [--trace]   one; with all that happened in it
//   sim_mutants --mutant N   histories against a planted mistake; success is to catch it
//
// A failure prints its seed and the command that repeats it.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/mutants.hpp"
#include "sim/counters.hpp"
#include "sim/settings.hpp"
#include "sim/world.hpp"

#ifndef HAWSER_SIM_SEEDS
#define HAWSER_SIM_SEEDS 15000
#endif

namespace {

using hawser::sim::Counters;

struct Outcome {
  std::string broken;  // empty: nothing was
  std::uint64_t hash = 0;
  std::uint64_t events = 0;
};

Outcome run_history(std::uint64_t seed, bool print, Counters& counters) {
  Outcome outcome;
  const auto world = std::make_unique<hawser::sim::World>(hawser::sim::draw_settings(seed), counters, print);
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
  int mutant = 0;
  std::string program;
};

std::optional<std::uint64_t> number(std::string_view text) {
  char* end = nullptr;
  const std::string copy(text);
  const std::uint64_t value = std::strtoull(copy.c_str(), &end, 10);
  if (copy.empty() || *end != '\0') return std::nullopt;
  return value;
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
    const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
    if (argument == "--trace") {
      out.trace = true;
      continue;
    }
    ++i;
    if (argument == "--seed") {
      const auto seed = number(value);
      if (!seed) return std::nullopt;
      out.from = out.to = *seed;
      out.all = false;
    } else if (argument == "--seeds") {
      const std::size_t dots = value.find("..");
      if (dots == std::string_view::npos) return std::nullopt;
      const auto from = number(value.substr(0, dots));
      const auto to = number(value.substr(dots + 2));
      if (!from || !to || *from > *to) return std::nullopt;
      out.from = *from;
      out.to = *to;
      out.all = false;
    } else if (argument == "--mutant") {
      const auto mutant = number(value);
      if (!mutant || *mutant == 0 || *mutant > hawser::protocol::mutant_count) return std::nullopt;
      out.mutant = static_cast<int>(*mutant);
      out.all = false;
    } else {
      return std::nullopt;
    }
  }
  return out;
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
};
static_assert(std::size(mistakes) == hawser::protocol::mutant_count);

int run_mutant(const Arguments& arguments) {
#ifdef HAWSER_MUTANTS
  hawser::protocol::planted_mutant = arguments.mutant;
  const char* mistake = mistakes[arguments.mutant - 1];
  Counters counters;
  for (std::uint64_t seed = arguments.from; seed <= arguments.to; ++seed) {
    const Outcome outcome = run_history(seed, false, counters);
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

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Arguments> arguments = parse(argc, argv);
  if (!arguments) {
    fmt::print(stderr, "usage: {} [--seed S [--trace] | --seeds FROM..TO | --mutant N]\n", argv[0]);
    return 2;
  }
  if (arguments->mutant != 0) return run_mutant(*arguments);
  Counters counters;
  std::uint64_t events = 0;
  std::uint64_t broken = 0;
  for (std::uint64_t seed = arguments->from; seed <= arguments->to; ++seed) {
    const Outcome outcome = run_history(seed, arguments->trace, counters);
    events += outcome.events;
    if (!outcome.broken.empty()) {
      ++broken;
      fmt::print("seed {} FAILED: {}\n  repeat with: {} --seed {} --trace\n", seed, outcome.broken, arguments->program,
                 seed);
      if (broken == 10) break;
    }
    if (seed % 100 == 0 && !arguments->trace) {  // the same seed again must be the same history
      Counters ignored;
      const Outcome again = run_history(seed, false, ignored);
      if (again.hash != outcome.hash || again.events != outcome.events) {
        ++broken;
        fmt::print("seed {} FAILED: two runs of it differ\n", seed);
      }
    }
  }
  fmt::print("{} histories, {} events, {} failed\n", arguments->to - arguments->from + 1, events, broken);
  if (arguments->from == arguments->to) return broken == 0 ? 0 : 1;
  std::uint64_t missing = 0;
  for (std::size_t i = 0; i < Counters::size; ++i) {
    const bool reached = counters.value(i) > 0;
    if (!reached && arguments->all) ++missing;
    fmt::print("{:>10}  {:<22} {}{}\n", counters.value(i), Counters::name(i), Counters::text(i),
               reached ? "" : "   NEVER REACHED");
  }
  return broken == 0 && missing == 0 ? 0 : 1;
}
