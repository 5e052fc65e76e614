// Random numbers of one history. The generator is written out here because histories must be the same with every
// compiler and standard library; for the same reason no two numbers are drawn among the arguments of one call, whose
// order is the compiler's choice. One thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/ids.hpp"

namespace hawser::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U + 0x632be59bd9b4e019U) {}

  std::uint64_t next() {  // splitmix64 (Steele, Lea, Flood 2014)
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  // 0 <= result < limit; limit > 0.
  std::uint64_t below(std::uint64_t limit) { return next() % limit; }
  std::size_t index(std::size_t size) { return static_cast<std::size_t>(below(size)); }
  // low <= result <= high
  std::int64_t range(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(high - low) + 1));
  }
  bool chance(double p) { return static_cast<double>(next() >> 11) * 0x1.0p-53 < p; }
  Id128 id() { return Id128{next(), next()}; }
  // Another generator, so that drawing more numbers in one place does not move all others.
  Random fork() { return Random(next()); }

 private:
  std::uint64_t state_;
};

}  // namespace hawser::sim
