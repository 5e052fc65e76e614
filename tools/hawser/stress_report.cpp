// Records of stress peers. Peers write from their main thread, the supervisor reads in its poll loop.
#include "stress_report.hpp"

#include <limits.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <type_traits>

namespace tool {

static_assert(std::is_trivially_copyable_v<Report>);
static_assert(sizeof(Report) < PIPE_BUF, "one write must be atomic");

namespace {
constexpr std::size_t head_bytes = offsetof(Report, participants);
}

const char* report_call_name(ReportCall call) {
  constexpr std::array<const char*, report_call_count> names = {
      "no call", "join", "admit", "sync", "start", "all_reduce", "broadcast", "barrier", "state sync", "leave"};
  const auto index = static_cast<std::size_t>(call);
  return index < names.size() ? names[index] : "?";
}

void Report::set_text(std::string_view value) {
  const std::size_t length = std::min(value.size(), text.size() - 1);
  std::copy_n(value.begin(), length, text.begin());
  text[length] = '\0';
}

std::optional<Report> ReportStream::next(bool& broken) {
  broken = false;
  const std::size_t available = buffer_.size() - begin_;
  Report report;
  if (available < sizeof(report.size)) return std::nullopt;
  std::memcpy(&report.size, buffer_.data() + begin_, sizeof(report.size));
  const std::size_t size = report.size;
  if (size < head_bytes || size > sizeof(Report)) {
    broken = true;
    return std::nullopt;
  }
  if (available < size) return std::nullopt;
  std::memcpy(static_cast<void*>(&report), buffer_.data() + begin_, size);
  begin_ += size;
  if (begin_ == buffer_.size() || begin_ > 64 * sizeof(Report)) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
    begin_ = 0;
  }
  report.text.back() = '\0';
  return report;
}

bool write_report(int fd, Report& report) {
  std::size_t size = head_bytes;
  if (report.text.front() != '\0') {
    size = sizeof(Report);
  } else if (report.participant_count > 0) {
    size = head_bytes + report.members().size_bytes();
  }
  report.size = static_cast<std::uint32_t>(size);
  report.time_ns = monotonic_ns();
  while (true) {
    const ssize_t written = write(fd, &report, size);
    if (written == static_cast<ssize_t>(size)) return true;
    if (written < 0 && errno == EINTR) continue;
    return false;
  }
}

std::uint64_t monotonic_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1000000000U + static_cast<std::uint64_t>(time.tv_nsec);
}

}  // namespace tool
