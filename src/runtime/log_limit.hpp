// Log lines that others can cause are limited, so that a stranger cannot fill a disk. One thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hawser::runtime {

inline constexpr std::uint32_t stranger_lines_per_second = 10;

class LogLimit {
 public:
  explicit LogLimit(std::uint32_t per_second = stranger_lines_per_second) : per_second_(per_second) {}

  // Whether one more line may be written at `now_ms`. `left_out` then says how many were not since the last one that
  // was.
  bool admit(std::int64_t now_ms, std::uint64_t& left_out) {
    if (now_ms - second_began_ >= 1000 || !began_) {
      began_ = true;
      second_began_ = now_ms;
      written_ = 0;
    }
    if (written_ >= per_second_) {
      ++left_out_;
      return false;
    }
    ++written_;
    left_out = left_out_;
    left_out_ = 0;
    return true;
  }

 private:
  std::uint32_t per_second_;
  bool began_ = false;
  std::int64_t second_began_ = 0;
  std::uint32_t written_ = 0;  // in this second; <= per_second_
  std::uint64_t left_out_ = 0;
};

}  // namespace hawser::runtime
