// A timer of an event loop. Made, used and destroyed on the loop's thread, inside its own callback too.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "io/uv/event_loop.hpp"

namespace hawser::io {

class Timer {
 public:
  Timer(EventLoop& loop, std::function<void()> fired);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Fires once, not before `delay_ms` from now by io::now_ms, never inside the call. Replaces a start before. Negative
  // counts as 0.
  void start(std::int64_t delay_ms);
  void start_repeating(std::int64_t period_ms);  // first after one period
  void stop();
  [[nodiscard]] bool active() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Wakes its loop from anywhere, a signal handler too. Made and destroyed on the loop's thread; notify may be called
// from any thread and from a signal handler as long as the object and its loop exist. Several notifies may give one
// call.
class Notifier {
 public:
  static Result<std::unique_ptr<Notifier>> create(EventLoop& loop, std::function<void()> notified);
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  void notify() noexcept;

 private:
  struct State;
  explicit Notifier(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

}  // namespace hawser::io
