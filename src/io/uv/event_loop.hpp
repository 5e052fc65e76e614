// A libuv loop on a thread of its own, the only thread that touches what belongs to it. Other threads hand it tasks
// with post. All signals are blocked there, so that handlers run on threads of the user and a broken connection gives
// EPIPE, not SIGPIPE.
#pragma once

#include <uv.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
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

   private:
    friend class EventLoop;
    std::mutex mutex_;  // guards the rest
    std::vector<Task> tasks_;
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
  // Runs the task on the loop and returns when it is done; at once when called there. False as for post: it has not
  // run.
  bool call(const Task& task);
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
  void run_tasks();
  void close_handles();

  uv_loop_t loop_ = {};
  uv_async_t wake_ = {};
  std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  std::array<char, 65536> read_buffer_;
  std::mutex join_mutex_;  // guards thread_
  std::thread thread_;
};

}  // namespace hawser::io
