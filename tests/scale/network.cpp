// Events in the order of their time; see the header.
#include "scale/network.hpp"

#include <algorithm>
#include <deque>
#include <memory>
#include <queue>
#include <tuple>
#include <utility>
#include <vector>

#include "wire/messages.hpp"

namespace hawser::scale {
namespace {

constexpr std::size_t eager_bytes = 1U << 20;
constexpr std::size_t begin_bytes = wire::frame_header_bytes + 48;
constexpr std::size_t done_bytes = wire::frame_header_bytes + 18;

enum class Kind : std::uint8_t { begin, data, done };

struct Frame {
  Kind kind = Kind::data;
  Unit unit;
  [[nodiscard]] std::size_t bytes() const {
    if (kind == Kind::begin) return begin_bytes;
    return kind == Kind::done ? done_bytes : wire::frame_header_bytes + unit.bytes;
  }
};

struct Queued {
  Unit unit;
  std::uint32_t group = 0;
  std::uint32_t step = 0;                  // 0 where it does not count
  bool operator<(const Queued& o) const {  // for std::priority_queue: the first is the greatest
    return std::tie(group, step, unit.slice, o.unit.step) > std::tie(o.group, o.step, o.unit.slice, unit.step);
  }
};

// From one peer to another.
struct Flow {
  std::priority_queue<Queued> units;
  std::size_t eager = eager_bytes;  // what may still go before the other's Begin
  bool begun = false;               // it has come
  bool waits = false;               // for the limit of the flow
  bool in_turn = false;             // it stands in the peer's queue
};

struct Peer {
  std::unique_ptr<Plan> plan;
  std::vector<std::unique_ptr<Flow>> flows;  // by receiver, made when needed
  std::deque<Frame> light;                   // Begin and Done go first
  std::deque<std::uint32_t> turn;            // receivers for whom something can be sent
  double rate = 0;
  bool sending = false;     // its line out is busy
  double line_in_free = 0;  // when its line in is
  std::size_t sent_bytes = 0;
  std::uint32_t dones = 0;
  bool finished = false;
};

struct Event {
  double time = 0;
  std::uint64_t order = 0;  // of making, between events of one time
  enum class What : std::uint8_t { line_free, flow_free, reaches, arrived } what = What::line_free;
  std::uint32_t peer = 0;
  std::uint32_t other = 0;  // flow_free: the receiver; reaches, arrived: the sender
  Frame frame;              // reaches, arrived
  double last_byte_s = 0;   // reaches: when its last byte can be there
  bool operator<(const Event& o) const { return std::tie(time, order) > std::tie(o.time, o.order); }
};

class Network {
 public:
  Network(const Link& link, std::uint32_t size, std::size_t bytes, const Planner& planner) : link_(link), size_(size) {
    peers_.resize(size);
    for (std::uint32_t rank = 0; rank < size; ++rank) {
      Peer& peer = peers_[rank];
      peer.plan = planner({size, rank, bytes});
      peer.flows.resize(size);
      peer.rate = link.bytes_per_s / (link.slower ? link.slower(rank) : 1.0);
    }
  }

  std::optional<Times> run() {
    for (std::uint32_t rank = 0; rank < size_; ++rank) {
      for (const std::uint32_t to : peers_[rank].plan->greeted())
        peers_[rank].light.push_back({Kind::begin, {to, 0, 0, 0}});
      std::vector<Unit> ready;
      peers_[rank].plan->begin(ready);
      take(rank, ready);
    }
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      perform(event);
    }
    for (const Peer& peer : peers_) {
      if (!peer.finished || peer.dones + 1 != size_) return std::nullopt;
      times_.sent_bytes = std::max(times_.sent_bytes, peer.sent_bytes);
    }
    return times_;
  }

 private:
  Flow& flow(std::uint32_t from, std::uint32_t to) {
    auto& flow = peers_[from].flows[to];
    if (!flow) flow = std::make_unique<Flow>();
    return *flow;
  }

  void schedule(Event event) {
    event.order = order_++;
    events_.push(std::move(event));
  }

  // Units that became ready at a member, and whether it is through.
  void take(std::uint32_t rank, const std::vector<Unit>& ready) {
    Peer& peer = peers_[rank];
    for (const Unit& unit : ready) {
      flow(rank, unit.to).units.push({unit, unit.slice / link_.group, link_.group > 1 ? unit.step : 0});
      offer(rank, unit.to);
    }
    if (!peer.finished && peer.plan->finished()) {
      peer.finished = true;
      times_.data_s = std::max(times_.data_s, now_);
      for (std::uint32_t away = 1; away < size_; ++away) {
        peer.light.push_back({Kind::done, {(rank + away) % size_, 0, 0, 0}});
      }
      check_commit(peer);
    }
    send(rank);
  }

  // Puts a flow into its peer's turn if it has something that may go.
  void offer(std::uint32_t rank, std::uint32_t to) {
    Flow& flow = *peers_[rank].flows[to];
    if (flow.in_turn || flow.waits || flow.units.empty()) return;
    if (!flow.begun && flow.units.top().unit.bytes > flow.eager) return;
    flow.in_turn = true;
    peers_[rank].turn.push_back(to);
  }

  void send(std::uint32_t rank) {
    Peer& peer = peers_[rank];
    if (peer.sending) return;
    Frame frame;
    if (!peer.light.empty()) {
      frame = peer.light.front();
      peer.light.pop_front();
    } else if (!peer.turn.empty()) {
      const std::uint32_t to = peer.turn.front();
      peer.turn.pop_front();
      Flow& flow = *peer.flows[to];
      flow.in_turn = false;
      frame = {Kind::data, flow.units.top().unit};
      flow.units.pop();
      flow.eager -= std::min(flow.eager, frame.unit.bytes);
      peer.sent_bytes += frame.unit.bytes;
      ++times_.units;
      if (link_.flow_bytes_per_s > 0) {
        flow.waits = true;
        schedule({now_ + static_cast<double>(frame.bytes()) / link_.flow_bytes_per_s,
                  0,
                  Event::What::flow_free,
                  rank,
                  to,
                  {},
                  0});
      } else {
        offer(rank, to);
      }
    } else {
      return;
    }
    peer.sending = true;
    const auto bytes = static_cast<double>(frame.bytes());
    const bool limited = frame.kind == Kind::data && link_.flow_bytes_per_s > 0;
    const double rate = limited ? std::min(peer.rate, link_.flow_bytes_per_s) : peer.rate;
    schedule({now_ + bytes / peer.rate, 0, Event::What::line_free, rank, 0, {}, 0});
    schedule({now_ + link_.latency_s, 0, Event::What::reaches, frame.unit.to, rank, frame,
              now_ + bytes / rate + link_.latency_s});
  }

  void perform(const Event& event) {
    Peer& peer = peers_[event.peer];
    switch (event.what) {
      case Event::What::line_free:
        peer.sending = false;
        return send(event.peer);
      case Event::What::flow_free:
        peer.flows[event.other]->waits = false;
        offer(event.peer, event.other);
        return send(event.peer);
      case Event::What::reaches: {
        const double begin = std::max(now_, peer.line_in_free);
        peer.line_in_free = begin + static_cast<double>(event.frame.bytes()) / peer.rate;
        Event arrived = event;
        arrived.what = Event::What::arrived;
        arrived.time = std::max(peer.line_in_free, event.last_byte_s);
        return schedule(std::move(arrived));
      }
      case Event::What::arrived:
        return arrive(event);
    }
  }

  void arrive(const Event& event) {
    Peer& peer = peers_[event.peer];
    if (event.frame.kind == Kind::begin) {
      flow(event.peer, event.other).begun = true;
      offer(event.peer, event.other);
      return send(event.peer);
    }
    if (event.frame.kind == Kind::done) {
      ++peer.dones;
      return check_commit(peer);
    }
    std::vector<Unit> ready;
    peer.plan->receive(event.frame.unit.slice, event.frame.unit.step, ready);
    take(event.peer, ready);
  }

  void check_commit(const Peer& peer) {
    if (peer.finished && peer.dones + 1 == size_) times_.commit_s = std::max(times_.commit_s, now_);
  }

  const Link& link_;
  const std::uint32_t size_;
  std::vector<Peer> peers_;
  std::priority_queue<Event> events_;
  double now_ = 0;
  std::uint64_t order_ = 0;
  Times times_;
};

}  // namespace

std::optional<Times> all_reduce(const Link& link, std::uint32_t size, std::size_t bytes, const Planner& planner) {
  return Network(link, size, bytes, planner).run();
}

}  // namespace hawser::scale
