// A ViewStore on a thread of its own, for a loop that must not block. Requests are carried out in order; what came of
// each is posted back to the loop.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.hpp"
#include "runtime/view_store.hpp"

namespace hawser::runtime {

// Used and destroyed on the thread that runs what `post` is given.
class StoreThread {
 public:
  using Task = std::function<void()>;
  using Post = std::function<void(Task)>;  // any thread; runs the task later, in order
  using Acquired = std::function<void(Result<ViewStore::Values>)>;
  using Stored = std::function<void(Status)>;
  using Lost = std::function<void(Status)>;

  // `lost`: the store was acquired and is no longer ours (the Status says why), also when a put has said so already;
  // once for each acquire. `alarm`: there was no memory to post an answer, which will not come now; called on the
  // store's thread, takes no memory. RESOURCE: no thread.
  static Result<std::unique_ptr<StoreThread>> start(
      std::unique_ptr<ViewStore> store, Post post, Lost lost, Task alarm = [] {});
  // Cancels what is under way and waits for the thread. No callback runs afterwards, and requests that were not carried
  // out are dropped.
  ~StoreThread();
  StoreThread(const StoreThread&) = delete;
  StoreThread& operator=(const StoreThread&) = delete;

  // As the calls of ViewStore. The queue has no limit of its own: who puts waits for the answer of the last put.
  void acquire(Acquired done);
  void put(std::uint64_t key, std::vector<std::uint8_t> value, Stored done);
  [[nodiscard]] std::string describe() const { return store_->describe(); }

 private:
  StoreThread(std::unique_ptr<ViewStore> store, Post post, Lost lost, Task alarm);
  void run();
  void request(Task task);
  // To the loop, unless this object is gone by then.
  void answer(Task task);
  void lose(const Status& why);
  void upkeep();

  const std::unique_ptr<ViewStore> store_;
  const Post post_;
  const Lost lost_;
  const Task alarm_;
  // Of the loop's thread: false from the destructor on. Tasks that are on their way look at it.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  // Of the store's thread.
  bool ours_ = false;
  std::int64_t upkeep_at_ms_ = -1;  // negative: never

  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  std::deque<Task> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace hawser::runtime
