// A small durable map in one append-only file: key -> bytes, the last record of a key counts. For what a coordinator
// must not forget: few keys, values of at most a few MiB, a handful of writes a second; all values are also in memory.
//
// DIR/hawser.log, little-endian: a header (magic, version, sequence number of the first record, XXH3-64 of these), then
// records: a header (magic, length, key, sequence number, XXH3-64 of these), the value, XXH3-64 of header and value.
// Sequence numbers grow by one. DIR/hawser.lock is locked while a log is open and names who has it.
//
// A crash can only leave a last record that is shorter than it says (an append cut off), which is dropped: nobody was
// told that it was there. Everything else that does not check is damage; then nothing is opened, and nothing changed.
//
// One thread at a time. Calls block on the disk.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.hpp"
#include "io/file_system.hpp"

namespace hawser::io {

struct FileLogOptions {
  // A file larger than this, more than half of which is values that were replaced, is rewritten.
  std::uint64_t compact_above_bytes = 1 << 20;
};

class FileLog {
 public:
  using Values = std::map<std::uint64_t, std::vector<std::uint8_t>>;
  struct Repaired {
    std::uint64_t records_kept = 0;
    std::uint64_t bytes_cut = 0;  // 0: the log was whole, nothing was done
    std::string damage;           // what was wrong, and where
    std::string saved_as;         // the file with the original bytes
  };

  static constexpr std::uint32_t value_bytes_max = 64U << 20;

  // Creates directory and file where they are missing; what is then in memory is also on the disk. RESOURCE: another
  // process has it (the sentence says which), or the disk fails; INTERNAL: damaged; UNSUPPORTED: of a later version;
  // INVALID_ARGUMENT: not the name of a directory.
  static Result<std::unique_ptr<FileLog>> open(const std::string& directory, FileLogOptions options = {},
                                               FileSystem& files = FileSystem::system());
  // Rewrites a damaged log with the records before the damage, after the original was copied to hawser.log.damaged (or
  // .damaged.2 and so on). Errors as of open; then the log is as it was.
  static Result<Repaired> repair(const std::string& directory, FileSystem& files = FileSystem::system());

  ~FileLog();
  FileLog(const FileLog&) = delete;
  FileLog& operator=(const FileLog&) = delete;

  [[nodiscard]] const Values& values() const { return values_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::uint64_t file_bytes() const { return good_bytes_; }

  // On the disk when it returns OK. RESOURCE: not written, values() are as they were; try again later. A record whose
  // write failed is cut off; only if the disk refuses that as well, until the process ends, may it be found by a later
  // open. INVALID_ARGUMENT: longer than value_bytes_max.
  Status put(std::uint64_t key, std::span<const std::uint8_t> value);

 private:
  // A descriptor of `files`, closed by its destructor.
  class File {
   public:
    File() = default;
    File(FileSystem& files, int fd) : files_(&files), fd_(fd) {}
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;
    ~File();
    [[nodiscard]] int fd() const { return fd_; }  // -errno when it could not be opened

   private:
    FileSystem* files_ = nullptr;
    int fd_ = -1;
  };
  struct Scan;

  FileLog(const std::string& directory, FileLogOptions options, FileSystem& files);
  Status lock();
  Status make_directory();
  Status read(Scan& out);
  Status create();
  Status settle();
  Status cut();
  Status rewrite();
  Status write_all(int fd, std::span<const std::uint8_t> bytes, std::uint64_t offset, const std::string& path);
  Status sync_directory(const std::string& path);
  [[nodiscard]] Status failed(const std::string& what, const std::string& path, std::int64_t error) const;
  [[nodiscard]] std::uint64_t live_bytes() const;

  FileSystem& files_;
  FileLogOptions options_;
  std::string directory_;
  std::string path_;
  File lock_;
  File file_;
  Values values_;
  std::uint64_t good_bytes_ = 0;     // file header and whole records; what is behind them counts for nothing
  std::uint64_t sequence_next_ = 1;  // of the next record
  std::uint64_t compact_next_ = 0;   // no rewriting below this size: the last try failed
  bool tail_dirty_ = false;          // there may be bytes behind good_bytes_
  bool name_dirty_ = false;          // after a crash, path_ may be an older file
};

}  // namespace hawser::io
