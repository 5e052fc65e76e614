// An append counts once fdatasync has said so; whatever was in between is cut off before the next one, so that good
// records never stand behind bad bytes. A rewritten log replaces the old one by rename, and nothing is acknowledged in
// it before the directory is on the disk too: both files hold the same values until then.
#include "io/file_log.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "base/log.hpp"

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

namespace hawser::io {
namespace {

constexpr std::array<std::uint8_t, 8> file_magic = {'H', 'A', 'W', 'S', 'E', 'R', 'L', 'G'};
constexpr std::array<std::uint8_t, 4> record_magic = {'H', 'R', 'E', 'C'};
constexpr std::uint32_t format_version = 1;
constexpr std::size_t checksum_bytes = 8;
constexpr std::size_t file_header_bytes = 32;    // magic 8, version 4, zero 4, first sequence number 8, checksum 8
constexpr std::size_t record_header_bytes = 32;  // magic 4, length 4, key 8, sequence number 8, checksum 8
constexpr int damaged_files_max = 1000;

using Bytes = std::vector<std::uint8_t>;

template <typename T>
void store(std::uint8_t* at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) at[i] = static_cast<std::uint8_t>(value >> (8 * i));
}
template <typename T>
T load(const std::uint8_t* at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(T{at[i]} << (8 * i)));
  return value;
}

std::uint64_t checksum(std::span<const std::uint8_t> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

// The last 8 bytes are the checksum of those before.
bool checks(std::span<const std::uint8_t> bytes) {
  const std::size_t covered = bytes.size() - checksum_bytes;
  return load<std::uint64_t>(bytes.data() + covered) == checksum(bytes.first(covered));
}
void seal(std::span<std::uint8_t> bytes) {
  const std::size_t covered = bytes.size() - checksum_bytes;
  store<std::uint64_t>(bytes.data() + covered, checksum(bytes.first(covered)));
}

void append_file_header(Bytes& out, std::uint64_t sequence_first) {
  const std::size_t begin = out.size();
  out.resize(begin + file_header_bytes);
  std::uint8_t* at = out.data() + begin;
  std::memcpy(at, file_magic.data(), file_magic.size());
  store<std::uint32_t>(at + 8, format_version);
  store<std::uint64_t>(at + 16, sequence_first);
  seal({at, file_header_bytes});
}

void append_record(Bytes& out, std::uint64_t key, std::uint64_t sequence, std::span<const std::uint8_t> value) {
  const std::size_t begin = out.size();
  out.resize(begin + record_header_bytes + value.size() + checksum_bytes);
  std::uint8_t* at = out.data() + begin;
  std::memcpy(at, record_magic.data(), record_magic.size());
  store<std::uint32_t>(at + 4, static_cast<std::uint32_t>(value.size()));
  store<std::uint64_t>(at + 8, key);
  store<std::uint64_t>(at + 16, sequence);
  seal({at, record_header_bytes});
  if (!value.empty()) std::memcpy(at + record_header_bytes, value.data(), value.size());
  seal({at, record_header_bytes + value.size() + checksum_bytes});
}

std::uint64_t record_bytes(std::uint64_t value_bytes) { return record_header_bytes + value_bytes + checksum_bytes; }

std::string parent_of(const std::string& path) {
  const std::size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return "/";
  const std::size_t slash = path.find_last_of('/', end);
  if (slash == std::string::npos) return ".";
  const std::size_t parent_end = path.find_last_not_of('/', slash);
  return parent_end == std::string::npos ? "/" : path.substr(0, parent_end + 1);
}

}  // namespace

// What a file holds as far as it checks.
struct FileLog::Scan {
  Values values;
  std::uint64_t records = 0;
  std::uint64_t sequence_next = 1;
  std::uint64_t good_bytes = 0;
  std::uint64_t file_bytes = 0;
  bool torn = false;   // behind good_bytes stands the beginning of a record
  std::string damage;  // or something else
  bool newer = false;  // or the file is of a version that is not known here
};

FileLog::File::File(File&& other) noexcept : files_(other.files_), fd_(std::exchange(other.fd_, -1)) {}
FileLog::File& FileLog::File::operator=(File&& other) noexcept {
  std::swap(files_, other.files_);
  std::swap(fd_, other.fd_);
  return *this;
}
FileLog::File::~File() {
  if (fd_ >= 0) files_->close(fd_);
}

FileLog::FileLog(const std::string& directory, FileLogOptions options, FileSystem& files)
    : files_(files), options_(options), directory_(directory), path_(directory + "/hawser.log") {}
FileLog::~FileLog() = default;

// -----------------------------------------------------------------------------------------------------------------
// open

Result<std::unique_ptr<FileLog>> FileLog::open(const std::string& directory, FileLogOptions options,
                                               FileSystem& files) {
  std::unique_ptr<FileLog> log(new FileLog(directory, options, files));
  if (Status status = log->make_directory(); !status.ok()) return status;
  if (Status status = log->lock(); !status.ok()) return status;

  log->file_ = File(files, files.open(log->path_, O_RDWR | O_CLOEXEC, 0));
  if (log->file_.fd() == -ENOENT) {
    if (Status status = log->create(); !status.ok()) return status;
    return log;
  }
  if (log->file_.fd() < 0) return log->failed("cannot open", log->path_, log->file_.fd());

  Scan scan;
  if (Status status = log->read(scan); !status.ok()) return status;
  if (scan.newer) return Status(Code::UNSUPPORTED, scan.damage);
  if (!scan.damage.empty()) {
    return Status(
        Code::INTERNAL,
        fmt::format("{} is damaged at byte {}: {}. Nothing was changed; `hawser coordinator --log-dir {} --repair` "
                    "keeps the {} records before the damage and saves the file as it is beside it as *.damaged",
                    log->path_, scan.good_bytes, scan.damage, directory, scan.records));
  }
  log->values_ = std::move(scan.values);
  log->good_bytes_ = scan.good_bytes;
  log->sequence_next_ = scan.sequence_next;
  if (scan.torn) {
    log::message(log::Subsystem::coordinator, log::Level::warn,
                 "{}: the last {} bytes are a record that was not written to its end; dropped", log->path_,
                 scan.file_bytes - scan.good_bytes);
    if (Status status = log->cut(); !status.ok()) return status;
  } else if (const int error = files.fsync(log->file_.fd()); error < 0) {
    // Whoever wrote the last records may have died before they were on the disk, and they are in use from here on.
    return log->failed("cannot sync", log->path_, error);
  }
  if (Status status = log->sync_directory(directory); !status.ok()) return status;
  return log;
}

Status FileLog::make_directory() {
  if (directory_.empty()) return {Code::INVALID_ARGUMENT, "the directory of the log has no name"};
  std::vector<std::string> missing;  // the innermost first
  for (std::string path = directory_;;) {
    const File probe(files_, files_.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
    if (probe.fd() >= 0) break;
    if (probe.fd() == -ENOTDIR) return {Code::INVALID_ARGUMENT, fmt::format("{} is not a directory", path)};
    if (probe.fd() != -ENOENT || path == "/" || path == ".") return failed("cannot open", path, probe.fd());
    missing.push_back(path);
    path = parent_of(path);
  }
  while (!missing.empty()) {
    const std::string path = std::move(missing.back());
    missing.pop_back();
    if (const int error = files_.mkdir(path, 0777); error < 0 && error != -EEXIST) {
      return failed("cannot create", path, error);
    }
    if (Status status = sync_directory(parent_of(path)); !status.ok()) return status;
  }
  return {};
}

Status FileLog::lock() {
  const std::string path = directory_ + "/hawser.lock";
  lock_ = File(files_, files_.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (lock_.fd() < 0) return failed("cannot open", path, lock_.fd());
  const int error = files_.flock(lock_.fd(), LOCK_EX | LOCK_NB);
  std::array<char, 320> text{};
  if (error == -EWOULDBLOCK) {
    const ssize_t got =
        files_.pread(lock_.fd(), {reinterpret_cast<std::uint8_t*>(text.data()), text.size()}, 0);  // NOLINT: bytes
    std::string_view holder(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    holder = holder.substr(0, holder.find('\n'));
    return {Code::RESOURCE,
            fmt::format("the log directory {} is in use by {}", directory_,
                        holder.empty() ? std::string("another process") : log::printable(holder, text.size()))};
  }
  if (error < 0) return failed("cannot lock", path, error);
  // Only for the sentence above: the lock holds also where this cannot be written.
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  const std::string holder = fmt::format("process {} on {}\n", getpid(), host.data());
  if (files_.ftruncate(lock_.fd(), 0) == 0) {
    const ssize_t wrote = files_.pwrite(
        lock_.fd(), {reinterpret_cast<const std::uint8_t*>(holder.data()), holder.size()}, 0);  // NOLINT: bytes
    if (wrote != static_cast<ssize_t>(holder.size())) files_.ftruncate(lock_.fd(), 0);
  }
  return {};
}

// The first file has its name only when it is whole, so a short file header is never the trace of a crash.
Status FileLog::create() {
  if (Status status = rewrite(); !status.ok()) return status;
  if (Status status = settle(); !status.ok()) return status;
  // The directory itself may have been made by one that died before its name was on the disk.
  const Status status = sync_directory(parent_of(directory_));
  if (!status.ok()) {
    log::message(log::Subsystem::coordinator, log::Level::debug, "{}", status.text());
  }
  return {};
}

Status FileLog::read(Scan& out) {
  const off_t size = files_.size(file_.fd());
  if (size < 0) return failed("cannot read", path_, size);
  out.file_bytes = static_cast<std::uint64_t>(size);

  Bytes bytes;
  const auto load_at = [&](std::uint64_t offset, std::size_t count) -> Status {
    bytes.resize(count);
    for (std::size_t done = 0; done < count;) {
      const ssize_t got = files_.pread(file_.fd(), std::span(bytes).subspan(done), static_cast<off_t>(offset + done));
      if (got < 0) return failed("cannot read", path_, got);
      if (got == 0) return {Code::RESOURCE, fmt::format("{} became shorter while it was read", path_)};
      done += static_cast<std::size_t>(got);
    }
    return {};
  };

  if (out.file_bytes < file_header_bytes) {
    out.damage = fmt::format("the file has {} bytes, its header alone needs {}", out.file_bytes, file_header_bytes);
    return {};
  }
  if (Status status = load_at(0, file_header_bytes); !status.ok()) return status;
  if (!std::equal(file_magic.begin(), file_magic.end(), bytes.begin())) {
    out.damage = "it does not begin like a log of Hawser";
    return {};
  }
  if (!checks(bytes)) {
    out.damage = "the header of the file does not match its checksum";
    return {};
  }
  if (const auto version = load<std::uint32_t>(bytes.data() + 8); version != format_version) {
    out.newer = true;
    out.damage = fmt::format("{} has format version {}; this build knows version {}", path_, version, format_version);
    return {};
  }
  out.sequence_next = load<std::uint64_t>(bytes.data() + 16);
  out.good_bytes = file_header_bytes;

  while (out.good_bytes < out.file_bytes) {
    const std::uint64_t left = out.file_bytes - out.good_bytes;
    if (Status status = load_at(out.good_bytes, std::min<std::uint64_t>(left, record_header_bytes)); !status.ok()) {
      return status;
    }
    const std::size_t magic_bytes = std::min(bytes.size(), record_magic.size());
    if (!std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(magic_bytes), record_magic.begin())) {
      out.damage = "there is no record where one should begin";
      return {};
    }
    if (left < record_header_bytes) {
      out.torn = true;
      return {};
    }
    if (!checks(bytes)) {
      out.damage = "the header of the record does not match its checksum";
      return {};
    }
    const auto length = load<std::uint32_t>(bytes.data() + 4);
    const auto key = load<std::uint64_t>(bytes.data() + 8);
    const auto sequence = load<std::uint64_t>(bytes.data() + 16);
    if (sequence != out.sequence_next) {
      out.damage = fmt::format("record {} stands where record {} should", sequence, out.sequence_next);
      return {};
    }
    if (length > value_bytes_max) {
      out.damage = fmt::format("a value of {} bytes, more than was ever written", length);
      return {};
    }
    if (left < record_bytes(length)) {
      out.torn = true;
      return {};
    }
    if (Status status = load_at(out.good_bytes, record_bytes(length)); !status.ok()) return status;
    if (!checks(bytes)) {
      out.damage = fmt::format("the value of record {} does not match its checksum", sequence);
      return {};
    }
    out.values[key].assign(bytes.begin() + record_header_bytes, bytes.end() - checksum_bytes);
    out.good_bytes += record_bytes(length);
    ++out.sequence_next;
    ++out.records;
  }
  return {};
}

// ------------------------------------------------------------------------------------------------------------------
// put

Status FileLog::put(std::uint64_t key, std::span<const std::uint8_t> value) {
  if (value.size() > value_bytes_max) {
    return {Code::INVALID_ARGUMENT,
            fmt::format("a value of {} bytes for {}: the limit is {}", value.size(), path_, value_bytes_max)};
  }
  if (Status status = settle(); !status.ok()) return status;
  // Memory first: after the write nothing may fail.
  Bytes record;
  append_record(record, key, sequence_next_, value);
  Values fresh;
  fresh.emplace(key, Bytes(value.begin(), value.end()));

  tail_dirty_ = true;
  Status written = write_all(file_.fd(), record, good_bytes_, path_);
  if (written.ok()) {
    if (const int error = files_.fdatasync(file_.fd()); error < 0) written = failed("cannot sync", path_, error);
  }
  if (!written.ok()) {
    if (const Status status = cut(); !status.ok()) {
      log::message(log::Subsystem::coordinator, log::Level::warn, "{}", status.text());
    }
    return written;
  }
  tail_dirty_ = false;
  good_bytes_ += record.size();
  ++sequence_next_;
  if (const auto it = values_.find(key); it != values_.end()) {
    it->second.swap(fresh.begin()->second);
  } else {
    values_.merge(fresh);
  }

  if (good_bytes_ > std::max(options_.compact_above_bytes, compact_next_) && live_bytes() < good_bytes_ / 2) {
    Status status;
    try {
      status = rewrite();
    } catch (const std::bad_alloc&) {
      status = {Code::RESOURCE, fmt::format("no memory to rewrite {}", path_)};
    }
    if (!status.ok()) {
      // What was put is safe in the file as it is, which goes on growing.
      compact_next_ = good_bytes_ + good_bytes_ / 2;
      log::message(log::Subsystem::coordinator, log::Level::warn, "the log is not made smaller: {}", status.text());
    }
  }
  return {};
}

// What an earlier failure left behind. Nothing may be acknowledged before this is done.
Status FileLog::settle() {
  if (name_dirty_) {
    if (Status status = sync_directory(directory_); !status.ok()) return status;
    name_dirty_ = false;
  }
  const int names = files_.names(path_, file_.fd());
  if (names < 0) return failed("cannot find", path_, names);
  if (names == 0) {
    return {Code::RESOURCE, fmt::format("{} was removed or replaced while it was in use: what is written now would be "
                                        "lost. Restart the coordinator",
                                        path_)};
  }
  return tail_dirty_ ? cut() : Status{};
}

Status FileLog::cut() {
  tail_dirty_ = true;
  int error = files_.ftruncate(file_.fd(), static_cast<off_t>(good_bytes_));
  if (error == 0) error = files_.fdatasync(file_.fd());
  if (error < 0) return failed("cannot cut off an unfinished record of", path_, error);
  tail_dirty_ = false;
  return {};
}

// Writes all values to a new file and gives it the name of the log. On failure the old file is in use as before.
Status FileLog::rewrite() {
  Bytes bytes;
  bytes.reserve(live_bytes());
  append_file_header(bytes, sequence_next_);
  std::uint64_t sequence = sequence_next_;
  for (const auto& [key, value] : values_) append_record(bytes, key, sequence++, value);

  const std::string path = path_ + ".new";
  File file(files_, files_.open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (file.fd() < 0) return failed("cannot create", path, file.fd());
  Status status = write_all(file.fd(), bytes, 0, path);
  if (status.ok()) {
    if (const int error = files_.fsync(file.fd()); error < 0) status = failed("cannot sync", path, error);
  }
  if (status.ok()) {
    if (const int error = files_.rename(path, path_); error < 0) status = failed("cannot rename", path, error);
  }
  // A file system over a network may say that a rename failed which was done. Where it will not say what is the case,
  // settle refuses every put into the wrong file.
  if (!status.ok() && files_.names(path_, file.fd()) != 1) {
    files_.unlink(path);
    return status;
  }
  file_ = std::move(file);
  good_bytes_ = bytes.size();
  sequence_next_ = sequence;
  compact_next_ = 0;
  tail_dirty_ = false;
  name_dirty_ = true;
  if (const Status synced = sync_directory(directory_); synced.ok()) {
    name_dirty_ = false;
  } else {
    log::message(log::Subsystem::coordinator, log::Level::warn, "{}", synced.text());
  }
  return {};
}

Status FileLog::write_all(int fd, std::span<const std::uint8_t> bytes, std::uint64_t offset, const std::string& path) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = files_.pwrite(fd, bytes.subspan(done), static_cast<off_t>(offset + done));
    if (wrote < 0) return failed("cannot write", path, wrote);
    if (wrote == 0) return failed("cannot write", path, -ENOSPC);
    done += static_cast<std::size_t>(wrote);
  }
  return {};
}

Status FileLog::sync_directory(const std::string& path) {
  const File directory(files_, files_.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (directory.fd() < 0) return failed("cannot open", path, directory.fd());
  if (const int error = files_.fsync(directory.fd()); error < 0) return failed("cannot sync", path, error);
  return {};
}

Status FileLog::failed(const std::string& what, const std::string& path, std::int64_t error) const {
  return {Code::RESOURCE, fmt::format("{} {}: {}", what, path, uv_strerror(static_cast<int>(error)))};
}

std::uint64_t FileLog::live_bytes() const {
  std::uint64_t bytes = file_header_bytes;
  for (const auto& [key, value] : values_) bytes += record_bytes(value.size());
  return bytes;
}

// ---------------------------------------------------------------------------------------------------------------
// repair

Result<FileLog::Repaired> FileLog::repair(const std::string& directory, FileSystem& files) {
  FileLog log(directory, {}, files);
  {
    const File probe(files, files.open(log.path_, O_RDWR | O_CLOEXEC, 0));
    if (probe.fd() < 0) return log.failed("cannot open", log.path_, probe.fd());
  }
  if (Status status = log.lock(); !status.ok()) return status;
  log.file_ = File(files, files.open(log.path_, O_RDWR | O_CLOEXEC, 0));
  if (log.file_.fd() < 0) return log.failed("cannot open", log.path_, log.file_.fd());

  Scan scan;
  if (Status status = log.read(scan); !status.ok()) return status;
  if (scan.newer) return Status(Code::UNSUPPORTED, scan.damage);
  Repaired done{.records_kept = scan.records, .bytes_cut = 0, .damage = {}, .saved_as = {}};
  if (scan.damage.empty()) return done;
  done.bytes_cut = scan.file_bytes - scan.good_bytes;
  done.damage = fmt::format("byte {}: {}", scan.good_bytes, scan.damage);

  File copy;
  for (int number = 1; copy.fd() < 0; ++number) {
    done.saved_as = number == 1 ? log.path_ + ".damaged" : fmt::format("{}.damaged.{}", log.path_, number);
    copy = File(files, files.open(done.saved_as, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (copy.fd() < 0 && (copy.fd() != -EEXIST || number == damaged_files_max)) {
      return log.failed("cannot create", done.saved_as, copy.fd());
    }
  }
  Status status;
  Bytes piece(std::size_t{1} << 16);
  for (std::uint64_t at = 0; status.ok() && at < scan.file_bytes;) {
    const ssize_t got = files.pread(log.file_.fd(), piece, static_cast<off_t>(at));
    if (got <= 0) {
      status = log.failed("cannot read", log.path_, got == 0 ? -EIO : got);
      break;
    }
    status = log.write_all(copy.fd(), std::span(piece).first(static_cast<std::size_t>(got)), at, done.saved_as);
    at += static_cast<std::uint64_t>(got);
  }
  if (status.ok()) {
    if (const int error = files.fsync(copy.fd()); error < 0) status = log.failed("cannot sync", done.saved_as, error);
  }
  if (status.ok()) status = log.sync_directory(directory);
  if (!status.ok()) {
    files.unlink(done.saved_as);
    return status;
  }

  log.values_ = std::move(scan.values);
  log.sequence_next_ = scan.sequence_next;
  if (status = log.rewrite(); !status.ok()) return status;
  if (log.name_dirty_) {
    if (status = log.sync_directory(directory); !status.ok()) return status;
  }
  return done;
}

}  // namespace hawser::io
