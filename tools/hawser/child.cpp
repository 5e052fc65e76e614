// Child processes by posix_spawn and pidfd. Called by the main thread of the parent, die_with_parent by that of the
// child.
#include "child.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "command.hpp"

extern char** environ;

namespace tool {
namespace {

std::string error_text(int error) { return std::system_category().message(error); }

class FileActions {
 public:
  FileActions() { posix_spawn_file_actions_init(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

class SpawnAttributes {
 public:
  explicit SpawnAttributes(bool holds_sigterm) {
    posix_spawnattr_init(&attributes_);
    // Whatever the parent blocks or handles, children start with every signal at its default.
    sigset_t blocked;
    sigset_t all;
    sigemptyset(&blocked);
    if (holds_sigterm) sigaddset(&blocked, SIGTERM);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &blocked);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
  ~SpawnAttributes() { posix_spawnattr_destroy(&attributes_); }
  posix_spawnattr_t* get() { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int Descriptor::release() { return std::exchange(fd_, -1); }

void Descriptor::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Failure(exit_resource, "no pipe: " + error_text(errno));
  Pipe pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  return pipe;
}

Child Child::start(const ChildRequest& request) {
  std::vector<std::string> texts = request.arguments;
  texts.insert(texts.begin(), "hawser");
  std::vector<char*> argv;
  argv.reserve(texts.size() + 1);
  for (std::string& text : texts) argv.push_back(text.data());
  argv.push_back(nullptr);
  std::vector<std::string> extra = request.environment;
  std::vector<char*> envp;
  for (std::string& text : extra) envp.push_back(text.data());  // the first of a name counts
  for (char** old = environ; *old != nullptr; ++old) envp.push_back(*old);
  envp.push_back(nullptr);

  FileActions actions;
  posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (request.stdout_is_null) posix_spawn_file_actions_addopen(actions.get(), STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  if (request.stdout_is_stderr) posix_spawn_file_actions_adddup2(actions.get(), STDERR_FILENO, STDOUT_FILENO);
  if (request.report_end >= 0) posix_spawn_file_actions_adddup2(actions.get(), request.report_end, report_fd);

  SpawnAttributes attributes(request.holds_sigterm);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, "/proc/self/exe", actions.get(), attributes.get(), argv.data(), envp.data());
  if (error != 0) throw Failure(exit_resource, "a child process could not be started: " + error_text(error));
  // By number, since Debian 12's headers for C++ lack the wrapper. The pid cannot be reused before it is reaped.
  const auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  Child child(pid, Descriptor(pidfd));
  if (pidfd < 0) throw Failure(exit_resource, "no descriptor for a child process: " + error_text(errno));
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)), wait_status_(other.wait_status_) {}

Child::~Child() {
  if (pid_ < 0 || wait_status_) return;
  kill(pid_, SIGKILL);
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

std::optional<int> Child::reap() {
  if (wait_status_ || pid_ < 0) return wait_status_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) wait_status_ = status;
  return wait_status_;
}

void Child::send_signal(int signal) const {
  if (pid_ > 0 && !wait_status_) kill(pid_, signal);
}

std::string describe_end(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signal = WTERMSIG(wait_status);
    const char* name = sigdescr_np(signal);
    return fmt::format("was ended by signal {} ({})", signal, name != nullptr ? name : "unknown");
  }
  return fmt::format("exited with code {}", WEXITSTATUS(wait_status));
}

void die_with_parent(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(exit_failed);
}

}  // namespace tool
