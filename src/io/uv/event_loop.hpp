// A libuv loop on a thread of its own, the only thread that touches what belongs to it. Other threads hand it tasks
// with post. All signals are blocked there, so that handlers run on threads of the user and a broken connection gives
// EPIPE, not SIGPIPE.
//
// No exception gets from a callback into libuv. Where memory is lacking, what runs on the loop cannot go on from where
// it was interrupted: its owner is told once (on_exhausted) and ends it. Ending, and calling into a loop, take no
// memory.
#pragma once

#include <uv.h>

#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "base/status.hpp"

namespace hawser::io {

class EventLoop {
 public:
  using Task = std::function<void()>;

  // The way into a loop from outside. It may outlive the loop, for those who do not know whether it still exists.
  class Mailbox {
   public:
    // Any thread. Tasks run in the order in which they were posted, never inside post and never under a lock. False:
    // the loop has ended or is ending and the task was dropped.
    bool post(Task task);
    // Any thread; takes no memory. The loop does what it does when memory is lacking there.
    void alarm() noexcept;

   private:
    friend class EventLoop;
    struct Caller {  // waits in call()
      const Task* task = nullptr;
      Caller* next = nullptr;
      bool done = false;
      std::exception_ptr thrown;
    };
    std::mutex mutex_;  // guards the rest
    std::condition_variable called_;
    std::vector<Task> tasks_;
    Caller* callers_ = nullptr;  // oldest first
    bool alarmed_ = false;
    bool ending_ = false;
    uv_async_t* wake_ = nullptr;  // null: nobody reads any more
  };

  // The name is cut at 15 bytes, Linux's limit. RESOURCE: no descriptors, memory or threads left.
  static Result<std::unique_ptr<EventLoop>> start(const std::string& thread_name);
  // As stop. Not on the loop's own thread.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  bool post(Task task) { return mailbox_->post(std::move(task)); }
  [[nodiscard]] const std::shared_ptr<Mailbox>& mailbox() const { return mailbox_; }
  // Runs the task on the loop, after those posted before, and returns when it is done; at once when called there. What
  // it throws is thrown here. False as for post: it has not run.
  bool call(const Task& task);
  // What to do when memory is lacking for something that runs on the loop: end it. Called there, once, with no callback
  // under way; must not throw. To be set before anything is posted.
  void on_exhausted(Task task) { on_exhausted_ = std::move(task); }
  // For every callback of libuv.
  template <typename Function>
  void guard(Function&& function) noexcept {
    try {
      function();
    } catch (const std::bad_alloc&) {
      exhausted();
    }
  }
  static EventLoop& of(const uv_loop_t* loop) { return *static_cast<EventLoop*>(loop->data); }
  // Runs what was posted, then closes every handle without calling anybody back, and joins the thread. Any thread but
  // the loop's own; more than once is fine.
  void stop();

  [[nodiscard]] bool on_thread() const;
  [[nodiscard]] uv_loop_t* handle() { return &loop_; }
  // Room for one read; only valid inside the callback it was filled for.
  [[nodiscard]] std::array<char, 65536>& read_buffer() { return read_buffer_; }

 private:
  EventLoop() = default;
  void run();
  void run_tasks() noexcept;
  void close_handles();
  void exhausted() noexcept;

  uv_loop_t loop_ = {};
  uv_async_t wake_ = {};
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::array<char, 65536> read_buffer_;
  Task on_exhausted_;
  bool exhausted_ = false;
  std::mutex join_mutex_;  // guards thread_
  std::thread thread_;
};

}  // namespace hawser::io
