// The log under everything that a disk can do: cut off, flipped, full, read-only, failing at any call, forgetting what
// was not synced.
#include "io/file_log.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "support/catch.hpp"
#include "support/stderr_capture.hpp"
#include "unit/io/disks.hpp"

using namespace hawser;
using io::FileLog;
using test::FaultyDisk;
using test::MemoryDisk;
using Bytes = std::vector<std::uint8_t>;
namespace fs = std::filesystem;

namespace {

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "hawser-log-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }
  [[nodiscard]] std::string log() const { return (path_ / "log").string(); }  // does not exist yet
  [[nodiscard]] fs::path file() const { return path_ / "log" / "hawser.log"; }

 private:
  fs::path path_;
};

Bytes value_of(std::uint32_t number, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::uint8_t>((number * 2654435761U + i * 40503U) >> 13U);
  }
  return bytes;
}

Bytes read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write_file(const fs::path& path, const Bytes& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));  // NOLINT: bytes
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
}

std::unique_ptr<FileLog> open_log(const std::string& directory, io::FileLogOptions options = {},
                                  io::FileSystem& files = io::FileSystem::system()) {
  auto log = FileLog::open(directory, options, files);
  INFO(log.status().text());
  REQUIRE(log.ok());
  return std::move(log.value());
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A log of about 4 KiB and the values after each of its records.
struct Sample {
  std::vector<FileLog::Values> prefixes;   // [i]: after i records
  std::vector<std::uint64_t> ends = {32};  // [i]: where record i ends; 32: the file's header
  Bytes bytes;
};
Sample make_sample(const Folder& folder) {
  Sample sample;
  const auto log = open_log(folder.log());
  sample.prefixes.push_back(log->values());
  for (std::uint32_t i = 0; i < 24; ++i) {
    REQUIRE(log->put(i % 7, value_of(i, (i * 37) % 260)).ok());
    sample.prefixes.push_back(log->values());
    sample.ends.push_back(log->file_bytes());
  }
  sample.bytes = read_file(folder.file());
  REQUIRE(sample.bytes.size() == log->file_bytes());
  return sample;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------------ every
// day

TEST_CASE("what was put is there again after closing and opening") {
  const Folder folder;
  FileLog::Values expected;
  {
    const auto log = open_log(folder.log());
    CHECK(log->values().empty());
    for (std::uint32_t i = 0; i < 100; ++i) {
      const std::uint64_t key = i % 10 == 0 ? ~std::uint64_t{i} : i % 17;
      const Bytes value = value_of(i, i * 31 % 1000);
      REQUIRE(log->put(key, value).ok());
      expected[key] = value;
    }
    CHECK(log->values() == expected);
  }
  const auto log = open_log(folder.log());
  CHECK(log->values() == expected);
  REQUIRE(log->put(5, {}).ok());
  expected[5].clear();
  CHECK(log->values() == expected);
}

TEST_CASE("an empty log opens again as an empty log") {
  const Folder folder;
  open_log(folder.log());
  CHECK(open_log(folder.log())->values().empty());
  CHECK(fs::file_size(folder.file()) == 32);
}

TEST_CASE("directories are created, one inside the other") {
  const Folder folder;
  const std::string deep = folder.path() + "/a/b//c/";
  REQUIRE(open_log(deep)->put(1, Bytes{1}).ok());
  CHECK(open_log(deep)->values() == FileLog::Values{{1, {1}}});
}

TEST_CASE("what is no directory is refused by name") {
  const Folder folder;
  write_file(folder.log(), {1, 2, 3});
  const Status file = FileLog::open(folder.log()).status();
  CHECK(file.code() == Code::INVALID_ARGUMENT);
  CHECK(contains(file.text(), folder.log()));
  CHECK(FileLog::open("").status().code() == Code::INVALID_ARGUMENT);
}

TEST_CASE("a value of the greatest length fits, a longer one is refused and leaves no trace") {
  const Folder folder;
  const auto log = open_log(folder.log());
  const Bytes longest(FileLog::value_bytes_max, 7);
  REQUIRE(log->put(1, longest).ok());
  const Bytes longer(FileLog::value_bytes_max + 1, 8);
  CHECK(log->put(1, longer).code() == Code::INVALID_ARGUMENT);
  CHECK(log->values().at(1) == longest);
}

TEST_CASE("a log has one user at a time, who is named") {
  const Folder folder;
  auto log = open_log(folder.log());
  const Status same = FileLog::open(folder.log()).status();
  CHECK(same.code() == Code::RESOURCE);
  CHECK(contains(same.text(), folder.log()));
  CHECK(contains(same.text(), "process " + std::to_string(getpid())));
  CHECK(FileLog::repair(folder.log()).status().code() == Code::RESOURCE);

  // Another process gets the same answer, and the log once this one is done with it.
  const auto other_process = [&] {
    const pid_t child = fork();
    if (child == 0) {
      const auto theirs = FileLog::open(folder.log());
      _exit(theirs.ok() ? 1 : contains(theirs.status().text(), "process " + std::to_string(getppid())) ? 2 : 3);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  CHECK(other_process() == 2);
  log.reset();
  CHECK(other_process() == 1);
}

TEST_CASE("the log of a process that was killed is free at once") {
  const Folder folder;
  int ready[2] = {-1, -1};
  REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto log = FileLog::open(folder.log());
    const char done = log.ok() && log.value()->put(9, Bytes{9}).ok() ? '+' : '-';
    if (write(ready[1], &done, 1) != 1) _exit(1);
    for (;;) pause();
  }
  char done = 0;
  REQUIRE(read(ready[0], &done, 1) == 1);
  CHECK(done == '+');
  CHECK(contains(FileLog::open(folder.log()).status().text(), "process " + std::to_string(child)));
  REQUIRE(kill(child, SIGKILL) == 0);
  REQUIRE(waitpid(child, nullptr, 0) == child);
  CHECK(open_log(folder.log())->values() == FileLog::Values{{9, {9}}});
  close(ready[0]);
  close(ready[1]);
}

TEST_CASE("a log that is mostly replaced values is made smaller") {
  const Folder folder;
  const Bytes value = value_of(1, 10000);
  FileLog::Values expected;
  {
    const auto log = open_log(folder.log());
    std::uint64_t largest = 0;
    for (std::uint32_t i = 0; i < 300; ++i) {
      expected[i % 3] = value_of(i, 10000);
      REQUIRE(log->put(i % 3, expected[i % 3]).ok());
      largest = std::max(largest, log->file_bytes());
      REQUIRE(log->file_bytes() == fs::file_size(folder.file()));
    }
    CHECK(largest > (1U << 20U) - 20000);
    CHECK(largest < (1U << 20U) + 20000);
    CHECK(log->file_bytes() < (1U << 20U));
    CHECK(!fs::exists(folder.file().string() + ".new"));
  }
  CHECK(open_log(folder.log())->values() == expected);
}

TEST_CASE("a log of values that are all in use only grows") {
  const Folder folder;
  const auto log = open_log(folder.log(), {.compact_above_bytes = 1000});
  for (std::uint32_t i = 0; i < 100; ++i) REQUIRE(log->put(i, value_of(i, 100)).ok());
  CHECK(log->file_bytes() == 32 + 100 * 140);
}

TEST_CASE("what a rewrite that was killed left behind does no harm") {
  const Folder folder;
  const Sample sample = make_sample(folder);
  write_file(folder.file().string() + ".new", Bytes(5000, 0xff));
  const auto log = open_log(folder.log(), {.compact_above_bytes = 100});
  CHECK(log->values() == sample.prefixes.back());
  for (std::uint32_t i = 0; i < 50; ++i) REQUIRE(log->put(1, value_of(i, 200)).ok());
  CHECK(log->file_bytes() < 4000);
  CHECK(!fs::exists(folder.file().string() + ".new"));
}

TEST_CASE("nothing is written into a log that was removed or replaced meanwhile") {
  const Folder folder;
  const auto log = open_log(folder.log());
  REQUIRE(log->put(1, Bytes{1}).ok());
  fs::rename(folder.file(), folder.file().string() + ".away");
  const Status removed = log->put(1, Bytes{2});
  CHECK(removed.code() == Code::RESOURCE);
  CHECK(contains(removed.text(), "removed or replaced"));
  write_file(folder.file(), {});
  CHECK(log->put(1, Bytes{3}).code() == Code::RESOURCE);
  CHECK(log->values().at(1) == Bytes{1});
  fs::rename(folder.file().string() + ".away", folder.file());
  CHECK(log->put(1, Bytes{4}).ok());
}

// ----------------------------------------------------------------------------------------------------------------
// damage

// All of a few thousand logs are opened in memory; the disk has its turn with some of them.
TEST_CASE("a log cut at any length opens with the records that are whole") {
  const Folder folder;
  const Sample sample = make_sample(folder);
  REQUIRE(sample.bytes.size() > 3500);
  MemoryDisk memory;
  REQUIRE(memory.mkdir("/log", 0) == 0);
  for (std::size_t length = 0; length < sample.bytes.size(); ++length) {
    INFO("cut at " << length);
    const Bytes cut(sample.bytes.begin(), sample.bytes.begin() + static_cast<std::ptrdiff_t>(length));
    memory.set("/log/hawser.log", cut);
    if (length < 32) {
      // No crash leaves that: a log gets its name when its header is whole.
      REQUIRE(FileLog::open("/log", {}, memory).status().code() == Code::INTERNAL);
      REQUIRE(memory.get("/log/hawser.log") == cut);
      continue;
    }
    std::size_t whole = 0;
    while (whole + 1 < sample.ends.size() && sample.ends[whole + 1] <= length) ++whole;
    const test::StderrCapture lines;
    {
      const auto log = open_log("/log", {}, memory);
      REQUIRE(log->values() == sample.prefixes[whole]);
      REQUIRE(log->file_bytes() == sample.ends[whole]);
      REQUIRE(memory.get("/log/hawser.log").size() == sample.ends[whole]);
      REQUIRE(lines.lines_with("dropped") == (length == sample.ends[whole] ? 0 : 1));
      // It goes on from there.
      REQUIRE(log->put(99, Bytes{1, 2, 3}).ok());
      auto expected = sample.prefixes[whole];
      expected[99] = {1, 2, 3};
      REQUIRE(log->values() == expected);
      REQUIRE(log->file_bytes() == memory.get("/log/hawser.log").size());
    }
    if (length % 401 != 0) continue;
    write_file(folder.file(), cut);
    REQUIRE(open_log(folder.log())->values() == sample.prefixes[whole]);
    REQUIRE(fs::file_size(folder.file()) == sample.ends[whole]);
  }
}

TEST_CASE("every single flipped bit is refused, and repaired to the records before it") {
  const Folder folder;
  const Sample sample = make_sample(folder);
  const fs::path saved = folder.file().string() + ".damaged";
  MemoryDisk memory;
  REQUIRE(memory.mkdir("/log", 0) == 0);
  for (std::size_t bit = 0; bit < sample.bytes.size() * 8; ++bit) {
    INFO("bit " << bit);
    Bytes flipped = sample.bytes;
    flipped[bit / 8] = static_cast<std::uint8_t>(flipped[bit / 8] ^ (1U << (bit % 8)));
    memory.set("/log/hawser.log", flipped);
    std::size_t before = 0;
    while (before + 1 < sample.ends.size() && sample.ends[before + 1] <= bit / 8) ++before;
    const std::uint64_t offset = bit / 8 < 32 ? 0 : sample.ends[before];
    const std::string place = "hawser.log is damaged at byte " + std::to_string(offset) + ":";

    const Status refused = FileLog::open("/log", {}, memory).status();
    REQUIRE(refused.code() == Code::INTERNAL);
    REQUIRE(contains(refused.text(), "/log/" + place));
    REQUIRE(memory.get("/log/hawser.log") == flipped);
    const auto repaired = FileLog::repair("/log", memory);
    REQUIRE(repaired.ok());
    REQUIRE(repaired.value().records_kept == before);
    REQUIRE(repaired.value().bytes_cut == flipped.size() - offset);
    REQUIRE(repaired.value().saved_as == "/log/hawser.log.damaged");
    REQUIRE(memory.get("/log/hawser.log.damaged") == flipped);
    REQUIRE(open_log("/log", {}, memory)->values() == sample.prefixes[before]);
    REQUIRE(memory.unlink("/log/hawser.log.damaged") == 0);
    if (bit % 2003 != 0) continue;

    write_file(folder.file(), flipped);
    const Status on_disk = FileLog::open(folder.log()).status();
    REQUIRE(on_disk.code() == Code::INTERNAL);
    REQUIRE(contains(on_disk.text(), folder.log() + "/" + place));
    REQUIRE(contains(on_disk.text(), "hawser coordinator --log-dir " + folder.log() + " --repair"));
    REQUIRE(contains(on_disk.text(), "*.damaged"));
    REQUIRE(read_file(folder.file()) == flipped);
    REQUIRE(FileLog::repair(folder.log()).ok());
    REQUIRE(read_file(saved) == flipped);
    REQUIRE(open_log(folder.log())->values() == sample.prefixes[before]);
    fs::remove(saved);
  }
}

TEST_CASE("what stands behind the last record and is not the beginning of one is refused") {
  const Folder folder;
  const Sample sample = make_sample(folder);
  const auto refused = [&](const Bytes& tail, const std::string& why) {
    Bytes bytes = sample.bytes;
    bytes.insert(bytes.end(), tail.begin(), tail.end());
    write_file(folder.file(), bytes);
    const Status status = FileLog::open(folder.log()).status();
    INFO(status.text());
    CHECK(status.code() == Code::INTERNAL);
    CHECK(contains(status.text(), why));
    CHECK(contains(status.text(), "at byte " + std::to_string(sample.bytes.size()) + ":"));
  };
  for (const std::size_t length : {1U, 3U, 4U, 31U, 32U, 33U, 4096U}) refused(Bytes(length, 0), "no record");
  refused({'H', 'R', 'E', 'X'}, "no record");
  refused({'H', 'R', 'x'}, "no record");
  // A whole record, but one that was there before: its number is not the next.
  refused(Bytes(sample.bytes.begin() + 32, sample.bytes.begin() + static_cast<std::ptrdiff_t>(sample.ends[1])),
          "record 1 stands where record 25 should");
}

TEST_CASE("records that are missing or in another order are refused") {
  const Folder folder;
  const Sample sample = make_sample(folder);
  const auto record = [&](std::size_t i) {
    return Bytes(sample.bytes.begin() + static_cast<std::ptrdiff_t>(sample.ends[i]),
                 sample.bytes.begin() + static_cast<std::ptrdiff_t>(sample.ends[i + 1]));
  };
  const auto refused = [&](const std::vector<std::size_t>& order) {
    Bytes bytes(sample.bytes.begin(), sample.bytes.begin() + 32);
    for (const std::size_t i : order) {
      const Bytes one = record(i);
      bytes.insert(bytes.end(), one.begin(), one.end());
    }
    write_file(folder.file(), bytes);
    return FileLog::open(folder.log()).status().code() == Code::INTERNAL;
  };
  CHECK(refused({1, 2, 3}));
  CHECK(refused({0, 2, 3}));
  CHECK(refused({0, 1, 1}));
  CHECK(refused({1, 0, 2}));
  CHECK(!refused({0, 1, 2}));
}

TEST_CASE("a log of a later version is left alone") {
  const Folder folder;
  // The header as version 1 writes it, but for the version; its checksum was computed with xxhsum.
  const Bytes header = {'H', 'A', 'W', 'S', 'E', 'R', 'L', 'G', 2,    0,    0,    0,    0,    0,    0,    0,
                        1,   0,   0,   0,   0,   0,   0,   0,   0xa3, 0x76, 0x81, 0x3f, 0x56, 0xc5, 0x78, 0xae};
  fs::create_directory(folder.log());
  write_file(folder.file(), header);
  const Status newer = FileLog::open(folder.log()).status();
  CHECK(newer.code() == Code::UNSUPPORTED);
  CHECK(contains(newer.text(), "format version 2"));
  CHECK(FileLog::repair(folder.log()).status().code() == Code::UNSUPPORTED);
  CHECK(read_file(folder.file()) == header);
}

TEST_CASE("the bytes of a log are those that version 1 has always had") {
  const Folder folder;
  REQUIRE(open_log(folder.log())->put(0x1122334455667788, Bytes{'a', 'b', 'c'}).ok());
  const Bytes expected = {'H',  'A',  'W',  'S',  'E', 'R', 'L', 'G',  1,    0,    0,    0,    0,    0,    0,
                          0,    1,    0,    0,    0,   0,   0,   0,    0,    0x95, 0xbb, 0x29, 0x29, 0x82, 0x55,
                          0xfe, 0xef, 'H',  'R',  'E', 'C', 3,   0,    0,    0,    0x88, 0x77, 0x66, 0x55, 0x44,
                          0x33, 0x22, 0x11, 1,    0,   0,   0,   0,    0,    0,    0,    0xe1, 0xf4, 0xbb, 0x78,
                          0x15, 0xb4, 0x15, 0xe8, 'a', 'b', 'c', 0x5e, 0xfd, 0x92, 0xf3, 0xf9, 0xdd, 0xdb, 0x37};
  CHECK(read_file(folder.file()) == expected);
}

TEST_CASE("repairing a whole log changes nothing, and each damaged log is kept under a name of its own") {
  const Folder folder;
  const Sample sample = make_sample(folder);
  const auto whole = FileLog::repair(folder.log());
  REQUIRE(whole.ok());
  CHECK(whole.value().bytes_cut == 0);
  CHECK(whole.value().saved_as.empty());
  CHECK(whole.value().records_kept == 24);
  CHECK(read_file(folder.file()) == sample.bytes);

  for (const char* name : {".damaged", ".damaged.2", ".damaged.3"}) {
    Bytes bytes = sample.bytes;
    bytes[sample.ends[20] + 5] ^= 1;
    write_file(folder.file(), bytes);
    const auto repaired = FileLog::repair(folder.log());
    REQUIRE(repaired.ok());
    CHECK(repaired.value().saved_as == folder.file().string() + name);
    CHECK(read_file(repaired.value().saved_as) == bytes);
    CHECK(repaired.value().records_kept == 20);
  }
  CHECK(FileLog::repair(folder.path() + "/nothing").status().code() == Code::RESOURCE);
  CHECK(!fs::exists(folder.path() + "/nothing"));
}

TEST_CASE("a repair that fails at any call leaves the damaged log as it was, or repaired") {
  const Folder folder;
  const Sample sample = make_sample(folder);
  Bytes bytes = sample.bytes;
  bytes[sample.ends[20] + 5] ^= 1;
  bool succeeded = false;
  for (int n = 1; !succeeded; ++n) {
    INFO("call " << n);
    write_file(folder.file(), bytes);
    FaultyDisk disk(io::FileSystem::system());
    disk.fault = [&](const std::string&) { return disk.calls == n ? -EIO : 0; };
    succeeded = FileLog::repair(folder.log(), disk).ok() && disk.calls < n;
    const Bytes now = read_file(folder.file());
    if (now != bytes) {
      REQUIRE(open_log(folder.log())->values() == sample.prefixes[20]);
      REQUIRE(read_file(folder.file().string() + ".damaged") == bytes);
    }
    for (const auto& entry : fs::directory_iterator(folder.log())) {
      if (contains(entry.path().string(), ".damaged")) fs::remove(entry.path());
    }
    REQUIRE(n < 1000);
  }
}

// -------------------------------------------------------------------------------------------------------- disks that
// fail

namespace {

// A sequence with several rewrites in it. For each key: what was acknowledged last, and what was tried after that.
struct History {
  FileLog::Values acknowledged;
  std::map<std::uint64_t, std::vector<Bytes>> tried;
  int refused = 0;
};

constexpr std::uint32_t history_puts = 30;
constexpr io::FileLogOptions small_log = {.compact_above_bytes = 600};

// `again`: a put that fails is tried once more.
void run_history(io::FileSystem& files, const std::string& directory, History& history, bool again) {
  auto log = FileLog::open(directory, small_log, files);
  if (!log.ok() && again) log = FileLog::open(directory, small_log, files);
  if (!log.ok()) {
    ++history.refused;
    return;
  }
  for (std::uint32_t i = 0; i < history_puts; ++i) {
    const std::uint64_t key = i % 4;
    const Bytes value = value_of(i, 20 + i * 13 % 60);
    for (int attempt = 0; attempt < (again ? 2 : 1); ++attempt) {
      const Status status = log.value()->put(key, value);
      if (status.ok()) {
        history.acknowledged[key] = value;
        history.tried[key].clear();
        break;
      }
      if (status.code() != Code::RESOURCE) throw std::runtime_error(status.text());
      ++history.refused;
      history.tried[key].push_back(value);
    }
    if (log.value()->values() != history.acknowledged) throw std::runtime_error("values() has what was not written");
  }
}

// Why `values` cannot come from the history; empty: they can.
std::string judge(const FileLog::Values& values, const History& history) {
  for (const auto& [key, value] : history.acknowledged) {
    const auto it = values.find(key);
    if (it == values.end()) return "key " + std::to_string(key) + " is missing";
    const auto tried = history.tried.find(key);
    const bool later = tried != history.tried.end() &&
                       std::find(tried->second.begin(), tried->second.end(), it->second) != tried->second.end();
    if (it->second != value && !later) return "key " + std::to_string(key) + " has an older value";
  }
  for (const auto& [key, value] : values) {
    if (history.acknowledged.count(key) != 0) continue;
    const auto tried = history.tried.find(key);
    if (tried == history.tried.end() ||
        std::find(tried->second.begin(), tried->second.end(), value) == tried->second.end()) {
      return "key " + std::to_string(key) + " has a value that was never put";
    }
  }
  return {};
}

std::string judge(io::FileSystem& files, const std::string& directory, const History& history, bool strict) {
  const auto log = FileLog::open(directory, small_log, files);
  if (!log.ok()) return log.status().text();
  if (strict && log.value()->values() != history.acknowledged) return "not exactly what was acknowledged";
  return judge(log.value()->values(), history);
}

int calls_of_history() {
  MemoryDisk memory;
  FaultyDisk disk(memory);
  History history;
  run_history(disk, "/log", history, false);
  CHECK(history.refused == 0);
  CHECK(history.acknowledged.size() == 4);
  return disk.calls;
}

}  // namespace

TEST_CASE("the machine stops at any call: what was acknowledged is there, whatever was not synced") {
  const int calls = calls_of_history();
  CHECK(calls > 100);
  for (int n = 1; n <= calls; ++n) {
    for (const MemoryDisk::Crash kind : MemoryDisk::crashes) {
      INFO("call " << n << ", kind " << static_cast<int>(kind));
      MemoryDisk memory;
      FaultyDisk disk(memory);
      disk.fault = [&](const std::string&) { return disk.calls >= n ? -EIO : 0; };
      History history;
      run_history(disk, "/log", history, false);
      memory.crash(kind);
      const std::string wrong = judge(memory, "/log", history, false);
      REQUIRE(wrong.empty());
      REQUIRE(memory.open_files() == 0);
    }
  }
}

TEST_CASE("the machine stops in the middle of any write") {
  const int calls = calls_of_history();
  for (int n = 1; n <= calls; ++n) {
    for (const MemoryDisk::Crash kind : MemoryDisk::crashes) {
      INFO("call " << n << ", kind " << static_cast<int>(kind));
      MemoryDisk memory;
      FaultyDisk disk(memory);
      disk.fault = [&](const std::string& call) {
        if (disk.calls == n && call == "pwrite") return test::short_write;
        return disk.calls > n ? -EIO : 0;
      };
      History history;
      run_history(disk, "/log", history, false);
      memory.crash(kind);
      const std::string wrong = judge(memory, "/log", history, false);
      REQUIRE(wrong.empty());
    }
  }
}

TEST_CASE("one call fails: that put is refused and leaves no trace, and the next one works") {
  const int calls = calls_of_history();
  int refused = 0;
  for (int n = 1; n <= calls; ++n) {
    for (const int error : {-ENOSPC, -EIO, -EROFS, test::short_write, test::done_but_fails}) {
      for (const MemoryDisk::Crash kind : {MemoryDisk::Crash::keep_all, MemoryDisk::Crash::lose_all}) {
        INFO("call " << n << ", error " << error << ", kind " << static_cast<int>(kind));
        MemoryDisk memory;
        FaultyDisk disk(memory);
        disk.fault = [&](const std::string& call) {
          return disk.calls == n && (error != test::short_write || call == "pwrite") ? error : 0;
        };
        History history;
        run_history(disk, "/log", history, true);
        REQUIRE(history.refused <= 1);
        refused += history.refused;
        REQUIRE(history.acknowledged.size() == 4);
        memory.crash(kind);
        const std::string wrong = judge(memory, "/log", history, true);
        REQUIRE(wrong.empty());
      }
    }
  }
  CHECK(refused > 100);  // and not that nothing ever failed
}

TEST_CASE("one call fails and is not tried again: the acknowledged puts are there, exactly") {
  const int calls = calls_of_history();
  for (int n = 1; n <= calls; ++n) {
    for (const int error : {-ENOSPC, test::done_but_fails}) {
      // Nothing is put after the failure: only what the failed put itself did can take its trace away.
      MemoryDisk memory;
      FaultyDisk disk(memory);
      bool failed = false;
      disk.fault = [&](const std::string&) {
        failed = failed || disk.calls == n;
        return disk.calls == n ? error : 0;
      };
      History history;
      {
        const auto log = FileLog::open("/log", small_log, disk);
        for (std::uint32_t i = 0; log.ok() && i < history_puts && !failed; ++i) {
          const Bytes value = value_of(i, 20 + i * 13 % 60);
          if (log.value()->put(i % 4, value).ok()) history.acknowledged[i % 4] = value;
        }
      }
      memory.crash(MemoryDisk::Crash::lose_all);
      INFO("call " << n << ", error " << error);
      const std::string wrong = judge(memory, "/log", history, true);
      REQUIRE(wrong.empty());
    }
  }
}

TEST_CASE("what an open has found is on the disk, whoever wrote it") {
  const int calls = calls_of_history();
  for (int n = 1; n <= calls; ++n) {
    MemoryDisk memory;
    FaultyDisk disk(memory);
    disk.fault = [&](const std::string&) { return disk.calls >= n ? -EIO : 0; };
    History history;
    run_history(disk, "/log", history, false);
    memory.kill();
    FileLog::Values found = open_log("/log", small_log, memory)->values();
    memory.crash(MemoryDisk::Crash::lose_all);
    INFO("call " << n);
    REQUIRE(open_log("/log", small_log, memory)->values() == found);

    // And what is put then goes into the file that has the name on the disk, too.
    MemoryDisk second;
    FaultyDisk until(second);
    until.fault = [&](const std::string&) { return until.calls >= n ? -EIO : 0; };
    History again;
    run_history(until, "/log", again, false);
    second.kill();
    {
      const auto log = open_log("/log", small_log, second);
      REQUIRE(log->put(77, Bytes{7, 7}).ok());
      found = log->values();
    }
    second.crash(MemoryDisk::Crash::lose_all);
    REQUIRE(open_log("/log", small_log, second)->values() == found);
  }
}

TEST_CASE("any two calls fail") {
  const int calls = calls_of_history() + 10;
  for (int first = 1; first <= calls; ++first) {
    for (int second = first + 1; second <= std::min(calls, first + 12); ++second) {
      INFO("calls " << first << " and " << second);
      MemoryDisk memory;
      FaultyDisk disk(memory);
      disk.fault = [&](const std::string&) { return disk.calls == first || disk.calls == second ? -EIO : 0; };
      History history;
      run_history(disk, "/log", history, true);
      memory.crash(MemoryDisk::Crash::lose_all);
      const std::string wrong = judge(memory, "/log", history, false);
      REQUIRE(wrong.empty());
    }
  }
}

TEST_CASE("calls of one kind fail for a while") {
  const int calls = calls_of_history();
  for (const char* kind : {"open", "pwrite", "fsync", "fdatasync", "ftruncate", "rename", "unlink", "names"}) {
    for (int first = 1; first <= calls; first += 3) {
      for (const MemoryDisk::Crash crash : MemoryDisk::crashes) {
        INFO(kind << " from call " << first << ", kind " << static_cast<int>(crash));
        MemoryDisk memory;
        FaultyDisk disk(memory);
        disk.fault = [&](const std::string& call) {
          return call == kind && disk.calls >= first && disk.calls < first + 20 ? -EIO : 0;
        };
        History history;
        run_history(disk, "/log", history, false);
        memory.crash(crash);
        const std::string wrong = judge(memory, "/log", history, false);
        REQUIRE(wrong.empty());
      }
    }
  }
}

TEST_CASE("a rename that was done and says that it failed") {
  MemoryDisk memory;
  FaultyDisk disk(memory);
  int renames = 0;
  disk.fault = [&](const std::string& call) {
    if (call != "rename" || ++renames != 2) return 0;
    memory.rename("/log/hawser.log.new", "/log/hawser.log");
    return -EIO;
  };
  History history;
  run_history(disk, "/log", history, false);
  CHECK(renames > 2);
  CHECK(history.refused == 0);
  memory.crash(MemoryDisk::Crash::lose_all);
  const std::string wrong = judge(memory, "/log", history, true);
  CHECK(wrong.empty());
}

TEST_CASE("each call fails once on a real disk") {
  const int calls = calls_of_history();
  for (int n = 1; n <= calls; n += 5) {
    const Folder folder;
    FaultyDisk disk(io::FileSystem::system());
    disk.fault = [&](const std::string& call) {
      return disk.calls == n ? (call == "pwrite" && n % 4 == 1 ? test::short_write : -ENOSPC) : 0;
    };
    History history;
    run_history(disk, folder.log(), history, true);
    INFO("call " << n);
    REQUIRE(history.refused <= 1);
    const std::string wrong = judge(io::FileSystem::system(), folder.log(), history, true);
    REQUIRE(wrong.empty());
  }
}

// ------------------------------------------------------------------------------------------------------ real disks at
// work

namespace {

// A file system of its own in memory, seen by this process alone.
class Tmpfs {
 public:
  Tmpfs(std::string path, const std::string& options) : path_(std::move(path)) {
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0) return;
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
    mounted_ = mount("hawser-test", path_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~Tmpfs() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  Tmpfs(const Tmpfs&) = delete;
  Tmpfs& operator=(const Tmpfs&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }
  void read_only(bool on) const {
    const unsigned long flags = MS_REMOUNT | (on ? static_cast<unsigned long>(MS_RDONLY) : 0UL);
    if (mount("hawser-test", path_.c_str(), "tmpfs", flags, nullptr) != 0) throw std::runtime_error("remount");
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE("a full disk refuses puts until there is room again") {
  const Folder folder;
  const Tmpfs disk(folder.path(), "size=64k");
  if (!disk.mounted()) {
    WARN("not root or no mounts allowed: skipped");
    return;
  }
  auto log = open_log(folder.log(), {.compact_above_bytes = 1000});
  FileLog::Values expected;
  Status status;
  std::uint32_t i = 0;
  for (; status.ok() && i < 200; ++i) {  // all different keys: there is nothing to compact
    status = log->put(i, value_of(i, 1500));
    if (status.ok()) expected[i] = value_of(i, 1500);
  }
  CHECK(status.code() == Code::RESOURCE);
  CHECK(contains(status.text(), "no space left"));
  CHECK(expected.size() > 20);
  CHECK(log->put(1000, value_of(1, 1500)).code() == Code::RESOURCE);
  CHECK(log->values() == expected);
  CHECK(fs::file_size(folder.file()) == log->file_bytes());  // cut back

  // A small put may still fit; after that the log opens again on the full disk.
  log.reset();
  log = open_log(folder.log(), {.compact_above_bytes = 1000});
  CHECK(log->values() == expected);

  // Room again.
  log.reset();
  REQUIRE(mount("hawser-test", folder.path().c_str(), "tmpfs", MS_REMOUNT, "size=256k") == 0);
  log = open_log(folder.log(), {.compact_above_bytes = 1000});
  REQUIRE(log->put(1000, value_of(1, 1500)).ok());
  expected[1000] = value_of(1, 1500);
  log.reset();
  CHECK(open_log(folder.log())->values() == expected);
}

TEST_CASE("room that comes back while the log is open is used") {
  const Folder folder;
  const Tmpfs disk(folder.path(), "size=64k");
  if (!disk.mounted()) {
    WARN("not root or no mounts allowed: skipped");
    return;
  }
  const auto log = open_log(folder.log());
  write_file(folder.path() + "/filler", Bytes(48 << 10, 1));
  Status status;
  std::uint32_t i = 0;
  for (; status.ok() && i < 100; ++i) status = log->put(1, value_of(i, 1500));
  REQUIRE(status.code() == Code::RESOURCE);
  const Bytes before = log->values().at(1);
  CHECK(before == value_of(i - 2, 1500));
  fs::remove(folder.path() + "/filler");
  CHECK(log->put(1, value_of(i, 1500)).ok());
  CHECK(log->values().at(1) == value_of(i, 1500));
}

TEST_CASE("a full disk keeps the log from being made smaller, not from being used") {
  const Folder folder;
  const Tmpfs disk(folder.path(), "size=72k");
  if (!disk.mounted()) {
    WARN("not root or no mounts allowed: skipped");
    return;
  }
  const auto log = open_log(folder.log(), {.compact_above_bytes = 30 << 10});
  REQUIRE(log->put(0, value_of(0, 10000)).ok());
  write_file(folder.path() + "/filler", Bytes(28 << 10, 1));
  const test::StderrCapture lines;
  for (std::uint32_t i = 1; i < 28; ++i) REQUIRE(log->put(1, value_of(i, 1000)).ok());
  CHECK(lines.lines_with("not made smaller") == 1);
  CHECK(log->file_bytes() > 36000);
  fs::remove(folder.path() + "/filler");
  for (std::uint32_t i = 1; i < 28; ++i) REQUIRE(log->put(1, value_of(i, 1000)).ok());
  CHECK(log->file_bytes() < 30 << 10);
}

TEST_CASE("a read-only disk is named, and does not lose what is there") {
  const Folder folder;
  const Tmpfs disk(folder.path(), "size=256k");
  if (!disk.mounted()) {
    WARN("not root or no mounts allowed: skipped");
    return;
  }
  auto log = open_log(folder.log());
  REQUIRE(log->put(1, Bytes{1}).ok());
  log.reset();
  disk.read_only(true);
  const Status open = FileLog::open(folder.log()).status();
  CHECK(open.code() == Code::RESOURCE);
  CHECK(contains(open.text(), "read-only file system"));
  CHECK(contains(open.text(), folder.log()));
  CHECK(FileLog::open(folder.path() + "/other").status().code() == Code::RESOURCE);
  CHECK(FileLog::repair(folder.log()).status().code() == Code::RESOURCE);
  disk.read_only(false);
  CHECK(open_log(folder.log())->values() == FileLog::Values{{1, {1}}});
}

TEST_CASE("a directory that may not be written is named") {
  if (geteuid() == 0) {
    WARN("root may write everywhere: skipped");
    return;
  }
  const Folder folder;
  fs::create_directory(folder.log());
  REQUIRE(chmod(folder.log().c_str(), 0555) == 0);
  const Status status = FileLog::open(folder.log()).status();
  CHECK(status.code() == Code::RESOURCE);
  CHECK(contains(status.text(), "permission denied"));
  CHECK(contains(status.text(), folder.log()));
}
