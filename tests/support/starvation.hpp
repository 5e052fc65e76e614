// How long this process' threads had work to do and no processor to do it on, so that a test can hold the library to a
// time of its own: what a busy machine adds is taken off. Linux counts the nanoseconds on a run queue in
// /proc/self/task/*/schedstat, and what a hypervisor took away in /proc/stat; nothing is taken off where it does not.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <system_error>
#include <vector>

namespace hawser_test {

class Starvation {
 public:
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
    return std::accumulate(waits.begin(), waits.end(), std::int64_t{0}) / 1000000 + stolen_ms_now() - stolen_ms_;
  }

 private:
  using Waits = std::map<std::string, std::int64_t>;  // by thread

  static Waits waits_now() {
    Waits out;
    std::error_code gone;  // threads end meanwhile
    for (std::filesystem::directory_iterator at("/proc/self/task", gone), end; at != end; at.increment(gone)) {
      std::ifstream file(at->path() / "schedstat");
      std::int64_t ran = 0;
      std::int64_t waited = 0;
      if (file >> ran >> waited) out.emplace(at->path().filename(), waited);
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

  Waits begun_ = waits_now();
  std::int64_t stolen_ms_ = stolen_ms_now();
};

}  // namespace hawser_test
