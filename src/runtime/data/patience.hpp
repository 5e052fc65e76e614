// How long operations of a kind and size usually take here, to tell those that take unusually long. Guarded by the
// engine's mutex.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "wire/messages.hpp"

namespace hawser::runtime {

inline constexpr std::int64_t slow_ms_min = 1000;      // nothing shorter is unusual
inline constexpr std::int64_t slow_ms_unknown = 5000;  // while little is known
inline constexpr std::int64_t slow_factor = 3;

class Patience {
 public:
  // An operation committed in its first attempt.
  void took(wire::OpKind kind, std::size_t bytes, std::int64_t us) {
    Recent& recent = recent_[{kind, std::bit_width(bytes)}];
    recent.us[recent.count++ % recent.us.size()] = us;
    if (recent.count < known_min || (recent.count > recent.us.size() && recent.count % renewal != 0)) return;
    auto sorted = recent.us;
    const std::size_t count = std::min(recent.count, sorted.size());
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(count / 2);
    std::nth_element(sorted.begin(), middle, sorted.begin() + static_cast<std::ptrdiff_t>(count));
    recent.limit_ms = std::max(slow_ms_min, slow_factor * *middle / 1000);
  }

  // What is unusual for such an operation.
  [[nodiscard]] std::int64_t limit_ms(wire::OpKind kind, std::size_t bytes) const {
    const auto it = recent_.find({kind, std::bit_width(bytes)});
    return it == recent_.end() ? slow_ms_unknown : it->second.limit_ms;
  }

 private:
  static constexpr std::size_t known_min = 3;
  static constexpr std::size_t renewal = 5;  // so many operations share one look at all that are kept
  struct Recent {
    std::array<std::int64_t, 15> us = {};
    std::size_t count = 0;  // ever; the last ones are kept
    std::int64_t limit_ms = slow_ms_unknown;
  };
  // By kind and the power of two of its bytes: at most some 5 x 65 entries.
  std::map<std::pair<wire::OpKind, int>, Recent> recent_;
};

}  // namespace hawser::runtime
