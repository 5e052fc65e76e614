// One TCP connection of a rope; see the header.
#include "runtime/data/strand.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "base/log.hpp"
#include "io/random.hpp"
#include "io/uv/handle.hpp"
#include "runtime/data/engine.hpp"
#include "runtime/data/io_thread.hpp"
#include "wire/checksum.hpp"

namespace hawser::runtime {
namespace {

// Then the other strands of the thread get their turn, and whoever has said nothing for a while can say that it lives.
constexpr std::size_t read_bytes_per_event = 1U << 20;
constexpr std::size_t sends_per_event = 8;
constexpr std::size_t frames_per_send = 16;
constexpr std::size_t read_ahead_bytes = 16384;  // where no large frame is under way: small ones together
constexpr std::size_t read_behind_bytes = 512;   // of what follows a large one: the next header, and little to copy
constexpr std::int64_t path_ms = 25;             // between looks at what the kernel knows of the way
constexpr int near_window_bytes = 512 << 10;     // of all bulk strands of a way together
constexpr int near_window_bytes_min = 64 << 10;
constexpr int far_unsent_bytes = 128 << 10;
constexpr std::size_t sum_ahead_bytes = 256 << 10;       // while they are in the cache
constexpr std::size_t digested_running_min = 64U << 10;  // less is still in a cache when all of it is there
constexpr int retransmits_max = 2;                       // of the same bytes; after fewer it may have been chance
constexpr double pace_step = 0.02;                       // smaller changes are not worth a system call
constexpr const char* far_control = "bbr";
constexpr const char* plain_control = "reno";  // which every kernel has
constexpr std::int64_t control_ms = 5000;
constexpr std::uint64_t little_bytes = 64U << 10;
constexpr std::size_t at_once_max = 16U << 10;    // larger ones are copied while nobody waits for the engine
constexpr std::size_t in_place_bytes_min = 4096;  // less is cheaper through the buffer, with the next header

// Bytes that a frame takes in a ring.
std::size_t padded(const OutFrame& frame) {
  return frame.bytes.size() + frame.body().size() + ring_padding(frame.body().size());
}

// The frame after which what is sent goes into shared memory.
bool is_switch(const OutFrame& frame) {
  return frame.header.type == wire::FrameType::share &&
         frame.header.step == static_cast<std::uint32_t>(wire::Share::taken);
}

}  // namespace

const std::byte* zeros() {
  static std::byte bytes[wire::data_bytes_max];  // never written, so the kernel's page of zeros stands for all of it
  return bytes;
}

struct Strand::Poll : io::HandleState {
  uv_poll_t handle;
  Strand* strand = nullptr;
};

Strand::Strand(Engine& engine, IoThread& thread, PeerId peer, std::uint32_t index, bool dialled, io::UniqueFd fd,
               std::vector<std::uint8_t> received, std::vector<std::uint8_t> unsent)
    : engine_(engine),
      thread_(thread),
      peer_(peer),
      index_(index),
      dialled_(dialled),
      fd_(std::move(fd)),
      local_(is_same_host()),
      heard_ms_(io::now_ms()),
      sent_ms_(io::now_ms()),
      unsent_(std::move(unsent)) {
  in_end_ = std::min(received.size(), in_.size());
  if (in_end_ != 0) std::memcpy(in_.data(), received.data(), in_end_);
}

void Strand::open(uv_loop_t* loop) {
  const std::lock_guard hold(reins_);
  if (closed_) return;
  poll_ = std::make_shared<Poll>();
  poll_->strand = this;
  if (const int error = uv_poll_init_socket(loop, &poll_->handle, fd_.get()); error != 0) {
    poll_.reset();
    return fail(fmt::format("cannot watch the connection: {}", uv_strerror(error)));
  }
  poll_->attach(reinterpret_cast<uv_handle_t*>(&poll_->handle), poll_);
  offer_memory();
  look_at_path(io::now_ms());
  parse();
  if (ring_in_) read_ring();
  if (!closed_) pump();
  set_interest();
}

void Strand::set_interest() {
  if (closed_ || !poll_) return;
  const bool reads = (ring_in_ || reading_ != Reading::parked) && !dozes_;
  const int wanted = (reads ? UV_READABLE : 0) | (want_write_ ? UV_WRITABLE : 0);
  if (wanted == interest_) return;
  if (!thread_.on_thread()) {  // the loop's handles are its own
    if (std::exchange(interest_posted_, true)) return;
    return thread_.run([self = shared_from_this()] {
      const std::lock_guard hold(self->reins_);
      self->interest_posted_ = false;
      self->set_interest();
    });
  }
  interest_ = wanted;
  if (wanted == 0) {
    uv_poll_stop(&poll_->handle);
    return;
  }
  uv_poll_start(&poll_->handle, wanted, [](uv_poll_t* handle, int status, int events) {
    // The strand may be closed by what it does here; its thread holds it until then, this until the end of the call.
    const std::shared_ptr<Strand> self = static_cast<Poll*>(handle->data)->strand->shared_from_this();
    io::EventLoop::of(handle->loop).guard([&] { self->on_ready(status, events); });
  });
}

void Strand::on_ready(int status, int events) {
  {
    const std::lock_guard hold(reins_);
    if (status < 0) {
      // Of a socket in error libuv says no more than that it cannot be watched.
      int error = 0;
      socklen_t size = sizeof(error);
      const bool known = getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0;
      fail(fmt::format("the connection failed: {}", uv_strerror(known ? -error : status)));
    } else {
      const bool readable = (events & UV_READABLE) != 0;
      if (readable && (!ring_in_ || hear_bells()) && !doze()) read_some();
      // A bell may have come with the frame after which there are only bells.
      const bool goes_on = (events & UV_WRITABLE) != 0 || (readable && waits_for_room_);
      if (goes_on && !closed_) pump();
    }
    set_interest();
  }
  thread_.run_scheduled();
}

// Leaves reading to the user threads that have this strand lent. Whoever gives it back last sees that it dozes, or is
// seen here.
bool Strand::doze() {
  if (readers_ == 0) return false;
  dozes_ = true;
  engine_.on_doze();
  if (readers_ == 0) {
    dozes_ = false;
    return false;
  }
  thread_.rouse_later();
  return true;
}

bool Strand::rouse(bool at_once) {
  if (!dozes_) return true;
  const std::lock_guard hold(reins_);
  const bool in_use = readers_ != 0 || (!at_once && lent_count_ != lent_seen_);
  lent_seen_ = lent_count_;
  if (in_use) return false;
  dozes_ = false;
  if (ring_in_ && !closed_) {
    read_some();
    if (waits_for_room_ && !closed_) pump();
  }
  set_interest();
  return true;
}

void Strand::lend() {
  ++readers_;
  ++lent_count_;
}

void Strand::give_back() { --readers_; }

bool Strand::read_now() {
  const std::unique_lock hold(reins_, std::try_to_lock);
  if (!hold.owns_lock() || closed_ || !poll_ || reading_ == Reading::parked) return false;
  const std::size_t before = arrived_;
  read_some();
  if (waits_for_room_ && !closed_ && ring_out_->has_room()) pump();
  set_interest();
  return arrived_ != before;
}

std::byte* Strand::scratch() {
  if (thread_.on_thread()) return thread_.scratch();
  thread_local const std::unique_ptr<std::byte[]> of_driver(new std::byte[scratch_bytes]);
  return of_driver.get();
}

void Strand::resume() {
  const std::lock_guard hold(reins_);
  if (closed_ || !poll_) return;
  if (reading_ == Reading::parked) {
    begin_frame();
    if (reading_ != Reading::parked) heard_ms_ = io::now_ms();
    parse();
    if (!closed_ && reading_ != Reading::parked) read_some();
  }
  if (!closed_) pump();
  set_interest();
}

void Strand::close() {
  const std::lock_guard hold(reins_);
  shut();
}

void Strand::shut() {
  if (std::exchange(closed_, true)) return;
  if (thread_.on_thread()) return release();
  thread_.run([self = shared_from_this()] {
    const std::lock_guard hold(self->reins_);
    self->release();
  });
}

void Strand::release() {
  if (poll_) poll_->close();
  {
    const std::lock_guard hold(guard);
    fd_.reset();
  }
  thread_.disown(*this);
}

void Strand::fail(const std::string& why) {
  if (closed_) return;
  engine_.on_lost(*this, why);
  shut();
}

// ------------------------------------------------------------------------------------------------------------ silence

// Both ends send something at least every heartbeat, so who says nothing for longer is gone or cannot be reached,
// whatever the kernel believes of the connection.
std::int64_t Strand::watch(std::int64_t now, const Liveness& liveness, bool slept) {
  const std::lock_guard hold(reins_);
  if (closed_ || !poll_) return now + liveness.heartbeat_ms;
  if (!slept && now < watch_ms_ && watch_ms_ <= now + liveness.heartbeat_ms) return watch_ms_;
  if (slept) {
    heard_ms_ = now;
    unacked_ms_ = 0;
  }
  if (now - sent_ms_ >= liveness.heartbeat_ms) ping();
  if (closed_) return now + liveness.heartbeat_ms;
  const bool known = ask_kernel(now);
  // A parked strand is not read, so it may look silent for want of room.
  if (reading_ != Reading::parked && now - heard() >= liveness.timeout_ms) {
    stands_still_ = true;
    engine_.on_silent(*this, fmt::format("silent for {} ms", now - heard()));
    shut();
  } else if (known && unacked_ms_ != 0 && now - unacked_ms_ >= liveness.timeout_ms) {
    stands_still_ = true;
    engine_.on_silent(*this, fmt::format("nothing sent was acknowledged for {} ms", now - unacked_ms_));
    shut();
  }
  std::int64_t next = now + liveness.heartbeat_ms;
  if (sent_ms_ + liveness.heartbeat_ms > now) next = std::min(next, sent_ms_ + liveness.heartbeat_ms);
  if (heard() + liveness.timeout_ms > now) next = std::min(next, heard() + liveness.timeout_ms);
  watch_ms_ = next;
  return next;
}

// Bytes that wait to be read were heard too. A reader that stands still acknowledges what it has room for and answers
// probes of its window, and then nothing is unacknowledged; a way that is cut leaves it so.
bool Strand::ask_kernel(std::int64_t now) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  heard_ms_ = std::max(heard(), now - static_cast<std::int64_t>(info.tcpi_last_data_recv));
  stands_still_ = info.tcpi_retransmits >= retransmits_max;
  if (info.tcpi_unacked == 0) {
    unacked_ms_ = 0;
  } else {
    const std::int64_t acked = now - static_cast<std::int64_t>(info.tcpi_last_ack_recv);
    unacked_ms_ = unacked_ms_ == 0 ? now : std::max(unacked_ms_, acked);
  }
  return true;
}

// What the engine decides by, and the socket too.
void Strand::look_at_path(std::int64_t now) {
  if (now - path_ms_ < path_ms) return;
  path_ms_ = now;
  const auto path = io::tcp_path(fd_.get());
  if (!path) return;
  suit_path(path->min_rtt_us);
  const bool in_use = way_ == Way::far && path->flying + path->unsent != 0;
  if (in_use && !surveyed_) survey_later();
  surveyed_ = in_use;
  if (way_ == Way::far && path->flying <= little_bytes && path->unsent == 0) renew_control(now);
  const auto [pace, strands] = engine_.on_path(*this, *path);
  const int window = std::max(near_window_bytes / static_cast<int>(strands), near_window_bytes_min);
  if (way_ == Way::near && window != window_) {
    io::limit_window(fd_.get(), window);
    window_ = window;
  }
  const auto difference = static_cast<double>(pace) - static_cast<double>(pace_);
  if (way_ != Way::far || std::abs(difference) <= pace_step * static_cast<double>(pace_)) return;
  io::limit_pace(fd_.get(), pace);
  pace_ = pace;
}

// Little is sent in the first round trips, and little at a time where the way is slow: looks that came with it alone
// would be rare, and those of different strands far from one another.
void Strand::survey_later() {
  if (thread_.on_thread()) return thread_.survey_later(path_ms);
  thread_.run([self = shared_from_this()] { self->thread_.survey_later(path_ms); });
}

bool Strand::survey(std::int64_t now) {
  const std::lock_guard hold(reins_);
  if (closed_ || !poll_) return false;
  if (surveyed_) look_at_path(now);
  return surveyed_;
}

// Near: what is under way should stay in the cache, and pacing by the kernel's timers costs a fifth of all processor
// time and keeps nothing from being lost. Far: many a window must be under way, losses are no sign of congestion, and
// what the kernel has taken goes over this strand, however slow that is.
void Strand::suit_path(std::int64_t rtt_us) {
  if (index_ == 0 || rtt_us == 0) return;
  if (rtt_us < near_rtt_us && way_ != Way::near) {
    const std::string usual = usual_control_.empty() ? io::congestion_control(fd_.get()) : usual_control_;
    const std::string control = usual == far_control ? plain_control : usual;
    if (way_ == Way::far || control != usual) io::set_congestion_control(fd_.get(), control);
    if (way_ == Way::far) {
      io::limit_unsent(fd_.get(), 0);
      io::limit_pace(fd_.get(), pace_ = 0);
    }
    way_ = Way::near;
  } else if (rtt_us >= far_rtt_us && way_ == Way::unknown) {
    usual_control_ = io::congestion_control(fd_.get());
    if (!io::set_congestion_control(fd_.get(), far_control) && index_ == 1) {  // the others will say the same
      log::message(
          log::Subsystem::net, log::Level::info,
          "the way to {} is {} ms long, and {} controls congestion on it, which slows down at every loss: this "
          "system does not permit {} (net.ipv4.tcp_allowed_congestion_control)",
          short_name(peer_), rtt_us / 1000, usual_control_, far_control);
    }
    io::limit_unsent(fd_.get(), far_unsent_bytes);
    way_ = Way::far;
  }
}

// BBR stops for a fifth of a second, on all strands at once, when it has seen no shorter round trip for 10 s. It begins
// anew where little is under way, with the window it had, and does not stop in the middle of an operation.
void Strand::renew_control(std::int64_t now) {
  if (now - renewed_ms_ < control_ms) return;
  renewed_ms_ = now;
  if (io::congestion_control(fd_.get()) != far_control || !io::set_congestion_control(fd_.get(), plain_control)) return;
  io::set_congestion_control(fd_.get(), far_control);
}

void Strand::ping() {
  {
    const std::lock_guard hold(guard);
    if (!out.empty() || !unsent_.empty()) return;  // what waits will say so
    OutFrame frame;
    frame.header.type = wire::FrameType::ping;
    frame.bytes = wire::encode_header(frame.header);
    out.push_back(std::move(frame));
  }
  send_some();
  engine_.on_sent(*this, gone_);
}

// ----------------------------------------------------------------------------------------------------------- reading

bool Strand::got(ssize_t bytes) {
  if (bytes > 0) {
    heard_ms_ = io::about_now_ms();
    arrived_ += static_cast<std::size_t>(bytes);
    return true;
  }
  if (bytes == 0) {
    fail("the other end closed the connection");
  } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
    fail(fmt::format("reading failed: {}", uv_strerror(-errno)));
  }
  return false;
}

void Strand::read_some() {
  if (!ring_in_) read_connection();
  if (ring_in_) read_ring();  // perhaps since what was just read
}

void Strand::read_connection() {
  const std::size_t before = arrived_;
  while (!closed_ && reading_ != Reading::parked && !ring_in_) {
    const bool in_place = in_begin_ == in_end_ && (reading_ == Reading::sink || reading_ == Reading::stash) &&
                          left_ >= in_place_bytes_min;
    if (!(in_place ? read_into_place() : read_into_buffer())) return;
    if (arrived_ - before >= read_bytes_per_event) return;
  }
}

bool Strand::read_into_buffer() {
  if (in_begin_ != 0) {
    std::memmove(in_.data(), in_.data() + in_begin_, in_end_ - in_begin_);
    in_end_ -= in_begin_;
    in_begin_ = 0;
  }
  const std::size_t room = std::min(read_ahead_bytes, in_.size() - in_end_);
  const ssize_t n = ::recv(fd_.get(), in_.data() + in_end_, room, MSG_DONTWAIT);
  if (!got(n)) return false;
  in_end_ += static_cast<std::size_t>(n);
  const bool full = static_cast<std::size_t>(n) == room;
  parse();
  return full;  // a short read means that the socket is empty
}

// Straight to where the payload goes, and the next header with it. Gives what is there of the payload; the buffer was
// empty.
ssize_t Strand::receive(std::byte* place, std::size_t size) {
  iovec parts[] = {{place, size}, {in_.data(), read_behind_bytes}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = size == left_ ? 2 : 1;
  const ssize_t n = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  in_begin_ = in_end_ = 0;
  if (n <= static_cast<ssize_t>(size)) return n;
  in_end_ = static_cast<std::size_t>(n) - size;
  arrived_ += in_end_;
  return static_cast<ssize_t>(size);
}

bool Strand::read_into_place() {
  ssize_t n = 0;
  if (reading_ == Reading::stash) {
    std::byte* const place = stash_.data() + (stash_.size() - left_);
    n = receive(place, left_);
    if (n > 0) sum_up({place, static_cast<std::size_t>(n)});
  } else {
    const std::lock_guard hold(guard);
    if (sink_.mode == Sink::Mode::copy) {
      sink_.save();
      std::byte* const place = sink_.dst + sink_.taken;
      n = receive(place, left_);
      if (n > 0) {
        sum_up({place, static_cast<std::size_t>(n)});
        if (digests_running_) written_.add(place, static_cast<std::size_t>(n));
        sink_.taken += static_cast<std::size_t>(n);
      }
    } else {
      std::memcpy(scratch(), carry_.data(), carried_);
      n = receive(scratch() + carried_, std::min(left_, scratch_bytes - carried_));
      if (n > 0) {
        sum_up({scratch() + carried_, static_cast<std::size_t>(n)});
        reduce_scratch(carried_ + static_cast<std::size_t>(n));
      }
    }
  }
  if (!got(n)) return false;
  left_ -= static_cast<std::size_t>(n);
  if (left_ == 0) frame_complete();
  parse();
  return true;
}

// Under the guard: what stands at the front of the scratch buffer.
void Strand::reduce_scratch(std::size_t bytes) {
  const std::size_t used = fill_sink({scratch(), bytes});
  carried_ = bytes - used;
  if (carried_ > carry_.size()) carried_ = 0;  // a discarding sink that lost its shape: nobody wants these bytes
  std::memcpy(carry_.data(), scratch() + used, carried_);
}

// Under the guard.
std::size_t Strand::fill_sink(std::span<const std::byte> bytes) {
  return sink_.take(bytes, digests_running_ ? &written_ : nullptr);
}

void Strand::feed_sink(std::span<const std::byte> bytes) {
  const std::lock_guard hold(guard);
  const bool aligned = carried_ == 0 && reinterpret_cast<std::uintptr_t>(bytes.data()) % sink_.in_size == 0 &&
                       bytes.size() % sink_.in_size == 0;
  if (sink_.mode == Sink::Mode::copy || aligned) {
    fill_sink(bytes);
    return;
  }
  while (!bytes.empty()) {
    const std::size_t n = std::min(bytes.size(), scratch_bytes - carried_);
    std::memcpy(scratch(), carry_.data(), carried_);
    std::memcpy(scratch() + carried_, bytes.data(), n);
    reduce_scratch(carried_ + n);
    bytes = bytes.subspan(n);
  }
}

void Strand::parse() {
  while (!closed_ && reading_ != Reading::parked && !ring_in_) {
    const std::size_t available = in_end_ - in_begin_;
    if (reading_ == Reading::header) {
      if (available < wire::frame_header_bytes) return;
      std::array<std::uint8_t, wire::frame_header_bytes> bytes;
      std::memcpy(bytes.data(), in_.data() + in_begin_, bytes.size());
      auto header = wire::decode_header(bytes);
      if (!header.ok()) return fail("not a data frame: " + header.status().text());
      in_begin_ += wire::frame_header_bytes;
      header_ = header.value();
      if (const std::size_t used = take_at_once({in_.data() + in_begin_, in_end_ - in_begin_}); used != 0) {
        in_begin_ += used;
      } else {
        begin_frame();
      }
    } else {
      if (available == 0) return;
      const std::size_t n = std::min(available, left_);
      const std::size_t begin = in_begin_;
      in_begin_ += n;
      feed({in_.data() + begin, n});
    }
  }
}

// A short frame that is here whole: one turn of the engine's mutex in place of three. Gives the bytes of its payload;
// 0: not so.
std::size_t Strand::take_at_once(std::span<const std::byte> ahead) {
  const bool fits = header_.length != 0 && header_.length <= std::min(ahead.size(), at_once_max);
  const bool short_kind = header_.type == wire::FrameType::data || header_.type == wire::FrameType::done ||
                          header_.type == wire::FrameType::begin;
  if (!fits || !short_kind) return 0;
  const std::span<const std::byte> payload = ahead.first(header_.length);
  if (header_.payload_sum != 0 &&
      wire::payload_sum(kernels::checksum(payload.data(), payload.size())) != header_.payload_sum) {
    return 0;  // that is told where it is read piece by piece
  }
  std::string why;
  bool taken = false;
  if (header_.type == wire::FrameType::data) {
    taken = engine_.on_data(*this, header_, payload, why);
  } else {  // a copy is read: shared memory may change under the reader
    const auto* data = reinterpret_cast<const std::uint8_t*>(payload.data());
    small_.assign(data, data + payload.size());
    taken = engine_.on_small_now(*this, header_, small_, why);
  }
  if (!taken) return 0;
  if (!why.empty()) refuse(why);
  return payload.size();
}

void Strand::begin_frame() {
  if (header_.type == wire::FrameType::ping || header_.type == wire::FrameType::share) {
    if (header_.type == wire::FrameType::ping) engine_.on_ping(*this, header_);
    reading_ = Reading::header;
    return header_.type == wire::FrameType::share ? on_share() : void();
  }
  std::string why;
  Sink sink;
  left_ = header_.length;
  const std::uint32_t drops = drops_.load();
  const Engine::Verdict verdict = engine_.on_header(*this, header_, sink, why);
  switch (verdict) {
    case Engine::Verdict::small:
      reading_ = Reading::small;
      small_.clear();
      break;
    case Engine::Verdict::sink:
    case Engine::Verdict::discard: {
      reading_ = Reading::sink;
      carried_ = 0;
      const std::lock_guard hold(guard);
      // The sink may have been taken away between the engine's answer and this line, for another attempt or because
      // another strand brings the unit.
      const bool dropped = drops_.load() != drops && verdict == Engine::Verdict::sink;
      if (dropped || (sink.op && sink.op->attempt.load() != sink.attempt)) sink = Sink{};
      sink_ = std::move(sink);
      sink_.dropped = dropped;
      digests_running_ = sink_.digests && sink_.bytes() >= digested_running_min;
      if (digests_running_) written_.begin(sink_.piece, sink_.count * sink_.out_size);
      break;
    }
    case Engine::Verdict::stash:
    case Engine::Verdict::whole:
      reading_ = Reading::stash;
      whole_ = verdict == Engine::Verdict::whole;
      stash_ = std::move(sink.whole);
      break;
    case Engine::Verdict::park:
      if (relays()) {  // its relay frame was let in by the same numbers
        engine_.on_discarded(*this, header_);
        return refuse("a frame of a view that is not here");
      }
      reading_ = Reading::parked;
      set_interest();
      return;
    case Engine::Verdict::refuse:
      if (relays()) engine_.on_discarded(*this, header_);
      return refuse(why);
  }
  if (header_.payload_sum != 0) arriving_.begin();
  if (left_ == 0) frame_complete();
}

void Strand::sum_up(std::span<const std::byte> bytes) {
  if (header_.payload_sum != 0) arriving_.add(bytes.data(), bytes.size());
}

void Strand::feed(std::span<const std::byte> bytes) {
  sum_up(bytes);
  switch (reading_) {
    case Reading::small: {
      const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
      small_.insert(small_.end(), data, data + bytes.size());
      break;
    }
    case Reading::stash:
      std::memcpy(stash_.data() + (stash_.size() - left_), bytes.data(), bytes.size());
      break;
    case Reading::sink:
      feed_sink(bytes);
      break;
    case Reading::header:
    case Reading::parked:
      return;
  }
  left_ -= bytes.size();
  if (left_ == 0) frame_complete();
}

void Strand::frame_complete() {
  if (header_.payload_sum != 0 && wire::payload_sum(arriving_.value()) != header_.payload_sum && is_wanted()) {
    log::message(log::Subsystem::data, log::Level::warn, "{} bytes from {} were damaged on the way and come again",
                 header_.length, short_name(peer_));
    return fail("bytes were damaged on the way");
  }
  const Reading what = reading_;
  reading_ = Reading::header;
  std::string why;
  if (what == Reading::small) {
    if (!engine_.on_small(*this, header_, small_, why)) refuse(why);
  } else if (what == Reading::stash) {
    ByteBuffer payload = std::exchange(stash_, {});
    if (header_.type == wire::FrameType::relay) return read_relayed(payload);
    if (!whole_) {
      if (!engine_.on_stash(*this, header_, std::move(payload), why)) refuse(why);
      return;
    }
    // A block of shared state is hashed here, outside of all locks.
    kernels::Digest hash;
    if (header_.type == wire::FrameType::data) hash = kernels::digest(payload.data(), payload.size(), header_.slice);
    if (!engine_.on_whole(*this, header_, std::move(payload), hash, why)) refuse(why);
  } else {
    Sink sink;
    kernels::Digest digest;
    {
      const std::lock_guard hold(guard);
      sink = std::move(sink_);
      sink_ = Sink{};
      if (sink.mode != Sink::Mode::discard && sink.count == 0) sink.save();
      if (sink.mode != Sink::Mode::discard && sink.digests) {
        digest = digests_running_ ? written_.value() : sink.digest();
      }
    }
    bool taken = true;
    if (sink.mode != Sink::Mode::discard) {
      taken = engine_.on_unit(*this, sink, digest);
    } else if (sink.dropped) {
      taken = engine_.on_dropped(*this, header_);
    } else {
      engine_.on_discarded(*this, header_);
    }
    if (!taken) {
      untaken_ = true;
      if (!relays()) fail("another connection brings the same, so that all of it has to come again");
    }
  }
}

// Of what is not, the sender may have let go meanwhile.
bool Strand::is_wanted() {
  if (reading_ != Reading::sink) return true;
  const std::lock_guard hold(guard);
  return sink_.mode != Sink::Mode::discard;
}

// The frame goes where it would go had its sender a strand here; only the count of this strand's frames and the answers
// are of the member that passed it on.
void Strand::read_relayed(const ByteBuffer& payload) {
  wire::Relay relay;
  std::string why;
  const Engine::Brought brought = engine_.on_relay(*this, header_, payload, relay, why);
  if (brought == Engine::Brought::refuse) return fail(why);
  if (brought == Engine::Brought::nothing) return;
  header_.type = wire::relayed_type(relay.what).value();
  header_.length -= static_cast<std::uint32_t>(wire::relay_bytes);
  header_.payload_sum = 0;  // that of the whole was right
  relayed_from_ = relay.from;
  untaken_ = false;
  begin_frame();
  if (reading_ != Reading::header) feed(payload.bytes().subspan(wire::relay_bytes));
  relayed_from_ = {};
  if (!untaken_) engine_.on_brought(*this, relay);
}

// The end of a strand, but what another member sent by way of this one is no fault of its own.
void Strand::refuse(const std::string& why) {
  if (!relays()) return fail(why);
  log::message(log::Subsystem::data, log::Level::debug, "a frame of {}, by way of {}, is not taken: {}",
               short_name(sender()), short_name(peer_), why);
  untaken_ = true;
  reading_ = Reading::header;
}

// ----------------------------------------------------------------------------------------------------------- sending

void Strand::push(OutFrame frame) {
  frame.bytes = wire::encode_header(frame.header);
  const std::lock_guard hold(guard);
  out.push_back(std::move(frame));
}

void Strand::pump() {
  if (closed_ || !poll_) return;
  if (index_ != 0) look_at_path(io::now_ms());
  for (std::size_t i = 0; i < sends_per_event; ++i) {
    if (!engine_.fill(*this, gone_)) {
      want_write_ = false;
      return;
    }
    if (!send_some()) return engine_.on_sent(*this, gone_);
  }
  engine_.on_sent(*this, gone_);
  want_write_ = true;  // goes on when the loop comes round
  set_interest();
}

bool Strand::send_some() {
  ssize_t n = 0;
  bool more = true;
  bool switched = false;
  int error = 0;
  if (!unsent_.empty()) {
    n = ::send(fd_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    error = errno;
    if (n > 0) unsent_.erase(unsent_.begin(), unsent_.begin() + n);
    more = unsent_.empty();
  } else {
    const std::lock_guard hold(guard);
    static constexpr std::array<std::byte, ring_grain> padding{};
    iovec iov[3 * frames_per_send];
    std::size_t parts = 0;
    std::size_t asked = 0;
    std::size_t skip = out_offset_;
    for (OutFrame& frame : out) {
      if (parts + 3 > std::size(iov) || (!local_ && asked >= sum_ahead_bytes)) break;
      const std::span<const std::byte> body = frame.body();
      if (!local_ && skip == 0 && !body.empty() && frame.header.payload_sum == 0) {
        frame.header.payload_sum = wire::payload_sum(kernels::checksum(body.data(), body.size()));
        frame.bytes = wire::encode_header(frame.header);
      }
      const std::size_t from_header = std::min(skip, frame.bytes.size());
      const std::size_t from_body = std::min(skip - from_header, body.size());
      const std::size_t from_padding = skip - from_header - from_body;
      skip = 0;
      const auto add = [&](const void* data, std::size_t size, std::size_t from) {
        if (from >= size) return;
        iov[parts++] = {const_cast<std::byte*>(static_cast<const std::byte*>(data)) + from, size - from};
        asked += size - from;
      };
      add(frame.bytes.data(), frame.bytes.size(), from_header);
      add(body.data(), body.size(), from_body);
      if (ring_out_) add(padding.data(), ring_padding(body.size()), from_padding);
      if (is_switch(frame)) break;  // the last one on the connection
    }
    if (broken_) {
      n = -1;
      errno = ECONNABORTED;
    } else if (ring_out_) {
      n = ring_out_->write({iov, parts});
      if (n < 0) errno = EPROTO;
    } else {
      msghdr message{};
      message.msg_iov = iov;
      message.msg_iovlen = parts;
      n = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    error = errno;
    if (n >= 0) more = static_cast<std::size_t>(n) == asked;
    if (n > 0) {
      out_offset_ += static_cast<std::size_t>(n);
      while (!out.empty()) {
        OutFrame& first = out.front();
        const std::size_t whole = ring_out_ ? padded(first) : first.bytes.size() + first.body().size();
        if (out_offset_ < whole) break;
        out_offset_ -= whole;
        if (first.digests && first.op && first.op->attempt.load() == first.attempt) {
          const std::uint64_t piece = first.op->schedule.piece(first.slice, first.step, true);
          first.digest = kernels::digest(first.payload.data(), first.payload.size(), piece);
        }
        switched = switched || is_switch(first);
        if (first.tracked()) {
          gone_.splice(gone_.end(), out, out.begin());
        } else {
          out.pop_front();
        }
      }
    }
  }
  if (n > 0) sent_ms_ = io::about_now_ms();
  if (switched) {
    engine_.on_sent(*this, gone_);  // before what may end the strand: frames come again in order
    switch_sending();
  }
  if (n < 0 && error != EAGAIN && error != EWOULDBLOCK && error != EINTR) {
    fail(fmt::format("sending failed: {}", uv_strerror(-error)));
    return false;
  }
  if (ring_out_ && !switched) {
    if (n > 0 && ring_out_->owes_bell()) {
      engine_.on_sent(*this, gone_);  // likewise
      ring_bell();
    }
    waits_for_room_ = !closed_ && !more && !ring_out_->wait();
    want_write_ = false;
    return !closed_ && !waits_for_room_;
  }
  if (n < 0 || !more) {
    want_write_ = true;
    set_interest();
    return false;
  }
  return true;
}

void Strand::detach(const OpRun& op, bool alone) {
  const std::lock_guard hold(guard);
  if (sink_.op.get() == &op) leave_sink();
  const bool half_sent = out_offset_ != 0 && !out.empty() && out.front().op.get() == &op;
  if (half_sent) {
    OutFrame& frame = out.front();
    frame.payload = {zeros(), frame.payload.size()};
    frame.op.reset();
    frame.digests = false;
  }
  std::erase_if(out, [&](const OutFrame& frame) { return frame.op.get() == &op; });
  if (!half_sent || !alone) return;
  broken_ = true;
  if (fd_.valid()) ::shutdown(fd_.get(), SHUT_RDWR);  // the io thread notices
}

// Under the guard.
void Strand::leave_sink() {
  sink_.leave();
  sink_ = Sink{};
}

void Strand::drop_sink(const OpRun& op) {
  const std::lock_guard hold(guard);
  ++drops_;
  if (sink_.op.get() != &op) return;
  leave_sink();
  sink_.dropped = true;
}

Frames Strand::take_back() {
  Frames frames;
  const std::lock_guard hold(guard);
  frames.splice(frames.end(), shared.unacked);
  frames.splice(frames.end(), out);
  // One that is wrapped, to go by way of a third, has another payload.
  for (OutFrame& frame : frames) frame.header.payload_sum = 0;
  out_offset_ = 0;
  ++drops_;  // a sink that its thread has been given and not yet set counts no more either
  leave_sink();
  return frames;
}

}  // namespace hawser::runtime
