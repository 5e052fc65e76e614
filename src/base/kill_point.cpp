// Counts the passages of the one armed place, on whatever threads they happen.
#include "base/kill_point.hpp"

#ifdef HAWSER_KILL_POINTS

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>

namespace hawser {
namespace {

class KillPoint {
 public:
  KillPoint() {
    const char* setting = std::getenv("HAWSER_KILL_POINT");  // NOLINT(concurrency-mt-unsafe): before main
    const std::string_view text(setting == nullptr ? "" : setting);
    if (text.starts_with('@')) {
      file_ = text.substr(1);
    } else {
      arm(text);
    }
  }
  [[nodiscard]] bool is_set() const { return !file_.empty() || !name_.empty(); }

  // Whether it is time.
  bool pass(std::string_view name) {
    const std::lock_guard lock(mutex_);
    if (name_.empty()) look();
    return !name_.empty() && name == name_ && ++passages_ == due_;
  }

 private:
  void arm(std::string_view text) {
    const std::size_t colon = text.find(':');
    name_ = text.substr(0, colon);
    if (colon == std::string_view::npos) return;
    const std::string_view number = text.substr(colon + 1);
    std::from_chars(number.data(), number.data() + number.size(), due_);
  }

  void look() {
    const int fd = open(file_.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    std::array<char, 128> text{};
    const ssize_t bytes = read(fd, text.data(), text.size());
    close(fd);
    if (bytes > 0) arm({text.data(), static_cast<std::size_t>(bytes)});
  }

  std::mutex mutex_;
  std::string file_;
  std::string name_;
  std::uint64_t due_ = 1;
  std::uint64_t passages_ = 0;
};

KillPoint& kill_point() {
  static KillPoint only;
  return only;
}

}  // namespace

const bool kill_point_armed = kill_point().is_set();

void pass_kill_point(const char* name) noexcept {
  if (!kill_point().pass(name)) return;
  kill(getpid(), SIGKILL);
  while (true) pause();  // this thread does not go on, whenever the signal comes
}

}  // namespace hawser

#endif
