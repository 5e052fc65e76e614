// Times of tests.
#pragma once

#include <chrono>
#include <cstdint>

namespace hawser_test {

using Clock = std::chrono::steady_clock;

inline std::int64_t ms_between(Clock::time_point then, Clock::time_point later) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(later - then).count();
}
inline std::int64_t ms_since(Clock::time_point then) { return ms_between(then, Clock::now()); }

}  // namespace hawser_test
