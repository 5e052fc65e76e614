// Processes of process.cpp, and what a test says to them. Ended by pid, and reaped, with their scope.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include "support/times.hpp"

namespace hawser_test {

class Process {
 public:
  // `before`: a program that starts it, with arguments.
  explicit Process(const std::vector<std::string>& arguments, const std::vector<std::string>& before = {}) {
    std::vector<std::string> words = before;
    words.emplace_back(HAWSER_SCENARIO_PROCESS);
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> raw;
    raw.reserve(words.size() + 1);
    for (std::string& word : words) raw.push_back(word.data());
    raw.push_back(nullptr);
    std::array<int, 2> in{};
    std::array<int, 2> out{};
    if (pipe2(in.data(), O_CLOEXEC) != 0 || pipe2(out.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    const int error = posix_spawnp(&pid_, raw[0], &actions, nullptr, raw.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    in_ = in[1];
    out_ = out[0];
    if (error != 0) throw std::runtime_error("cannot start " + words[0]);
  }
  ~Process() {
    close(in_);
    close(out_);
    send(SIGKILL);
    reap();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const {
    if (pid_ > 0) ::kill(pid_, signal);
  }
  void reap() {
    if (pid_ <= 0) return;
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
  }
  void tell(const std::string& line) const {
    const std::string bytes = line + "\n";
    if (write(in_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw std::runtime_error("a process does not listen to: " + line);
  }
  // Its next line.
  std::string hear(int limit_ms = 60000) {
    const auto began = Clock::now();
    while (true) {
      if (const auto end = heard_.find('\n'); end != std::string::npos) {
        std::string line = heard_.substr(0, end);
        heard_.erase(0, end + 1);
        return line;
      }
      pollfd ready{out_, POLLIN, 0};
      const auto left = static_cast<int>(limit_ms - ms_since(began));
      if (left <= 0 || poll(&ready, 1, left) == 0) throw std::runtime_error("a process said nothing in time");
      std::array<char, 4096> bytes{};
      const ssize_t n = read(out_, bytes.data(), bytes.size());
      if (n <= 0) throw std::runtime_error("a process ended instead of saying something");
      heard_.append(bytes.data(), static_cast<std::size_t>(n));
    }
  }
  // The words of its next line, of which the first must be this one.
  std::vector<std::string> hear_words(const std::string& first, int limit_ms = 60000) {
    const std::string line = hear(limit_ms);
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    if (words.empty() || words[0] != first)
      throw std::runtime_error("wanted \"" + first + "\", heard \"" + line + "\"");
    return words;
  }

 private:
  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  std::string heard_;
};
using ProcessPtr = std::unique_ptr<Process>;

class CoordinatorProcess {
 public:
  CoordinatorProcess(std::uint32_t heartbeat_ms, std::string log_dir, std::string standby_of)
      : heartbeat_ms_(heartbeat_ms), log_dir_(std::move(log_dir)), standby_of_(std::move(standby_of)) {
    start();
  }
  // Again, at the same address.
  void start() {
    process_ = std::make_unique<Process>(std::vector<std::string>{
        "coordinator", address_.empty() ? "127.0.0.1:0" : address_, std::to_string(heartbeat_ms_),
        log_dir_.empty() ? "-" : log_dir_, standby_of_.empty() ? "-" : standby_of_});
    address_ = process_->hear_words("listening").at(1);
  }
  void send(int signal) const { process_->send(signal); }
  void reap() { process_->reap(); }
  [[nodiscard]] const std::string& address() const { return address_; }

 private:
  std::uint32_t heartbeat_ms_;
  std::string log_dir_;
  std::string standby_of_;
  std::string address_;
  ProcessPtr process_;
};

struct MemberProcess {
  ProcessPtr process;
  std::uint32_t number = 0;

  [[nodiscard]] std::uint32_t bit() const { return 1U << number; }
};

// How to start one of them otherwise.
struct Odd {
  std::uint32_t number = 0;
  std::vector<std::string> before;
  std::vector<std::string> after;
};

// A group of so many, in rank order.
inline std::vector<MemberProcess> start_group(const std::string& coordinators, std::uint32_t size,
                                              const std::vector<Odd>& odd = {}) {
  std::vector<MemberProcess> members(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    std::vector<std::string> arguments = {"member", coordinators, std::to_string(size), std::to_string(i)};
    std::vector<std::string> before;
    for (const Odd& one : odd) {
      if (one.number != i) continue;
      before = one.before;
      arguments.insert(arguments.end(), one.after.begin(), one.after.end());
    }
    members[i].process = std::make_unique<Process>(arguments, before);
    members[i].number = i;
  }
  for (const MemberProcess& member : members) {
    member.process->hear_words("ready");
    member.process->tell("join 60000");
  }
  std::vector<MemberProcess> ranked(size);
  for (MemberProcess& member : members) {
    const auto rank = std::stoul(member.process->hear_words("joined").at(1));
    ranked.at(rank) = std::move(member);
  }
  return ranked;
}

// What a reduction came to at one member.
struct Reduced {
  bool ok = false;
  std::uint32_t contributors = 0;  // a bit for each number
  std::string said;
};

using Members = std::vector<const MemberProcess*>;

inline Members some(const std::vector<MemberProcess>& members, const std::vector<std::size_t>& ranks) {
  Members out;
  for (const std::size_t rank : ranks) out.push_back(&members.at(rank));
  return out;
}

inline std::uint32_t bits(const Members& members) {
  std::uint32_t out = 0;
  for (const MemberProcess* member : members) out |= member->bit();
  return out;
}

// All of these enter a reduction.
inline void begin_reduce(const Members& members, std::size_t count, std::uint32_t limit_ms) {
  for (const MemberProcess* member : members)
    member->process->tell("reduce " + std::to_string(count) + " " + std::to_string(limit_ms));
  for (const MemberProcess* member : members) member->process->hear_words("inside");
}
inline Reduced end_reduce(const MemberProcess& member, int limit_ms = 60000) {
  Reduced out;
  out.said = member.process->hear(limit_ms);
  std::istringstream words(out.said);
  std::string first;
  words >> first;
  if (first == "damaged:") throw std::runtime_error(out.said);
  out.ok = first == "reduced";
  if (out.ok) words >> out.contributors;
  return out;
}
inline std::vector<Reduced> reduce(const Members& members, std::size_t count, std::uint32_t limit_ms = 60000) {
  begin_reduce(members, count, limit_ms);
  std::vector<Reduced> out;
  for (const MemberProcess* member : members) out.push_back(end_reduce(*member));
  return out;
}
inline void check_sum_of(const std::vector<Reduced>& all, std::uint32_t contributors) {
  for (const Reduced& one : all) {
    INFO(one.said);
    CHECK(one.ok);
    CHECK(one.contributors == contributors);
  }
}

}  // namespace hawser_test
