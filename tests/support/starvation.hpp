// How long this process' threads had work to do and no processor to do it on, so that a test can hold the library to a
// time of its own: what a busy machine adds is taken off. Linux counts the nanoseconds on a run queue in
// /proc/self/task/*/schedstat, and what a hypervisor took away in /proc/stat; nothing is taken off where it does not.
// A machine that stands still as a whole shows in neither: a thread that does nothing but sleep sees it.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace hawser_test {

class Starvation {
 public:
  Starvation()
      : begun_(waits_now()),
        stolen_ms_(stolen_ms_now()),
        sleeper_([this](const std::stop_token& end) { watch(end); }) {}

  // Since this was made: the waits, in milliseconds, of the `threads` that waited longest together. As many as have to
  // run one after the other until what is measured has come about.
  [[nodiscard]] std::int64_t ms(std::size_t threads) const {
    std::vector<std::int64_t> waits;
    for (const auto& [thread, waited] : waits_now()) {
      const auto before = begun_.find(thread);
      waits.push_back(waited - (before == begun_.end() ? 0 : before->second));
    }
    std::sort(waits.begin(), waits.end(), std::greater<>());
    waits.resize(std::min(threads, waits.size()));
    return std::accumulate(waits.begin(), waits.end(), std::int64_t{0}) / 1000000 +
           std::max(stolen_ms_now() - stolen_ms_, stood_still_ns_.load() / 1000000);
  }

 private:
  using Waits = std::map<std::string, std::int64_t>;  // by thread

  static std::optional<std::int64_t> waited_ns(const std::filesystem::path& thread) {
    std::ifstream file(thread / "schedstat");
    std::int64_t ran = 0;
    std::int64_t waited = 0;
    if (file >> ran >> waited) return waited;
    return std::nullopt;
  }

  static Waits waits_now() {
    Waits out;
    std::error_code gone;  // threads end meanwhile
    for (std::filesystem::directory_iterator at("/proc/self/task", gone), end; at != end; at.increment(gone)) {
      if (const auto waited = waited_ns(at->path())) out.emplace(at->path().filename(), *waited);
    }
    return out;
  }

  static std::int64_t stolen_ms_now() {
    std::ifstream file("/proc/stat");
    std::string name;
    std::int64_t ticks = 0;
    file >> name;
    for (int field = 0; field < 8; ++field) file >> ticks;  // user nice system idle iowait irq softirq steal
    return file ? ticks * 1000 / sysconf(_SC_CLK_TCK) : 0;
  }

  // What a short sleep lasts too long, less what this thread then waited for a processor.
  void watch(const std::stop_token& end) {
    constexpr std::chrono::milliseconds step{10};
    constexpr std::chrono::milliseconds usual{20};  // less is what a sleep on a busy machine always has
    const auto waited = [] { return std::chrono::nanoseconds(waited_ns("/proc/thread-self").value_or(0)); };
    std::chrono::nanoseconds before = waited();
    while (!end.stop_requested()) {
      const auto began = std::chrono::steady_clock::now();
      std::this_thread::sleep_for(step);
      const std::chrono::nanoseconds late = std::chrono::steady_clock::now() - began - step;
      const std::chrono::nanoseconds after = waited();
      if (late - (after - before) > usual) stood_still_ns_ += (late - (after - before)).count();
      before = after;
    }
  }

  Waits begun_;
  std::int64_t stolen_ms_ = 0;
  std::atomic<std::int64_t> stood_still_ns_{0};
  std::jthread sleeper_;
};

}  // namespace hawser_test
