// What follows from what the kernel says of strands, on a way that is modelled here: a rate, a round trip, a queue, and
// strands that each can send only so fast.
#include "runtime/data/rope.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <vector>

#include "support/catch.hpp"

using namespace hawser::runtime;
using hawser::io::TcpPath;

namespace {

constexpr std::int64_t tick_us = 25000;
constexpr double mega = 1e6;

struct Way {
  double rate = 120 * mega;  // bytes a second
  std::int64_t rtt_us = 100000;
  std::int64_t jitter_us = 0;  // at most: what the smoothed round trip is longer than the shortest one
  std::uint32_t random = 1;
  double strand_max = 30 * mega;    // of each: its window, or what losses leave of it
  double first = 0;                 // of each, at the start; then twice as much with each round trip. 0: strand_max
  bool halves = false;              // as TCP does: half the speed after a loss, then four segments more a round trip
  double loss = 0;                  // part of the segments sent again
  bool more = true;                 // waits to be sent, always
  std::int64_t hiccup_us = 0;       // what the round trip is longer now
  std::vector<double> single = {};  // instead, of the first strands
  double queue = 0;                 // bytes
  double queue_max = 0;
  std::int64_t now_us = 1000000;
  struct Strand {
    double sent = 0;
    double arrived = 0;
    double reached = 0;  // the speed
    double halved(double part, std::int64_t trip_us, std::uint32_t& dice) {
      const double segments = reached * static_cast<double>(tick_us) / 1e6 / 1448;
      dice = dice * 1664525U + 1013904223U;
      const bool lost = (dice >> 8) < part * segments * (1U << 24);
      const double rtts = static_cast<double>(tick_us) / static_cast<double>(trip_us);
      return lost ? reached / 2 : reached + 4 * 1448 * rtts * 1e6 / static_cast<double>(trip_us);
    }
    std::deque<double> on_way;  // arrived by tick, acknowledged a round trip later
  };
  std::vector<Strand> strands = {};

  void pass(Rope& rope, double seconds) {
    const double tick = static_cast<double>(tick_us) / 1e6;
    const auto ticks = static_cast<std::size_t>(rtt_us / tick_us);
    for (double left = seconds; left > 0; left -= tick) {
      now_us += tick_us;
      while (strands.size() < std::max<std::uint32_t>(1, rope.wanted())) strands.emplace_back();
      double offered = 0;
      std::vector<double> each;
      for (std::size_t i = 0; i < strands.size(); ++i) {
        double speed = i < single.size() ? single[i] : strand_max;
        if (first > 0) {
          const double growth = std::exp2(static_cast<double>(tick_us) / static_cast<double>(rtt_us));
          speed = std::min(speed, std::max(first, growth * strands[i].reached));
        }
        const auto pace = static_cast<double>(rope.pace(static_cast<std::uint32_t>(i + 1)));
        if (pace > 0) speed = std::min(speed, pace);
        if (halves) speed = std::min(speed, strands[i].halved(loss, rtt_us, random));
        strands[i].reached = speed;
        each.push_back(speed * tick);
        offered += each.back();
      }
      const double waiting = queue + offered;
      const double carried = std::min(rate * tick, waiting);
      queue = waiting - carried;
      queue_max = std::max(queue_max, queue);
      random = random * 1664525U + 1013904223U;
      const auto jitter = static_cast<std::int64_t>(static_cast<double>(jitter_us) * (random >> 8) / (1U << 24));
      const auto rtt = rtt_us + hiccup_us + jitter + static_cast<std::int64_t>(queue / rate * 1e6);
      for (std::size_t i = 0; i < strands.size(); ++i) {
        Strand& strand = strands[i];
        strand.sent += each[i];
        strand.arrived += carried * each[i] / offered;
        strand.on_way.push_back(strand.arrived);
        if (strand.on_way.size() > ticks + 1) strand.on_way.pop_front();
        TcpPath path;
        path.min_rtt_us = rtt_us;
        path.rtt_us = rtt;
        path.acked = strand.on_way.size() > ticks ? static_cast<std::uint64_t>(strand.on_way.front()) : 0;
        path.flying = static_cast<std::uint64_t>(strand.sent) - path.acked;
        path.busy_us = now_us;
        path.sent_segments = static_cast<std::uint32_t>(strand.sent / 1448);
        path.resent = static_cast<std::uint32_t>(loss * strand.sent / 1448);
        rope.sample(static_cast<std::uint32_t>(i + 1), path, more, now_us);
      }
    }
  }
};

double paced(const Rope& rope, std::size_t strands) {
  double sum = 0;
  for (std::uint32_t index = 1; index <= strands; ++index) sum += static_cast<double>(rope.pace(index));
  return sum;
}

}  // namespace

TEST_CASE("near peers need one strand, whatever passes", "[rope]") {
  Rope rope;
  CHECK(rope.wanted() == 1);
  rope.round_trip(200);
  CHECK(rope.near());
  Way way{.rtt_us = 200};
  way.pass(rope, 5);
  CHECK(rope.wanted() == 1);
  CHECK(rope.pace(1) == 0);
  CHECK(rope.under_way() == 0);
}

TEST_CASE("far peers get several strands before anything is sent", "[rope]") {
  Rope rope;
  rope.round_trip(40000);
  CHECK(rope.far());
  CHECK(rope.wanted() == 2);
  Rope further;
  further.round_trip(200000);
  CHECK(further.wanted() == 8);
  CHECK(rope.under_way() == 5000000U);  // 1 Gbit/s is supposed
  rope.remember(9);
  CHECK(rope.wanted() == 9);
  rope.remember(3);
  CHECK(rope.wanted() == 9);
  rope.remember(1000);
  CHECK(rope.wanted() == strands_auto_max);
}

TEST_CASE("strands are added while each is held back, and no longer", "[rope]") {
  Rope rope;
  Way way{.rate = 1000 * mega, .strand_max = 40 * mega};
  way.pass(rope, 60);
  CHECK(rope.wanted() == 16);

  // They delivered as much as the way takes, until losses hold them back.
  Rope lossy;
  Way worse{.strand_max = 30 * mega};
  worse.pass(lossy, 20);
  CHECK(lossy.wanted() == 4);
  worse.strand_max = 10 * mega;
  worse.pass(lossy, 5);
  CHECK(lossy.wanted() >= 8);

  Rope wide;
  Way full{.strand_max = 50 * mega};  // 4 fill the way
  full.pass(wide, 60);
  CHECK(wide.wanted() == 4);

  // Together they reach no more than before: one trial.
  Rope limited;
  Way fixed{.rate = 1000 * mega, .strand_max = 40 * mega};
  fixed.single = {40 * mega, 40 * mega, 40 * mega, 40 * mega, 0.1 * mega, 0.1 * mega, 0.1 * mega, 0.1 * mega};
  fixed.pass(limited, 60);
  CHECK(limited.wanted() == 8);
}

// A connection under cubic keeps the less of a long way the more is lost (RFC 9438, section 5.1).
TEST_CASE("strands that losses hold back get others beside them", "[rope]") {
  const auto random = GENERATE(range(1U, 13U));
  CAPTURE(random);
  Rope rope;
  Way way{.random = random, .strand_max = 60 * mega, .first = 0.15 * mega};
  way.pass(rope, 2);
  way.first = 0;
  way.halves = true;
  way.loss = 1e-4;
  way.pass(rope, 30);
  CHECK(rope.wanted() == 16);

  // One that does not mind them needs none.
  Rope full;
  Way unminded{.rate = 110 * mega, .random = random, .strand_max = 60 * mega, .loss = 1e-4};
  unminded.pass(full, 30);
  CHECK(full.wanted() == 4);
}

TEST_CASE("the pace follows the way, and no queue stands", "[rope]") {
  Rope rope;
  Way way{.strand_max = 60 * mega};
  way.pass(rope, 10);
  CHECK(paced(rope, way.strands.size()) > 0.95 * way.rate);
  CHECK(paced(rope, way.strands.size()) < 1.15 * way.rate);
  way.queue_max = 0;
  way.pass(rope, 20);
  CHECK(way.queue_max / way.rate < 0.03);  // seconds
  CHECK(static_cast<double>(rope.under_way()) > 11 * mega);

  way.rate = 40 * mega;  // less is left
  way.pass(rope, 15);
  way.queue_max = 0;
  way.pass(rope, 10);
  CHECK(paced(rope, way.strands.size()) < 1.15 * way.rate);
  CHECK(way.queue_max / way.rate < 0.05);

  way.rate = 120 * mega;  // and more again
  way.pass(rope, 10);
  CHECK(paced(rope, way.strands.size()) > 0.95 * way.rate);
}

TEST_CASE("a way that has become wider is soon full again", "[rope]") {
  Way way{.rate = 15 * mega};
  Rope rope;
  way.pass(rope, 6);
  CHECK(paced(rope, way.strands.size()) < 20 * mega);
  way.rate = 120 * mega;
  way.pass(rope, 3);  // 4 % a round trip would take it to 50
  CHECK(paced(rope, way.strands.size()) > 100 * mega);
  way.queue_max = 0;
  way.pass(rope, 5);
  CHECK(paced(rope, way.strands.size()) < 140 * mega);
  CHECK(way.queue_max < 0.3 * way.rate * 0.1);
}

// Taken for one, they kept a way at a tenth of its rate for ever.
TEST_CASE("round trips that vary by themselves are no queue", "[rope]") {
  const std::int64_t jitter_us = GENERATE(5000, 15000, 30000);
  CAPTURE(jitter_us);
  Rope rope;
  Way way{.jitter_us = jitter_us, .strand_max = 60 * mega};
  way.pass(rope, 10);
  double least = way.rate;
  for (int second = 0; second < 20; ++second) {
    way.pass(rope, 1);
    least = std::min(least, paced(rope, way.strands.size()));
  }
  CHECK(least > 0.7 * way.rate);
  // A queue of its own is still seen.
  way.rate = 60 * mega;
  way.pass(rope, 5);
  CHECK(paced(rope, way.strands.size()) < 1.1 * way.rate);
  CHECK(way.queue / way.rate < 0.06);
}

// Such as a machine that stood still for a moment; each strand then stayed at the little that it had reached.
TEST_CASE("one late answer does not end the start", "[rope]") {
  const double late = GENERATE(0.25, 0.35, 0.5, 0.7);
  CAPTURE(late);
  Rope rope;
  Way way{.strand_max = 60 * mega, .first = 0.15 * mega};
  way.pass(rope, late);
  way.hiccup_us = 34000;
  way.pass(rope, 0.1);
  way.hiccup_us = 0;
  way.pass(rope, 2);
  double arrived = 0;
  for (const auto& strand : way.strands) arrived -= strand.arrived;
  way.pass(rope, 1);
  for (const auto& strand : way.strands) arrived += strand.arrived;
  CHECK(arrived > 0.9 * way.rate);
}

TEST_CASE("one late answer changes no pace", "[rope]") {
  const bool more = GENERATE(true, false);
  CAPTURE(more);
  Rope rope;
  Way way{.strand_max = 25 * mega};  // so that the pace does not grow meanwhile
  way.pass(rope, 10);
  way.more = more;
  const double before = paced(rope, way.strands.size());
  way.hiccup_us = 34000;
  way.pass(rope, 0.1);
  way.hiccup_us = 0;
  way.pass(rope, 0.3);
  CHECK(paced(rope, way.strands.size()) > 0.98 * before);
  CHECK(paced(rope, way.strands.size()) < 1.05 * before);
}

TEST_CASE("a queue ends the start at what the way takes", "[rope]") {
  Rope rope;
  Way way{.strand_max = 60 * mega, .first = 0.15 * mega};
  way.pass(rope, 3);
  CHECK(way.queue_max / way.rate < 0.15);
  CHECK(paced(rope, way.strands.size()) > 0.85 * way.rate);
  CHECK(paced(rope, way.strands.size()) < 1.1 * way.rate);
}

// Little is under way then. Taken for a pause, it stayed as slow for ever.
TEST_CASE("a slow way that has become wider is full again", "[rope]") {
  Rope rope;
  Way way{.rate = 1 * mega, .strand_max = 60 * mega, .first = 0.05 * mega};
  way.pass(rope, 8);
  CHECK(paced(rope, way.strands.size()) > 0.5 * way.rate);
  CHECK(paced(rope, way.strands.size()) < 1.3 * way.rate);
  way.rate = 120 * mega;
  way.pass(rope, 20);
  CHECK(paced(rope, way.strands.size()) > 100 * mega);
}

TEST_CASE("what a slow strand cannot use goes to the others", "[rope]") {
  Rope rope;
  Way way{.strand_max = 60 * mega, .single = {2 * mega}};
  way.pass(rope, 20);
  CHECK(rope.wanted() == 4);
  const double others = static_cast<double>(rope.pace(2) + rope.pace(3) + rope.pace(4));
  CHECK(others > 0.9 * (way.rate - 2 * mega));
  CHECK(others < 1.15 * way.rate);
}

TEST_CASE("a pause says nothing about the way", "[rope]") {
  Rope rope;
  Way way{.strand_max = 60 * mega};
  way.pass(rope, 20);
  const double before = paced(rope, way.strands.size());
  way.now_us += 60000000;
  for (auto& strand : way.strands) strand.on_way.clear();
  way.queue = 0;
  // Nothing but a few bytes passes.
  for (std::uint32_t index = 1; index <= 4; ++index) {
    rope.sample(index, {.min_rtt_us = 100000, .rtt_us = 100000, .acked = 4000000000ULL}, false, way.now_us);
  }
  CHECK(paced(rope, way.strands.size()) == before);
}

TEST_CASE("a strand that was replaced counts from zero", "[rope]") {
  Rope rope;
  Way way{.strand_max = 60 * mega};
  way.pass(rope, 10);
  const double before = paced(rope, 4);
  way.strands[1] = {};
  rope.lost(2);
  way.pass(rope, 5);
  CHECK(paced(rope, 4) > 0.9 * before);
  CHECK(paced(rope, 4) < 1.2 * before);
}
