// The program that all members of a group run: rounds of an admission point, some operations and waits, the same at
// every member, made up from the seed as far as it is needed. One thread.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/random.hpp"
#include "sim/settings.hpp"
#include "wire/messages.hpp"

namespace hawser::sim {

enum class Deviation : std::uint8_t { none, params, tag, skip };

struct CallSpec {
  std::uint64_t tag = 0;
  wire::OpKind kind = wire::OpKind::all_reduce;
  bool strict = false;
  std::uint32_t min_participants = 0;
  std::uint64_t count = 0;
  std::uint32_t root = 0;  // rank, modulo the size of the view
  bool eager = false;
  Micros deadline = 0;
  Deviation deviation = Deviation::none;
  std::uint32_t deviator = 0;  // slot of the peer that calls something else
  bool cancelled = false;
  std::uint32_t canceller = 0;
  Micros cancel_after = 0;
  Micros straggler_after = 0;  // callers wait no longer for those who have not come
  bool diverges = false;
  std::uint32_t diverger = 0;
};

struct Step {
  enum class Kind : std::uint8_t { admit, call, wait_all, think } kind = Kind::think;
  CallSpec call;
  std::uint64_t admissions = 0;  // admission points before this step
};

class Program {
 public:
  Program(const Settings& settings, std::uint64_t seed) : settings_(settings), random_(seed) {}

  const Step& at(std::size_t position);
  // The first position after admission point number `point` (counted from 1; 0: the beginning).
  std::size_t after_point(std::uint64_t point);
  // Whether every member makes a call between `position` and the next admission point.
  bool calls_before_admission(std::size_t position);
  // The first position from `position` on that is not in the round of `position`.
  std::size_t round_end(std::size_t position);

 private:
  void add_round();
  CallSpec draw_call();

  const Settings& settings_;
  Random random_;
  std::vector<Step> steps_;
  std::vector<std::size_t> rounds_;  // where each begins
  std::vector<std::size_t> points_;  // positions after each admission point
  std::uint64_t calls_ = 0;
};

}  // namespace hawser::sim
