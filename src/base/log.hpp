// Logging by subsystem on spdlog, to stderr. HAWSER_LOG sets the levels: "info" or "warn,net=debug,member=trace".
// Messages go through fmt; the arguments are formatted only when the level is on.
#pragma once

#include <fmt/format.h>

#include <new>
#include <string_view>

#include "base/text.hpp"

namespace hawser::log {

enum class Level { trace, debug, info, warn, error };
enum class Subsystem { coordinator, member, net, data, api };

bool enabled(Subsystem subsystem, Level level);
void write(Subsystem subsystem, Level level, std::string_view text);

template <typename... Args>
void message(Subsystem subsystem, Level level, fmt::format_string<Args...> format, Args&&... args) {
  try {
    if (enabled(subsystem, level)) write(subsystem, level, fmt::format(format, std::forward<Args>(args)...));
  } catch (const std::bad_alloc&) {  // nothing depends on a line of the log
  }
}

// Reads a setting such as HAWSER_LOG again; the library reads the environment once, at first use.
void configure(std::string_view setting);

using hawser::printable;

}  // namespace hawser::log
