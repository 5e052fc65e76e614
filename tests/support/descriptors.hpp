// The limit of open files lowered while this exists, to meet what happens when none is left.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <vector>

namespace hawser::test {

class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    if (getrlimit(RLIMIT_NOFILE, &before_) != 0) throw std::runtime_error("getrlimit");
    set(limit);
  }
  ~DescriptorLimit() {
    release();
    setrlimit(RLIMIT_NOFILE, &before_);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

  void set(rlim_t limit) {
    rlimit now = before_;
    now.rlim_cur = limit;
    if (setrlimit(RLIMIT_NOFILE, &now) != 0) throw std::runtime_error("setrlimit");
  }
  // Takes every descriptor that is left.
  void exhaust() {
    for (int fd = 0; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken_.push_back(fd);
  }
  void release() {
    for (const int fd : taken_) close(fd);
    taken_.clear();
  }
  // Above the numbers of all open files.
  static rlim_t above_all() {
    DIR* folder = opendir("/proc/self/fd");
    if (folder == nullptr) throw std::runtime_error("/proc/self/fd");
    rlim_t highest = 0;
    while (const dirent* entry = readdir(folder)) {  // NOLINT(concurrency-mt-unsafe): a stream of its own
      highest = std::max<rlim_t>(highest, std::strtoul(entry->d_name, nullptr, 10));
    }
    closedir(folder);
    return highest + 1;
  }
  // The lowest number that no open file has.
  static rlim_t first_free() {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw std::runtime_error("open");
    close(fd);
    return static_cast<rlim_t>(fd);
  }

 private:
  rlimit before_ = {};
  std::vector<int> taken_;
};

}  // namespace hawser::test
