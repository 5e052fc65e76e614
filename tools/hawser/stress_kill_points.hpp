// The places at which a process of a stress run can be made to kill itself (HAWSER_KILL_POINT), as the library names
// them; docs/testing.md says what is true there.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tool {

// Whose place it is, and so when a process is told.
enum class KillRole {
  member,       // at any time while it is one
  newcomer,     // before it is started
  coordinator,  // at any time
};

struct KillPoint {
  std::string_view name;
  KillRole role = KillRole::member;
  std::uint32_t passages_max = 1;  // the process dies at a passage drawn from 1 to this
  bool in_place = false;           // passed by operations that overwrite their inputs only
};

std::span<const KillPoint> all_kill_points();
const KillPoint* find_kill_point(std::string_view name);

}  // namespace tool
