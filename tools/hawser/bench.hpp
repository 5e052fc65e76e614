// What `hawser bench` was asked to do, shared by its three parts: options (bench.cpp), the processes of --spawn
// (bench_spawn.cpp) and the measurement in one rank (bench_rank.cpp).
#pragma once

#include <hawser/hawser.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tool {

// state_check: shared state that is the same everywhere is synced. state_sync: the last rank has none of it.
enum class BenchOp { all_reduce, broadcast, barrier, state_check, state_sync };
inline bool is_state(BenchOp op) { return op == BenchOp::state_check || op == BenchOp::state_sync; }

struct BenchOptions {
  std::string op = "all-reduce";
  std::uint32_t spawn = 0;
  std::string coordinator;  // empty: HAWSER_COORDINATORS
  std::uint32_t group = 0;
  std::uint32_t min_size = 2;
  std::uint64_t min_bytes = std::uint64_t{1} << 10;
  std::uint64_t max_bytes = std::uint64_t{64} << 20;
  std::uint64_t factor = 4;
  std::string dtypes = "f32";
  std::string redops = "sum";
  std::uint32_t strands = 0;
  std::uint32_t io_threads = 0;
  std::uint32_t in_flight = 1;
  std::uint32_t iters = 20;
  std::uint32_t warmup = 5;
  std::uint32_t timeout_ms = 0;
  std::uint32_t join_timeout_ms = 0;
  std::string transport = "auto";
  std::string compression = "none";
  std::uint32_t block = 0;
  std::string rounding = "nearest";
  std::uint64_t beside = 0;  // bytes of a bulk operation that is under way meanwhile
  std::string without;       // parts of the fault tolerance that are left out
  bool in_place = false;
  bool check = true;
  bool json = false;
  std::uint32_t corrupt = 0;  // hidden: this many elements of rank 0's result are damaged before they are checked

  // Hidden, for the children of --spawn.
  std::int64_t child = -1;
  std::int64_t parent = 0;
};

BenchOp bench_op_of(const BenchOptions& options);

// Starts options.spawn processes and an embedded coordinator, waits for all of them, returns the exit code.
int run_bench_spawn(const BenchOptions& options);
// Takes part as one rank; rank 0 prints. Returns the exit code.
int run_bench_rank(const BenchOptions& options);

}  // namespace tool
