// Arithmetic of the schedules; see the header.
#include "plan/schedule.hpp"

#include <algorithm>
#include <limits>

namespace hawser::plan {
namespace {

// The start of part `index` when `count` things are cut into `parts` nearly equal parts.
std::size_t part_begin(std::size_t count, std::size_t parts, std::size_t index) {
  return index * (count / parts) + std::min(index, count % parts);
}

// One exchange among all, as long as nobody sends more than a mebibyte for it; then one to owners and back, in small
// pieces. Beyond that time is bytes, of which the ring sends no more and only to neighbours, over their many strands.
constexpr std::size_t flat_bytes_max = 16U << 10;  // of two members the ring sends no less, so four times that
constexpr std::size_t flat_sent_max = 1U << 20;
constexpr std::size_t direct_segment_max = 32U << 10;
constexpr std::size_t direct_bytes_max = 4U << 20;

}  // namespace

Shape all_reduce_shape(std::size_t bytes, std::uint32_t size) {
  if (size < 2) return Shape::ring;
  if (bytes <= (size == 2 ? 4 : 1) * flat_bytes_max && bytes <= flat_sent_max / (size - 1)) return Shape::flat;
  const bool small = bytes <= direct_bytes_max && bytes <= direct_segment_max * size;
  return small && size > 2 ? Shape::direct : Shape::ring;
}

Schedule::Schedule(const ScheduleInput& input) : in_(input) {
  if (in_.shape == Shape::none || in_.count == 0 || (in_.size < 2 && in_.shape != Shape::direct)) {
    in_.shape = Shape::none;
    return;
  }
  if (in_.shape == Shape::flat) {
    steps_ = in_.size - 1;
    slices_ = 1;
    return;
  }
  const bool whole_circle = in_.shape != Shape::chain;
  parts_ = whole_circle ? in_.size : 1;
  steps_ = whole_circle ? 2 * (in_.size - 1) : in_.size - 1;
  const std::size_t unit = std::max<std::size_t>(1, in_.unit_count_max);
  const std::size_t whole = unit > in_.count / parts_ ? in_.count : unit * parts_;
  const std::size_t wanted = in_.count / whole + (in_.count % whole != 0 ? 1 : 0);
  slices_ = static_cast<std::uint32_t>(std::min<std::size_t>(wanted, std::numeric_limits<std::int32_t>::max()));
}

bool Schedule::sends(std::uint32_t step) const {
  if (step >= steps_) return false;
  return in_.shape != Shape::chain || step == in_.position;
}

bool Schedule::receives(std::uint32_t step) const {
  if (step >= steps_) return false;
  return in_.shape != Shape::chain || step + 1 == in_.position;
}

// Direct: what goes to a member is that member's segment, then everyone's own.
//
// Ring: at step s of the first phase member r passes on segment r - s, at step t of the second segment r + 1 - t; what
// it receives is what its predecessor passes on.
std::uint32_t Schedule::segment_index(std::uint32_t step, bool sent) const {
  if (in_.shape == Shape::chain || in_.shape == Shape::flat || in_.shape == Shape::none) return 0;
  const std::uint32_t n = in_.size;
  if (in_.shape == Shape::direct) {
    const std::uint32_t away = distance(step);
    if (scatters(step)) return sent ? (in_.position + away) % n : in_.position;
    return sent ? in_.position : (in_.position + n - away) % n;
  }
  const std::uint32_t sender = sent ? in_.position : (in_.position + n - 1) % n;
  if (step < n - 1) return (sender + n - step) % n;
  return (sender + 1 + n - (step - (n - 1))) % n;
}

Segment Schedule::segment(std::uint32_t slice, std::uint32_t index) const {
  const std::size_t begin = part_begin(in_.count, slices_, slice);
  const std::size_t length = part_begin(in_.count, slices_, slice + 1) - begin;
  const std::size_t first = part_begin(length, parts_, index);
  return Segment{begin + first, part_begin(length, parts_, index + 1) - first};
}

std::size_t Schedule::slice_end(std::uint32_t slice) const { return part_begin(in_.count, slices_, slice + 1); }

Segment Schedule::sent(std::uint32_t slice, std::uint32_t step) const {
  return segment(slice, segment_index(step, true));
}

Segment Schedule::received(std::uint32_t slice, std::uint32_t step) const {
  return segment(slice, segment_index(step, false));
}

std::size_t Schedule::receive_count() const {
  if (in_.shape == Shape::none) return 0;
  const std::size_t each = in_.shape != Shape::chain ? steps_ : (in_.position > 0 ? 1 : 0);
  return each * slices_;
}

std::uint64_t Schedule::piece(std::uint32_t slice, std::uint32_t step, bool sent) const {
  return static_cast<std::uint64_t>(slice) * parts_ + segment_index(step, sent);
}

}  // namespace hawser::plan
