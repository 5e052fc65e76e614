// How the plans of an all-reduce scale with the number of members, in a simulated network (network.hpp).
//
//   scale [--most N]    the checks, with a table; exit status 1 if one fails. At most N members in large operations
//   scale --table       a wider table, in some minutes: 4 to 1024 members, four networks, 4 KiB to 1 GiB; no checks
//   scale --members N --ms LATENCY --mbit RATE --bytes B [--flow-mbit RATE] [--group SLICES]    a line for each plan
//
// Times are compared with the least that bytes allow, 2(n-1)/n S/B, and with the alpha-beta model of the plan; both
// with Done, which costs one latency more. The checks:
//  - an all-reduce large enough that latency hides behind bytes takes at most 1.1 x the bound;
//  - none takes more than 1.1 x its alpha-beta model;
//  - 4 KiB among 256 members, 40 ms from one another, take at most three times that;
//  - what is known not to hold these does not: a simulator in which all is fast would pass the others.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scale/network.hpp"
#include "scale/plans.hpp"

namespace {

using hawser::plan::Shape;
using hawser::scale::Link;
using hawser::scale::Planner;
using hawser::scale::Times;
using hawser::scale::unit_bytes;

struct Named {
  std::string name;
  Planner planner;
  // alpha: latencies, of so many members; beta: times the buffer that a line carries.
  double (*alpha)(double n);
  double (*beta)(double n);
};

double share(double n) { return 2 * (n - 1) / n; }

const Named ring = {"ring", hawser::scale::scheduled(Shape::ring), [](double n) { return 2 * (n - 1); }, share};
const Named direct = {"direct", hawser::scale::scheduled(Shape::direct), [](double) { return 2.0; }, share};
const Named flat = {"flat", hawser::scale::scheduled(Shape::flat), [](double) { return 1.0; },
                    [](double n) { return n - 1; }};
const Named ring_paced = {"ring, paced", ring.planner, ring.alpha, share};
// One slice: a step begins when the one before has ended everywhere, as in the textbook.
const Named unsliced = {"ring, one slice", hawser::scale::scheduled(Shape::ring, std::size_t{1} << 40), ring.alpha,
                        share};

constexpr double mbit = 1e6 / 8;
const Link rack = {20e-6, 25000 * mbit};
const Link site = {0.5e-3, 10000 * mbit};
const Link country = {10e-3, 1000 * mbit};
const Link world = {40e-3, 1000 * mbit};

std::string size_text(std::size_t bytes) {
  const auto number = static_cast<double>(bytes);
  if (bytes >= std::size_t{1} << 30) return fmt::format("{:.4g} GiB", number / (1 << 30));
  if (bytes >= std::size_t{1} << 20) return fmt::format("{:.4g} MiB", number / (1 << 20));
  return fmt::format("{:.4g} KiB", number / 1024);
}

struct Line {
  Times times;
  double of_bound = 0;
  double of_model = 0;
  double latencies = 0;
};

void print_header() {
  fmt::print("{:>7} {:>9} {:>9} {:>10} {:<16} {:>12} {:>12} {:>10} {:>10} {:>10}\n", "members", "ms", "Mbit/s",
             "buffer", "plan", "data (ms)", "commit (ms)", "of bound", "of a-b", "latencies");
}

std::optional<Line> simulate(const Named& of, const Link& link, std::uint32_t members, std::size_t bytes) {
  const auto times = hawser::scale::all_reduce(link, members, bytes, of.planner);
  if (!times) {
    fmt::print("{:>7} {} {}: does not end\n", members, of.name, size_text(bytes));
    return std::nullopt;
  }
  const double n = members;
  // A flow that is slower than the line is all that a ring has to its neighbour.
  const double wire = static_cast<double>(bytes) / link.bytes_per_s;
  Line line;
  line.times = *times;
  line.of_bound = times->commit_s / (share(n) * wire + link.latency_s);
  line.of_model = times->commit_s / ((of.alpha(n) + 1) * link.latency_s + of.beta(n) * wire);
  line.latencies = times->commit_s / link.latency_s;
  fmt::print("{:>7} {:>9.3g} {:>9.5g} {:>10} {:<16} {:>12.3f} {:>12.3f} {:>10.3f} {:>10.3f} {:>10.1f}\n", members,
             link.latency_s * 1e3, link.bytes_per_s / mbit, size_text(bytes), of.name, times->data_s * 1e3,
             times->commit_s * 1e3, line.of_bound, line.of_model, line.latencies);
  std::fflush(stdout);
  return line;
}

// Such that `times` the product of bandwidth and delay goes from each member to the next in each step of a ring, and
// that what happens once is small beside the whole.
std::size_t large(const Link& link, std::uint32_t members, double times) {
  const double in_flight = link.latency_s * link.bytes_per_s;
  const double n = members;
  const double bytes = std::max({4 * n * unit_bytes, times * n * in_flight, 40 * in_flight});
  const double slice = n * unit_bytes;
  return static_cast<std::size_t>(std::ceil(bytes / slice) * slice);
}

int failures = 0;
void check(bool holds, const std::string& what) {
  if (holds) return;
  ++failures;
  fmt::print("FAILED: {}\n", what);
}

void check_large(const Named& of, const Link& link, std::uint32_t members, double times) {
  const auto line = simulate(of, link, members, large(link, members, times));
  check(line && line->of_bound <= 1.1, fmt::format("{} of {} members is within 10 % of the bound", of.name, members));
  check(line && line->of_bound >= 1.0, fmt::format("{} of {} members is not faster than light", of.name, members));
}

void run_checks(std::uint32_t most) {
  print_header();
  for (const std::uint32_t members : {4U, 16U, 64U, 256U, 1024U}) {
    for (Link link : {rack, site, country, world}) {
      if (members > most) continue;
      if (members == 1024 && link.latency_s > rack.latency_s) continue;  // would take a minute
      if (members <= 64) check_large(direct, link, members, 2);
      // Lowest slice first, the last slices run alone; so a latency each step shows until bytes are ten times that.
      if (members * link.latency_s < 5) check_large(ring, link, members, 10);
      // All slices of a large group at the same pace hide the latency as soon as lines can be full at all.
      link.group = 256;
      check_large(ring_paced, link, members, 2);
    }
  }
  for (const std::uint32_t members : {2U, 4U, 64U, 256U}) {
    for (const std::size_t bytes : {std::size_t{4} << 10, std::size_t{1} << 20}) {
      for (const Named* of : {&ring, &direct, &flat}) {
        if (of == &flat && bytes > 4096) continue;
        const auto line = simulate(*of, world, members, bytes);
        check(line && line->of_model <= 1.1,
              fmt::format("{} of {} members is within 10 % of its model", of->name, members));
      }
    }
  }
  for (const std::uint32_t members : {2U, 16U, 256U}) {
    const Named chosen = {"of the library", hawser::scale::library(), flat.alpha, flat.beta};
    const auto small = simulate(chosen, world, members, 4096);
    check(small && small->latencies <= 3, fmt::format("4 KiB among {} members take three latencies", members));
  }

  fmt::print("not to hold:\n");
  const auto slow_small = simulate(ring, world, 256, 4096);
  check(slow_small && slow_small->latencies > 500, "a ring of 256 members has 510 steps");
  const auto slow_large = simulate(unsliced, world, 16, large(world, 16, 2));
  check(slow_large && slow_large->of_bound > 1.3, "a ring without slices leaves lines idle");
  const auto ahead = simulate(ring, site, 64, large(site, 64, 2));
  check(ahead && ahead->of_bound > 1.3, "a slice that is left behind the others leaves lines idle");
  Link policed = world;
  policed.flow_bytes_per_s = 283 * mbit;
  const auto limited = simulate(ring, policed, 4, large(world, 4, 2));
  check(limited && limited->of_bound > 3, "a flow that carries 283 Mbit/s carries no more");
  const auto spread = simulate(direct, policed, 16, large(world, 16, 2));
  check(spread && spread->of_bound <= 1.1, "fifteen such flows fill the line");
  Link uneven = world;
  uneven.slower = [](std::uint32_t peer) { return peer == 0 ? 2.0 : 1.0; };
  const auto slow_peer = simulate(ring, uneven, 4, large(world, 4, 2));
  check(slow_peer && slow_peer->of_bound > 1.8, "a ring is as fast as its slowest line");
  fmt::print("{} failed\n", failures);
}

void print_table() {
  print_header();
  for (const Link& link : {rack, site, country, world}) {
    for (const std::uint32_t members : {4U, 16U, 64U, 256U, 1024U}) {
      for (const std::size_t bytes : {std::size_t{4} << 10, std::size_t{64} << 10, std::size_t{1} << 20,
                                      std::size_t{16} << 20, std::size_t{256} << 20, std::size_t{1} << 30}) {
        if (bytes <= std::size_t{64} << 10) simulate(flat, link, members, bytes);
        simulate(direct, link, members, bytes);
        simulate(ring, link, members, bytes);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::uint32_t members = 0;
  std::uint32_t most = 1024;
  std::size_t bytes = 0;
  Link link;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--table") {
      print_table();
      return 0;
    }
    const double value = i + 1 < argc ? std::atof(argv[++i]) : 0;
    if (word == "--members" && value >= 2) {
      members = static_cast<std::uint32_t>(value);
    } else if (word == "--most") {
      most = static_cast<std::uint32_t>(value);
    } else if (word == "--ms") {
      link.latency_s = value / 1e3;
    } else if (word == "--mbit") {
      link.bytes_per_s = value * mbit;
    } else if (word == "--flow-mbit") {
      link.flow_bytes_per_s = value * mbit;
    } else if (word == "--group" && value >= 1) {
      link.group = static_cast<std::uint32_t>(value);
    } else if (word == "--bytes") {
      bytes = static_cast<std::size_t>(value);
    } else {
      fmt::print(stderr, "scale: {} is unknown, or lacks its value; see the head of tests/scale/main.cpp\n", word);
      return 2;
    }
  }
  if (members == 0) {
    run_checks(most);
    return failures == 0 ? 0 : 1;
  }
  if (link.bytes_per_s <= 0 || link.latency_s <= 0 || bytes < 4) {
    fmt::print(stderr, "scale: --members takes --ms, --mbit and --bytes, too\n");
    return 2;
  }
  print_header();
  for (const Named* of : {&flat, &direct, &ring}) simulate(*of, link, members, bytes);
  return 0;
}
