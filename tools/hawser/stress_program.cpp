// The rounds of a stress run. Pure; any thread.
#include "stress_program.hpp"

#include <algorithm>
#include <bit>

#include "reference.hpp"

namespace tool {
namespace {

// A stream of numbers that depends on nothing but its seed: the standard library's distributions differ between
// versions.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : seed_(seed) {}
  std::uint64_t next() { return mix(seed_, ++index_); }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  bool percent(std::uint64_t chance) { return below(100) < chance; }

 private:
  std::uint64_t seed_;
  std::uint64_t index_ = 0;
};

constexpr std::uint64_t burst_max = 8;
constexpr std::uint64_t tag_count = 16;  // few, so that tags are used again

// Uniform in the logarithm, so that every order of magnitude is met; now and then nothing at all, or all there is.
std::size_t draw_count(Draws& draws, std::uint64_t max_bytes, std::size_t element_bytes) {
  const std::uint64_t most = max_bytes / element_bytes;
  const std::uint64_t special = draws.below(64);
  if (special == 0) return 0;
  if (special == 1) return static_cast<std::size_t>(most);
  const auto bits = static_cast<std::uint64_t>(std::bit_width(most));
  const std::uint64_t magnitude = draws.below(bits + 1);
  const std::uint64_t count = draws.below((std::uint64_t{1} << magnitude)) + 1;
  return static_cast<std::size_t>(std::min(count, most));
}

}  // namespace

const char* stress_op_name(StressOp op) {
  switch (op) {
    case StressOp::all_reduce:
      return "all_reduce";
    case StressOp::broadcast:
      return "broadcast";
    case StressOp::barrier:
      return "barrier";
    case StressOp::state_sync:
      return "state sync";
  }
  return "?";
}

std::vector<PlannedOp> plan_round(std::uint64_t seed, std::uint64_t round, std::uint64_t max_bytes,
                                  std::uint32_t cancel_percent) {
  Draws draws(mix(seed, round));
  const bool burst = draws.percent(30);
  const std::uint64_t ops = burst ? 2 + draws.below(burst_max - 1) : 1;
  const bool tagged = draws.percent(burst ? 60 : 20);
  const std::uint64_t first_tag = draws.below(tag_count);
  std::vector<PlannedOp> planned(ops);
  for (std::uint64_t i = 0; i < ops; ++i) {
    PlannedOp& op = planned[i];
    const std::uint64_t kind = draws.below(100);
    if (kind < 8 && !burst) op.op = StressOp::broadcast;
    if (kind >= 8 && kind < 14 && !burst) op.op = StressOp::state_sync;
    if (kind >= 94) op.op = StressOp::barrier;
    op.dtype = static_cast<hawser_dtype_t>(draws.below(12));
    op.redop = op.op == StressOp::all_reduce ? static_cast<hawser_redop_t>(draws.below(5)) : HAWSER_SUM;
    const std::size_t count = draw_count(draws, max_bytes / (burst ? 4 : 1), hawser_dtype_size(op.dtype));
    const bool is_counted = op.op == StressOp::all_reduce || op.op == StressOp::broadcast;
    op.count = is_counted ? count : 0;
    op.in_place = draws.percent(50);
    const bool strict = draws.percent(25);
    op.strict = strict && (!burst || tagged) && op.op != StressOp::state_sync;
    op.poll = draws.percent(10) && op.op != StressOp::state_sync;
    op.tag = tagged ? 1 + (first_tag + i) % tag_count : 0;
    op.priority = static_cast<std::int32_t>(draws.below(16)) - 8;
    op.offset = static_cast<std::uint32_t>(draws.below(8));
    op.root_draw = static_cast<std::uint32_t>(draws.below(1U << 20));
    op.cancel = draws.percent(cancel_percent) && op.op != StressOp::state_sync;
    // The inputs of a 16-bit type and their sums are exact in that type, so that sums which travel as such can be
    // compared like all others.
    const bool is_float = op.dtype == HAWSER_F16 || op.dtype == HAWSER_BF16 || op.dtype == HAWSER_F32;
    const bool coded = draws.percent(50) && op.op == StressOp::all_reduce && is_float;
    if (coded && op.redop == HAWSER_SUM && op.dtype == HAWSER_BF16) op.codec = HAWSER_CODEC_BF16;
    if (coded && op.redop == HAWSER_SUM && op.dtype == HAWSER_F16) op.codec = HAWSER_CODEC_F16;
    op.weighted = coded && op.redop == HAWSER_AVG;
  }
  return planned;
}

}  // namespace tool
