// Attempts of an operation and the arithmetic on arriving bytes; see the header.
#include "runtime/data/op_run.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>

#include "base/kill_point.hpp"
#include "runtime/data/without.hpp"

namespace hawser::runtime {
namespace {

constexpr std::size_t at_once = 1U << 10;  // is kept, made and digested while the processor still waits for memory
constexpr std::size_t restore_bytes = 2U << 20;  // at once; then strands and timers of the thread get their turn

}  // namespace

std::int64_t now_us() {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

Status OpRun::begin_attempt(std::uint64_t new_epoch, std::vector<PeerId> members, PeerId self) {
  attempt.fetch_add(1);
  ++attempts;
  epoch = new_epoch;
  participants = std::move(members);
  const auto size = static_cast<std::uint32_t>(participants.size());
  rank = rank_of(self).value_or(0);
  plan::ScheduleInput input;
  input.size = size;
  input.count = call.count;
  input.unit_count_max = std::max<std::size_t>(1, unit_bytes_default / element());
  switch (call.kind) {
    case wire::OpKind::all_reduce:
      input.shape = coded ? plan::Shape::direct : plan::all_reduce_shape(call.count * element(), size);
      input.position = rank;
      if (coded) {
        input.count = coded->blocks();
        input.unit_count_max = coded->unit_blocks(unit_bytes_default);
      } else if (input.shape != plan::Shape::ring) {
        input.unit_count_max = std::max<std::size_t>(1, call.count);
      }
      break;
    case wire::OpKind::broadcast:
      input.shape = plan::Shape::chain;
      input.position = (rank + size - rank_of(params.root).value_or(size)) % size;
      break;
    case wire::OpKind::barrier:
    case wire::OpKind::sync:
    case wire::OpKind::check:
      input.shape = plan::Shape::none;
      break;
  }
  schedule = plan::Schedule(input);
  const std::size_t units = static_cast<std::size_t>(schedule.slices()) * schedule.steps();
  received.assign(units, 0);
  receiving.assign(units, nullptr);
  remaining = schedule.receive_count();
  const bool root = schedule.shape() == plan::Shape::chain && schedule.sends(0);
  if (root) remaining = schedule.slices();
  digest = {};
  // Calls that carry no bytes still differ by what they are.
  digest.low = check;
  partners.assign(size, {});
  weights.assign(size, 1.0);
  wide.clear();
  if (coded) {
    weights[rank] = coded->weight();
    coded->begin(schedule, rank, size);
    remaining += schedule.slices() + size - 1;  // own segments to be reduced, weights to be heard of
    if (Status status = coded->allocate(); !status.ok()) return status;
  }
  resent = false;
  small = sync() == nullptr && total_bytes() <= light_bytes_max;
  exchange.reset();
  if (schedule.exchanges() && !coded) {
    exchange.emplace(ReduceBuffers{call.send, call.recv, call.count, call.dtype, call.redop}, schedule, rank, size);
    ++remaining;  // the own segment
    small = call.count * element() / schedule.parts() <= light_bytes_max;
  }
  if (schedule.shape() == plan::Shape::ring && in_place() && !without().restore) {
    saved.assign(static_cast<std::size_t>(schedule.slices()) * size, 0);
    try {
      if (!snapshot) snapshot = ByteBuffer::reused(call.count * element());
    } catch (const std::bad_alloc&) {
      return {Code::RESOURCE, "no memory for the copy that keeps an in-place input; reduce out of place instead"};
    }
  }
  return {};
}

std::optional<std::uint32_t> OpRun::rank_of(PeerId id) const {
  const auto it = std::find(participants.begin(), participants.end(), id);
  if (it == participants.end()) return std::nullopt;
  return static_cast<std::uint32_t>(it - participants.begin());
}

std::vector<std::uint32_t> OpRun::audience() const {
  const auto size = static_cast<std::uint32_t>(participants.size());
  std::vector<std::uint32_t> out;
  for (std::uint32_t other = 0; other < size; ++other) {
    if (other == rank) continue;
    const bool neighbour = other == (rank + 1) % size || rank == (other + 1) % size;
    if (coded || exchange || sync() != nullptr || neighbour) out.push_back(other);
  }
  return out;
}

bool OpRun::overwritten() const {
  return snapshot && std::any_of(saved.begin(), saved.end(), [](std::uint8_t kept) { return kept != 0; });
}

bool OpRun::restore_some() {
  const std::uint32_t slices = schedule.slices();
  const auto parts = static_cast<std::uint64_t>(participants.size());
  for (std::size_t bytes = 0; bytes < restore_bytes;) {
    const std::uint32_t slice = next_restore.fetch_add(1);
    if (slice >= slices) return false;
    for (std::uint32_t step = 0; step < schedule.steps(); ++step) {
      const std::uint64_t piece = schedule.piece(slice, step, false);
      if (piece >= slices * parts || saved[piece] == 0) continue;
      const plan::Segment segment = schedule.received(slice, step);
      std::memcpy(call.recv + segment.offset * element(), snapshot.data() + segment.offset * element(),
                  segment.count * element());
      saved[piece] = 0;
      bytes += segment.count * element();
    }
    HAWSER_KILL_POINT("op.restoring");
  }
  return true;
}

OpRun::Memory OpRun::take_memory() {
  Memory memory;
  memory.snapshot = std::exchange(snapshot, {});
  if (exchange) memory.exchange = exchange->take_memory();
  memory.wide = std::exchange(wide, {});
  if (coded) memory.coded = coded->take_memory();
  return memory;
}

Sink OpRun::make_sink(std::uint32_t slice, std::uint32_t step) {
  Sink sink;
  const plan::Segment segment = schedule.received(slice, step);
  sink.op = shared_from_this();
  sink.attempt = attempt.load();
  sink.slice = slice;
  sink.step = step;
  if (coded) {  // codes are bytes until all of them are here
    sink.mode = Sink::Mode::copy;
    sink.count = coded->bytes_of(segment);
    sink.dst = coded->place(slice, step);
    sink.piece = schedule.piece(slice, step, false);
    sink.digests = !schedule.scatters(step);
    return sink;
  }
  if (exchange) {
    sink.mode = Sink::Mode::copy;
    sink.count = segment.count * element();
    sink.dst = exchange->place(slice, step);
    sink.piece = schedule.piece(slice, step, false);
    sink.digests = !schedule.scatters(step);
    return sink;
  }
  sink.count = segment.count;
  sink.in_size = wire_element(step);
  sink.out_size = element();
  sink.piece = schedule.piece(slice, step, false);
  sink.dst = call.recv + segment.offset * element();
  sink.mode = Sink::Mode::copy;
  sink.digests = (!schedule.reduces(step) || schedule.completes(step)) && !without().digest;
  if (snapshot && saved[sink.piece] == 0) {
    sink.save_to = snapshot.data() + segment.offset * element();
    sink.saved = &saved[sink.piece];
  }
  if (!schedule.reduces(step)) {  // bytes, whatever they mean
    sink.count *= sink.in_size;
    sink.in_size = sink.out_size = 1;
    return sink;
  }
  // Once it was begun, what it reads is in the copy alone.
  const bool again = snapshot && sink.save_to == nullptr;
  sink.own = (again ? snapshot.data() : call.send) + segment.offset * element();
  sink.divide = schedule.completes(step) && call.redop == Redop::avg;
  sink.divisor = sink.divide ? static_cast<std::uint32_t>(participants.size()) : 1;
  if (!is_half(call.dtype)) {
    sink.mode = Sink::Mode::reduce;
  } else if (schedule.completes(step)) {
    sink.mode = step == 0 ? Sink::Mode::pair : Sink::Mode::last;
  } else {
    sink.mode = step == 0 ? Sink::Mode::first : Sink::Mode::next;
    auto& buffer = wide[unit_index(slice, step + 1)];
    if (!buffer) buffer.reset(new float[std::max<std::size_t>(1, segment.count)]);
    sink.wide = buffer.get();
    // Partial sums do not touch the user's buffer, but the own contribution is read from the copy when in place.
  }
  return sink;
}

std::span<const std::byte> OpRun::payload(std::uint32_t slice, std::uint32_t step) const {
  if (sync() != nullptr) return sync()->place(slice);
  if (coded) return coded->payload(slice, step);
  if (exchange) return exchange->payload(slice, step);
  const plan::Segment segment = schedule.sent(slice, step);
  if (is_wide(step)) {
    return std::as_bytes(std::span<const float>(wide.at(unit_index(slice, step)).get(), segment.count));
  }
  const std::byte* base = step == 0 ? call.send : call.recv;
  return {base + segment.offset * element(), segment.count * element()};
}

void Sink::save() {
  if (save_to == nullptr) return;
  kernels::copy_ahead(save_to + taken * out_size, dst + taken * out_size, (count - taken) * out_size);
  *saved = 1;
  save_to = nullptr;
}

void Sink::leave() {
  if (taken != 0) save();
}

std::size_t Sink::take(std::span<const std::byte> bytes, kernels::RunningDigest* written) {
  const std::size_t n = std::min(bytes.size() / in_size, count - taken);
  if (n == 0 || mode == Mode::discard) return n * in_size;
  const Dtype dtype = op->call.dtype;
  const Redop redop = op->call.redop;
  const kernels::Variant variant = kernels::active_variant();
  std::byte* to = dst + taken * out_size;
  const std::byte* mine = own == nullptr ? nullptr : own + taken * out_size;
  // Pieces of half-width results pass through f32 on the way.
  constexpr std::size_t piece_max = 2048;
  float block[piece_max];
  const auto keep = [&](std::size_t i, std::size_t k) {
    if (save_to == nullptr) return;
    *saved = 1;
    kernels::copy_ahead(save_to + (taken + i) * out_size, to + i * out_size, k * out_size);
  };
  const auto piecewise = [&](std::size_t some, auto&& put) {
    for (std::size_t i = 0; i < n; i += some) {
      const std::size_t k = std::min(some, n - i);
      keep(i, k);
      put(i, k);
      if (written != nullptr) written->add(to + i * out_size, k * out_size);
    }
  };
  const std::size_t few = written == nullptr && save_to == nullptr ? n : at_once / out_size;
  switch (mode) {
    case Mode::discard:
      break;
    case Mode::copy:
      piecewise(few, [&, far = n * in_size >= kernels::copy_ahead_min](std::size_t i, std::size_t k) {
        const std::byte* const in = bytes.data() + i * in_size;
        if (far) {
          kernels::copy_ahead(to + i * in_size, in, k * in_size);
        } else {
          std::memcpy(to + i * in_size, in, k * in_size);
        }
      });
      break;
    case Mode::reduce:
      if (divide) {
        piecewise(few, [&](std::size_t i, std::size_t k) {
          kernels::mean(dtype, to + i * in_size, bytes.data() + i * in_size, mine + i * in_size, k, divisor, variant);
        });
      } else {
        piecewise(few, [&, reduce = kernels::reduce(dtype, redop, variant)](std::size_t i, std::size_t k) {
          reduce(to + i * in_size, bytes.data() + i * in_size, mine + i * in_size, k);
        });
      }
      break;
    case Mode::first:
      keep(0, n);
      kernels::reduce_wide(dtype, redop, variant).first(wide + taken, bytes.data(), mine, n);
      break;
    case Mode::next:
      keep(0, n);
      kernels::reduce_wide(dtype, redop, variant)
          .next(wide + taken, reinterpret_cast<const float*>(bytes.data()), mine, n);
      break;
    case Mode::pair:
    case Mode::last:
      piecewise(piece_max, [&](std::size_t i, std::size_t k) {
        const std::byte* in = bytes.data() + i * in_size;
        const auto fns = kernels::reduce_wide(dtype, redop, variant);
        if (mode == Mode::pair) {
          fns.first(block, in, mine + i * out_size, k);
        } else {
          fns.next(block, reinterpret_cast<const float*>(in), mine + i * out_size, k);
        }
        kernels::narrow(dtype, to + i * out_size, block, k, divisor, variant);
      });
      break;
  }
  taken += n;
  return n * in_size;
}

kernels::Digest Sink::digest() const { return kernels::digest(dst, count * out_size, piece); }

}  // namespace hawser::runtime
