// libuv counts from the loop's cached time, which lags behind: the delay is computed from the clock that now_ms reads,
// so that a timer never fires before its time.
#include "io/uv/timer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "io/random.hpp"
#include "io/uv/handle.hpp"

namespace hawser::io {

struct Timer::State : HandleState {
  uv_timer_t timer = {};
  std::function<void()> fired;
};

Timer::Timer(EventLoop& loop, std::function<void()> fired) : state_(std::make_shared<State>()) {
  state_->fired = std::move(fired);
  uv_timer_init(loop.handle(), &state_->timer);  // cannot fail
  state_->attach(reinterpret_cast<uv_handle_t*>(&state_->timer), state_);
}

Timer::~Timer() { state_->close(); }

void Timer::start(std::int64_t delay_ms) {
  if (!state_->open()) return;
  const std::int64_t due = now_ms() + std::max<std::int64_t>(delay_ms, 0);
  uv_update_time(state_->timer.loop);
  const std::int64_t loop_now = static_cast<std::int64_t>(uv_now(state_->timer.loop));
  uv_timer_start(
      &state_->timer,
      [](uv_timer_t* timer) {
        EventLoop::of(timer->loop).guard([&] { static_cast<State*>(static_cast<HandleState*>(timer->data))->fired(); });
      },
      static_cast<std::uint64_t>(std::max<std::int64_t>(due - loop_now, 0)), 0);
}

void Timer::start_repeating(std::int64_t period_ms) {
  start(period_ms);
  if (state_->open())
    uv_timer_set_repeat(&state_->timer, static_cast<std::uint64_t>(std::max<std::int64_t>(period_ms, 1)));
}

void Timer::stop() {
  if (state_->open()) uv_timer_stop(&state_->timer);
}

bool Timer::active() const {
  return state_->open() && uv_is_active(reinterpret_cast<const uv_handle_t*>(&state_->timer)) != 0;
}

// ---------------------------------------------------------------------------------------------------------- Notifier

struct Notifier::State : HandleState {
  uv_async_t async = {};
  std::function<void()> notified;
};

Notifier::Notifier(std::shared_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Notifier>> Notifier::create(EventLoop& loop, std::function<void()> notified) {
  auto state = std::make_shared<State>();
  state->notified = std::move(notified);
  const int error = uv_async_init(loop.handle(), &state->async, [](uv_async_t* async) {
    EventLoop::of(async->loop).guard([&] { static_cast<State*>(static_cast<HandleState*>(async->data))->notified(); });
  });
  if (error != 0) return Status(Code::RESOURCE, fmt::format("cannot make a notifier: {}", uv_strerror(error)));
  state->attach(reinterpret_cast<uv_handle_t*>(&state->async), state);
  return std::unique_ptr<Notifier>(new Notifier(std::move(state)));
}

Notifier::~Notifier() { state_->close(); }

void Notifier::notify() noexcept {
  const int saved = errno;  // of the code that a signal interrupted
  uv_async_send(&state_->async);
  errno = saved;
}

}  // namespace hawser::io
