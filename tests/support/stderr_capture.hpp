// A file in the place of stderr while it exists, so that a test can count log lines.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace hawser::test {

class StderrCapture {
 public:
  StderrCapture() {
    std::fflush(stderr);
    file_ = memfd_create("stderr", MFD_CLOEXEC);
    saved_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (file_ < 0 || saved_ < 0 || dup2(file_, STDERR_FILENO) < 0) throw std::runtime_error("cannot redirect stderr");
  }
  ~StderrCapture() {
    std::fflush(stderr);
    dup2(saved_, STDERR_FILENO);
    close(saved_);
    // What was captured belongs into the test's output, where it helps to understand a failure.
    const std::string all = text();
    for (std::size_t done = 0; done < all.size();) {
      const ssize_t wrote = write(STDERR_FILENO, all.data() + done, all.size() - done);
      if (wrote <= 0) break;
      done += static_cast<std::size_t>(wrote);
    }
    close(file_);
  }
  StderrCapture(const StderrCapture&) = delete;
  StderrCapture& operator=(const StderrCapture&) = delete;

  [[nodiscard]] std::string text() const {
    std::fflush(stderr);
    std::string all;
    std::array<char, 4096> buffer{};
    off_t at = 0;
    for (ssize_t size = 0; (size = pread(file_, buffer.data(), buffer.size(), at)) > 0; at += size) {
      all.append(buffer.data(), static_cast<std::size_t>(size));
    }
    return all;
  }
  // Lines that contain all of `part`.
  [[nodiscard]] int lines_with(const std::string& part) const {
    const std::string all = text();
    int count = 0;
    for (std::size_t begin = 0; begin < all.size();) {
      std::size_t end = all.find('\n', begin);
      if (end == std::string::npos) end = all.size();
      if (all.substr(begin, end - begin).find(part) != std::string::npos) ++count;
      begin = end + 1;
    }
    return count;
  }

 private:
  int file_ = -1;
  int saved_ = -1;
};

}  // namespace hawser::test
