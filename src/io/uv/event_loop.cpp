// The mailbox is the only thing that two threads touch. Ending is a task like others, the last one: it closes the door
// to the mailbox, then every handle, so that uv_run runs out of things to do.
#include "io/uv/event_loop.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>

#include <cerrno>
#include <cstdlib>
#include <exception>
#include <utility>

#include "base/log.hpp"
#include "io/signals.hpp"
#include "io/unique_fd.hpp"
#include "io/uv/handle.hpp"

namespace hawser::io {
namespace {

thread_local const EventLoop* loop_of_thread = nullptr;

Status no_loop(const std::string& name, const char* why) {
  return {Code::RESOURCE, fmt::format("cannot start the thread {}: {}", name, why)};
}

// Some versions of uv_loop_init leak a descriptor when they find no further one, so ask first: it needs 3 to 7, and 2
// for the first loop of a process.
constexpr std::size_t loop_descriptors_max = 9;

int spare_descriptors() {
  std::array<UniqueFd, loop_descriptors_max> probes;
  for (UniqueFd& probe : probes) {
    probe.reset(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!probe.valid()) return -errno;
  }
  return 0;
}

}  // namespace

bool EventLoop::Mailbox::post(Task task) {
  const std::lock_guard lock(mutex_);
  if (wake_ == nullptr) return false;
  tasks_.push_back(std::move(task));
  if (tasks_.size() == 1) uv_async_send(wake_);
  return true;
}

void EventLoop::Mailbox::alarm() noexcept {
  const std::lock_guard lock(mutex_);
  if (wake_ == nullptr) return;
  alarmed_ = true;
  uv_async_send(wake_);
}

Result<std::unique_ptr<EventLoop>> EventLoop::start(const std::string& thread_name) {
  if (const int error = spare_descriptors(); error != 0) return no_loop(thread_name, uv_strerror(error));
  std::unique_ptr<EventLoop> loop(new EventLoop);
  if (const int error = uv_loop_init(&loop->loop_); error != 0) return no_loop(thread_name, uv_strerror(error));
  loop->loop_.data = loop.get();
  if (const int error = uv_async_init(&loop->loop_, &loop->wake_,
                                      [](uv_async_t* wake) { static_cast<EventLoop*>(wake->loop->data)->run_tasks(); });
      error != 0) {
    uv_loop_close(&loop->loop_);
    return no_loop(thread_name, uv_strerror(error));
  }
  loop->mailbox_->wake_ = &loop->wake_;
  try {
    const SignalsBlocked blocked;
    loop->thread_ = std::thread([raw = loop.get(), name = thread_name.substr(0, 15)] {
      pthread_setname_np(pthread_self(), name.c_str());
      raw->run();
    });
  } catch (const std::exception& error) {  // of the system, or no memory
    loop->mailbox_->wake_ = nullptr;
    loop->close_handles();
    uv_run(&loop->loop_, UV_RUN_DEFAULT);
    uv_loop_close(&loop->loop_);
    return no_loop(thread_name, error.what());
  }
  return loop;
}

EventLoop::~EventLoop() { stop(); }

bool EventLoop::on_thread() const { return loop_of_thread == this; }

void EventLoop::run() {
  loop_of_thread = this;
  do {
    uv_run(&loop_, UV_RUN_DEFAULT);  // returns when the last handle is closed
    close_handles();                 // what callbacks let go of may have made handles
  } while (uv_loop_close(&loop_) == UV_EBUSY);
  loop_of_thread = nullptr;
}

void EventLoop::run_tasks() noexcept {
  std::vector<Task> tasks;
  Mailbox::Caller* callers = nullptr;
  bool ending = false;
  bool alarmed = false;
  {
    const std::lock_guard lock(mailbox_->mutex_);
    tasks.swap(mailbox_->tasks_);
    callers = std::exchange(mailbox_->callers_, nullptr);
    ending = mailbox_->ending_;
    alarmed = std::exchange(mailbox_->alarmed_, false);
  }
  if (alarmed) exhausted();
  for (Task& task : tasks) {
    guard(task);
    task = nullptr;  // what it holds goes before the next one runs
  }
  while (callers != nullptr) {
    Mailbox::Caller& caller = *callers;
    callers = caller.next;
    try {
      (*caller.task)();
    } catch (...) {
      caller.thrown = std::current_exception();
    }
    const std::lock_guard lock(mailbox_->mutex_);
    caller.done = true;
    mailbox_->called_.notify_all();
  }
  if (ending) close_handles();
}

void EventLoop::exhausted() noexcept {
  if (std::exchange(exhausted_, true) || !on_exhausted_) return;
  on_exhausted_();
}

bool EventLoop::call(const Task& task) {
  if (on_thread()) {
    task();
    return true;
  }
  Mailbox::Caller caller;
  caller.task = &task;
  {
    std::unique_lock lock(mailbox_->mutex_);
    if (mailbox_->wake_ == nullptr) return false;
    Mailbox::Caller** last = &mailbox_->callers_;
    while (*last != nullptr) last = &(*last)->next;
    *last = &caller;
    uv_async_send(mailbox_->wake_);
    mailbox_->called_.wait(lock, [&] { return caller.done; });
  }
  if (caller.thrown) std::rethrow_exception(caller.thrown);
  return true;
}

void EventLoop::stop() {
  if (on_thread()) {
    log::message(log::Subsystem::net, log::Level::error, "an event loop cannot be ended from its own thread");
    std::abort();
  }
  const std::lock_guard join_lock(join_mutex_);
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mailbox_->mutex_);
    mailbox_->ending_ = true;
    uv_async_send(&wake_);
    mailbox_->wake_ = nullptr;
  }
  thread_.join();
}

void EventLoop::close_handles() {
  uv_walk(
      &loop_,
      [](uv_handle_t* handle, void* self) {
        if (uv_is_closing(handle)) return;
        if (handle == reinterpret_cast<uv_handle_t*>(&static_cast<EventLoop*>(self)->wake_)) {
          uv_close(handle, nullptr);
        } else {
          static_cast<HandleState*>(handle->data)->abandon();
        }
      },
      this);
}

}  // namespace hawser::io
