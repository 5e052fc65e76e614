// Pacing and the number of strands; see the header.
#include "runtime/data/rope.hpp"

#include <cmath>
#include <utility>

namespace hawser::runtime {
namespace {

constexpr double rate_floor = 125e6;        // bytes a second, while nothing is known
constexpr std::int64_t clock_us = 10000;    // the kernel counts in its ticks
constexpr std::int64_t pause_us = 1000000;  // nothing known for so long: nobody looks at it

constexpr double buffer_bytes = 3.5e6;  // that a strand has under way with the usual send buffer of 4 MiB
constexpr double counted_for = 1.05;
constexpr std::uint64_t little_bytes = 64U << 10;  // under way between operations: acknowledgements, pings
constexpr double step_up = 0.04;                   // a round trip without a queue
constexpr double step_up_max = 0.25;
constexpr std::uint32_t steps_alike = 5;  // then each is larger: what was known of the way is no longer so
constexpr double step_down = 0.85;        // at most
constexpr double kept_up = 0.95;          // what is delivered, of the pace: then the pace is what limits it
constexpr double queue_part = 0.04;       // of the round trip, and
constexpr double queue_us = 3000;
constexpr double first_bytes = 14480;  // a round trip and strand: what TCP sends at first anyway (RFC 6928)
constexpr double pair_bytes = 3000;    // two segments
constexpr double gone = 0.25;
constexpr std::uint32_t flat_rounds = 3;
constexpr double wander_part = 1.0 / 8;
constexpr double wanders = 3;
constexpr double drain_rtts = 4;
constexpr double drain_min = 0.01;
constexpr double drain_max = 0.25;
constexpr double loss_much = 0.01;
constexpr double loss_some = 1e-6;
constexpr double loss_part = 1.0 / 64;
constexpr double near_law = 2;
constexpr double slow = 0.5;  // of its share

constexpr std::uint32_t rounds_to_judge = 10;  // a new strand takes some round trips to its full speed
constexpr std::uint32_t lagged_rounds = 8;     // of those
constexpr double helped = 1.25;                // by adding strands
constexpr std::uint32_t again = 8;             // judgements, until more are tried again
constexpr double changed = 0.75;               // the way, or what losses leave of it

// Bytes a second that a connection under CUBIC keeps where so much is lost (RFC 9438, section 5.1, with beta 0.7 and C
// 0.4); 0: nothing is lost.
double cubic_rate(double loss, double rtt_us) {
  if (loss < loss_some) return 0;
  return 1.054 * 1448 * std::pow(loss, -0.75) * std::pow(rtt_us / 1e6, -0.25);
}

}  // namespace

std::size_t Rope::under_way() const {
  if (!far()) return 0;
  return static_cast<std::size_t>(std::max(rate_, rate_floor) * static_cast<double>(rtt_us_) / 1e6);
}

void Rope::round_trip(std::int64_t min_rtt_us) {
  if (min_rtt_us > 0 && (rtt_us_ == 0 || min_rtt_us < rtt_us_)) rtt_us_ = min_rtt_us;
  if (!far()) return;
  const double buffers = rate_floor * static_cast<double>(rtt_us_) / 1e6 / buffer_bytes;
  const auto first = static_cast<std::uint32_t>(std::ceil(std::min<double>(buffers, strands_auto_max)));
  wanted_ = std::max({wanted_, strands_far, first});
}

void Rope::sample(std::uint32_t index, const io::TcpPath& path, bool waiting, std::int64_t now_us) {
  round_trip(path.min_rtt_us);
  if (!far()) return;
  Known& strand = strands_[index];
  const bool idle = !waiting && path.unsent == 0 && path.flying <= little_bytes;
  if (idle || strand.idle || strand.paused(path, now_us)) {
    strand.looks.clear();
    strand.busy_us = now_us;
    strand.known = false;
    strand.backlog = true;
  }
  strand.idle = idle;
  strand.looks.push_back({now_us, path.busy_us, path.acked, path.sent_segments, path.resent});
  strand.rtt_us = path.rtt_us;
  strand.backlog = waiting || path.unsent != 0;
  // Nothing comes back in the first round trip; what came in the second is what the way takes.
  while (strand.looks.size() > 2 && now_us - strand.looks[1].us >= rtt_us_) strand.looks.pop_front();
  const Look& first = strand.looks.front();
  if (now_us - strand.busy_us < 2 * rtt_us_ || now_us - first.us < rtt_us_) return;
  const double seconds = static_cast<double>(now_us - first.us) / 1e6;
  strand.rate = static_cast<double>(path.acked - first.acked) / seconds;
  const auto sent = static_cast<double>(path.sent_segments - first.sent);
  strand.loss = sent < 1 ? 0 : static_cast<double>(path.resent - first.resent) / sent;
  strand.known = true;
  if (now_us - judged_us_ >= rtt_us_) judge(now_us);
}

bool Rope::Known::paused(const io::TcpPath& path, std::int64_t now_us) const {
  const std::int64_t passed = now_us - looks.back().us;
  return path.busy_us - looks.back().busy_us < passed - std::max(clock_us, passed / 8);
}

// Of all strands together; nothing while one of them is not known.
std::optional<Rope::Round> Rope::last_round(std::int64_t now_us) const {
  Round round;
  for (const auto& [index, strand] : strands_) {
    if (strand.idle || now_us - strand.looks.back().us > pause_us) continue;
    if (!strand.known) return std::nullopt;
    ++round.strands;
    round.rate += strand.rate;
    round.loss += strand.loss;
    round.backlog = round.backlog && strand.backlog;
    const auto strand_us = static_cast<double>(strand.rtt_us);
    // A queue stands before all of them.
    round.rtt_us = round.rtt_us == 0 ? strand_us : std::min(round.rtt_us, strand_us);
  }
  if (round.strands == 0) return std::nullopt;
  round.loss /= static_cast<double>(round.strands);
  return round;
}

void Rope::judge(std::int64_t now_us) {
  const auto round = last_round(now_us);
  if (!round) return;
  judged_us_ = now_us;
  const double rate = round->rate;
  const double share = rate / static_cast<double>(round->strands);
  if (round->backlog) {
    for (auto& [index, strand] : strands_) strand.slow = strand.known && strand.rate < slow * share;
  }
  rate_ = std::max(rate, rate_ - (rate_ - rate) / 64);
  loss_ += (round->loss - loss_) * loss_part;
  set_pace(*round);
  // Up to the rate that the first strands were counted for nothing says that the way takes more than they deliver,
  // unless they delivered more before, or as little as losses leave of a connection.
  const bool held_back = rate > counted_for * rate_floor || rate < changed * rate_ ||
                         share < near_law * cubic_rate(loss_, static_cast<double>(rtt_us_));
  if (round->backlog) judge_strands(rate, !in_queue_ && held_back && rate < kept_up * pace_);
}

void Rope::set_pace(const Round& round) {
  const double rate = round.rate;
  const auto floor_us = static_cast<double>(rtt_us_);
  // Where round trips vary by themselves the smoothed one is always longer than the shortest, and wanders.
  const double moved = last_rtt_us_ == 0 ? 0 : std::abs(round.rtt_us - last_rtt_us_);
  wander_us_ += (moved - wander_us_) * wander_part;
  last_rtt_us_ = round.rtt_us;
  // The other end acknowledges two segments at once, or one some time later.
  const double pair_us = rate < 1 ? 0 : 1e6 * pair_bytes * static_cast<double>(round.strands) / rate;
  const double allowed_us = floor_us * queue_part + queue_us + wanders * wander_us_ + pair_us;
  const double waited_us = std::max(0.0, round.rtt_us - floor_us);
  // So much less that the queue has gone within some round trips.
  const double drain = std::clamp(waited_us / (drain_rtts * floor_us), drain_min, drain_max);
  const bool lossy = round.loss > loss_much;
  const bool queue = lossy || waited_us > allowed_us;
  const bool suspected = std::exchange(suspected_, queue && !in_queue_ && !lossy);
  if (suspected_) unsuspected_ = pace_;
  in_queue_ = queue;
  if (queue) steps_ = 0;
  if (starting_) {
    flat_ = rate > 1.1 * grown_ ? 0 : flat_ + 1;
    grown_ = std::max(grown_, rate);
  }
  if (suspected && !queue && waited_us < gone * allowed_us) {
    // The queue of a pace that was too high is still seen a round trip later; somebody stood still for a moment.
    pace_ = unsuspected_;
  } else if (starting_) {
    starting_ = !suspected && !lossy && flat_ < flat_rounds;
    if (queue || !starting_) pace_ = queue && !suspected_ ? (1 - drain) * rate : rate;
  } else if (queue && round.backlog) {
    pace_ = std::clamp((1 - drain) * rate, step_down * pace_, pace_);
  } else if (!queue && rate > kept_up * pace_) {
    const std::uint32_t further = ++steps_ > steps_alike ? steps_ - steps_alike : 0;
    pace_ *= 1 + std::min(step_up * (1 + further), step_up_max);
  }
  if (pace_ != 0) pace_ = std::max(pace_, first_bytes * static_cast<double>(round.strands) * 1e6 / floor_us);
}

// More of them may help where those that are there do not keep up with the pace, though no queue stands: each is held
// back by its own window or by losses.
void Rope::judge_strands(double rate, bool lags) {
  best_ = std::max(best_, rate);
  if (lags) ++lagged_;
  if (++rounds_ < rounds_to_judge) return;
  const bool want_more = lagged_ >= lagged_rounds && wanted_ < strands_auto_max;
  const bool worse = best_ < changed * reached_;
  if (trial_) settled_ = best_ < helped * reached_;
  // What single strands reach under losses is chance, and so was what the last trial showed.
  since_ = settled_ && loss_ > loss_some ? since_ + 1 : 0;
  if (since_ >= again) settled_ = false;
  if (want_more && (!settled_ || worse)) {
    wanted_ = std::min(2 * wanted_, strands_auto_max);
    trial_ = true;
    settled_ = false;
    reached_ = best_;
  } else if (trial_ || worse) {
    trial_ = false;
    reached_ = best_;
  }
  best_ = 0;
  rounds_ = lagged_ = 0;
}

// Equal shares, but what a strand cannot use goes to the others.
std::uint64_t Rope::pace(std::uint32_t index) const {
  if (pace_ == 0) return 0;
  const double share = pace_ / static_cast<double>(std::max<std::size_t>(1, strands_.size()));
  double left = pace_;
  double others = 0;
  for (const auto& [other, strand] : strands_) {
    left -= strand.slow ? strand.rate : 0;
    others += strand.slow ? 0 : 1;
  }
  const auto it = strands_.find(index);
  const bool equal = it == strands_.end() || it->second.slow || others < 1;
  return static_cast<std::uint64_t>(equal ? share : std::max(share, left / others));
}

}  // namespace hawser::runtime
