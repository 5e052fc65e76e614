// A member beside a peer that a test plays byte by byte: in which order connections are read is said here, not left to
// chance. Whatever comes over a strand costs that strand at most: the operation ends with the right sum.
#include <algorithm>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "runtime/communicator.hpp"
#include "runtime/coordinator_service.hpp"
#include "support/catch.hpp"
#include "support/scripted_peer.hpp"
#include "wire/checksum.hpp"

using namespace hawser;
using namespace hawser::test;
using runtime::Communicator;

namespace {

constexpr std::int64_t join_ms = 60000;
constexpr std::chrono::seconds op_patience{60};  // after which the operation is taken to stand for ever

float of_member(std::size_t i) { return static_cast<float>(i % 64); }
float of_peer(std::size_t i) { return static_cast<float>(i % 61) * 128; }

std::vector<float> made(std::size_t count, float (*value)(std::size_t)) {
  std::vector<float> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = value(i);
  return out;
}

// No float that could be in a sum.
Bytes garbage(std::size_t size) { return Bytes(size, 0xA5); }

class Pair {
 public:
  Pair() : service_(coordinator()), member_(member(*service_)), joins_(join()), peer_(address()) {
    const Status joined = joins_.get();
    INFO(joined.text());
    REQUIRE(joined.ok());
  }
  ~Pair() { member_->close(); }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  ScriptedPeer& peer() { return peer_; }

  // The member's call, and what the peer has to do with it.
  void start(std::size_t count, bool in_place) {
    input_ = made(count, of_member);
    result_ = in_place ? input_ : std::vector<float>(count, -1.0F);
    runtime::OpCall call;
    call.kind = runtime::OpKind::all_reduce;
    call.send = reinterpret_cast<const std::byte*>(in_place ? result_.data() : input_.data());
    call.recv = reinterpret_cast<std::byte*>(result_.data());
    call.count = count;
    call.dtype = Dtype::f32;
    call.timeout_ms = 2 * std::chrono::milliseconds(op_patience).count();
    auto op = member_->engine().start(call);
    INFO(op.status().text());
    REQUIRE(op.ok());
    op_ = op.value();
  }
  // The peer does the rest, and then the sum is right at both, in the first attempt.
  void finish(ScriptedReduce& reduce) {
    INFO(reduce.plan().receive_count() << " units");
    REQUIRE(reduce.until([&] { return reduce.whole() && reduce.digest_of_member(); }, true, op_patience));
    REQUIRE((*reduce.digest_of_member() == reduce.digest()));
    reduce.say_done(reduce.digest());
    const runtime::OpReport report = member_->engine().wait(*op_, -1);
    INFO(report.status.text());
    REQUIRE(report.status.ok());
    CHECK(report.attempts == 1);
    CHECK(report.view == peer_.view().number);
    CHECK((result_ == reduce.sum()));
    CHECK(is_sum());
  }
  void cancel() { member_->engine().cancel(*op_); }
  Status wait() { return member_->engine().wait(*op_, -1).status; }
  [[nodiscard]] bool is_sum() const {
    bool right = true;
    for (std::size_t i = 0; i < result_.size(); ++i) right = right && result_[i] == of_member(i) + of_peer(i);
    return right;
  }
  [[nodiscard]] bool untouched() const { return result_ == input_; }

 private:
  static std::unique_ptr<runtime::CoordinatorService> coordinator() {
    // Nothing is said for the sake of the time alone.
    auto service = runtime::CoordinatorService::start({.heartbeat_ms = 10000, .peer_timeout_ms = 600000});
    REQUIRE(service.ok());
    return std::move(service.value());
  }
  static std::unique_ptr<Communicator> member(const runtime::CoordinatorService& service) {
    runtime::CommOptions options;
    REQUIRE(options.set_coordinators(service.address()).ok());
    options.min_size = 2;
    options.name = "real";
    options.strands = 1;
    options.io_threads = 1;  // reads one bulk strand after the other
    options.shares_memory = false;
    auto made = Communicator::create(options);
    REQUIRE(made.ok());
    return std::move(made.value());
  }
  std::future<Status> join() {
    return std::async(std::launch::async, [this] { return member_->join(join_ms); });
  }
  [[nodiscard]] io::SocketAddress address() const {
    const auto endpoint = io::parse_endpoint(service_->address(), io::EndpointUse::dial);
    REQUIRE(endpoint.ok());
    const auto address = io::SocketAddress::from_numeric(endpoint.value().host, *endpoint.value().port);
    REQUIRE(address);
    return *address;
  }

  std::unique_ptr<runtime::CoordinatorService> service_;
  std::unique_ptr<Communicator> member_;
  std::future<Status> joins_;
  ScriptedPeer peer_;
  std::vector<float> input_;
  std::vector<float> result_;
  std::shared_ptr<runtime::OpRun> op_;
};

constexpr std::size_t some = 500'000;

// A unit in two halves, for two strands that bring it both: the peer has given up the old one, so it is the newer one
// that it sends again for, if need be.
struct Twice {
  ScriptedReduce& reduce;
  Unit unit;
  std::shared_ptr<ScriptedStrand> old;
  std::shared_ptr<ScriptedStrand> newer;
  wire::FrameHeader header = reduce.header(wire::FrameType::data, unit);
  Bytes first = half(reduce.payload(unit), true);
  Bytes rest = half(reduce.payload(unit), false);
  Bytes other_first = garbage(first.size());
  Bytes other_rest = garbage(rest.size());

  void begin_old() const {
    old->count(std::nullopt);
    old->send(header);
  }
  void begin_newer() const {
    newer->count(reduce.owed(unit));
    newer->send(header);
  }
  static Bytes half(std::span<const std::uint8_t> payload, bool first) {
    const std::size_t cut = payload.size() / 2;
    const auto part = first ? payload.first(cut) : payload.subspan(cut);
    return {part.begin(), part.end()};
  }
};

// The bytes of one strand after the other, each read before the next are there.
void say(const std::shared_ptr<ScriptedStrand>& strand, const Bytes& bytes) {
  strand->send(bytes);
  strand->await_taken();
}

// For reduced units and for those that are only copied, in place and not.
void play_twice(const std::function<void(const Twice&)>& play, bool comes_again) {
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  const auto usual = peer.open(1);
  for (const bool in_place : {true, false}) {
    for (const std::uint32_t step : {0U, 1U}) {
      CAPTURE(in_place, step);
      const auto old = peer.open(2);
      const auto newer = peer.open(3);
      pair.start(some, in_place);
      ScriptedReduce reduce(peer, made(some, of_peer));
      reduce.say_begin();
      const Unit unit{2, step};
      reduce.withhold(unit);
      play(Twice{.reduce = reduce, .unit = unit, .old = old, .newer = newer});
      pair.finish(reduce);
      // What nobody has is not acknowledged, and the strand that brought it is given up, so that it comes again.
      CHECK(newer->ended() == comes_again);
      CHECK_FALSE(usual->ended());
      old->close();
      newer->close();
    }
  }
}

}  // namespace

TEST_CASE("a unit comes half over one strand, then whole over another", "[scripted]") {
  std::function<void(const Twice&)> play;
  SECTION("and the rest never comes") {
    play = [](const Twice& both) {
      both.begin_old();
      say(both.old, both.other_first);
      both.begin_newer();
      say(both.newer, both.first);
      say(both.newer, both.rest);
      both.old->close();
    };
  }
  SECTION("and the rest comes after all") {
    play = [](const Twice& both) {
      both.begin_old();
      say(both.old, both.other_first);
      both.begin_newer();
      say(both.newer, both.first);
      say(both.newer, both.rest);
      say(both.old, both.other_rest);
    };
  }
  SECTION("and the rest comes in between") {
    play = [](const Twice& both) {
      both.begin_old();
      say(both.old, both.other_first);
      both.begin_newer();
      say(both.newer, both.first);
      say(both.old, both.other_rest);
      say(both.newer, both.rest);
    };
  }
  SECTION("and the first one ends before") {
    play = [](const Twice& both) {
      both.begin_old();
      say(both.old, both.other_first);
      both.old->close();
      both.begin_newer();
      say(both.newer, both.first);
      say(both.newer, both.rest);
    };
  }
  play_twice(play, false);
}

// The member reads a header that had waited in the old strand after that of the newer one, takes the old one for the
// newer one, and does not want the bytes of the other any more.
TEST_CASE("a strand that was given up is read late and takes a unit over from its successor", "[scripted]") {
  std::function<void(const Twice&)> play;
  bool comes_again = true;
  SECTION("and ends half way, after the successor's last byte") {
    play = [](const Twice& both) {
      both.begin_newer();
      say(both.newer, both.first);
      both.begin_old();
      say(both.old, both.other_first);
      say(both.newer, both.rest);
      both.old->close();
    };
  }
  SECTION("and ends half way, before the successor's last byte") {
    play = [](const Twice& both) {
      both.begin_newer();
      say(both.newer, both.first);
      both.begin_old();
      say(both.old, both.other_first);
      both.old->close();
      say(both.newer, both.rest);
    };
  }
  SECTION("and ends before the first byte of the unit") {
    play = [](const Twice& both) {
      both.begin_newer();
      say(both.newer, both.first);
      both.begin_old();
      both.old->await_taken();
      both.old->close();
      say(both.newer, both.rest);
    };
  }
  SECTION("and brings all of it, later") {
    play = [](const Twice& both) {
      both.begin_newer();
      say(both.newer, both.other_first);
      both.begin_old();
      say(both.old, both.first);
      say(both.newer, both.other_rest);
      say(both.old, both.rest);
    };
  }
  SECTION("and brings all of it, sooner") {
    comes_again = false;
    play = [](const Twice& both) {
      both.begin_newer();
      say(both.newer, both.other_first);
      both.begin_old();
      say(both.old, both.first);
      say(both.old, both.rest);
      say(both.newer, both.other_rest);
    };
  }
  play_twice(play, comes_again);
}

TEST_CASE("a unit comes half before its call, and again after it", "[scripted]") {
  std::function<void(const Twice&, const std::function<void()>&)> play;
  SECTION("the first one ends half way") {
    play = [](const Twice& both, const std::function<void()>& call) {
      both.begin_old();
      say(both.old, both.other_first);
      call();
      both.begin_newer();
      say(both.newer, both.first);
      both.old->close();
      say(both.newer, both.rest);
    };
  }
  SECTION("the first one is whole sooner") {
    play = [](const Twice& both, const std::function<void()>& call) {
      both.begin_old();
      say(both.old, both.first);
      call();
      both.begin_newer();
      say(both.newer, both.other_first);
      say(both.old, both.rest);
      say(both.newer, both.other_rest);
    };
  }
  SECTION("the first one is whole later") {
    play = [](const Twice& both, const std::function<void()>& call) {
      both.begin_old();
      say(both.old, both.other_first);
      call();
      both.begin_newer();
      say(both.newer, both.first);
      say(both.newer, both.rest);
      say(both.old, both.other_rest);
    };
  }
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  const auto usual = peer.open(1);
  pair.start(some, true);
  ScriptedReduce before(peer, made(some, of_peer));
  before.say_begin();
  pair.finish(before);

  wire::OpKey key = before.key();
  ++key.sequence;
  ScriptedReduce reduce(peer, made(some, of_peer), key, before.params());
  const Unit unit{1, 0};
  reduce.withhold(unit);
  const Twice both{.reduce = reduce, .unit = unit, .old = peer.open(2), .newer = peer.open(3)};
  play(both, [&] { pair.start(some, true); });
  reduce.say_begin();
  pair.finish(reduce);
  CHECK_FALSE(both.newer->ended());
  CHECK_FALSE(usual->ended());
}

namespace {

// What a peer of another mind may say over a bulk strand, in place of a unit.
struct Hostile {
  const char* name;
  bool ends;  // the strand; else the member takes no notice, or reads no more of it
  std::function<void(ScriptedReduce&, ScriptedStrand&, Unit)> play;
};

wire::FrameHeader header_of(ScriptedReduce& reduce, Unit unit) { return reduce.header(wire::FrameType::data, unit); }

// A frame with this payload, which is acknowledged if it is taken.
void send(ScriptedStrand& strand, wire::FrameHeader header, const Bytes& payload) {
  header.length = static_cast<std::uint32_t>(payload.size());
  strand.count(std::nullopt);
  strand.send(header);
  strand.send(payload);
}

const Hostile hostile[] = {
    {"a unit with more bytes than it has", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       header.length += 4;
       strand.send(header);
     }},
    {"a unit with fewer bytes than it has", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       header.length -= 4;
       strand.send(header);
     }},
    {"the slice after the last one", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       header.slice = reduce.plan().slices();
       strand.send(header);
     }},
    {"the greatest slice that can be said", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       header.slice = ~0U;
       strand.send(header);
     }},
    {"the step after the last one", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       header.step = reduce.plan().steps();
       strand.send(header);
     }},
    {"a header with a bit that is flipped", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       auto bytes = wire::encode_header(header_of(reduce, unit));
       bytes[40] ^= 1;
       strand.send(bytes);
     }},
    {"no frame at all", true,
     [](ScriptedReduce&, ScriptedStrand& strand, Unit) { strand.send(garbage(wire::frame_header_bytes)); }},
    {"a Begin that cannot be read", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit) {
       send(strand, reduce.header(wire::FrameType::begin), garbage(49));
     }},
    {"a Done that cannot be read", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit) {
       send(strand, reduce.header(wire::FrameType::done), garbage(17));
     }},
    {"a relay frame that cannot be read", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit) {
       send(strand, reduce.header(wire::FrameType::relay), garbage(wire::relay_bytes));
     }},
    {"half a header", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       const auto bytes = wire::encode_header(header_of(reduce, unit));
       strand.send(std::span(bytes).first(bytes.size() / 2));
       strand.await_taken();
       strand.close();
     }},
    {"a header without a unit", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       strand.send(header_of(reduce, unit));
       strand.await_taken();
       strand.close();
     }},
    {"a unit without its end", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       const wire::FrameHeader header = header_of(reduce, unit);
       strand.send(header);
       strand.send(garbage(header.length - 1));
       strand.await_taken();
       strand.close();
     }},
    {"a unit that was damaged on the way", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       Bytes payload = garbage(header.length);
       header.payload_sum = wire::payload_sum(wire::checksum(payload));
       payload[header.length / 2] ^= 1;
       send(strand, header, payload);
     }},
    {"a Done that was damaged on the way", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit) {
       Bytes payload = wire::encode_done({});
       wire::FrameHeader header = reduce.header(wire::FrameType::done);
       header.payload_sum = wire::payload_sum(wire::checksum(payload));
       payload[0] ^= 1;
       send(strand, header, payload);
     }},
    // Nobody needs it, so its sender may have let go of the bytes meanwhile.
    {"a damaged unit of an epoch that is over", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       --header.epoch;
       header.payload_sum = 1;
       send(strand, header, garbage(header.length));
     }},
    {"an acknowledgement of more than was sent", false,
     [](ScriptedReduce&, ScriptedStrand& strand, Unit) {
       wire::FrameHeader header;
       header.check = ~0U;
       strand.send(header);
     }},
    // Not read before a view of that epoch is there, which may be never.
    {"data of an epoch to come", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       ++header.epoch;
       strand.send(header);
     }},
    {"data of a generation to come", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       ++header.key.generation;
       strand.send(header);
     }},
    {"data of an epoch that is over", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       --header.epoch;
       send(strand, header, garbage(header.length));
     }},
    {"data of a generation that is over", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       --header.key.generation;
       send(strand, header, garbage(header.length));
     }},
    {"bytes of a call with other parameters", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       header.check ^= 1;
       send(strand, header, garbage(header.length));
     }},
    {"a note in an operation that has no conversation", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit) {
       send(strand, reduce.header(wire::FrameType::note), garbage(100));
     }},
    {"a unit that is here already, with other bytes", false,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       reduce.send(strand, unit);
       const wire::FrameHeader header = header_of(reduce, unit);
       send(strand, header, garbage(header.length));
     }},
    // The last: what the member keeps, it keeps for a call that nobody makes.
    {"more for a call to come than a member keeps", true,
     [](ScriptedReduce& reduce, ScriptedStrand& strand, Unit unit) {
       wire::FrameHeader header = header_of(reduce, unit);
       header.key.tag = 7;
       header.key.sequence = 0;
       constexpr std::size_t kept = 8U << 20;
       for (std::size_t sent = 0; sent <= kept; sent += header.length) {
         header.slice = static_cast<std::uint32_t>(sent / header.length);
         send(strand, header, garbage(header.length));
       }
     }},
};

}  // namespace

TEST_CASE("units come in every order, over one connection or several, before Begin or after it", "[scripted]") {
  const std::uint32_t strands = GENERATE(1U, 3U);
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  for (std::uint32_t index = 1; index <= strands; ++index) peer.open(index);
  std::vector<std::uint32_t> slices = {0, 1, 2, 3};
  bool begin_first = false;
  do {
    CAPTURE(slices);
    begin_first = !begin_first;
    pair.start(some, begin_first);
    ScriptedReduce reduce(peer, made(some, of_peer));
    reduce.put_in_order(slices);
    if (begin_first) reduce.say_begin();
    reduce.send_ready();
    if (!begin_first) reduce.say_begin();
    pair.finish(reduce);
  } while (std::next_permutation(slices.begin(), slices.end()));
  for (const auto& strand : peer.strands()) CHECK_FALSE(strand->ended());
}

TEST_CASE("what a peer must not say costs the strand it is said over, and no more", "[scripted]") {
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  const auto usual = peer.open(1);
  constexpr std::size_t few = 300'000;
  for (const Hostile& said : hostile) {
    INFO(said.name);
    const auto strand = peer.open(2);
    pair.start(few, true);
    ScriptedReduce reduce(peer, made(few, of_peer));
    reduce.say_begin();
    const Unit unit{1, 0};
    reduce.withhold(unit);
    said.play(reduce, *strand, unit);
    if (said.ends) {
      REQUIRE(reduce.until([&] { return strand->ended(); }, false, op_patience));
    } else {
      strand->await_taken();
    }
    reduce.due(unit);
    reduce.use_only(usual);  // the other one may not be read any more
    pair.finish(reduce);
    CHECK(strand->ended() == said.ends);
    CHECK_FALSE(usual->ended());
    if (!strand->ended()) strand->close();
  }
}

TEST_CASE("a light strand is given up for what is said over it, and the next one goes on", "[scripted]") {
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  const auto light = peer.strands().front();
  const auto usual = peer.open(1);
  pair.start(some, true);
  ScriptedReduce reduce(peer, made(some, of_peer));
  reduce.say_begin();
  send(*light, reduce.header(wire::FrameType::done), garbage(17));
  REQUIRE(reduce.until([&] { return light->ended(); }, false, op_patience));
  const auto next = peer.open(0);
  reduce.say_begin();
  pair.finish(reduce);
  CHECK_FALSE(next->ended());
  CHECK_FALSE(usual->ended());
}

namespace {

// The peer's half of one exchange: its frames, once the member has sent its own.
struct SmallReduce {
  wire::FrameHeader data;
  Bytes payload;
  wire::FrameHeader done;
  Bytes verdict;

  SmallReduce(ScriptedPeer& peer, std::size_t count) {
    const std::vector<float> input = made(count, of_peer);
    payload.resize(count * sizeof(float));
    std::memcpy(payload.data(), input.data(), payload.size());
    std::vector<float> sum = made(count, of_member);
    for (std::size_t i = 0; i < count; ++i) sum[i] += input[i];

    data = await_data(peer);  // the other one's differs in nothing
    REQUIRE(data.length == payload.size());
    data.payload_sum = wire::payload_sum(wire::checksum(payload));
    kernels::Digest digest;
    digest.low = data.check;
    digest.combine(kernels::digest(reinterpret_cast<const std::byte*>(sum.data()), payload.size(), 0));
    verdict = wire::encode_done({{digest.high, digest.low}, {}});
    done.type = wire::FrameType::done;
    done.epoch = data.epoch;
    done.key = data.key;
    done.length = static_cast<std::uint32_t>(verdict.size());
  }
  [[nodiscard]] Bytes bytes() const {
    Bytes out;
    const auto add = [&](const auto& part) { out.insert(out.end(), part.begin(), part.end()); };
    add(wire::encode_header(data));
    add(payload);
    add(wire::encode_header(done));
    add(verdict);
    return out;
  }

 private:
  static wire::FrameHeader await_data(ScriptedPeer& peer) {
    const auto limit = Clock::now() + op_patience;
    while (Clock::now() < limit) {
      for (const auto& strand : peer.strands()) {
        for (const ReadFrame& frame : strand->read()) {
          if (frame.header.type == wire::FrameType::data) return frame.header;
        }
      }
      peer.wait(patience);
    }
    FAIL("the member sends nothing");
    return {};
  }
};

}  // namespace

TEST_CASE("the frames of a small operation come together or in pieces", "[scripted]") {
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  const auto light = peer.strands().front();
  // The largest is not read at one go.
  for (const std::size_t count : {std::size_t{1}, std::size_t{1000}, std::size_t{10000}}) {
    const std::size_t whole = count * sizeof(float);
    const std::size_t head = wire::frame_header_bytes;
    // Within the header, behind it, within the payload, behind it, and in the Done likewise; 0: not at all.
    for (const std::size_t cut : {std::size_t{0}, std::size_t{10}, head, head + whole / 2, head + whole,
                                  head + whole + 10, head + whole + head, head + whole + head + 5}) {
      CAPTURE(count, cut);
      pair.start(count, true);
      const SmallReduce reduce(peer, count);
      const Bytes bytes = reduce.bytes();
      light->count(std::nullopt);
      light->count(std::nullopt);
      if (cut != 0) say(light, {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut)});
      light->send(std::span(bytes).subspan(cut));
      const Status status = pair.wait();
      INFO(status.text());
      REQUIRE(status.ok());
      CHECK(pair.is_sum());
    }
  }
  CHECK_FALSE(light->ended());
}

TEST_CASE("a short frame that must not be taken is not", "[scripted]") {
  constexpr std::size_t few = 16;
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  bool ends = true;
  std::function<void(SmallReduce&, ScriptedStrand&)> play;
  SECTION("damaged data") {
    play = [](SmallReduce& reduce, ScriptedStrand& strand) {
      Bytes bytes = reduce.bytes();
      bytes[wire::frame_header_bytes] ^= 1;
      strand.send(bytes);
    };
  }
  SECTION("a damaged Done") {
    play = [](SmallReduce& reduce, ScriptedStrand& strand) {
      wire::FrameHeader done = reduce.done;
      done.payload_sum = wire::payload_sum(wire::checksum(reduce.verdict)) ^ 2;
      send(strand, done, reduce.verdict);
    };
  }
  SECTION("a Done that cannot be read") {
    play = [](SmallReduce& reduce, ScriptedStrand& strand) { send(strand, reduce.done, garbage(17)); };
  }
  SECTION("data of another length") {
    play = [](SmallReduce& reduce, ScriptedStrand& strand) {
      wire::FrameHeader data = reduce.data;
      data.payload_sum = 0;
      send(strand, data, garbage(reduce.payload.size() - sizeof(float)));
    };
  }
  SECTION("data of an epoch that is over") {
    ends = false;
    play = [](SmallReduce& reduce, ScriptedStrand& strand) {
      wire::FrameHeader data = reduce.data;
      data.payload_sum = 0;
      --data.epoch;
      send(strand, data, garbage(reduce.payload.size()));
    };
  }
  SECTION("a Done of an epoch that is over") {
    ends = false;
    play = [](SmallReduce& reduce, ScriptedStrand& strand) {
      wire::FrameHeader done = reduce.done;
      --done.epoch;
      send(strand, done, wire::encode_done({{1, 2}, {}}));
    };
  }
  SECTION("data of a call with other parameters") {
    ends = false;
    play = [](SmallReduce& reduce, ScriptedStrand& strand) {
      wire::FrameHeader data = reduce.data;
      data.payload_sum = 0;
      data.check ^= 1;
      send(strand, data, garbage(reduce.payload.size()));
    };
  }
  SECTION("data that is here already, with other bytes") {
    ends = false;
    play = [](SmallReduce& reduce, ScriptedStrand& strand) {
      send(strand, reduce.data, reduce.payload);
      wire::FrameHeader data = reduce.data;
      data.payload_sum = 0;
      send(strand, data, garbage(reduce.payload.size()));
    };
  }
  pair.start(few, true);
  SmallReduce reduce(peer, few);
  const auto first = peer.strands().front();
  play(reduce, *first);
  first->await_taken();
  const auto strand = ends ? peer.open(0) : first;
  strand->count(std::nullopt);
  strand->count(std::nullopt);
  strand->send(reduce.bytes());
  const Status status = pair.wait();
  INFO(status.text());
  REQUIRE(status.ok());
  CHECK(pair.is_sum());
  const auto limit = Clock::now() + op_patience;
  do {
    first->read();
  } while (ends && !first->ended() && Clock::now() < limit && peer.wait(patience));
  CHECK(first->ended() == ends);
}

// A strand keeps what it overwrites by and by, and the rest of it only when it is stopped in the middle.
TEST_CASE("what was half overwritten is given back whole when the operation ends in the middle", "[scripted]") {
  for (const std::uint32_t step : {0U, 1U}) {
    CAPTURE(step);
    Pair pair;
    ScriptedPeer& peer = pair.peer();
    const auto usual = peer.open(1);
    const auto strand = peer.open(2);
    pair.start(some, true);
    ScriptedReduce reduce(peer, made(some, of_peer));
    reduce.say_begin();
    const Unit unit{2, step};
    reduce.withhold(unit);
    strand->count(std::nullopt);
    strand->send(reduce.header(wire::FrameType::data, unit));
    say(strand, garbage(Twice::half(reduce.payload(unit), true).size()));
    if (step == 0) strand->close();  // by that, or by the end of the operation
    wire::OpState state;
    state.key = reduce.key();
    state.params = reduce.params();
    pair.cancel();
    peer.change_view(state);
    const Status status = pair.wait();
    INFO(status.text());
    CHECK(status.code() == Code::CANCELLED);
    CHECK(pair.untouched());
  }
}

TEST_CASE("a second Done with another digest ends the operation as diverged, and nothing else", "[scripted]") {
  Pair pair;
  ScriptedPeer& peer = pair.peer();
  const auto light = peer.strands().front();
  const auto usual = peer.open(1);
  pair.start(some, true);
  {
    ScriptedReduce reduce(peer, made(some, of_peer));
    reduce.say_begin();
    const Unit unit{0, 1};
    reduce.withhold(unit);
    REQUIRE(reduce.until([&] { return reduce.whole(); }, true, op_patience));
    const wire::Digest128 right = reduce.digest();
    const wire::Digest128 other{right.high, right.low + 1};
    reduce.say_done(right);
    // So often that the member says that it has heard it; with nothing else to say, it acknowledges 64 frames together.
    for (int i = 0; i < 64; ++i) reduce.say_done(other);
    const std::size_t said = light->unacknowledged().size();
    REQUIRE(reduce.until([&] { return light->unacknowledged().size() < said; }, true, op_patience));
    reduce.due(unit);
    reduce.send_ready();
    wire::OpState state;
    state.key = reduce.key();
    state.params = reduce.params();
    state.phase = wire::OpPhase::done;
    state.digest = other;
    peer.change_view(state);
  }
  const Status status = pair.wait();
  INFO(status.text());
  CHECK(status.code() == Code::DIVERGED);
  CHECK(pair.untouched());
  CHECK(peer.view().members.size() == 2);

  pair.start(some, true);
  ScriptedReduce reduce(peer, made(some, of_peer));
  reduce.say_begin();
  pair.finish(reduce);
  // When it is over, nobody hears.
  reduce.say_done({1, 2});
  pair.start(some, true);
  ScriptedReduce last(peer, made(some, of_peer));
  last.say_begin();
  pair.finish(last);
  CHECK_FALSE(light->ended());
  CHECK_FALSE(usual->ended());
}
