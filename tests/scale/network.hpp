// A network of peers in simulated time, and an all-reduce over it. Nothing is random: the same input gives the same
// time.
//
// Each peer has one line into the network and one out of it, both at full rate at the same time. Between two peers
// there is a latency, and a limit to what one flow carries (a window, a policer). A peer serves its links in turn, a
// unit each; a unit occupies the line out, then, one latency later, the line in of the receiver, which reads while it
// still arrives. What it does not have: losses, slow starts, and time for the reduction itself.
//
// Of the protocol it has what costs time: Begin, before which at most the eager budget is sent to a peer; headers; Done
// of everyone to everyone. A link sends first what the engine sends first: Begin and Done, then the lowest slice, of it
// the latest step (`group` 1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "scale/plans.hpp"

namespace hawser::scale {

struct Link {
  double latency_s = 0;         // one way
  double bytes_per_s = 0;       // of a peer's line, in each direction
  double flow_bytes_per_s = 0;  // of all strands between two peers together; 0: no limit
  // Slices are sent in groups of so many: a lower group first, in a group the earliest step. 1: the lowest slice first.
  std::uint32_t group = 1;
  // Of one peer's line, where they differ: the factor by which it is slower.
  std::function<double(std::uint32_t peer)> slower = nullptr;
};

struct Times {
  double data_s = 0;           // the last member has its result
  double commit_s = 0;         // the last member knows that everyone has it
  std::size_t sent_bytes = 0;  // payload of the member that sent most
  std::uint64_t units = 0;     // in all
};

// nullopt when it does not end: some member waits for what nobody sends.
std::optional<Times> all_reduce(const Link& link, std::uint32_t size, std::size_t bytes, const Planner& planner);

}  // namespace hawser::scale
