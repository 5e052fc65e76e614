// A thread that moves data: an event loop with the strands it owns and a scratch buffer for bytes on their way through
// a reduction.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/status.hpp"
#include "io/uv/event_loop.hpp"
#include "io/uv/timer.hpp"

namespace hawser::runtime {

class Engine;
class Strand;

inline constexpr std::size_t scratch_bytes = 256U << 10;  // as a unit: few calls, half of a small second-level cache

class IoThread {
 public:
  static Result<std::unique_ptr<IoThread>> start(Engine& engine, std::size_t index);
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  void stop();
  void run(std::function<void()> task) { loop_->post(std::move(task)); }
  // Closes every strand, without taking memory.
  void alarm() noexcept { loop_->mailbox()->alarm(); }
  [[nodiscard]] bool on_thread() const { return loop_->on_thread(); }
  [[nodiscard]] uv_loop_t* loop() { return loop_->handle(); }
  [[nodiscard]] std::byte* scratch() { return scratch_.get(); }

  // On the thread.
  void own(const std::shared_ptr<Strand>& strand);
  void disown(Strand& strand);
  void run_scheduled();  // pumps the strands that the engine has scheduled here
  // Strands that left reading to user threads are polled again when nobody reads them: soon, or as far as possible now.
  void rouse_later();
  void rouse();
  // Ways in use are looked at every so often until none is.
  void survey_later(std::int64_t ms);

  // Guarded by the engine's mutex.
  std::vector<std::shared_ptr<Strand>> scheduled;
  bool posted = false;

 private:
  void close_all();
  explicit IoThread(Engine& engine) : engine_(engine), scratch_(new std::byte[scratch_bytes]) {}
  void watch();

  Engine& engine_;
  std::unique_ptr<std::byte[]> scratch_;
  std::vector<std::shared_ptr<Strand>> strands_;
  std::unique_ptr<io::EventLoop> loop_;
  std::unique_ptr<io::Timer> watch_;
  std::unique_ptr<io::Timer> rouse_;
  bool rousing_ = false;
  std::unique_ptr<io::Timer> survey_;
  bool surveying_ = false;
  std::int64_t watched_ms_ = 0;  // when the strands were last looked at; 0: there were none
};

}  // namespace hawser::runtime
