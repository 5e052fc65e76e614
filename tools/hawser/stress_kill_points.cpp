// The table of kill points. How often a place is passed in a second differs, hence the number beside each.
#include "stress_kill_points.hpp"

#include <algorithm>
#include <array>

namespace tool {
namespace {

constexpr std::array all = {
    KillPoint{"op.begin", KillRole::member, 8},
    KillPoint{"begin.sent", KillRole::member, 8},
    KillPoint{"unit.sent", KillRole::member, 24},
    KillPoint{"unit.received", KillRole::member, 24},
    KillPoint{"unit.reduced", KillRole::member, 16},
    KillPoint{"op.finished", KillRole::member, 8},
    KillPoint{"done.queued", KillRole::member, 8},
    KillPoint{"done.sent", KillRole::member, 16},
    KillPoint{"op.committed", KillRole::member, 8},
    KillPoint{"op.returning", KillRole::member, 8},
    KillPoint{"op.restoring", KillRole::member, 1, true},
    KillPoint{"seal.received", KillRole::member, 2},
    KillPoint{"seal_reply.sent", KillRole::member, 2},
    KillPoint{"accept.sent", KillRole::member, 2},
    KillPoint{"install.received", KillRole::member, 2},
    KillPoint{"install.performed", KillRole::member, 2},
    KillPoint{"at_point.sent", KillRole::member, 1},
    KillPoint{"admission.received", KillRole::member, 1},
    KillPoint{"sync.note_sent", KillRole::member, 4},
    KillPoint{"sync.block_received", KillRole::member, 2},
    KillPoint{"hello.sent", KillRole::newcomer, 1},
    KillPoint{"join.sent", KillRole::newcomer, 1},
    KillPoint{"strand.opened", KillRole::newcomer, 3},
    KillPoint{"coordinator.seal_sent", KillRole::coordinator, 4},
    KillPoint{"coordinator.persist", KillRole::coordinator, 2},
    KillPoint{"coordinator.persisted", KillRole::coordinator, 2},
    KillPoint{"coordinator.install_sent", KillRole::coordinator, 4},
};

}  // namespace

std::span<const KillPoint> all_kill_points() { return all; }

const KillPoint* find_kill_point(std::string_view name) {
  const auto* const found =
      std::find_if(all.begin(), all.end(), [&](const KillPoint& one) { return one.name == name; });
  return found == all.end() ? nullptr : found;
}

}  // namespace tool
