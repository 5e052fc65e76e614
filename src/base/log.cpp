// Levels per subsystem in atomics, so that a message that is off costs one load on any thread; spdlog's thread-safe
// sink on stderr writes the rest. A setting with mistakes is obeyed where it makes sense and named in one warning.
#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace hawser::log {
namespace {

constexpr std::array<std::string_view, 5> subsystem_names = {"coordinator", "member", "net", "data", "api"};
constexpr std::array<std::pair<std::string_view, Level>, 6> level_names = {{{"trace", Level::trace},
                                                                            {"debug", Level::debug},
                                                                            {"info", Level::info},
                                                                            {"warn", Level::warn},
                                                                            {"warning", Level::warn},
                                                                            {"error", Level::error}}};
constexpr int off = static_cast<int>(Level::error) + 1;

std::optional<int> parse_level(std::string_view name) {
  if (name == "off") return off;
  for (const auto& [known, level] : level_names) {
    if (name == known) return static_cast<int>(level);
  }
  return std::nullopt;
}

std::optional<std::size_t> parse_subsystem(std::string_view name) {
  for (std::size_t i = 0; i < subsystem_names.size(); ++i) {
    if (name == subsystem_names[i]) return i;
  }
  return std::nullopt;
}

std::string_view trim(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::trace:
      return spdlog::level::trace;
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

class Logger {
 public:
  Logger() {
    for (std::size_t i = 0; i < subsystem_names.size(); ++i) {
      loggers_[i] = std::make_shared<spdlog::logger>(std::string("hawser.") + std::string(subsystem_names[i]), sink_);
      loggers_[i]->set_level(spdlog::level::trace);  // levels_ decides
      loggers_[i]->set_pattern("%Y-%m-%d %H:%M:%S.%e %P %l %n: %v");
      loggers_[i]->flush_on(spdlog::level::trace);
    }
    const char* setting = std::getenv("HAWSER_LOG");  // NOLINT(concurrency-mt-unsafe): once, under the static's guard
    configure(setting == nullptr ? std::string_view{} : std::string_view{setting});
  }

  [[nodiscard]] bool enabled(Subsystem subsystem, Level level) const {
    return static_cast<int>(level) >= levels_[index(subsystem)].load(std::memory_order_relaxed);
  }

  void write(Subsystem subsystem, Level level, std::string_view text) {
    loggers_[index(subsystem)]->log(spdlog_level(level), spdlog::string_view_t(text.data(), text.size()));
  }

  // Items from left to right, a later one over an earlier: "LEVEL" for all, "SUBSYSTEM=LEVEL" for one.
  void configure(std::string_view setting) {
    std::array<int, subsystem_names.size()> levels{};
    levels.fill(static_cast<int>(Level::warn));
    std::string mistakes;
    for (std::string_view rest = setting; !rest.empty();) {
      const std::size_t comma = rest.find(',');
      const std::string_view item = trim(rest.substr(0, comma));
      rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
      if (item.empty() || apply(item, levels)) continue;
      mistakes += (mistakes.empty() ? "'" : ", '") + printable(item) + "'";
    }
    for (std::size_t i = 0; i < levels.size(); ++i) levels_[i].store(levels[i], std::memory_order_relaxed);
    if (mistakes.empty()) return;
    write(Subsystem::api, Level::warn,
          "HAWSER_LOG: ignored " + mistakes +
              "; known are LEVEL and SUBSYSTEM=LEVEL with trace, debug, info, warn, error, off and coordinator, "
              "member, net, "
              "data, api");
  }

 private:
  static std::size_t index(Subsystem subsystem) { return static_cast<std::size_t>(subsystem); }

  static bool apply(std::string_view item, std::array<int, subsystem_names.size()>& levels) {
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      const std::optional<int> level = parse_level(item);
      if (level) levels.fill(*level);
      return level.has_value();
    }
    const std::optional<std::size_t> subsystem = parse_subsystem(trim(item.substr(0, equals)));
    const std::optional<int> level = parse_level(trim(item.substr(equals + 1)));
    if (!subsystem || !level) return false;
    levels[*subsystem] = *level;
    return true;
  }

  std::shared_ptr<spdlog::sinks::stderr_sink_mt> sink_ = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  std::array<std::shared_ptr<spdlog::logger>, subsystem_names.size()> loggers_;
  std::array<std::atomic<int>, subsystem_names.size()> levels_{};
};

// Never destroyed: library threads may still log while the process runs its exit handlers.
Logger& logger() {
  static Logger* const instance = new Logger;
  return *instance;
}

}  // namespace

bool enabled(Subsystem subsystem, Level level) { return logger().enabled(subsystem, level); }

void write(Subsystem subsystem, Level level, std::string_view text) { logger().write(subsystem, level, text); }

void configure(std::string_view setting) { logger().configure(setting); }

}  // namespace hawser::log
