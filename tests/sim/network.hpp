// The network between processes: control connections (FIFO, may be reset, cut or swallow what one end sends) and the
// light strand of each pair of peers, which is made again after a loss and then repeats what was not acknowledged, as
// the data plane does. Ways between places may be blocked for a while: what is sent meanwhile arrives late, if at all.
// Where a pair has had no strand for a heartbeat its frames go by way of a third, by the rules of
// runtime/data/engine_relay.cpp (relays.cpp). One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "protocol/membership/coordinator.hpp"
#include "sim/scheduler.hpp"
#include "wire/messages.hpp"

namespace hawser::sim {

class World;
using PeerIndex = std::uint32_t;  // into World::peers; every process has its own
using Place = std::uint32_t;      // a host: the slots of peers, then the addresses of coordinators

// A begin or done frame, or all that one participant gives another of its data, where no strand can bring that.
struct Frame {
  enum class Kind : std::uint8_t { begin, done, data } kind = Kind::begin;
  std::uint64_t epoch = 0;
  wire::OpKey key;
  wire::OpParams params;  // begin
  wire::Done done;        // done
};

// On its way by a third; or the answer to that, which has the same number.
struct Relay {
  enum class What : std::uint8_t { frame, receipt, no_way } what = What::frame;
  PeerIndex from = 0;
  PeerIndex to = 0;
  std::uint64_t number = 0;
  Frame frame;
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
  bool send(PeerIndex from, PeerIndex to, Frame frame);  // false: these two have nothing to do with each other
  void slow_strand(PeerIndex from, PeerIndex to, Micros delay, Micros until);
  void cut_strand(PeerIndex a, PeerIndex b, Micros dead_until);
  // Nothing may have come through for the peer timeout then: the strand is given up.
  void fall_silent(PeerIndex a, PeerIndex b);
  [[nodiscard]] bool data_flows(PeerIndex a, PeerIndex b) const;
  [[nodiscard]] bool is_up(PeerIndex a, PeerIndex b) const;
  [[nodiscard]] bool has_stood(PeerIndex a, PeerIndex b, Micros since) const;
  // Nothing that is sent on this way before `until` arrives before then.
  void block(Place from, Place to, Micros until);
  [[nodiscard]] bool is_blocked(Place from, Place to) const { return blocked_until(from, to) > 0; }
  [[nodiscard]] bool is_cut_off(Place place) const;  // a way from or to it is blocked
  void heal();  // no way is blocked any more, and no edge dead but those that are so for good
  static constexpr Micros never = INT64_MAX;

  // ------------------------------------------------------------------- by way of a third (relays.cpp); as this peer
  void pass_on(PeerIndex third, const Relay& relay);
  void answer(PeerIndex by, PeerIndex speaker, const Relay& relay, Relay::What what);
  void answered(PeerIndex self, PeerIndex speaker, const Relay& relay);
  [[nodiscard]] bool may_hear(PeerIndex self, PeerIndex other) const;

  // The process of this peer is gone. Silently: its host is too, and nothing says so to the others.
  void gone(PeerIndex peer, ConnId control, bool silently);
  // The process of a coordinator is gone.
  void coordinator_gone(std::uint32_t coordinator);
  // Another process runs there: the host tells those who still send to the old one.
  void coordinator_back(std::uint32_t address);

 private:
  static constexpr PeerIndex nobody = UINT32_MAX;
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
  struct Item {
    std::uint64_t number = 0;
    Frame frame;
    PeerIndex via = nobody;  // who was given it
    Micros sent = 0;         // to that one
  };
  struct Refused {
    Micros until = 0;
    Micros delay = 0;
  };
  struct Lane {
    std::deque<Item> unacknowledged;
    std::uint64_t next = 1;
    std::uint64_t seen = 0;
    Micros last = 0;
    Micros lost_after = never;
    Micros slow = 0;
    Micros slow_until = 0;
    // While there is no strand.
    PeerIndex via = nobody;
    bool proven = false;  // a receipt has come by that way
    std::map<PeerIndex, Refused> no_way;
    Micros look_at = never;
    // What this end passes on for others and the other end has not taken in.
    std::map<std::uint64_t, Relay> passing;
    std::set<std::uint64_t> brought;  // to the other end, by others
  };
  struct Link {
    bool allowed[2] = {false, false};
    int dialler = -1;
    bool dialling = false;
    bool up = false;
    std::uint64_t session = 0;
    Micros since = 0;  // it is up or down
    Micros dead_until = 0;
    bool watched[2] = {false, false};
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
  void set_down(const Pair& key);
  void went_down(const Pair& key, bool hears_first = true, bool hears_second = true);
  [[nodiscard]] Micros blocked_until(Place from, Place to) const;  // 0: it is not
  [[nodiscard]] Place place_of(PeerIndex peer) const;
  [[nodiscard]] Place place_of_coordinator(std::uint32_t coordinator) const;
  void unreachable_later(const Pair& key, int side);
  Micros arrival(Lane& lane, PeerIndex from, PeerIndex to);
  void transmit(const Pair& key, int direction, const Item& item);
  [[nodiscard]] Lane& lane(PeerIndex from, PeerIndex to);
  [[nodiscard]] PeerIndex way_to(PeerIndex from, PeerIndex to, Lane& lane) const;
  void look_later(PeerIndex from, PeerIndex to, Micros when);
  void look(PeerIndex from, PeerIndex to);
  void refuse_way(Lane& lane, PeerIndex via);
  void lose_way(PeerIndex self, PeerIndex via);
  void bounce(PeerIndex third, PeerIndex to);
  void hop(PeerIndex here, PeerIndex there, const Relay& relay);

  World& world_;
  ConnId connections_ = 0;
  std::map<ConnId, Control> controls_;
  std::map<Pair, Link> links_;
  std::map<std::pair<Place, Place>, Micros> blocked_;
  std::uint64_t hops_ = 0;
};

}  // namespace hawser::sim
