// Threads that move data; see the header.
#include "runtime/data/io_thread.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/random.hpp"
#include "runtime/data/engine.hpp"
#include "runtime/data/strand.hpp"

namespace hawser::runtime {
namespace {

constexpr std::int64_t unused_ms = 1000;  // memory for copies of inputs is kept for so long
constexpr std::int64_t rouse_ms = 1;      // a frame that nobody reads waits no longer than twice that

}  // namespace

Result<std::unique_ptr<IoThread>> IoThread::start(Engine& engine, std::size_t index) {
  std::unique_ptr<IoThread> thread(new IoThread(engine));
  auto loop = io::EventLoop::start(fmt::format("hawser-io{}", index));
  if (!loop.ok()) return loop.status();
  thread->loop_ = std::move(loop.value());
  thread->loop_->on_exhausted([raw = thread.get()] {
    raw->engine_.exhausted();
    raw->close_all();
  });
  return thread;
}

IoThread::~IoThread() { stop(); }

void IoThread::stop() {
  if (!loop_) return;
  loop_->call([this] { close_all(); });
  loop_->stop();
}

void IoThread::close_all() {
  const auto strands = std::move(strands_);
  strands_.clear();
  for (const auto& strand : strands) strand->close();
  watch_.reset();
  rouse_.reset();
  survey_.reset();
}

void IoThread::own(const std::shared_ptr<Strand>& strand) {
  strands_.push_back(strand);
  strand->open(loop());
  run_scheduled();
  if (!watch_) watch_ = std::make_unique<io::Timer>(*loop_, [this] { watch(); });
  if (watched_ms_ == 0) watch();
}

// Looks after silence without asking the engine, which may be busy, and at least every heartbeat.
void IoThread::watch() {
  const std::int64_t now = io::now_ms();
  const Liveness liveness = engine_.liveness();
  const bool slept = watched_ms_ != 0 && now - watched_ms_ > 3 * liveness.heartbeat_ms;
  watched_ms_ = now;
  std::int64_t next = now + liveness.heartbeat_ms;
  const auto strands = strands_;  // one that is given up leaves the list
  for (const auto& strand : strands) next = std::min(next, strand->watch(now, liveness, slept));
  run_scheduled();
  ByteBuffer::forget_unused(unused_ms);
  if (strands_.empty()) {
    watched_ms_ = 0;
  } else {
    // Those that are due soon after one another are looked at together.
    watch_->start(std::max(next, now + liveness.heartbeat_ms / 8) - io::now_ms());
  }
}

void IoThread::rouse_later() {
  if (std::exchange(rousing_, true)) return;
  if (!rouse_) {
    rouse_ = std::make_unique<io::Timer>(*loop_, [this] {
      rousing_ = false;
      bool all = true;
      const auto strands = strands_;  // one that fails leaves the list
      for (const auto& strand : strands) all = strand->rouse(false) && all;
      if (!all) rouse_later();
      run_scheduled();
    });
  }
  rouse_->start(rouse_ms);
}

void IoThread::rouse() {
  const auto strands = strands_;
  for (const auto& strand : strands) (void)strand->rouse(true);
  run_scheduled();
}

void IoThread::survey_later(std::int64_t ms) {
  if (strands_.empty() || std::exchange(surveying_, true)) return;
  if (!survey_) {
    survey_ = std::make_unique<io::Timer>(*loop_, [this, ms] {
      surveying_ = false;
      bool any = false;
      const std::int64_t now = io::now_ms();
      const auto strands = strands_;
      for (const auto& strand : strands) any = strand->survey(now) || any;
      if (any) survey_later(ms);
      run_scheduled();
    });
  }
  survey_->start(ms);
}

void IoThread::disown(Strand& strand) {
  std::erase_if(strands_, [&](const auto& owned) { return owned.get() == &strand; });
}

void IoThread::run_scheduled() {
  for (;;) {
    const auto strands = engine_.take_scheduled(*this);
    if (strands.empty()) return;
    for (const auto& strand : strands) strand->resume();
  }
}

}  // namespace hawser::runtime
