// Small all-reduces; see the header.
#include "runtime/data/exchange.hpp"

#include <algorithm>
#include <cstring>

namespace hawser::runtime {

Exchange::Exchange(const ReduceBuffers& buffers, const plan::Schedule& schedule, std::uint32_t rank, std::uint32_t size)
    : buffers_(buffers),
      schedule_(schedule),
      rank_(rank),
      size_(size),
      memory_((buffers.count + own().count * size) * element()) {}

plan::Segment Exchange::own() const {
  return schedule_.shape() == plan::Shape::direct ? schedule_.own(0) : plan::Segment{0, buffers_.count};
}

std::span<const std::byte> Exchange::payload(std::uint32_t slice, std::uint32_t step) const {
  const plan::Segment segment = schedule_.sent(slice, step);
  const std::byte* base = schedule_.scatters(step) ? buffers_.send : memory_.data();
  return {base + segment.offset * element(), segment.count * element()};
}

std::byte* Exchange::place(std::uint32_t slice, std::uint32_t step) {
  if (!schedule_.scatters(step)) {
    return memory_.data() + schedule_.received(slice, step).offset * element();
  }
  const std::uint32_t from = (rank_ + size_ - schedule_.distance(step)) % size_;
  return memory_.data() + (buffers_.count + own().count * from) * element();
}

const std::byte* Exchange::contribution(std::uint32_t rank) const {
  if (rank == rank_) return buffers_.send + own().offset * element();
  return memory_.data() + (buffers_.count + own().count * rank) * element();
}

// In rank order, so that it does not matter where it is done; half-width floats in f32, rounded once.
kernels::Digest Exchange::reduce() {
  const kernels::Variant variant = kernels::active_variant();
  const plan::Segment segment = own();
  std::byte* out = memory_.data() + segment.offset * element();
  const bool averages = buffers_.redop == Redop::avg;
  if (is_half(buffers_.dtype)) {
    const kernels::WideFns fns = kernels::reduce_wide(buffers_.dtype, buffers_.redop, variant);
    constexpr std::size_t piece_max = 2048;
    float block[piece_max];
    for (std::size_t i = 0; i < segment.count; i += piece_max) {
      const std::size_t n = std::min(piece_max, segment.count - i);
      const std::size_t at = i * element();
      fns.first(block, contribution(0) + at, contribution(1) + at, n);
      for (std::uint32_t rank = 2; rank < size_; ++rank) fns.next(block, block, contribution(rank) + at, n);
      kernels::narrow(buffers_.dtype, out + at, block, n, averages ? size_ : 1, variant);
    }
  } else {
    const kernels::ReduceFn fn = kernels::reduce(buffers_.dtype, buffers_.redop, variant);
    fn(out, contribution(0), contribution(1), segment.count);
    for (std::uint32_t rank = 2; rank < size_; ++rank) fn(out, out, contribution(rank), segment.count);
    if (averages) kernels::divide(buffers_.dtype, out, segment.count, size_, variant);
  }
  const std::uint64_t piece = schedule_.shape() == plan::Shape::direct ? rank_ : 0;
  return kernels::digest(out, segment.count * element(), piece);
}

void Exchange::commit() const {
  if (buffers_.count != 0) std::memcpy(buffers_.recv, memory_.data(), buffers_.count * element());
}

}  // namespace hawser::runtime
