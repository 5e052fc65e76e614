// Histories as text: every setting and every fault with its time and victims, so that a failure can be kept, replayed
// and made smaller. tests/sim/regress/*.sched are such files.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "sim/settings.hpp"

namespace hawser::sim {

std::string write_schedule(const Settings& settings);
// None: the text is no schedule; `error` says why.
std::optional<Settings> read_schedule(const std::string& text, std::string& error);

// Takes away what the failure does not need: faults (delta debugging: Zeller, Hildebrandt, TSE 2002), then peers,
// groups, coordinators and whatever else a setting brings. `fails` runs a history and says whether it still fails.
Settings shrink(Settings settings, const std::function<bool(const Settings&)>& fails);

}  // namespace hawser::sim
