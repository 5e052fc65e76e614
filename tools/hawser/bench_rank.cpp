// One rank of `hawser bench`. The main thread joins the group, walks the rows (reduction, element type, size) in the
// same order as every other rank, and measures. Rank 0 prints.
//
// A row: warm-up, one barrier, `iters` timed repetitions, then the check. In place, a repetition reduces what the one
// before left, so the timed part runs on elements that the reduction leaves alone, and stays comparable. The check
// compares the results of the last timed repetition, then those of one more on buffers filled afresh. Values are
// compared bit by bit; of a compressed all-reduce by the bound of its error, and bit by bit with rank 0's.
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench.hpp"
#include "child.hpp"
#include "command.hpp"
#include "compressed.hpp"
#include "reference.hpp"
#include "text.hpp"

namespace tool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::uint64_t input_seed = 0x48415753;
constexpr std::byte poison{0xa5};
constexpr std::uint32_t repetitions_beside = 4;  // of one large operation

std::string or_auto(std::uint32_t number) { return number == 0 ? "auto" : fmt::to_string(number); }

std::uint64_t cpu_ns() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1000000000U + static_cast<std::uint64_t>(time.tv_nsec);
}

struct Row {
  hawser_dtype_t dtype = HAWSER_F32;
  hawser_redop_t redop = HAWSER_SUM;
  std::size_t count = 0;
};

// In bytes; 0 where /proc does not say.
std::uint64_t resident(const char* name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name, 0) == 0) return std::strtoull(line.c_str() + std::strlen(name), nullptr, 10) * 1024;
  }
  return 0;
}
// From now on the largest is that of the future (proc_pid_clear_refs(5)).
void forget_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

struct Measured {
  std::vector<double> times_us;  // rank 0's, one a repetition
  std::uint64_t wrong = 0;       // of all ranks
  std::uint64_t cpu_ns = 0;      // of all ranks
  std::uint64_t memory = 0;      // bytes of rank 0 beyond the buffers
};

struct Memory {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> bytes;
};

// Page-aligned and touched, so that the first repetition does not pay for page faults.
Memory allocate(std::size_t bytes) {
  const std::size_t rounded = (bytes + 4095) / 4096 * 4096 + 4096;
  Memory memory{std::unique_ptr<void, Memory::Free>(std::aligned_alloc(4096, rounded))};
  if (!memory.bytes) throw Failure(exit_resource, fmt::format("no memory for a buffer of {} bytes", bytes));
  std::memset(memory.bytes.get(), 0, rounded);
  return memory;
}

class Rank {
 public:
  explicit Rank(const BenchOptions& options) : options_(options), op_(bench_op_of(options)) {
    compression_.codec = *parse_codec(options.compression);
    compression_.block = options.block;
    compression_.rounding = *parse_rounding(options.rounding);
    if (compression_.codec != HAWSER_CODEC_NONE) reduce_options_.compression = &compression_;
    if (options.beside != 0) reduce_options_.priority = 7;
    if (!options.without.empty())
      setenv("HAWSER_WITHOUT", options.without.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  }

  int run() {
    join();
    agree_on_options();
    if (view_.rank == 0 && !options_.json) print_header();
    std::uint64_t wrong = 0;
    for (const Row& row : rows()) {
      prepare(row);
      const Measured measured = measure(row);
      wrong += measured.wrong;
      if (view_.rank == 0) options_.json ? print_json(row, measured) : print_line(row, measured);
    }
    // Nobody leaves while another still measures. Without a commit one is over for this rank before it is for the
    // others, so that its own end may be the leave of another.
    try {
      meet();
    } catch (const Failure&) {
      if (options_.without.find("commit") == std::string::npos) throw;
    }
    hawser_comm_leave(comm_.get(), 0);
    if (wrong == 0) return exit_ok;
    // Every rank knows the sum; among the children of one parent, one of them says so.
    if (view_.rank != 0 && options_.child >= 0) return exit_ok;
    fmt::print(stderr, "hawser bench: {} wrong elements\n", wrong);
    return exit_failed;
  }

 private:
  void join() {
    hawser_comm_config_t config = HAWSER_COMM_CONFIG_INIT;
    config.coordinators = options_.coordinator.empty() ? nullptr : options_.coordinator.c_str();
    const std::string name = options_.child >= 0 ? fmt::format("bench {}", options_.child) : "";
    config.name = name.empty() ? nullptr : name.c_str();
    config.group = options_.group;
    config.min_size = options_.min_size;
    config.strands = options_.strands;
    config.transport = options_.transport == "tcp" ? HAWSER_TRANSPORT_TCP : HAWSER_TRANSPORT_AUTO;
    config.io_threads = options_.io_threads;
    config.op_timeout_ms = options_.timeout_ms;
    config.join_timeout_ms = options_.join_timeout_ms;
    // A time measured around the loss of a rank means nothing, so a loss ends the run.
    config.policy = HAWSER_POLICY_STRICT;
    hawser_comm_t* raw = nullptr;
    require(hawser_comm_create(&config, &raw), "the communicator");
    comm_.reset(raw);
    const hawser_status_t status = hawser_comm_join(comm_.get(), 0);
    if (status == HAWSER_TIMEOUT) throw Failure(exit_no_coordinator, describe(status, "join"));
    require(status, "join");
    require(hawser_comm_view(comm_.get(), &view_), "view");
    // A rank that is lost between two operations, or when all others had finished one, fails none: it is missed then.
    call_options_.min_participants = reduce_options_.min_participants = view_.world_size;
    for (std::uint32_t rank = 0; rank < view_.world_size; ++rank) keys_.push_back(mix(input_seed, rank));
  }

  // Ranks that were started with different options would not issue the same operations.
  void agree_on_options() {
    const std::string text =
        fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", options_.op, options_.min_bytes,
                    options_.max_bytes, options_.factor, options_.dtypes, options_.redops, options_.in_flight,
                    options_.iters, options_.warmup, options_.in_place, options_.check, options_.compression,
                    options_.block, options_.rounding, options_.beside, options_.without);
    std::uint64_t digest = 0;
    for (const char letter : text) digest = mix(digest, static_cast<unsigned char>(letter));
    std::array<std::uint64_t, 2> range = {digest, ~digest};
    reduce_small(range, HAWSER_MAX);
    if (range[0] != ~range[1]) throw Failure(exit_usage, "the ranks were started with different options");
    meet();  // without a commit the first exchange may be over before memory is shared at both ends
    if (options_.transport == "shm" && std::string_view(transport()) != "shm") {
      throw Failure(exit_failed, "--transport shm: no memory is shared; HAWSER_LOG=net=info says why");
    }
  }

  void reduce_small(std::span<std::uint64_t> values, hawser_redop_t redop) {
    require(hawser_all_reduce(comm_.get(), values.data(), values.data(), values.size(), HAWSER_U64, redop,
                              &call_options_, nullptr),
            "all_reduce of the benchmark's own numbers");
  }

  // A barrier is nothing but the commit, which --without may leave out.
  void meet() {
    std::array<std::uint64_t, 1> nothing = {0};
    reduce_small(nothing, HAWSER_MAX);
  }

  [[nodiscard]] std::vector<Row> rows() const {
    if (op_ == BenchOp::barrier) return {Row{}};
    std::vector<Row> rows;
    const auto redops = op_ == BenchOp::all_reduce ? *parse_redops(options_.redops) : std::vector{HAWSER_SUM};
    const auto dtypes = *parse_dtypes(options_.dtypes);
    for (const hawser_redop_t redop : redops) {
      for (const hawser_dtype_t dtype : dtypes) {
        for (const std::uint64_t bytes : sizes_between(options_.min_bytes, options_.max_bytes, options_.factor)) {
          rows.push_back({dtype, redop, static_cast<std::size_t>(bytes / hawser_dtype_size(dtype))});
        }
      }
    }
    return rows;
  }

  // Buffers are made once, for the largest row.
  void prepare(const Row& row) {
    bytes_ = row.count * hawser_dtype_size(row.dtype);
    if (recv_.empty()) {
      if (options_.beside != 0) {
        bulk_ = allocate(options_.beside);
        bulk_sum_ = allocate(options_.beside);
      }
      for (std::uint32_t i = 0; i < options_.in_flight; ++i) {
        recv_.push_back(allocate(op_ == BenchOp::barrier ? 0 : options_.max_bytes));
        if (!options_.in_place && !is_state(op_))
          send_.push_back(allocate(op_ == BenchOp::barrier ? 0 : options_.max_bytes));
      }
    }
  }

  void make_state(const Row& row) {
    hawser_state_t* raw = nullptr;
    require(hawser_state_create(&raw), "the shared state");
    state_.reset(raw);
    require(hawser_state_add_tensor(state_.get(), "data", recv(0), row.count, row.dtype), "its tensor");
  }

  [[nodiscard]] void* recv(std::size_t slot) const { return recv_[slot].bytes.get(); }
  [[nodiscard]] const void* send(std::size_t slot) const {
    if (op_ == BenchOp::broadcast && view_.rank != 0) return nullptr;
    return options_.in_place ? recv(slot) : send_[slot].bytes.get();
  }

  hawser_status_t call(const Row& row, std::size_t slot) {
    switch (op_) {
      case BenchOp::all_reduce:
        return hawser_all_reduce(comm_.get(), send(slot), recv(slot), row.count, row.dtype, row.redop, &reduce_options_,
                                 nullptr);
      case BenchOp::broadcast:
        return hawser_broadcast(comm_.get(), send(slot), recv(slot), row.count, row.dtype, 0, &call_options_, nullptr);
      case BenchOp::barrier:
      case BenchOp::state_check:
      case BenchOp::state_sync:
        break;
    }
    return hawser_barrier(comm_.get(), &call_options_, nullptr);
  }

  hawser_status_t start(const Row& row, std::size_t slot, hawser_op_t** op_out) {
    switch (op_) {
      case BenchOp::all_reduce:
        return hawser_all_reduce_start(comm_.get(), send(slot), recv(slot), row.count, row.dtype, row.redop,
                                       &reduce_options_, op_out);
      case BenchOp::broadcast:
        return hawser_broadcast_start(comm_.get(), send(slot), recv(slot), row.count, row.dtype, 0, &call_options_,
                                      op_out);
      case BenchOp::barrier:
      case BenchOp::state_check:
      case BenchOp::state_sync:
        break;
    }
    return hawser_barrier_start(comm_.get(), &call_options_, op_out);
  }

  // Outside of the time that is measured: the last rank forgets what it has. Then all begin together.
  void before_repetition() {
    if (op_ != BenchOp::state_sync) return;
    if (is_last()) std::memset(recv(0), static_cast<int>(poison), bytes_);
    meet();
  }

  [[nodiscard]] bool is_last() const { return view_.rank + 1 == view_.world_size; }

  void sync_state() {
    const bool receives = op_ == BenchOp::state_sync && is_last() && view_.world_size > 1;
    require(hawser_state_sync(comm_.get(), state_.get(), receives ? HAWSER_SYNC_RECEIVE_ONLY : HAWSER_SYNC_AGREE,
                              &call_options_, nullptr),
            options_.op);
    // Rank 0 is done before the last one has written its tensors.
    if (op_ == BenchOp::state_sync) meet();
  }

  void repeat_once(const Row& row) {
    if (is_state(op_)) return sync_state();
    if (options_.in_flight == 1) {
      require(call(row, 0), options_.op);
      return;
    }
    std::vector<Op> ops;
    for (std::size_t slot = 0; slot < options_.in_flight; ++slot) {
      hawser_op_t* op = nullptr;
      require(start(row, slot, &op), options_.op + " start");
      ops.emplace_back(op);
    }
    for (const auto& op : ops) require(hawser_op_wait(op.get(), 0, nullptr), options_.op);
  }

  // The next bulk operation, after the one before. It has its own tag, so that small ones need not wait for their turn.
  void start_beside() {
    if (options_.beside == 0) return;
    end_beside();
    hawser_op_options_t options = HAWSER_OP_OPTIONS_INIT;
    options.tag = 1;
    options.priority = -8;
    hawser_op_t* op = nullptr;
    require(hawser_all_reduce_start(comm_.get(), bulk_.bytes.get(), bulk_sum_.bytes.get(),
                                    options_.beside / sizeof(float), HAWSER_F32, HAWSER_SUM, &options, &op),
            "the all_reduce beside");
    beside_.reset(op);
  }
  void end_beside() {
    if (beside_) require(hawser_op_wait(beside_.get(), 0, nullptr), "the all_reduce beside");
    beside_.reset();
  }

  void fill(const Row& row, const Pattern& pattern) {
    if (is_state(op_)) {  // rank 0's at all
      input_pattern(row.dtype, row.redop, keys_[0], row.count).fill(recv(0), row.count);
      return;
    }
    for (std::size_t slot = 0; slot < options_.in_flight; ++slot) {
      if (options_.in_place) {
        pattern.fill(recv(slot), row.count);
      } else {
        pattern.fill(send_[slot].bytes.get(), row.count);
        std::memset(recv(slot), static_cast<int>(poison), bytes_);
      }
    }
  }

  [[nodiscard]] std::uint64_t mismatches(const Row& row, const Pattern& expected) const {
    std::uint64_t wrong = 0;
    for (std::size_t slot = 0; slot < options_.in_flight; ++slot) {
      // The root of a broadcast sends from where the others receive only if it is asked to work in place.
      wrong += expected.mismatches(recv(slot), row.count);
    }
    return wrong;
  }

  // The same of a compressed all-reduce; and where another rank has other bits than rank 0.
  std::uint64_t compressed_mismatches(const Row& row, const Pattern& expected) {
    const double bound = compressed_error_bound(compression_, row.dtype, row.redop, keys_, row.count);
    if (!scratch_.bytes) scratch_ = allocate(options_.max_bytes);
    std::uint64_t wrong = 0;
    for (std::size_t slot = 0; slot < options_.in_flight; ++slot) {
      wrong += mismatches_beyond(bound, expected, row.dtype, recv(slot), row.count);
      auto* const theirs = static_cast<std::byte*>(scratch_.bytes.get());
      const auto* const mine = static_cast<const std::byte*>(recv(slot));
      require(hawser_broadcast(comm_.get(), view_.rank == 0 ? mine : nullptr, theirs, bytes_, HAWSER_U8, 0,
                               &call_options_, nullptr),
              "broadcast of rank 0's result");
      const std::size_t size = hawser_dtype_size(row.dtype);
      for (std::size_t i = 0; i < row.count; ++i) {
        if (std::memcmp(mine + i * size, theirs + i * size, size) != 0) ++wrong;
      }
    }
    return wrong;
  }

  [[nodiscard]] Pattern own_input(const Row& row) const {
    return input_pattern(row.dtype, row.redop, keys_[view_.rank], row.count);
  }
  [[nodiscard]] Pattern expected_result(const Row& row) const {
    if (op_ == BenchOp::broadcast || is_state(op_)) return input_pattern(row.dtype, row.redop, keys_[0], row.count);
    return expected_pattern(row.dtype, row.redop, keys_, row.count);
  }

  Measured measure(const Row& row) {
    const bool has_data = op_ != BenchOp::barrier;
    const Pattern timed_input = options_.in_place ? neutral_pattern(row.dtype, row.redop, row.count) : own_input(row);
    if (has_data) fill(row, timed_input);
    if (is_state(op_)) make_state(row);
    forget_peak();
    const std::uint64_t held = resident("VmRSS:");
    for (std::uint32_t i = 0; i < options_.warmup; ++i) {
      before_repetition();
      repeat_once(row);
    }

    Measured measured;
    measured.times_us.reserve(options_.iters);
    meet();
    const std::uint64_t cpu_before = cpu_ns();
    for (std::uint32_t i = 0; i < options_.iters; ++i) {
      before_repetition();
      if (i % repetitions_beside == 0) start_beside();
      const auto begin = Clock::now();
      repeat_once(row);
      const std::chrono::duration<double, std::micro> time = Clock::now() - begin;
      measured.times_us.push_back(time.count() / options_.in_flight);
      // Beside nothing more, that was no measurement.
      if (options_.beside != 0 && hawser_op_test(beside_.get(), nullptr) != HAWSER_PENDING)
        measured.times_us.pop_back();
    }
    end_beside();
    std::array<std::uint64_t, 2> sums = {0, cpu_ns() - cpu_before};
    measured.memory = std::max(resident("VmHWM:"), held) - held;
    if (measured.times_us.empty()) {
      throw Failure(exit_usage, "--beside: the large operation is over before a small one; ask for more bytes");
    }

    if (options_.check && has_data) sums[0] = check(row, timed_input);
    reduce_small(sums, HAWSER_SUM);
    measured.wrong = sums[0];
    measured.cpu_ns = sums[1];
    return measured;
  }

  std::uint64_t check(const Row& row, const Pattern& timed_input) {
    const Pattern expected = expected_result(row);
    // avg of zeros, sum of zeros, product of ones, and a broadcast zero: the neutral elements came through unchanged.
    const bool compressed = reduce_options_.compression != nullptr;
    const auto compare = [&] { return compressed ? compressed_mismatches(row, expected) : mismatches(row, expected); };
    const std::uint64_t wrong = options_.in_place ? mismatches(row, timed_input) : compare();
    fill(row, own_input(row));
    before_repetition();
    repeat_once(row);
    if (view_.rank == 0) {
      auto* bytes = static_cast<std::byte*>(recv(0));
      for (std::size_t i = 0; i < options_.corrupt && i < row.count; ++i)
        bytes[i * hawser_dtype_size(row.dtype)] ^= std::byte{1};
    }
    return wrong + compare();
  }

  // ------------------------------------------------------------ output

  struct Figures {
    double p50_us = 0;
    double p99_us = 0;
    double algbw_gbs = 0;
    double busbw_gbs = 0;
    std::optional<double> cpu_ns_per_byte;
  };

  [[nodiscard]] Figures figures(const Measured& measured) const {
    Figures figures;
    figures.p50_us = percentile(measured.times_us, 50).value_or(0);
    figures.p99_us = percentile(measured.times_us, 99).value_or(0);
    const auto bytes = static_cast<double>(bytes_);
    const auto ranks = static_cast<double>(view_.world_size);
    if (op_ == BenchOp::barrier || bytes_ == 0) return figures;
    if (figures.p50_us > 0) figures.algbw_gbs = bytes / figures.p50_us / 1000.0;
    figures.busbw_gbs = figures.algbw_gbs * (op_ == BenchOp::all_reduce ? 2.0 * (ranks - 1.0) / ranks : 1.0);
    figures.cpu_ns_per_byte =
        static_cast<double>(measured.cpu_ns) / (bytes * ranks * options_.iters * options_.in_flight);
    return figures;
  }

  [[nodiscard]] std::string_view shown_redop(const Row& row) const {
    return op_ == BenchOp::all_reduce ? redop_name(row.redop) : "none";
  }
  [[nodiscard]] std::string_view shown_dtype(const Row& row) const {
    return op_ == BenchOp::barrier ? "none" : dtype_name(row.dtype);
  }
  // Of this rank's connections.
  [[nodiscard]] const char* transport() const {
    hawser_metrics_t metrics = HAWSER_METRICS_INIT;
    return hawser_comm_metrics(comm_.get(), &metrics) == HAWSER_OK && metrics.strands_shared > 0 ? "shm" : "tcp";
  }
  [[nodiscard]] std::uint64_t shown_bytes() const { return op_ == BenchOp::barrier ? 0 : bytes_; }

  void print_header() const {
    const std::string compression =
        reduce_options_.compression == nullptr
            ? ""
            : fmt::format(", {}, block {}, {}", options_.compression,
                          options_.block == 0 ? "default" : fmt::to_string(options_.block), options_.rounding);
    fmt::print(
        "# hawser {} bench {}, ranks {}, {}, strands {}, io threads {}, in flight {}, iterations {} after {}, {}{}\n",
        HAWSER_VERSION_STRING, options_.op, view_.world_size, transport(), or_auto(options_.strands),
        or_auto(options_.io_threads), options_.in_flight, options_.iters, options_.warmup,
        options_.in_place ? "in place" : "out of place", compression);
    for (std::uint32_t rank = 0; rank < view_.world_size; ++rank) {
      hawser_member_t member = HAWSER_MEMBER_INIT;
      if (hawser_comm_member(comm_.get(), rank, &member) != HAWSER_OK) continue;
      fmt::print("#   rank {} {} at {}\n", rank, member.name, member.address);
    }
    fmt::print("#{:>12} {:>12} {:>6} {:>6} {:>11} {:>11} {:>9} {:>9} {:>8} {:>9} {:>8}\n", "bytes", "count", "type",
               "redop", "time p50", "time p99", "algbw", "busbw", "#wrong", "cpu", "memory");
    fmt::print("#{:>12} {:>12} {:>6} {:>6} {:>11} {:>11} {:>9} {:>9} {:>8} {:>9} {:>8}\n", "(B)", "(elements)", "", "",
               "(us)", "(us)", "(GB/s)", "(GB/s)", "", "(ns/B)", "(MiB)");
    std::fflush(stdout);
  }

  void print_line(const Row& row, const Measured& measured) const {
    const Figures shown = figures(measured);
    fmt::print(" {:>12} {:>12} {:>6} {:>6} {:>11.2f} {:>11.2f} {:>9.3f} {:>9.3f} {:>8} {:>9} {:>8.1f}\n", shown_bytes(),
               row.count, shown_dtype(row), shown_redop(row), shown.p50_us, shown.p99_us, shown.algbw_gbs,
               shown.busbw_gbs, options_.check ? fmt::to_string(measured.wrong) : "N/A",
               shown.cpu_ns_per_byte ? fmt::format("{:.3f}", *shown.cpu_ns_per_byte) : "-",
               static_cast<double>(measured.memory) / (1 << 20));
    std::fflush(stdout);
  }

  void print_json(const Row& row, const Measured& measured) const {
    const Figures shown = figures(measured);
    nlohmann::ordered_json object;
    object["op"] = options_.op;
    object["bytes"] = shown_bytes();
    object["count"] = row.count;
    object["dtype"] = shown_dtype(row);
    object["redop"] = shown_redop(row);
    object["ranks"] = view_.world_size;
    object["strands"] =
        options_.strands == 0 ? nlohmann::ordered_json("auto") : nlohmann::ordered_json(options_.strands);
    object["in_flight"] = options_.in_flight;
    object["transport"] = transport();
    object["compression"] = options_.compression;
    object["time_us_p50"] = shown.p50_us;
    object["time_us_p99"] = shown.p99_us;
    object["algbw_gbs"] = shown.algbw_gbs;
    object["busbw_gbs"] = shown.busbw_gbs;
    object["wrong"] = options_.check ? nlohmann::ordered_json(measured.wrong) : nlohmann::ordered_json();
    object["cpu_ns_per_byte"] =
        shown.cpu_ns_per_byte ? nlohmann::ordered_json(*shown.cpu_ns_per_byte) : nlohmann::ordered_json();
    if (reduce_options_.compression != nullptr) {
      object["block"] = options_.block;
      object["rounding"] = options_.rounding;
      object["encoded_bytes"] = hawser_compressed_bytes(&compression_, row.count);
    }
    object["memory_bytes"] = measured.memory;
    if (options_.beside != 0) object["beside_bytes"] = options_.beside;
    if (!options_.without.empty()) object["without"] = options_.without;
    object["in_place"] = options_.in_place;
    object["iters"] = options_.iters;
    fmt::print("{}\n", object.dump());
    std::fflush(stdout);
  }

  struct Release {
    void operator()(hawser_op_t* op) const { hawser_op_release(op); }
  };
  using Op = std::unique_ptr<hawser_op_t, Release>;

  const BenchOptions& options_;
  const BenchOp op_;
  Comm comm_;
  struct FreeState {
    void operator()(hawser_state_t* state) const { hawser_state_destroy(state); }
  };
  std::unique_ptr<hawser_state_t, FreeState> state_;
  hawser_view_t view_ = HAWSER_VIEW_INIT;
  hawser_op_options_t call_options_ = HAWSER_OP_OPTIONS_INIT;
  hawser_compression_t compression_ = HAWSER_COMPRESSION_INIT;
  hawser_op_options_t reduce_options_ = HAWSER_OP_OPTIONS_INIT;  // of what is measured
  std::vector<std::uint64_t> keys_;                              // of the ranks' inputs
  std::vector<Memory> send_;                                     // empty when in place
  std::vector<Memory> recv_;
  Memory scratch_;  // rank 0's compressed result
  Memory bulk_;     // of the operation beside
  Memory bulk_sum_;
  Op beside_;
  std::size_t bytes_ = 0;  // of the row
};

}  // namespace

int run_bench_rank(const BenchOptions& options) {
  if (options.child >= 0) die_with_parent(static_cast<pid_t>(options.parent));
  return Rank(options).run();
}

}  // namespace tool
