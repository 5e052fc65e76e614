// An all-reduce whose time is latency rather than bytes: contributions go straight to those who reduce them (shapes
// flat and direct of plan/schedule.hpp) and are kept until all are there, so that everybody adds in rank order. The
// result has a place of its own until the operation commits: the user's buffers are only read before, and nothing has
// to be put back after a loss. Guarded like OpRun.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kernels.hpp"
#include "plan/schedule.hpp"
#include "runtime/data/byte_buffer.hpp"

namespace hawser::runtime {

class Exchange {
 public:
  struct Buffers {
    const std::byte* send = nullptr;
    std::byte* recv = nullptr;
    std::size_t count = 0;
    Dtype dtype = Dtype::f32;
    Redop redop = Redop::sum;
  };
  explicit Exchange(const Buffers& buffers) : buffers_(buffers) {}

  // Takes memory for an attempt: the result, and what n - 1 members contribute to the own segment. Throws
  // std::bad_alloc.
  void begin(const plan::Schedule& schedule, std::uint32_t rank, std::uint32_t size);
  // What is sent for a unit, and where an arriving one goes.
  [[nodiscard]] std::span<const std::byte> payload(std::uint32_t slice, std::uint32_t step) const;
  [[nodiscard]] std::byte* place(std::uint32_t slice, std::uint32_t step);
  // A contribution to the own segment is here; true: it was the last one.
  [[nodiscard]] bool arrived() { return ++arrived_ + 1 == size_; }
  // All are: the own segment of the result, and its digest.
  kernels::Digest reduce();
  // The operation has committed: the result goes to the user.
  void commit() const;

 private:
  [[nodiscard]] std::size_t element() const { return dtype_size(buffers_.dtype); }
  [[nodiscard]] plan::Segment own() const;
  // What a member contributes to the own segment.
  [[nodiscard]] const std::byte* contribution(std::uint32_t rank) const;

  const Buffers buffers_;
  plan::Schedule schedule_;
  std::uint32_t rank_ = 0;
  std::uint32_t size_ = 1;
  std::uint32_t arrived_ = 0;
  std::size_t memory_bytes_ = 0;
  ByteBuffer memory_;  // the result, then contributions by rank
};

}  // namespace hawser::runtime
