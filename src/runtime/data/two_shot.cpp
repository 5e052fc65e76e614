// An all-reduce by direct exchange; see the header.
#include "runtime/data/two_shot.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/vector.hpp"

namespace hawser::runtime {
namespace {

constexpr std::size_t tile = codec::block_max;       // elements on their way through f32; a whole number of any blocks
constexpr std::size_t encode_elements = 256U << 10;  // at once, then what is ready may leave

// A function of its own, because the floating-point environment around it must not be mixed with it.
[[gnu::noinline]] void divide(float* values, std::size_t count, float divisor) {
  for (std::size_t i = 0; i < count; ++i) values[i] = values[i] / divisor;
}

// One step of SplitMix64: seeds that are near one another give unrelated streams.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

TwoShot::TwoShot(Coding coding, const ReduceBuffers& buffers) : coding_(std::move(coding)), buffers_(buffers) {
  const std::size_t block = coding_.format.block;
  blocks_ = (buffers_.count + block - 1) / block;
  block_bytes_ = codec::encoded_bytes(coding_.format, block);
}

TwoShot::~TwoShot() { close(); }

bool TwoShot::acquire() {
  if (!coding_.residual) return true;
  acquired_ = coding_.residual->acquire();
  return acquired_;
}

// Each part is mixed in after the one before: a sum or an exclusive or of them would let a seed cancel a number.
void TwoShot::set_noise(std::initializer_list<std::uint64_t> name) {
  std::uint64_t state = 0;
  for (const std::uint64_t part : name) state = mix(state ^ part);
  contribution_noise_ = mix(state);
  result_noise_ = mix(~state);
}

std::size_t TwoShot::unit_blocks(std::size_t unit_bytes) const {
  return std::max<std::size_t>(1, unit_bytes / block_bytes_);
}

std::size_t TwoShot::first_element(std::size_t block) const {
  return std::min(buffers_.count, block * coding_.format.block);
}

std::size_t TwoShot::bytes_of(const plan::Segment& blocks) const {
  const std::size_t end = blocks.offset + blocks.count;
  const std::size_t elements = first_element(end) - first_element(blocks.offset);
  return codec::encoded_bytes(coding_.format, elements);
}

Status TwoShot::allocate() {
  // Zeros are the codes of zeros in every format, so a contribution of weight 0 needs no encoding; pages that nobody
  // writes cost nothing.
  const std::size_t bytes = wire_bytes();
  try {
    if (!codes_ && !(plain() && counts())) codes_ = ByteBuffer::zeroed(bytes);
    if (!result_) result_ = ByteBuffer::zeroed(bytes);
    if (coding_.residual && counts() && !residual_next_) {
      residual_next_ = ByteBuffer::zeroed(buffers_.count * sizeof(float));
    }
  } catch (const std::bad_alloc&) {
    return {Code::RESOURCE, "no memory for the encoded contribution and result, or for the next residual"};
  }
  return {};
}

std::size_t TwoShot::encode_from(std::size_t block) {
  const std::size_t step = std::max<std::size_t>(1, encode_elements / coding_.format.block);
  const std::size_t end_block = std::min(blocks_, block + step);
  if (!codes_ || !counts()) return blocks_;
  const kernels::Variant variant = kernels::active_variant();
  const std::size_t end = first_element(end_block);
  float wide[tile];
  for (std::size_t at = first_element(block); at < end;) {
    const std::size_t n = std::min(tile, end - at);
    const float* in = wide;
    if (buffers_.dtype == Dtype::f32) {
      in = reinterpret_cast<const float*>(buffers_.send) + at;
    } else {
      kernels::widen(buffers_.dtype, wide, buffers_.send + at * dtype_size(buffers_.dtype), n, variant);
    }
    std::byte* const out = codes_.data() + codec::encoded_bytes(coding_.format, at);
    const codec::Noise noise{contribution_noise_, at};
    if (coding_.residual) {
      codec::encode_fed_back(coding_.format, in, coding_.residual->values() + at, coding_.decay, n, out,
                             reinterpret_cast<float*>(residual_next_.data()) + at, noise, variant);
    } else {
      codec::encode(coding_.format, in, n, out, noise, variant);
    }
    at += n;
  }
  return end_block;
}

void TwoShot::begin(const plan::Schedule& schedule, std::uint32_t rank, std::uint32_t size) {
  schedule_ = schedule;
  rank_ = rank;
  size_ = size;
  slices.clear();
  slices.resize(schedule.slices());
  window_begin = next_release = 0;
  pool_.reset();
  if (schedule.slices() < 2 || size < 2) return;
  // Segments differ by one block at most.
  pool_bytes_ = (size - 1) * bytes_of({0, schedule.own(0).count + 1});
  pool_ = BlockPool::create(pool_bytes_);
}

std::span<const std::byte> TwoShot::payload(std::uint32_t slice, std::uint32_t step) const {
  const plan::Segment segment = schedule_.sent(slice, step);
  const std::byte* base = schedule_.scatters(step) ? codes() : result_.data();
  return {base + codec::encoded_bytes(coding_.format, first_element(segment.offset)), bytes_of(segment)};
}

std::byte* TwoShot::place(std::uint32_t slice, std::uint32_t step) {
  const plan::Segment segment = schedule_.received(slice, step);
  if (!schedule_.scatters(step)) {
    return result_.data() + codec::encoded_bytes(coding_.format, first_element(segment.offset));
  }
  const std::size_t bytes = bytes_of(segment);
  ByteBuffer& memory = slices[slice].contributions;
  if (!memory) {
    const std::size_t needed = bytes * (size_ - 1);
    memory = pool_ && needed <= pool_bytes_ ? pool_->take(needed) : ByteBuffer(needed);
  }
  return memory.data() + bytes * (schedule_.distance(step) - 1);
}

kernels::Digest TwoShot::reduce(std::uint32_t slice, const std::vector<double>& weights) {
  const plan::Segment segment = schedule_.own(slice);
  const std::size_t begin = first_element(segment.offset);
  const std::size_t end = first_element(segment.offset + segment.count);
  const std::size_t offset = codec::encoded_bytes(coding_.format, begin);
  const std::size_t bytes = bytes_of(segment);
  const kernels::Variant variant = kernels::active_variant();
  double total = 0;
  for (const double weight : weights) total += std::max(0.0, weight);
  const bool divides = buffers_.redop == Redop::avg && total > 0;
  const auto divisor = coding_.weighted ? static_cast<float>(total) : static_cast<float>(size_);
  float sum[tile];
  for (std::size_t at = begin; at < end;) {
    const std::size_t n = std::min(tile, end - at);
    const std::size_t inside = codec::encoded_bytes(coding_.format, at) - offset;
    std::fill_n(sum, n, 0.0F);
    for (std::uint32_t rank = 0; rank < size_; ++rank) {  // canonical order: the same bits whoever came first
      if (!(weights[rank] > 0)) continue;
      const std::byte* in = rank == rank_
                                ? codes() + offset
                                : slices[slice].contributions.data() + bytes * ((rank_ + size_ - rank) % size_ - 1);
      codec::decode_add(coding_.format, in + inside, n, sum,
                        coding_.weighted ? static_cast<float>(weights[rank]) : 1.0F, variant);
    }
    if (divides) {
      const kernels::FloatEnvironment environment;
      divide(sum, n, divisor);
    }
    codec::encode(coding_.format, sum, n, result_.data() + offset + inside, {result_noise_, at}, variant);
    at += n;
  }
  const std::uint64_t piece = static_cast<std::uint64_t>(slice) * size_ + rank_;
  return kernels::digest(result_.data() + offset, bytes, piece);
}

void TwoShot::commit() {
  if (residual_next_) coding_.residual->replace(std::move(residual_next_));
  close();
}

void TwoShot::close() {
  if (std::exchange(acquired_, false)) coding_.residual->release();
}

TwoShot::Memory TwoShot::take_memory() {
  Memory memory;
  memory.slices = std::exchange(slices, {});
  memory.codes = std::exchange(codes_, {});
  memory.result = std::exchange(result_, {});
  memory.residual = std::exchange(residual_next_, {});
  memory.pool = std::exchange(pool_, {});
  return memory;
}

void TwoShot::decode() const {
  const kernels::Variant variant = kernels::active_variant();
  if (buffers_.dtype == Dtype::f32) {
    codec::decode(coding_.format, result_.data(), buffers_.count, reinterpret_cast<float*>(buffers_.recv), variant);
    return;
  }
  float wide[tile];
  for (std::size_t at = 0; at < buffers_.count;) {
    const std::size_t n = std::min(tile, buffers_.count - at);
    codec::decode(coding_.format, result_.data() + codec::encoded_bytes(coding_.format, at), n, wide, variant);
    kernels::narrow(buffers_.dtype, buffers_.recv + at * dtype_size(buffers_.dtype), wide, n, 1, variant);
    at += n;
  }
}

}  // namespace hawser::runtime
