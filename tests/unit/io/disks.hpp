// Disks that fail: one that lets chosen calls fail, and one in memory that knows what was synced and can forget the
// rest.
#pragma once

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/file_system.hpp"

namespace hawser::test {

// What to do with a call: 0: make it; -errno: that, and do not make it; short_write: a pwrite writes half and says so;
// done_but_fails: make it, and say EIO (not of calls that return a descriptor).
inline constexpr int short_write = 1;
inline constexpr int done_but_fails = 2;

// Asks `fault` about each call that may fail, in order, and makes it on the disk below.
class FaultyDisk : public io::FileSystem {
 public:
  explicit FaultyDisk(io::FileSystem& below) : below_(below) {}
  std::function<int(const std::string& call)> fault = [](const std::string&) { return 0; };
  int calls = 0;  // asked about so far

  int open(const std::string& path, int flags, mode_t mode) override {
    if (const int error = ask("open"); error < 0) return error;
    return below_.open(path, flags, mode);
  }
  void close(int fd) override { below_.close(fd); }
  ssize_t pread(int fd, std::span<std::uint8_t> bytes, off_t offset) override {
    if (const int error = ask("pread"); error < 0) return error;
    return below_.pread(fd, bytes, offset);
  }
  ssize_t pwrite(int fd, std::span<const std::uint8_t> bytes, off_t offset) override {
    const int error = ask("pwrite");
    if (error < 0) return error;
    const ssize_t wrote = below_.pwrite(fd, error == short_write ? bytes.first((bytes.size() + 1) / 2) : bytes, offset);
    return error == done_but_fails ? -EIO : wrote;
  }
  int ftruncate(int fd, off_t size) override {
    return made("ftruncate", [&] { return below_.ftruncate(fd, size); });
  }
  int fsync(int fd) override {
    return made("fsync", [&] { return below_.fsync(fd); });
  }
  int fdatasync(int fd) override {
    return made("fdatasync", [&] { return below_.fdatasync(fd); });
  }
  int flock(int fd, int operation) override {
    const int error = ask("flock");
    return error < 0 ? error : below_.flock(fd, operation);
  }
  int mkdir(const std::string& path, mode_t mode) override {
    return made("mkdir", [&] { return below_.mkdir(path, mode); });
  }
  int rename(const std::string& from, const std::string& to) override {
    return made("rename", [&] { return below_.rename(from, to); });
  }
  int unlink(const std::string& path) override {
    return made("unlink", [&] { return below_.unlink(path); });
  }
  off_t size(int fd) override {
    const int error = ask("size");
    return error < 0 ? error : below_.size(fd);
  }
  int names(const std::string& path, int fd) override {
    const int error = ask("names");
    return error < 0 ? error : below_.names(path, fd);
  }

 private:
  int ask(const std::string& call) {
    ++calls;
    return fault(call);
  }
  template <typename Call>
  int made(const std::string& name, const Call& call) {
    const int error = ask(name);
    if (error < 0) return error;
    const int result = call();
    return error == done_but_fails ? -EIO : result;
  }
  io::FileSystem& below_;
};

// Files in memory. What a call has done is there for the next one, but crash() leaves only what was synced, and as much
// of the rest as asked for.
class MemoryDisk : public io::FileSystem {
 public:
  enum class Crash {
    keep_all,    // the process died, the machine did not
    lose_all,    // whatever was not synced is gone
    lose_names,  // contents are there, but no directory was written
    lose_bytes,  // directories were written, contents not
    tear,        // directories were written, and of each append the first half
  };
  static constexpr Crash crashes[] = {Crash::keep_all, Crash::lose_all, Crash::lose_names, Crash::lose_bytes,
                                      Crash::tear};

  // The process has died; what it wrote is there, but still not on the disk.
  void kill() {
    open_.clear();
    locked_.clear();
  }
  void crash(Crash kind) {
    kill();
    const bool names_lost = kind == Crash::lose_all || kind == Crash::lose_names;
    if (names_lost) names_ = names_synced_;
    for (auto& [path, file] : names_) {
      switch (kind) {
        case Crash::keep_all:
        case Crash::lose_names:
          break;
        case Crash::lose_all:
        case Crash::lose_bytes:
          file->bytes = file->synced;
          break;
        case Crash::tear:
          if (file->bytes.size() > file->synced.size() &&
              std::equal(file->synced.begin(), file->synced.end(), file->bytes.begin())) {
            file->bytes.resize(file->synced.size() + (file->bytes.size() - file->synced.size()) / 2);
          } else {
            file->bytes = file->synced;
          }
          break;
      }
      file->synced = file->bytes;
    }
    names_synced_ = names_;
  }
  // Files as an editor on the same machine sees them; set is synced.
  void set(const std::string& path, const std::vector<std::uint8_t>& bytes) {
    auto& file = names_[path];
    if (file == nullptr) file = std::make_shared<File>();
    file->bytes = file->synced = bytes;
    names_synced_[path] = file;
  }
  [[nodiscard]] const std::vector<std::uint8_t>& get(const std::string& path) const { return names_.at(path)->bytes; }
  [[nodiscard]] bool has(const std::string& path) const { return names_.count(path) != 0; }
  [[nodiscard]] std::size_t open_files() const { return open_.size(); }

  int open(const std::string& path, int flags, mode_t) override {
    const int fd = ++fd_last_;
    if ((flags & O_DIRECTORY) != 0) {
      if (directories_.count(path) == 0) return names_.count(path) != 0 ? -ENOTDIR : -ENOENT;
      open_[fd] = {nullptr, path};
      return fd;
    }
    auto it = names_.find(path);
    if (it != names_.end() && (flags & O_EXCL) != 0) return -EEXIST;
    if (it == names_.end()) {
      if ((flags & O_CREAT) == 0) return -ENOENT;
      it = names_.emplace(path, std::make_shared<File>()).first;
    }
    if ((flags & O_TRUNC) != 0) it->second->bytes.clear();
    open_[fd] = {it->second, path};
    return fd;
  }
  void close(int fd) override {
    if (const auto it = open_.find(fd); it != open_.end()) {
      locked_.erase(it->second.file.get());
      open_.erase(it);
    }
  }
  ssize_t pread(int fd, std::span<std::uint8_t> bytes, off_t offset) override {
    const std::vector<std::uint8_t>& from = open_.at(fd).file->bytes;
    const auto at = static_cast<std::size_t>(offset);
    if (at >= from.size()) return 0;
    const std::size_t count = std::min(bytes.size(), from.size() - at);
    std::copy_n(from.begin() + offset, count, bytes.begin());
    return static_cast<ssize_t>(count);
  }
  ssize_t pwrite(int fd, std::span<const std::uint8_t> bytes, off_t offset) override {
    std::vector<std::uint8_t>& to = open_.at(fd).file->bytes;
    to.resize(std::max(to.size(), static_cast<std::size_t>(offset) + bytes.size()));
    std::copy(bytes.begin(), bytes.end(), to.begin() + offset);
    return static_cast<ssize_t>(bytes.size());
  }
  int ftruncate(int fd, off_t size) override {
    open_.at(fd).file->bytes.resize(static_cast<std::size_t>(size));
    return 0;
  }
  int fsync(int fd) override {
    const Open& entry = open_.at(fd);
    if (entry.file != nullptr) {
      entry.file->synced = entry.file->bytes;
      return 0;
    }
    const auto inside = [&](const std::string& path) { return path.rfind('/') == entry.path.size(); };
    std::erase_if(names_synced_, [&](const auto& name) { return inside(name.first); });
    for (const auto& name : names_) {
      if (inside(name.first)) names_synced_.insert(name);
    }
    return 0;
  }
  int fdatasync(int fd) override { return fsync(fd); }
  int flock(int fd, int) override { return locked_.insert(open_.at(fd).file.get()).second ? 0 : -EWOULDBLOCK; }
  int mkdir(const std::string& path, mode_t) override { return directories_.insert(path).second ? 0 : -EEXIST; }
  int rename(const std::string& from, const std::string& to) override {
    const auto it = names_.find(from);
    if (it == names_.end()) return -ENOENT;
    names_[to] = it->second;
    names_.erase(it);
    return 0;
  }
  int unlink(const std::string& path) override { return names_.erase(path) != 0 ? 0 : -ENOENT; }
  off_t size(int fd) override { return static_cast<off_t>(open_.at(fd).file->bytes.size()); }
  int names(const std::string& path, int fd) override {
    const auto it = names_.find(path);
    return it != names_.end() && it->second == open_.at(fd).file ? 1 : 0;
  }

 private:
  struct File {
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint8_t> synced;
  };
  struct Open {
    std::shared_ptr<File> file;  // null: a directory
    std::string path;
  };
  std::set<std::string> directories_ = {"/"};  // made durably: what their loss would mean is that of the files in them
  std::map<std::string, std::shared_ptr<File>> names_;
  std::map<std::string, std::shared_ptr<File>> names_synced_;
  std::map<int, Open> open_;
  std::set<File*> locked_;
  int fd_last_ = 100;
};

}  // namespace hawser::test
