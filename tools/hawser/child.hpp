// Child processes: this program started again with other arguments, and told apart by pid, never by name.
//
// Children are made by posix_spawn of /proc/self/exe. Each end is noticed through a pidfd, so a parent polls for the
// ends of all children beside its other descriptors. A child dies with its parent: it asks the kernel for SIGKILL at
// its parent's end.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace tool {

// A descriptor that is closed at the end of its owner.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { reset(); }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  int release();
  void reset();

 private:
  int fd_ = -1;
};

struct Pipe {
  Descriptor read_end;
  Descriptor write_end;
};
// Both ends close in spawned programs; the reading end does not block.
Pipe make_pipe();

// Where a child finds the writing end of its report pipe.
inline constexpr int report_fd = 3;

struct ChildRequest {
  std::vector<std::string> arguments;  // without the program's name
  int report_end = -1;                 // becomes report_fd in the child, -1: none
  bool stdout_is_stderr = false;
  bool stdout_is_null = false;
  std::vector<std::string> environment = {};  // "NAME=VALUE", besides the parent's
  bool holds_sigterm = false;  // starts with SIGTERM blocked, so that one sent early waits until the child looks for it
};

// One child. Its owner reaps it; an owner that goes away earlier kills it and reaps it.
class Child {
 public:
  // Throws a Failure if the process cannot be started.
  static Child start(const ChildRequest& request);

  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child();

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }  // readable when the child has ended
  // The wait status once the child has ended, else nothing. Does not wait. Repeated calls give the same answer.
  std::optional<int> reap();
  [[nodiscard]] bool has_ended() const { return wait_status_.has_value(); }  // as far as reap has seen
  // Nothing happens to a child that was reaped.
  void send_signal(int signal) const;

 private:
  Child(pid_t pid, Descriptor pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}
  pid_t pid_;
  Descriptor pidfd_;
  std::optional<int> wait_status_;
};

// "exited with code 3" or "was ended by signal 9 (Killed)".
std::string describe_end(int wait_status);

// In a child, first: asks for SIGKILL when `parent` ends, and exits if that has happened already.
void die_with_parent(pid_t parent);

}  // namespace tool
