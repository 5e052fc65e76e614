// The thread waits for requests, and no longer than until the store's next upkeep, which also comes between requests.
#include "runtime/store_thread.hpp"

#include <fmt/format.h>
#include <pthread.h>

#include <chrono>
#include <exception>
#include <new>
#include <utility>

#include "io/random.hpp"
#include "io/signals.hpp"

namespace hawser::runtime {
namespace {

// Memory that runs out inside a store is an answer like others.
template <typename Call>
auto guarded(const ViewStore& store, const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return Status(Code::RESOURCE, fmt::format("no memory for the {}", store.describe()));
  }
}

}  // namespace

StoreThread::StoreThread(std::unique_ptr<ViewStore> store, Post post, Lost lost, Task alarm)
    : store_(std::move(store)), post_(std::move(post)), lost_(std::move(lost)), alarm_(std::move(alarm)) {}

Result<std::unique_ptr<StoreThread>> StoreThread::start(std::unique_ptr<ViewStore> store, Post post, Lost lost,
                                                        Task alarm) {
  std::unique_ptr<StoreThread> made(
      new StoreThread(std::move(store), std::move(post), std::move(lost), std::move(alarm)));
  try {
    const io::SignalsBlocked blocked;
    made->thread_ = std::thread([raw = made.get()] {
      pthread_setname_np(pthread_self(), "hawser-store");
      raw->run();
    });
  } catch (const std::exception& error) {  // of the system, or no memory
    return Status(Code::RESOURCE, fmt::format("cannot start the thread hawser-store: {}", error.what()));
  }
  return made;
}

StoreThread::~StoreThread() {
  *alive_ = false;
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    queue_.clear();
    changed_.notify_all();
  }
  store_->cancel();
  thread_.join();
}

void StoreThread::acquire(Acquired done) {
  request([this, done = std::move(done)]() mutable {
    auto result = guarded(*store_, [&] { return store_->acquire(); });
    ours_ = result.ok();
    upkeep_at_ms_ = -1;
    answer([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
    upkeep();
  });
}

void StoreThread::put(std::uint64_t key, std::vector<std::uint8_t> value, Stored done) {
  request([this, key, value = std::move(value), done = std::move(done)]() mutable {
    Status status = guarded(*store_, [&] { return store_->put(key, value); });
    const bool no_longer_ours = !status.ok() && status.code() != Code::RESOURCE;
    answer([done = std::move(done), status]() mutable { done(std::move(status)); });
    if (no_longer_ours) lose(status);
  });
}

void StoreThread::request(Task task) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(task));
  changed_.notify_all();
}

void StoreThread::answer(Task task) {
  post_([alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

void StoreThread::lose(const Status& why) {
  if (!std::exchange(ours_, false)) return;
  upkeep_at_ms_ = -1;
  answer([this, why] { lost_(why); });
}

void StoreThread::upkeep() {
  if (!ours_) return;
  const auto next_ms = guarded(*store_, [&] { return store_->upkeep(); });
  if (next_ms.ok()) {
    upkeep_at_ms_ = next_ms.value() < 0 ? -1 : io::now_ms() + next_ms.value();
  } else if (next_ms.status().code() == Code::RESOURCE) {
    upkeep_at_ms_ = io::now_ms() + 100;  // no memory; the store decides later whether it was too late
  } else {
    lose(next_ms.status());
  }
}

void StoreThread::run() {
  for (;;) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      const auto ready = [&] { return stopping_ || !queue_.empty(); };
      if (upkeep_at_ms_ < 0) {
        changed_.wait(lock, ready);
      } else {
        changed_.wait_for(lock, std::chrono::milliseconds(upkeep_at_ms_ - io::now_ms()), ready);
      }
      if (stopping_) return;
      if (!queue_.empty()) {
        task = std::move(queue_.front());
        queue_.pop_front();
      }
    }
    try {
      if (upkeep_at_ms_ >= 0 && io::now_ms() >= upkeep_at_ms_) upkeep();
      if (task) task();
    } catch (const std::bad_alloc&) {
      alarm_();
    }
  }
}

}  // namespace hawser::runtime
