// Schedules; see the header.
#include "sim/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <type_traits>
#include <vector>

namespace hawser::sim {
namespace {

using Faults = std::vector<FaultEvent>;

Faults without(const Faults& all, std::size_t from, std::size_t count) {
  Faults out(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(from));
  out.insert(out.end(), all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), from + count)), all.end());
  return out;
}

// Takes out pieces of half of the list, of a quarter, and so on, as long as the rest still fails.
bool drop_faults(Settings& settings, const std::function<bool(const Settings&)>& fails) {
  bool any = false;
  for (std::size_t piece = std::max<std::size_t>(1, settings.faults.size() / 2); !settings.faults.empty();) {
    bool dropped = false;
    for (std::size_t from = 0; from < settings.faults.size();) {
      Settings fewer = settings;
      fewer.faults = without(settings.faults, from, piece);
      if (fails(fewer)) {
        settings = std::move(fewer);
        dropped = any = true;
      } else {
        from += piece;
      }
    }
    if (dropped) continue;
    if (piece == 1) break;
    piece /= 2;
  }
  return any;
}

// A simpler value than this one, as far as there is one.
template <typename T>
std::vector<T> simpler(const std::string& name, T value) {
  std::vector<T> out;
  if constexpr (std::is_same_v<T, bool>) {
    if (value && name != "standbys" && name != "log" && name != "begin_to_all") out.push_back(false);
  } else if constexpr (std::is_same_v<T, double>) {
    if (value != 0.0 && name != "admit" && name != "wait_all") out.push_back(0.0);
  } else {
    const bool counted = name == "groups" || name == "peers" || name == "peers_first" || name == "min_size" ||
                         name == "coordinators" || name == "ops_per_round";
    if (counted && value > 1) {
      out.push_back(1);
      out.push_back(value - 1);
    }
    if (name == "persist" && value != 0) out.push_back(0);
    if (name == "fault_time" && value > 1000) out.push_back(value / 2);
  }
  return out;
}

bool simplify(Settings& settings, const std::function<bool(const Settings&)>& fails) {
  bool any = false;
  std::vector<std::string> names;
  visit_settings(settings, [&](const char* name, const auto&) { names.emplace_back(name); });
  for (const std::string& wanted : names) {
    for (bool again = true; again;) {
      again = false;
      std::vector<Settings> candidates;
      visit_settings(settings, [&](const char* name, const auto& value) {
        if (wanted != name) return;
        using T = std::decay_t<decltype(value)>;
        for (const T& other : simpler<T>(wanted, value)) {
          Settings changed = settings;
          visit_settings(changed, [&](const char* n, auto& slot) {
            if constexpr (std::is_same_v<std::decay_t<decltype(slot)>, T>) {
              if (wanted == n) slot = other;
            }
          });
          changed.peers_first = std::min(changed.peers_first, changed.peers);
          if (changed.rule != 0) changed.coordinators = std::max<std::uint32_t>(changed.coordinators, 2);
          changed.min_size = std::min(changed.min_size, changed.peers_first);
          if (write_schedule(changed) != write_schedule(settings)) candidates.push_back(std::move(changed));
        }
      });
      for (Settings& candidate : candidates) {
        if (!fails(candidate)) continue;
        settings = std::move(candidate);
        again = any = true;
        break;
      }
    }
  }
  return any;
}

}  // namespace

std::string write_schedule(const Settings& settings) {
  std::string text = "hawser-sim 1\n";
  visit_settings(settings, [&](const char* name, const auto& value) {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, bool>) {
      text += fmt::format("{} {}\n", name, value ? 1 : 0);
    } else {
      text += fmt::format("{} {}\n", name, value);
    }
  });
  for (const FaultEvent& fault : settings.faults) {
    text += fmt::format("fault {} at {} places {} {} pick {}\n", fault_name(fault.kind), fault.at, fault.a, fault.b,
                        fault.pick);
  }
  return text;
}

std::optional<Settings> read_schedule(const std::string& text, std::string& error) {
  std::istringstream lines(text);
  std::string line;
  Settings settings;
  std::size_t number = 0;
  const auto fail = [&](const std::string& what) {
    error = fmt::format("line {}: {}", number, what);
    return std::nullopt;
  };
  while (std::getline(lines, line)) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (name == "hawser-sim") continue;
    if (name == "fault") {
      FaultEvent fault;
      std::string kind;
      std::string at;
      std::string places;
      std::string pick;
      words >> kind >> at >> fault.at >> places >> fault.a >> fault.b >> pick >> fault.pick;
      if (!words || at != "at" || places != "places" || pick != "pick") return fail("not a fault");
      std::size_t index = 0;
      while (index < fault_kinds && kind != fault_name(static_cast<Fault>(index))) ++index;
      if (index == fault_kinds) return fail("no such fault: " + kind);
      fault.kind = static_cast<Fault>(index);
      settings.faults.push_back(fault);
      continue;
    }
    bool known = false;
    visit_settings(settings, [&](const char* n, auto& value) {
      if (name != n) return;
      known = true;
      words >> value;
    });
    if (!known || !words) return fail("no such setting: " + line);
  }
  const bool sane = settings.peers > 0 && settings.groups > 0 && settings.coordinators > 0 && settings.rule < 3 &&
                    settings.heartbeat_ms > 0 && settings.peer_timeout_ms >= settings.heartbeat_ms;
  if (!sane) return fail("settings that make no history");
  return settings;
}

Settings shrink(Settings settings, const std::function<bool(const Settings&)>& fails) {
  for (bool smaller = true; smaller;) {
    smaller = drop_faults(settings, fails);
    smaller = simplify(settings, fails) || smaller;
  }
  return settings;
}

}  // namespace hawser::sim
