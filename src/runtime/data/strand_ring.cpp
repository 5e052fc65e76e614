// Shared memory under a strand: between peers of one host the bytes of a connection go through two rings instead, and
// the connection itself only wakes the other end and ends with it. spec: docs/protocol.md#shared-memory
//
// The end that dialled offers memory, the other one opens it if it can, and each switches for what it sends with a
// `taken` frame, the last one on the connection, so nothing is reordered. Until then, and if it cannot be, TCP carries
// the frames.
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.hpp"
#include "io/address.hpp"
#include "io/random.hpp"
#include "runtime/data/engine.hpp"
#include "runtime/data/io_thread.hpp"
#include "runtime/data/strand.hpp"

namespace hawser::runtime {
namespace {

constexpr std::size_t page_bytes = 4096;  // before the rings: the number that proves it, an answer to it, and places
constexpr std::size_t answer_at = 64;
constexpr std::size_t places_at = 1024;
constexpr std::size_t light_ring_bytes = 128U << 10;
constexpr std::size_t bulk_ring_bytes = 1U << 20;  // all of it stays in a cache
constexpr std::size_t ring_bytes_max = 64U << 20;
constexpr std::size_t chunk_bytes = 128U << 10;         // read at once, under the guard
constexpr std::size_t read_bytes_per_event = 4U << 20;  // then the other strands of the thread get their turn

struct Proof {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  bool operator==(const Proof&) const = default;
};

Proof read_proof(const io::SharedMemory& memory, std::size_t at) {
  Proof proof;
  std::memcpy(&proof, memory.data() + at, sizeof(proof));
  return proof;
}

void write_proof(const io::SharedMemory& memory, std::size_t at, const Proof& proof) {
  std::memcpy(memory.data() + at, &proof, sizeof(proof));
}

Proof answer_to(const Proof& proof) { return {~proof.low, ~proof.high}; }

}  // namespace

// Both ends of a connection within one host have its address, unless something between them translates addresses, and
// then they do not share memory either.
bool Strand::is_same_host() const {
  const auto local = io::SocketAddress::local_of(fd_.get());
  const auto remote = io::SocketAddress::remote_of(fd_.get());
  return local && remote && local->host() == remote->host();
}

void Strand::offer_memory() {
  if (!dialled_ || !engine_.shares_memory() || !local_) return;
  const std::size_t ring = index_ == 0 ? light_ring_bytes : bulk_ring_bytes;
  auto memory = io::SharedMemory::create(page_bytes + 2 * ring);
  const auto secret = io::random_id();
  if (!memory.ok() || !secret.ok()) {
    return cannot_share(memory.ok() ? secret.status().text() : memory.status().text());
  }
  memory_ = std::move(memory.value());
  const Proof proof{secret.value().high, secret.value().low};
  write_proof(memory_, 0, proof);
  wire::FrameHeader offer;
  offer.type = wire::FrameType::share;
  offer.step = static_cast<std::uint32_t>(wire::Share::offer);
  offer.slice = static_cast<std::uint32_t>(ring);
  offer.epoch = proof.high;
  offer.key.generation = proof.low;
  offer.key.tag = static_cast<std::uint64_t>(getpid());
  offer.key.sequence = static_cast<std::uint64_t>(memory_.descriptor());
  say_share(offer);
}

// Before what waits, but behind a frame that is half sent.
void Strand::say_share(const wire::FrameHeader& header) {
  OutFrame frame;
  frame.header = header;
  frame.bytes = wire::encode_header(header);
  {
    const std::lock_guard hold(guard);
    out.insert(std::next(out.begin(), out_offset_ != 0 ? 1 : 0), std::move(frame));
  }
  pump();
}

void Strand::say_share(wire::Share what) {
  wire::FrameHeader header;
  header.type = wire::FrameType::share;
  header.step = static_cast<std::uint32_t>(what);
  say_share(header);
}

void Strand::on_share() {
  if (ring_in_) return fail("shared memory is talked about in shared memory");
  switch (static_cast<wire::Share>(header_.step)) {
    case wire::Share::offer:
      return take_memory();
    case wire::Share::taken: {
      if (memory_.data() == nullptr) return fail("shared memory was taken that nobody offered");
      if (dialled_ && read_proof(memory_, answer_at) != answer_to(read_proof(memory_, 0))) {
        return fail("shared memory was taken by who does not have it");
      }
      memory_.hide();
      const std::size_t ring = (memory_.size() - page_bytes) / 2;
      const std::size_t which = dialled_ ? 1 : 0;
      auto* const places = reinterpret_cast<RingPlaces*>(memory_.data() + places_at) + which;
      ring_in_.emplace(*places, std::span(memory_.data() + page_bytes + which * ring, ring));
      reads_memory_ = true;
      in_begin_ = in_end_ = 0;  // bells
      if (dialled_) say_share(wire::Share::taken);
      return;
    }
    case wire::Share::refused:
      memory_ = {};
      return cannot_share("the other end cannot open what it was offered");
  }
  fail("not a frame about shared memory");
}

void Strand::take_memory() {
  const std::size_t ring = header_.slice;
  const bool fits =
      !dialled_ && memory_.data() == nullptr && ring != 0 && ring % page_bytes == 0 && ring <= ring_bytes_max;
  if (!fits) return fail("an offer of shared memory that cannot be");
  Status status(Code::UNSUPPORTED, "this end uses TCP only");
  if (engine_.shares_memory()) {
    auto memory = io::SharedMemory::open(static_cast<std::int64_t>(header_.key.tag),
                                         static_cast<std::int64_t>(header_.key.sequence), page_bytes + 2 * ring);
    status = memory.status();
    const Proof proof{header_.epoch, header_.key.generation};
    if (memory.ok() && read_proof(memory.value(), 0) != proof) {
      status = Status(Code::UNSUPPORTED, "another process has these numbers here: the other end is on another host");
    }
    if (status.ok()) {
      write_proof(memory.value(), answer_at, answer_to(proof));
      memory_ = std::move(memory.value());
    }
  }
  if (status.ok()) return say_share(wire::Share::taken);
  cannot_share(status.text());
  say_share(wire::Share::refused);
}

void Strand::cannot_share(const std::string& why) {
  if (index_ != 0 || !engine_.shares_memory()) return;  // the others will say the same
  log::message(log::Subsystem::net, log::Level::info,
               "memory is not shared with {}, which has the same address: {}; TCP is used", short_name(peer_), why);
}

// `taken` has gone out: it was the last frame on the connection.
void Strand::switch_sending() {
  const std::size_t ring = (memory_.size() - page_bytes) / 2;
  const std::size_t which = dialled_ ? 0 : 1;
  auto* const places = reinterpret_cast<RingPlaces*>(memory_.data() + places_at) + which;
  ring_out_.emplace(*places, std::span(memory_.data() + page_bytes + which * ring, ring));
  if (owes_bell_) ring_bell();
  engine_.on_shared();
}

// ----------------------------------------------------------------------------------------------------------- reading

// What is on the connection of a ring only says that there is something to do.
bool Strand::hear_bells() {
  for (;;) {
    const ssize_t n = ::recv(fd_.get(), in_.data(), in_.size(), MSG_DONTWAIT);
    if (n > 0) {
      if (static_cast<std::size_t>(n) < in_.size()) return true;
      continue;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return true;
    const std::string why =
        n == 0 ? "the other end closed the connection" : fmt::format("reading failed: {}", uv_strerror(-errno));
    while (!closed_ && reading_ != Reading::parked && read_chunk()) {  // what it said before
    }
    fail(why);
    return false;
  }
}

// Not among the frames that still go over the connection.
void Strand::ring_bell() {
  owes_bell_ = !ring_out_;
  if (owes_bell_) return;
  const char bell = 0;
  const ssize_t n = ::send(fd_.get(), &bell, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n >= 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return;  // so many are on their way
  fail(fmt::format("sending failed: {}", uv_strerror(-errno)));
}

// False: there is nothing, or the strand has failed.
bool Strand::read_chunk() {
  bool broken = false;
  std::span<const std::byte> ready = ring_in_->readable(broken);
  if (broken) fail("the other end wrote nonsense into the memory that it shares");
  if (broken || ready.empty()) return false;
  std::size_t used = ring_grain;
  if (reading_ == Reading::header) {
    std::array<std::uint8_t, wire::frame_header_bytes> bytes;
    static_assert(sizeof(bytes) == ring_grain);
    std::memcpy(bytes.data(), ready.data(), bytes.size());
    auto header = wire::decode_header(bytes);
    if (!header.ok()) {
      fail("not a data frame: " + header.status().text());
      return false;
    }
    header_ = header.value();
    padding_ = ring_padding(header_.length);
    if (const std::size_t n = take_at_once(ready.subspan(used)); n != 0) {
      used += n + padding_;
    } else {
      begin_frame();
    }
  } else {
    const std::size_t n = std::min({ready.size(), left_, chunk_bytes});
    const bool is_last = n == left_;
    feed(ready.first(n));
    used = is_last ? n + padding_ : n;
  }
  if (closed_) return false;
  arrived_ += used;
  ring_in_->take(used);
  if (ring_in_->owes_bell()) ring_bell();
  return !closed_;
}

void Strand::read_ring() {
  for (std::size_t taken = 0; !closed_ && reading_ != Reading::parked;) {
    if (!read_chunk()) {
      if (closed_) return;
      if (dozes_ || !ring_in_->sleep()) return;  // drivers look by themselves
      continue;
    }
    if (taken == 0) heard_ms_ = io::about_now_ms();
    taken += chunk_bytes;
    if (taken < read_bytes_per_event) continue;
    if (!thread_.on_thread() || std::exchange(reading_posted_, true)) return;
    return thread_.run([self = shared_from_this()] {
      {
        const std::lock_guard hold(self->reins_);
        self->reading_posted_ = false;
      }
      self->on_ready(0, UV_READABLE);
    });
  }
}

}  // namespace hawser::runtime
