// The mailbox is the only thing that two threads touch. Ending is a task like others, the last one: it closes the door
// to the mailbox, then every handle, so that uv_run runs out of things to do.
#include "io/uv/event_loop.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>

#include <cerrno>
#include <cstdlib>
#include <future>
#include <system_error>
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
  } catch (const std::system_error& error) {
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

void EventLoop::run_tasks() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mailbox_->mutex_);
    tasks.swap(mailbox_->tasks_);
  }
  for (Task& task : tasks) {
    task();
    task = nullptr;  // what it holds goes before the next one runs
  }
}

bool EventLoop::call(const Task& task) {
  if (on_thread()) {
    task();
    return true;
  }
  // The promise is shared: it must outlive set_value, which the waiting thread may outrun.
  const auto done = std::make_shared<std::promise<void>>();
  std::future<void> future = done->get_future();
  if (!post([&task, done] {
        task();
        done->set_value();
      })) {
    return false;
  }
  future.wait();
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
    mailbox_->tasks_.emplace_back([this] { close_handles(); });
    uv_async_send(&wake_);
    mailbox_->wake_ = nullptr;
  }
  thread_.join();
}

void EventLoop::close_handles() {
  std::vector<uv_handle_t*> handles;
  uv_walk(
      &loop_, [](uv_handle_t* handle, void* list) { static_cast<std::vector<uv_handle_t*>*>(list)->push_back(handle); },
      &handles);
  for (uv_handle_t* handle : handles) {
    if (uv_is_closing(handle)) continue;
    if (handle == reinterpret_cast<uv_handle_t*>(&wake_)) {
      uv_close(handle, nullptr);
    } else {
      static_cast<HandleState*>(handle->data)->abandon();
    }
  }
}

}  // namespace hawser::io
