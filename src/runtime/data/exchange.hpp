// An all-reduce whose time is latency rather than bytes: contributions go straight to those who reduce them (shapes
// flat and direct of plan/schedule.hpp) and are kept until all are there, so that everybody adds in rank order. The
// result has a place of its own until the operation commits: the user's buffers are only read before, and nothing has
// to be put back after a loss. Guarded like OpRun.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "kernels/kernels.hpp"
#include "plan/schedule.hpp"
#include "runtime/data/byte_buffer.hpp"
#include "runtime/data/reduce_buffers.hpp"

namespace hawser::runtime {

class Exchange {
 public:
  // For one attempt, which keeps the schedule. Takes memory: the result, and what n - 1 members contribute to the own
  // segment. Throws std::bad_alloc.
  Exchange(const ReduceBuffers& buffers, const plan::Schedule& schedule, std::uint32_t rank, std::uint32_t size);
  // What is sent for a unit, and where an arriving one goes.
  [[nodiscard]] std::span<const std::byte> payload(std::uint32_t slice, std::uint32_t step) const;
  [[nodiscard]] std::byte* place(std::uint32_t slice, std::uint32_t step);
  // A contribution to the own segment is here; true: it was the last one.
  [[nodiscard]] bool arrived() { return ++arrived_ + 1 == size_; }
  // All are: the own segment of the result, and its digest.
  kernels::Digest reduce();
  // The operation has committed: the result goes to the user.
  void commit() const;
  // When it is over, however.
  [[nodiscard]] ByteBuffer take_memory() { return std::exchange(memory_, {}); }

 private:
  [[nodiscard]] std::size_t element() const { return dtype_size(buffers_.dtype); }
  [[nodiscard]] plan::Segment own() const;
  // What a member contributes to the own segment.
  [[nodiscard]] const std::byte* contribution(std::uint32_t rank) const;

  const ReduceBuffers buffers_;
  const plan::Schedule& schedule_;
  const std::uint32_t rank_;
  const std::uint32_t size_;
  std::uint32_t arrived_ = 0;
  ByteBuffer memory_;  // the result, then contributions by rank
};

}  // namespace hawser::runtime
