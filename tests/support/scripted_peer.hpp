// The second member of a group of two, played by a test: it keeps to the protocol where the test says nothing else, and
// says byte by byte what the test wants to be said. The first member is a real one in the same process; what it has
// read is seen at its end of a connection.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/kernels.hpp"
#include "plan/schedule.hpp"
#include "support/inbox.hpp"
#include "support/wire_client.hpp"
#include "wire/frame.hpp"

namespace hawser::test {

using Bytes = std::vector<std::uint8_t>;
using Clock = std::chrono::steady_clock;

inline void demand(bool fine, const char* what) {
  if (!fine) throw std::runtime_error(what);
}

// One unit of the plan.
struct Unit {
  std::uint32_t slice = 0;
  std::uint32_t step = 0;
  auto operator<=>(const Unit&) const = default;  // NOLINT(modernize-use-nullptr)
};

// A unit that a strand carries and that comes again elsewhere if it ends.
struct Owed {
  wire::OpKey key;
  Unit unit;
};

struct ReadFrame {
  wire::FrameHeader header;
  Bytes payload;
};

// A connection to the member, dialled by the test, after StrandHello and StrandAccept.
class ScriptedStrand {
 public:
  ScriptedStrand(const io::SocketAddress& to, const wire::StrandHello& hello) : client_(to), index_(hello.index) {
    demand(client_.send(hello), "StrandHello");
    demand(client_.await<wire::StrandAccept>().has_value(), "no StrandAccept");
  }

  [[nodiscard]] std::uint32_t index() const { return index_; }
  [[nodiscard]] int fd() { return client_.socket().fd(); }
  [[nodiscard]] bool ended() const { return ended_; }
  [[nodiscard]] const std::deque<std::optional<Owed>>& unacknowledged() const { return unacknowledged_; }

  // Any bytes, on nobody's account. A member that has closed takes none: read() tells.
  void send(std::span<const std::uint8_t> bytes) { (void)client_.socket().send(bytes); }
  void send(const wire::FrameHeader& header) { send(wire::encode_header(header)); }
  // A frame that the member has to acknowledge is under way, or the first bytes of it are.
  void count(const std::optional<Owed>& owed) { unacknowledged_.push_back(owed); }
  void close() {
    client_.socket().close();
    ended_ = true;
  }

  // What has come by now. Frames are acknowledged one by one.
  std::vector<ReadFrame> read() {
    std::array<std::uint8_t, 65536> buffer;
    while (!ended_) {
      const ssize_t size = recv(fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) break;
      if (size <= 0) {
        close();
        break;
      }
      in_.insert(in_.end(), buffer.begin(), buffer.begin() + size);
    }
    std::vector<ReadFrame> frames;
    std::size_t at = 0;
    while (in_.size() - at >= wire::frame_header_bytes) {
      std::array<std::uint8_t, wire::frame_header_bytes> head{};
      std::memcpy(head.data(), in_.data() + at, head.size());
      const auto header = wire::decode_header(head);
      demand(header.ok(), "the member sends what is no data frame");
      if (in_.size() - at - head.size() < header.value().length) break;
      const auto begin = in_.begin() + static_cast<std::ptrdiff_t>(at + head.size());
      frames.push_back({header.value(), Bytes(begin, begin + header.value().length)});
      at += head.size() + header.value().length;
      take(header.value());
    }
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(at));
    return frames;
  }

  // Until the member has taken everything out of its socket that was sent to it. No event tells of that, the kernel's
  // counters do. A member of one bulk io thread looks at it before anything that is sent from now on, to any strand.
  void await_taken() {
    const auto limit = Clock::now() + patience;
    while (!taken()) {
      demand(Clock::now() < limit, "the member does not read");
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

 private:
  void take(const wire::FrameHeader& header) {
    switch (header.type) {
      case wire::FrameType::ack:
        demand(header.check <= unacknowledged_.size(), "acknowledges more than was sent");
        unacknowledged_.erase(unacknowledged_.begin(), unacknowledged_.begin() + header.check);
        return;
      case wire::FrameType::ping:
      case wire::FrameType::share:
        return;
      default:
        if (ended_) return;
        wire::FrameHeader one;  // an acknowledgement
        one.check = 1;
        send(one);
    }
  }
  [[nodiscard]] bool taken() {
    const int other = other_end();
    if (other < 0) return true;
    const int now = 1;  // else the kernel may acknowledge 40 ms later
    int unsent = 0;
    int unread = 0;
    return setsockopt(other, IPPROTO_TCP, TCP_QUICKACK, &now, sizeof(now)) == 0 &&
           ioctl(fd(), SIOCOUTQ, &unsent) == 0 && unsent == 0 && ioctl(other, FIONREAD, &unread) == 0 && unread == 0;
  }
  // The member's descriptor; -1: it has closed.
  [[nodiscard]] int other_end() {
    sockaddr_storage own{};
    socklen_t own_size = sizeof(own);
    demand(getsockname(fd(), reinterpret_cast<sockaddr*>(&own), &own_size) == 0, "getsockname");
    for (int other = 0; other < 1024; ++other) {  // more than this process ever has
      sockaddr_storage remote{};
      socklen_t size = sizeof(remote);
      if (getpeername(other, reinterpret_cast<sockaddr*>(&remote), &size) != 0) continue;
      if (size == own_size && std::memcmp(&remote, &own, size) == 0) return other;
    }
    return -1;
  }

  WireClient client_;
  const std::uint32_t index_;
  bool ended_ = false;
  Bytes in_;
  std::deque<std::optional<Owed>> unacknowledged_;
};

// Joins second, so that it is the one that dials, and only the test decides when there is a strand.
class ScriptedPeer {
 public:
  explicit ScriptedPeer(const io::SocketAddress& coordinator, std::uint64_t id = 2) : control_(coordinator) {
    self_.high = 1;
    self_.low = id;
    await_waiting(coordinator);
    wire::Hello hello;
    hello.peer = self_;
    hello.min_size = 2;
    hello.name = "scripted";
    demand(control_.send(hello) && control_.await<wire::Welcome>(), "no Welcome");
    demand(control_.send(wire::Join{"", 1, 0}), "Join");  // nobody dials it
    const auto meet = control_.await<wire::Meet>();
    demand(meet && meet->dial, "is not the one that dials");
    ticket_ = meet->ticket;
    member_ = meet->peer.id;
    const auto address = io::SocketAddress::from_numeric(meet->peer.host, meet->peer.port);
    demand(address.has_value(), "the member's address is no number");
    address_ = *address;
    open(0);
    demand(control_.send(wire::Connected{member_}), "Connected");
    const auto install = control_.await<wire::Install>();
    demand(install && install->view.members.size() == 2 && install->view.members[1].peer.id == self_, "not the second");
    view_ = install->view;
  }

  [[nodiscard]] const wire::View& view() const { return view_; }

  // A new strand; one of the same index that still stands is replaced.
  std::shared_ptr<ScriptedStrand> open(std::uint32_t index) {
    strands_.push_back(std::make_shared<ScriptedStrand>(*address_, wire::StrandHello{self_, member_, ticket_, index}));
    return strands_.back();
  }
  // Those that have not ended, as far as is known.
  [[nodiscard]] std::vector<std::shared_ptr<ScriptedStrand>>& strands() { return strands_; }

  // Plays the view change that the member has asked for, with this to say of an operation.
  void change_view(const wire::OpState& state) {
    const auto seal = control_.await<wire::Seal>();
    demand(seal.has_value(), "no Seal");
    demand(control_.send(wire::SealReply{seal->term, view_.number, {state}}), "SealReply");
    const auto proposed = control_.await<wire::Propose>();
    demand(proposed.has_value(), "no Propose");
    const wire::Install& proposal = proposed->install;
    demand(control_.send(wire::Accept{proposal.term, proposal.view.number}), "Accept");
    const auto install = control_.await<wire::Install>();
    demand(install.has_value(), "no Install");
    view_ = install->view;
  }

  // Waits until one of the strands has something to say. False: none has within the time.
  bool wait(std::chrono::milliseconds time) {
    std::vector<pollfd> entries;
    for (const auto& strand : strands_) {
      if (!strand->ended()) entries.push_back({.fd = strand->fd(), .events = POLLIN, .revents = 0});
    }
    return poll(entries.data(), entries.size(), static_cast<int>(time.count())) > 0;
  }

 private:
  // Until the real member has come first.
  static void await_waiting(const io::SocketAddress& coordinator) {
    const auto limit = Clock::now() + patience;
    for (;;) {
      WireClient asks(coordinator);
      demand(asks.send(wire::StatusQuery{}), "StatusQuery");
      const auto report = asks.await<wire::StatusReport>();
      const auto waits = [](const wire::PeerStatus& peer) { return peer.state == wire::PeerState::waiting; };
      if (report && std::any_of(report->list.begin(), report->list.end(), waits)) return;
      demand(Clock::now() < limit, "the member does not join");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  WireClient control_;
  PeerId self_;
  PeerId member_;
  Ticket ticket_;
  std::optional<io::SocketAddress> address_;
  wire::View view_;
  std::vector<std::shared_ptr<ScriptedStrand>> strands_;
};

// The scripted peer's half of an all-reduce of f32 along the ring of two: what has to be sent when, what comes, and
// what comes to be. The test takes units out of the account (withhold) and sends them as it likes.
class ScriptedReduce {
 public:
  // Waits for the member's Begin, which says what is to be reduced.
  ScriptedReduce(ScriptedPeer& peer, std::vector<float> input) : peer_(peer), sum_(std::move(input)) {
    demand(until([&] { return begun_.has_value(); }), "the member does not begin");
    lay_out(begun_->params);
    const auto came = std::exchange(early_, {});
    for (const ReadFrame& frame : came) take(frame);
  }
  // Before the member makes the call.
  ScriptedReduce(ScriptedPeer& peer, std::vector<float> input, const wire::OpKey& key, const wire::OpParams& params)
      : peer_(peer), sum_(std::move(input)), key_(key) {
    lay_out(params);
  }

  [[nodiscard]] const plan::Schedule& plan() const { return plan_; }
  [[nodiscard]] const wire::OpKey& key() const { return key_; }
  [[nodiscard]] const wire::OpParams& params() const { return params_; }
  [[nodiscard]] const std::vector<float>& sum() const { return sum_; }
  [[nodiscard]] wire::FrameHeader header(wire::FrameType type, Unit unit = {}) const {
    wire::FrameHeader out;
    out.type = type;
    out.epoch = peer_.view().epoch;
    out.key = key_;
    if (type != wire::FrameType::data) return out;
    out.slice = unit.slice;
    out.step = unit.step;
    out.length = static_cast<std::uint32_t>(payload(unit).size());
    out.check = check_;
    return out;
  }
  // Of a unit that may be sent by now.
  [[nodiscard]] std::span<const std::uint8_t> payload(Unit unit) const {
    const plan::Segment segment = plan_.sent(unit.slice, unit.step);
    return {reinterpret_cast<const std::uint8_t*>(sum_.data() + segment.offset), segment.count * sizeof(float)};
  }

  // The peer keeps its word for everything but this unit, which is the test's until it is due again.
  void withhold(Unit unit) {
    demand(until([&] { return std::find(ready_.begin(), ready_.end(), unit) != ready_.end(); }), "is not due");
    std::erase(ready_, unit);
  }
  [[nodiscard]] Owed owed(Unit unit) const { return {key_, unit}; }
  void due(Unit unit) { ready_.push_back(unit); }
  void say_begin() { say(wire::FrameType::begin, wire::encode_begin({params_, 1.0})); }
  void say_done(wire::Digest128 digest) { say(wire::FrameType::done, wire::encode_done({digest, {}})); }
  // The digest of the result, once it is here.
  [[nodiscard]] wire::Digest128 digest() const { return {digest_.high, digest_.low}; }
  [[nodiscard]] std::optional<wire::Digest128> digest_of_member() const { return done_; }
  [[nodiscard]] bool whole() const { return received_.size() == plan_.receive_count(); }

  void send(ScriptedStrand& strand, Unit unit) {
    strand.count(owed(unit));
    strand.send(header(wire::FrameType::data, unit));
    strand.send(payload(unit));
  }
  // What is due goes over this strand from now on.
  void use_only(std::shared_ptr<ScriptedStrand> strand) { only_ = std::move(strand); }
  // Of the first units, by slice, this one after that.
  void put_in_order(const std::vector<std::uint32_t>& slices) {
    demand(slices.size() == plan_.slices(), "another number of units");
    for (std::size_t i = 0; i < slices.size(); ++i) ready_[i] = {slices[i], 0};
  }
  // Sends what is due, by the bulk strands in turn.
  void send_ready() {
    while (!ready_.empty()) {
      ScriptedStrand* const strand = next_strand();
      if (strand == nullptr) return;
      const Unit unit = ready_.front();
      ready_.pop_front();
      send(*strand, unit);
    }
  }
  // Reads until this holds; what is due is sent meanwhile where `sends`, and what was not acknowledged on a strand that
  // has ended is due again. False: it does not come to hold.
  bool until(const std::function<bool()>& holds, bool sends = false, std::chrono::milliseconds time = patience) {
    const auto limit = Clock::now() + time;
    for (;;) {
      read();
      if (sends) send_ready();
      if (holds()) return true;
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - Clock::now());
      if (left.count() <= 0) return false;
      peer_.wait(left);
    }
  }

 private:
  static constexpr std::size_t unit_bytes = 256U << 10;

  void lay_out(const wire::OpParams& params) {
    demand(params.count == sum_.size() && params.dtype == Dtype::f32 && params.coded == 0, "another call");
    params_ = params;
    check_ = wire::params_check(params);
    digest_.low = check_;
    plan::ScheduleInput input;
    input.shape = plan::all_reduce_shape(sum_.size() * sizeof(float), 2);
    input.size = 2;
    input.position = 1;
    input.count = sum_.size();
    input.unit_count_max = unit_bytes / sizeof(float);
    plan_ = plan::Schedule(input);
    demand(plan_.shape() == plan::Shape::ring, "does not go along the ring");
    for (std::uint32_t slice = 0; slice < plan_.slices(); ++slice) ready_.push_back({slice, 0});
  }
  void read() {
    for (const auto& strand : peer_.strands()) {
      for (const ReadFrame& frame : strand->read()) take(frame);
    }
    std::erase_if(peer_.strands(), [&](const auto& strand) {
      if (!strand->ended()) return false;
      for (const auto& owed : strand->unacknowledged()) {
        if (owed && owed->key == key_) ready_.push_back(owed->unit);
      }
      return true;
    });
  }
  void take(const ReadFrame& frame) {
    if (frame.header.type == wire::FrameType::begin) {
      const auto begin = wire::decode_begin(frame.payload);
      demand(begin.ok(), "a Begin that cannot be read");
      if (plan_.slices() == 0) key_ = frame.header.key;
      begun_ = begin.value();
      return;
    }
    if (plan_.slices() == 0) return early_.push_back(frame);
    if (frame.header.key != key_) return;
    if (frame.header.type == wire::FrameType::done) {
      const auto done = wire::decode_done(frame.payload);
      demand(done.ok(), "a Done that cannot be read");
      done_ = done.value().digest;
    }
    if (frame.header.type != wire::FrameType::data) return;
    const Unit unit{frame.header.slice, frame.header.step};
    if (!received_.insert(unit).second) return;  // it came twice
    const plan::Segment segment = plan_.received(unit.slice, unit.step);
    demand(frame.payload.size() == segment.count * sizeof(float), "a unit of another length");
    std::vector<float> values(segment.count);
    std::memcpy(values.data(), frame.payload.data(), frame.payload.size());
    float* const own = sum_.data() + segment.offset;
    for (std::size_t i = 0; i < segment.count; ++i) own[i] = plan_.reduces(unit.step) ? own[i] + values[i] : values[i];
    digest_.combine(kernels::digest(own, segment.count * sizeof(float), plan_.piece(unit.slice, unit.step, false)));
    if (unit.step == 0) ready_.push_back({unit.slice, 1});
  }
  void say(wire::FrameType type, const Bytes& payload) {
    for (const auto& strand : peer_.strands()) {
      if (strand->index() != 0) continue;
      wire::FrameHeader head = header(type);
      head.length = static_cast<std::uint32_t>(payload.size());
      strand->count(std::nullopt);
      strand->send(head);
      strand->send(payload);
      return;
    }
    demand(false, "no light strand");
  }
  ScriptedStrand* next_strand() {
    if (only_) return only_->ended() ? nullptr : only_.get();
    std::vector<ScriptedStrand*> bulk;
    for (const auto& strand : peer_.strands()) {
      if (strand->index() != 0 && !strand->ended()) bulk.push_back(strand.get());
    }
    return bulk.empty() ? nullptr : bulk[turn_++ % bulk.size()];
  }

  ScriptedPeer& peer_;
  std::vector<float> sum_;  // at first the input, segment by segment the result
  plan::Schedule plan_;
  wire::OpKey key_;
  wire::OpParams params_;
  std::uint32_t check_ = 0;
  std::optional<wire::Begin> begun_;
  std::vector<ReadFrame> early_;
  std::deque<Unit> ready_;
  std::set<Unit> received_;
  std::optional<wire::Digest128> done_;
  kernels::Digest digest_;
  std::shared_ptr<ScriptedStrand> only_;
  std::size_t turn_ = 0;
};

}  // namespace hawser::test
