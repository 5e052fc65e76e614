// Thin on purpose: whatever is decided here is never seen by a test that injects faults.
#include "io/file_system.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace hawser::io {
namespace {

template <typename Call>
auto retried(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return static_cast<decltype(call())>(-errno);
  }
}

}  // namespace

int FileSystem::open(const std::string& path, int flags, mode_t mode) {
  return retried([&] { return ::open(path.c_str(), flags, mode); });
}
void FileSystem::close(int fd) { ::close(fd); }
ssize_t FileSystem::pread(int fd, std::span<std::uint8_t> bytes, off_t offset) {
  return retried([&] { return ::pread(fd, bytes.data(), bytes.size(), offset); });
}
ssize_t FileSystem::pwrite(int fd, std::span<const std::uint8_t> bytes, off_t offset) {
  return retried([&] { return ::pwrite(fd, bytes.data(), bytes.size(), offset); });
}
int FileSystem::ftruncate(int fd, off_t size) {
  return retried([&] { return ::ftruncate(fd, size); });
}
int FileSystem::fsync(int fd) {
  return retried([&] { return ::fsync(fd); });
}
int FileSystem::fdatasync(int fd) {
  return retried([&] { return ::fdatasync(fd); });
}
int FileSystem::flock(int fd, int operation) {
  return retried([&] { return ::flock(fd, operation); });
}
int FileSystem::mkdir(const std::string& path, mode_t mode) {
  return retried([&] { return ::mkdir(path.c_str(), mode); });
}
int FileSystem::rename(const std::string& from, const std::string& to) {
  return retried([&] { return std::rename(from.c_str(), to.c_str()); });
}
int FileSystem::unlink(const std::string& path) {
  return retried([&] { return ::unlink(path.c_str()); });
}
off_t FileSystem::size(int fd) {
  struct stat file = {};
  const int error = retried([&] { return ::fstat(fd, &file); });
  return error < 0 ? error : file.st_size;
}
int FileSystem::names(const std::string& path, int fd) {
  struct stat open_file = {};
  struct stat named = {};
  if (const int error = retried([&] { return ::fstat(fd, &open_file); }); error < 0) return error;
  if (const int error = retried([&] { return ::stat(path.c_str(), &named); }); error < 0) {
    return error == -ENOENT ? 0 : error;
  }
  return open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino ? 1 : 0;
}

FileSystem& FileSystem::system() {
  static FileSystem files;
  return files;
}

}  // namespace hawser::io
