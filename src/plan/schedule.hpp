// Which pieces of an operation a member sends, receives and reduces, and what each has to wait for. Pure arithmetic.
//
// An operation is cut into slices, a slice into one segment a member. A *unit* is one transfer: (slice, step). In the
// ring and the chain a unit that is sent at step s > 0 becomes ready when the unit received at step s - 1 of the same
// slice is in; units of step 0 are ready at once. Slices are independent, so hop k + 1 of one begins while hop k of the
// next is on the wire (pipelining).
//
// Ring all-reduce (Patarasuk and Yuan, JPDC 69(2), 2009): 2(n-1) steps; the first n-1 reduce, the rest gather. Each
// member sends and receives 2(n-1)/n x the bytes of the buffer, the least that is possible.
//
// Direct all-reduce (two-shot: reduce-scatter by all-to-all, then all-gather): at step s < n-1 a member sends the
// segment of the member s+1 places on to that member, who owns it and reduces; in the second n-1 steps it sends its
// own, reduced, to everyone. The same bytes as the ring, two latencies whatever the size, and each value is encoded
// twice at most. Units of the second phase become ready when all of the first of their slice are in and reduced.
//
// Flat all-reduce: everyone sends the whole buffer to everyone (at step s to the member s+1 places on) and reduces for
// itself: one latency, (n-1) x the bytes. For what is so small that bytes do not count.
//
// Chain broadcast: the root's bytes go from member to member; n-1 hops, every edge but one carries the buffer once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hawser::plan {

struct Segment {
  std::size_t offset = 0;  // elements from the start of the buffer
  std::size_t count = 0;   // elements; may be 0
};

enum class Shape : std::uint8_t { none, ring, chain, direct, flat };

// How an all-reduce of so many bytes goes among so many members. It depends on nothing else, so all have the same
// answer.
Shape all_reduce_shape(std::size_t bytes, std::uint32_t size);

struct ScheduleInput {
  Shape shape = Shape::none;
  std::uint32_t size = 1;          // members that take part
  std::uint32_t position = 0;      // ring, direct, flat: own place; chain: hops from the root
  std::size_t count = 0;           // elements
  std::size_t unit_count_max = 1;  // elements of one unit at most
};

class Schedule {
 public:
  Schedule() = default;
  explicit Schedule(const ScheduleInput& input);

  [[nodiscard]] Shape shape() const { return in_.shape; }
  [[nodiscard]] std::uint32_t slices() const { return slices_; }
  [[nodiscard]] std::uint32_t steps() const { return steps_; }
  [[nodiscard]] std::uint32_t parts() const { return parts_; }  // segments of a slice
  [[nodiscard]] bool sends(std::uint32_t step) const;
  [[nodiscard]] bool receives(std::uint32_t step) const;
  // Whether what is received at this step is reduced with the own input, and whether the outcome is final.
  [[nodiscard]] bool reduces(std::uint32_t step) const { return in_.shape == Shape::ring && step + 1 < in_.size; }
  [[nodiscard]] bool completes(std::uint32_t step) const { return in_.shape == Shape::ring && step + 2 == in_.size; }
  // Units go to the members so many places on, not along a circle.
  [[nodiscard]] bool exchanges() const { return in_.shape == Shape::direct || in_.shape == Shape::flat; }
  // Of those: contributions go to who reduces them. In direct that is the first phase, in flat all there is.
  [[nodiscard]] bool scatters(std::uint32_t step) const { return exchanges() && step + 1 < in_.size; }
  // A unit of this step goes to the member so many places on, and comes from the one so many places back.
  [[nodiscard]] std::uint32_t distance(std::uint32_t step) const { return exchanges() ? step % (in_.size - 1) + 1 : 1; }
  [[nodiscard]] std::size_t slice_end(std::uint32_t slice) const;
  [[nodiscard]] Segment own(std::uint32_t slice) const { return segment(slice, in_.position); }  // direct
  [[nodiscard]] Segment sent(std::uint32_t slice, std::uint32_t step) const;
  [[nodiscard]] Segment received(std::uint32_t slice, std::uint32_t step) const;
  // Units this member must receive in all.
  [[nodiscard]] std::size_t receive_count() const;
  // A number of the segment within the buffer, the same at every member.
  [[nodiscard]] std::uint64_t piece(std::uint32_t slice, std::uint32_t step, bool sent) const;

 private:
  [[nodiscard]] std::uint32_t segment_index(std::uint32_t step, bool sent) const;
  [[nodiscard]] Segment segment(std::uint32_t slice, std::uint32_t index) const;

  ScheduleInput in_;
  std::uint32_t slices_ = 0;
  std::uint32_t steps_ = 0;
  std::uint32_t parts_ = 1;  // segments of a slice
};

}  // namespace hawser::plan
