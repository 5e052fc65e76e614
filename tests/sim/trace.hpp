// What happened in a history: always a hash of it, so that two runs of one seed can be compared, and the text when
// asked for. Also the exception by which a checker ends a history. One thread.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace hawser::sim {

using Micros = std::int64_t;  // virtual time

// A promise was broken.
class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

template <typename... Args>
[[noreturn]] void violation(fmt::format_string<Args...> format, Args&&... args) {
  throw Violation(fmt::format(format, std::forward<Args>(args)...));
}

class Trace {
 public:
  explicit Trace(bool print) : print_(print) {}

  template <typename... Args>
  void line(Micros now, fmt::format_string<Args...> format, Args&&... args) {
    mix(static_cast<std::uint64_t>(now));
    (mix_argument(args), ...);
    if (!print_) return;
    const std::string text = fmt::format(format, std::forward<Args>(args)...);
    std::fprintf(stdout, "%10.3f  %s\n", static_cast<double>(now) / 1000.0, text.c_str());
  }
  [[nodiscard]] std::uint64_t hash() const { return hash_; }
  [[nodiscard]] bool printing() const { return print_; }

 private:
  void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001b3U; }  // FNV-1a over words
  template <typename T>
  void mix_argument(const T& value) {
    if constexpr (std::is_integral_v<T> || std::is_enum_v<T>) {
      mix(static_cast<std::uint64_t>(value));
    } else {
      for (const char c : std::string_view(value)) mix(static_cast<unsigned char>(c));
    }
  }

  bool print_;
  std::uint64_t hash_ = 0xcbf29ce484222325U;
};

}  // namespace hawser::sim
