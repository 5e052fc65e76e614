// The program that all members of a stress run issue: which operations make up a round. A pure function of the run's
// seed and the round's number, so that members agree without talking, and newcomers join in by learning the number.
#pragma once

#include <hawser/hawser.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tool {

enum class StressOp : std::uint32_t { all_reduce, broadcast, barrier, state_sync };
const char* stress_op_name(StressOp op);

struct PlannedOp {
  StressOp op = StressOp::all_reduce;
  hawser_dtype_t dtype = HAWSER_F32;
  hawser_redop_t redop = HAWSER_SUM;
  std::size_t count = 0;
  bool in_place = false;
  bool strict = false;
  bool poll = false;            // wait in short pieces (PENDING in between) instead of at once
  std::uint64_t tag = 0;        // != 0 whenever several operations of a round are in flight under the strict policy
  std::int32_t priority = 0;    // -8..7
  std::uint32_t offset = 0;     // elements between a page and the start of the buffers: 0..7
  std::uint32_t root_draw = 0;  // the root of a broadcast is this modulo the number of members
  bool weighted = false;        // avg by direct exchange, with weight 1 at all: the same result
  std::uint32_t codec = 0;      // a codec in which the inputs and their sum are exact
  bool cancel = false;          // one member cancels it right after its start
};

// One operation is called blocking; several are started together.
//
// Strict operations that are in flight together carry different tags: a member that had started fewer of them when a
// peer was lost repeats them in another order than the rest, which tags allow and call order does not. A broadcast is
// alone in its round: its root is a rank, and ranks change with the view. So is a sync of shared state, in which one
// member, a rank, has lost its content.
std::vector<PlannedOp> plan_round(std::uint64_t seed, std::uint64_t round, std::uint64_t max_bytes,
                                  std::uint32_t cancel_percent);

}  // namespace tool
