// `hawser bench`: options, and the choice between the parent of --spawn and one rank.
#include "bench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "child.hpp"
#include "command.hpp"
#include "compressed.hpp"
#include "options.hpp"
#include "text.hpp"

namespace tool {
namespace {

void check_compression(const BenchOptions& options) {
  hawser_compression_t compression = HAWSER_COMPRESSION_INIT;
  compression.codec = *parse_codec(options.compression);
  compression.block = options.block;
  if (hawser_compressed_bytes(&compression, 1) == 0) {
    throw Failure(exit_usage,
                  fmt::format("--block {}: --compression {} has no such block", options.block, options.compression));
  }
  if (compression.codec == HAWSER_CODEC_NONE) return;
  if (options.op != "all-reduce") throw Failure(exit_usage, "--compression is for all-reduce");
  const auto redops = *parse_redops(options.redops);
  for (const hawser_redop_t redop : redops) {
    if (redop == HAWSER_SUM || redop == HAWSER_AVG) continue;
    throw Failure(exit_usage, fmt::format("--op {} cannot be compressed: sum and avg can", redop_name(redop)));
  }
  const auto dtypes = *parse_dtypes(options.dtypes);
  for (const hawser_dtype_t dtype : dtypes) {
    if (dtype == HAWSER_F32 || dtype == HAWSER_F16 || dtype == HAWSER_BF16) continue;
    throw Failure(exit_usage, fmt::format("--dtype {} cannot be compressed: f32, f16 and bf16 can", dtype_name(dtype)));
  }
}

// Empty, or what is wrong with it.
std::string check_parts(const std::string& list) {
  for (std::string_view rest = list; !rest.empty();) {
    const std::string_view name = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    if (name != "digest" && name != "commit" && name != "restore") {
      return fmt::format("\"{}\" is none of digest, commit, restore", name);
    }
  }
  return {};
}

void check_options(const BenchOptions& options) {
  check_compression(options);
  if (options.beside != 0 && (bench_op_of(options) != BenchOp::all_reduce || options.in_flight != 1)) {
    throw Failure(exit_usage, "--beside is for all-reduce, one in flight");
  }
  if (is_state(bench_op_of(options)) && (options.in_flight != 1 || options.in_place)) {
    throw Failure(exit_usage, "--in-flight and --in-place are not for shared state");
  }
  if (options.min_bytes > options.max_bytes) throw Failure(exit_usage, "--min-bytes is more than --max-bytes");
  if (options.spawn > 0 && !options.coordinator.empty()) {
    throw Failure(exit_usage, "--spawn starts its own coordinator: leave out --coordinator");
  }
  // getenv races only with changes of the environment, and this process makes none.
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (options.spawn == 0 && options.coordinator.empty() && std::getenv("HAWSER_COORDINATORS") == nullptr) {
    throw Failure(exit_usage, "say --spawn N, or --coordinator ADDR (or set HAWSER_COORDINATORS)");
  }
}

}  // namespace

BenchOp bench_op_of(const BenchOptions& options) {
  if (options.op == "broadcast") return BenchOp::broadcast;
  if (options.op == "barrier") return BenchOp::barrier;
  if (options.op == "state-check") return BenchOp::state_check;
  if (options.op == "state-sync") return BenchOp::state_sync;
  return BenchOp::all_reduce;
}

void add_bench_command(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("bench", "Measure a collective or a sync: time, bandwidth, processor time; check its results");
  auto owned = std::make_shared<BenchOptions>();
  BenchOptions& options = *owned;
  command
      ->add_option("op", options.op,
                   "all-reduce, broadcast, barrier; state-check: a sync of shared\nstate that is the same everywhere; "
                   "state-sync: one of which the\nlast rank has nothing")
      ->required()
      ->type_name("OP")
      ->check(CLI::IsMember({"all-reduce", "broadcast", "barrier", "state-check", "state-sync"}));
  command->add_option("--spawn", options.spawn, "Start N ranks on this machine, and a coordinator for them")
      ->type_name("N")
      ->check(CLI::Range(1, 256));
  command->add_option("--coordinator", options.coordinator, "Be one rank of a run; start the others alike")
      ->type_name("HOST:PORT[,...]");
  command->add_option("--group", options.group, "With --coordinator: the group to join")->type_name("N");
  command->add_option("--min-size", options.min_size, "With --coordinator: ranks to wait for")
      ->type_name("N")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--min-bytes", options.min_bytes, "First size, as 4096, 64K, 1.5M, 1G [1K]")
      ->transform(size_value(1));
  command->add_option("--max-bytes", options.max_bytes, "Last size [64M]")->transform(size_value(1));
  command->add_option("--factor", options.factor, "From one size to the next")
      ->type_name("N")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  command->add_option("--dtype", options.dtypes, "Element types: names, a list a,b, or all")
      ->check(dtype_list())
      ->capture_default_str();
  command->add_option("--op", options.redops, "Reductions: sum, avg, prod, min, max, a list, or all")
      ->check(redop_list())
      ->capture_default_str();
  command->add_option("--strands", options.strands, "Connections to each neighbour; 0: as many as help")
      ->type_name("N")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  command->add_option("--io-threads", options.io_threads, "Threads that move bulk data; 0: the library's choice")
      ->type_name("N")
      ->capture_default_str();
  command
      ->add_option("--in-flight", options.in_flight,
                   "Operations started together; time is that of the lot divided by N")
      ->type_name("N")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--iters", options.iters, "Timed repetitions")
      ->type_name("N")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--warmup", options.warmup, "Repetitions before those")->type_name("N")->capture_default_str();
  command->add_option("--timeout-ms", options.timeout_ms, "Deadline of one operation; 0: the library's choice")
      ->type_name("MS")
      ->capture_default_str();
  command
      ->add_option("--join-timeout-ms", options.join_timeout_ms,
                   "How long to wait for the other ranks; 0: the library's choice")
      ->type_name("MS")
      ->capture_default_str();
  command
      ->add_option("--transport", options.transport,
                   "auto: shared memory within a host, else tcp; tcp; shm: as auto, and fail where it is not shared")
      ->check(CLI::IsMember({"auto", "tcp", "shm"}))
      ->capture_default_str();
  command->add_option("--compression", options.compression, "none, bf16, f16, int8, int4 or minmax8")
      ->type_name("NAME")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(codec_names), std::end(codec_names))))
      ->capture_default_str();
  command->add_option("--block", options.block, "Of the compression: elements that share a scale; 0: the codec's own")
      ->type_name("N")
      ->capture_default_str();
  command->add_option("--rounding", options.rounding, "Of the compression: nearest or stochastic")
      ->check(CLI::IsMember({"nearest", "stochastic"}))
      ->capture_default_str();
  command
      ->add_option("--beside", options.beside,
                   "Measure while an all-reduce of so many bytes and low priority is\nunder way [0: none]")
      ->transform(size_value(0));
  command
      ->add_option("--without", options.without,
                   "Leave out parts of the fault tolerance, to see what they cost:\ndigest, commit, restore, or a "
                   "list a,b")
      ->type_name("PARTS")
      ->check(CLI::Validator(check_parts, "PARTS"));
  command->add_flag("--in-place", options.in_place, "Send and receive in the same buffer");
  command->add_flag("--check,!--no-check", options.check, "Compare every element of every rank's results [on]");
  command->add_flag("--json", options.json, "One JSON object a row");
  command->add_option("--corrupt", options.corrupt)->group("");
  command->add_option("--child", options.child)->group("");
  command->add_option("--parent", options.parent)->group("");
  command->footer(
      "\nTime is measured by rank 0: every repetition from the call to its return, after one barrier a row. p50 and "
      "p99 are\n"
      "over repetitions; bandwidths are from p50. busbw is algbw x 2(n-1)/n for all-reduce, as in nccl-tests. cpu ns/B "
      "is\n"
      "the processor time of all ranks during the timed part, per rank and byte of buffer. With --compression, bytes\n"
      "and bandwidths are those of the buffer, not of the codes; wrong are elements beyond the bound of the codec's\n"
      "error, and elements that differ from rank 0's. Memory is what the process of rank 0 came to hold at most beyond "
      "what it\n"
      "held, with the buffers, before the first repetition.\n" +
      footer("  hawser bench all-reduce --spawn 4\n"
             "  hawser bench all-reduce --spawn 2 --dtype all --op all --max-bytes 1M --iters 5\n"
             "  hawser bench all-reduce --spawn 4 --compression int8\n"
             "  hawser bench broadcast --spawn 4 --in-flight 8 --json\n"
             "  hawser bench all-reduce --spawn 2 --max-bytes 4K --beside 256M\n"
             "  hawser bench all-reduce --spawn 2 --min-bytes 64M --without digest,commit,restore\n"
             "  hawser bench state-sync --spawn 3 --min-bytes 256M --max-bytes 256M --iters 5\n"
             "  hawser bench all-reduce --coordinator 10.0.0.1:4900 --min-size 2     on each of two machines"));
  command->callback([owned, &action] {
    action = [owned] {
      check_options(*owned);
      return owned->spawn > 0 ? run_bench_spawn(*owned) : run_bench_rank(*owned);
    };
  });
}

}  // namespace tool
