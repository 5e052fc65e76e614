// Threads that move data; see the header.
#include "runtime/data/io_thread.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/data/engine.hpp"
#include "runtime/data/strand.hpp"

namespace hawser::runtime {

Result<std::unique_ptr<IoThread>> IoThread::start(Engine& engine, std::size_t index) {
  std::unique_ptr<IoThread> thread(new IoThread(engine));
  auto loop = io::EventLoop::start(fmt::format("hawser-io{}", index));
  if (!loop.ok()) return loop.status();
  thread->loop_ = std::move(loop.value());
  return thread;
}

IoThread::~IoThread() { stop(); }

void IoThread::stop() {
  if (!loop_) return;
  loop_->post([this] {
    const auto strands = std::move(strands_);
    strands_.clear();
    for (const auto& strand : strands) strand->close();
  });
  loop_->stop();
}

void IoThread::own(std::shared_ptr<Strand> strand) {
  strands_.push_back(strand);
  if (strand->open(loop())) strand->pump();
  run_scheduled();
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
