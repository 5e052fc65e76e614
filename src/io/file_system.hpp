// The system calls that the log makes, as an object, so that tests can make each of them fail, and can forget what was
// not synced. Any thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>

namespace hawser::io {

// Each function does what the call of its name does, again after EINTR, and returns -errno where that sets errno.
class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual int open(const std::string& path, int flags, mode_t mode);
  virtual void close(int fd);
  virtual ssize_t pread(int fd, std::span<std::uint8_t> bytes, off_t offset);
  virtual ssize_t pwrite(int fd, std::span<const std::uint8_t> bytes, off_t offset);
  virtual int ftruncate(int fd, off_t size);
  virtual int fsync(int fd);
  virtual int fdatasync(int fd);
  virtual int flock(int fd, int operation);
  virtual int mkdir(const std::string& path, mode_t mode);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int unlink(const std::string& path);
  // The size of an open file.
  virtual off_t size(int fd);
  // 1: `path` names the open file, 0: another one or none.
  virtual int names(const std::string& path, int fd);

  static FileSystem& system();
};

}  // namespace hawser::io
