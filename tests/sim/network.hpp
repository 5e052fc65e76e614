// The network between processes: control connections (FIFO, may be reset, cut or swallow what one end sends) and the
// light strand of each pair of peers, which is made again after a loss and then repeats what was not acknowledged, as
// the data plane does. Ways between places may be blocked for a while: what is sent meanwhile arrives late, if at all.
// One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "protocol/membership/coordinator.hpp"
#include "sim/scheduler.hpp"
#include "wire/messages.hpp"

namespace hawser::sim {

class World;
using PeerIndex = std::uint32_t;  // into World::peers; every process has its own
using Place = std::uint32_t;      // a host: the slots of peers, then the addresses of coordinators

// A begin or done frame.
struct Frame {
  bool is_done = false;
  std::uint64_t epoch = 0;
  wire::OpKey key;
  wire::OpParams params;  // begin
  wire::Done done;        // done
};

class Network {
 public:
  using ConnId = protocol::ConnId;

  explicit Network(World& world) : world_(world) {}

  // ------------------------------------------------------------------------------------------ control connections
  void dial(PeerIndex peer, std::uint32_t address);  // answered by Peer::control_opened or control_failed
  void send_to_coordinator(ConnId id, wire::Message message);
  void send_to_peer(ConnId id, wire::Message message);
  void close_by_peer(ConnId id);
  void close_by_coordinator(ConnId id);
  void cut(ConnId id, bool peer_hears, bool coordinator_hears);
  void swallow(ConnId id, bool to_coordinator);
  [[nodiscard]] PeerIndex peer_of(ConnId id) const { return controls_.at(id).peer; }
  void slow_down(ConnId id, Micros delay, Micros until);

  // ---------------------------------------------------------------------------------------------- light strands
  void allow(PeerIndex self, PeerIndex other, bool dials);
  void part(PeerIndex self, PeerIndex other);
  void send(PeerIndex from, PeerIndex to, Frame frame);
  void cut_strand(PeerIndex a, PeerIndex b, Micros dead_until);
  [[nodiscard]] bool data_flows(PeerIndex a, PeerIndex b) const;
  [[nodiscard]] bool linked(PeerIndex a, PeerIndex b) const;
  // Nothing that is sent on this way before `until` arrives before then.
  void block(Place from, Place to, Micros until);
  [[nodiscard]] bool is_blocked(Place from, Place to) const { return blocked_until(from, to) > 0; }
  void heal();  // no edge is dead any more and no way blocked

  // The process of this peer is gone. Silently: its host is too, and nothing says so to the others.
  void gone(PeerIndex peer, ConnId control, bool silently);
  // The process of a coordinator is gone.
  void coordinator_gone(std::uint32_t coordinator);
  // Another process runs there: the host tells those who still send to the old one.
  void coordinator_back(std::uint32_t address);

 private:
  static constexpr Micros never = INT64_MAX;
  struct Control {
    PeerIndex peer = 0;
    std::uint32_t coordinator = 0;
    bool peer_open = true;
    bool coordinator_open = true;
    Micros last[2] = {0, 0};  // arrival of the newest message; 0: to the coordinator, 1: to the peer
    Micros lost_after[2] = {never, never};
    Micros slow = 0;
    Micros slow_until = 0;
  };
  struct Lane {
    std::deque<std::pair<std::uint64_t, Frame>> unacknowledged;
    std::uint64_t next = 1;
    std::uint64_t seen = 0;
    Micros last = 0;
    Micros lost_after = never;
  };
  struct Link {
    bool allowed[2] = {false, false};
    int dialler = -1;
    bool dialling = false;
    bool up = false;
    bool was_up = false;
    std::uint64_t session = 0;
    Micros dead_until = 0;
    Lane lanes[2];  // 0: from the lower index to the higher
  };
  using Pair = std::pair<PeerIndex, PeerIndex>;
  static Pair pair(PeerIndex a, PeerIndex b) { return a < b ? Pair{a, b} : Pair{b, a}; }

  [[nodiscard]] ActorId actor(PeerIndex peer) const;
  [[nodiscard]] ActorId coordinator_actor(std::uint32_t coordinator) const;
  Micros arrival(Control& control, int direction);
  void close_arrives(ConnId id, int direction, const std::string& why);
  Micros strand_delay();
  void try_link(const Pair& key, Micros delay);
  void went_down(const Pair& key, bool hears_first = true, bool hears_second = true);
  [[nodiscard]] Micros blocked_until(Place from, Place to) const;  // 0: it is not
  [[nodiscard]] Place place_of(PeerIndex peer) const;
  [[nodiscard]] Place place_of_coordinator(std::uint32_t coordinator) const;
  void unreachable_later(const Pair& key, int side);
  void transmit(const Pair& key, int direction, const std::pair<std::uint64_t, Frame>& item);

  World& world_;
  ConnId connections_ = 0;
  std::map<ConnId, Control> controls_;
  std::map<Pair, Link> links_;
  std::map<std::pair<Place, Place>, Micros> blocked_;
};

}  // namespace hawser::sim
