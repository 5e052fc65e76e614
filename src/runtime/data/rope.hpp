// What is known of the way to another member, from what the kernel says of the strands that go there, and what follows
// from it: how much is under way, how many strands help, how fast each may send. Pure: times and figures come with each
// call. Guarded by the engine's mutex.
//
// Congestion control of single connections knows neither of the others nor that work comes in bursts: after each pause
// it sends faster than the way takes, and the queue in front of the narrowest link overflows. So on a long way the rope
// paces its strands together, by what they deliver: no faster than that when a queue stands or much is lost, a little
// faster each round trip when none does. The kernel's control remains underneath.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>

#include "io/tcp_path.hpp"

namespace hawser::runtime {

inline constexpr std::int64_t near_rtt_us = 1000;  // less is the same machine or rack
inline constexpr std::int64_t far_rtt_us = 3000;   // more is a long way, where windows and strands matter
inline constexpr std::uint32_t strands_near = 1;
inline constexpr std::uint32_t strands_far = 2;  // at least
inline constexpr std::uint32_t strands_auto_max = 16;

class Rope {
 public:
  // What the kernel says of one bulk strand now. `waiting`: units wait for a strand.
  void sample(std::uint32_t index, const io::TcpPath& path, bool waiting, std::int64_t now_us);
  // Of the light strand: only its round trip.
  void round_trip(std::int64_t min_rtt_us);
  // A strand is gone; its successor counts from zero.
  void lost(std::uint32_t index) { strands_.erase(index); }

  [[nodiscard]] bool near() const { return rtt_us_ != 0 && rtt_us_ < near_rtt_us; }
  [[nodiscard]] bool far() const { return rtt_us_ >= far_rtt_us; }
  // Bytes on their way there and back while the way is full. 0 where that is no matter.
  [[nodiscard]] std::size_t under_way() const;
  // Bytes a second that this strand may send; 0: no limit.
  [[nodiscard]] std::uint64_t pace(std::uint32_t index) const;
  // How many bulk strands there should be.
  [[nodiscard]] std::uint32_t wanted() const { return wanted_; }
  // So many helped before.
  void remember(std::uint32_t strands) { wanted_ = std::max(wanted_, std::min(strands, strands_auto_max)); }

  [[nodiscard]] double rate() const { return rate_; }  // bytes a second that all have delivered together, at best

 private:
  struct Look {
    std::int64_t us = 0;
    std::int64_t busy_us = 0;
    std::uint64_t acked = 0;
    std::uint64_t sent = 0;
    std::uint32_t resent = 0;
  };
  struct Known {
    std::deque<Look> looks;    // of the last round trip, without a pause
    std::int64_t busy_us = 0;  // since when
    std::int64_t rtt_us = 0;   // now
    double rate = 0;           // delivered in the last round trip
    double loss = 0;           // part of the segments sent again
    bool slow = false;         // much slower than the others
    bool backlog = false;      // something waits for it
    bool known = false;        // it was busy long enough to tell
    bool idle = true;          // at the last look
    [[nodiscard]] bool paused(const io::TcpPath& path, std::int64_t now_us) const;
  };
  struct Round {
    double rate = 0;
    double loss = 0;
    double rtt_us = 0;
    std::size_t strands = 0;
    bool backlog = true;  // at each of them
  };
  [[nodiscard]] std::optional<Round> last_round(std::int64_t now_us) const;
  void judge(std::int64_t now_us);
  void set_pace(const Round& round);
  void judge_strands(double rate, bool lags);

  std::map<std::uint32_t, Known> strands_;
  std::int64_t rtt_us_ = 0;
  double rate_ = 0;
  double loss_ = 0;       // of late
  double pace_ = 0;       // of all; 0: no limit
  bool starting_ = true;  // what the way takes is not known yet
  double grown_ = 0;
  std::uint32_t flat_ = 0;   // round trips without growth
  std::uint32_t steps_ = 0;  // round trips in which the pace grew, without a queue in between
  bool in_queue_ = false;
  bool suspected_ = false;  // a queue, in the last judgement and not in the one before
  double unsuspected_ = 0;  // the pace before it
  std::int64_t judged_us_ = 0;
  double last_rtt_us_ = 0;
  double wander_us_ = 0;  // of the smoothed round trip, from one look to the next

  std::uint32_t wanted_ = strands_near;
  std::uint32_t rounds_ = 0;  // since strands were last added
  std::uint32_t lagged_ = 0;  // of those: slower than the pace, without a queue
  double best_ = 0;           // of all those rounds
  double reached_ = 0;        // before them
  bool trial_ = false;        // the next judgement tells whether they helped
  bool settled_ = false;      // the last ones did not
  std::uint32_t since_ = 0;   // judgements since then, while something is lost
};

}  // namespace hawser::runtime
