// The thread around a store, with a store that the test controls, and the store in a directory.
#include "runtime/store_thread.hpp"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <future>
#include <optional>
#include <stdexcept>

#include "io/uv/event_loop.hpp"
#include "runtime/view_store.hpp"
#include "support/catch.hpp"
#include "support/inbox.hpp"

using namespace hawser;
using runtime::StoreThread;
using runtime::ViewStore;
using Bytes = std::vector<std::uint8_t>;
using Values = ViewStore::Values;
namespace fs = std::filesystem;

namespace {

// Each call waits until the test says how it ends.
struct Script {
  test::Inbox<std::string> called;
  test::Inbox<Status> answers;
  std::atomic<std::int64_t> upkeep_ms{-1};
  std::atomic<bool> lease_gone{false};
  std::atomic<int> upkeeps{0};
  std::atomic<bool> destroyed{false};
};

class ScriptedStore : public ViewStore {
 public:
  explicit ScriptedStore(Script& script) : script_(script) {}
  ~ScriptedStore() override { script_.destroyed = true; }
  Result<Values> acquire() override {
    const Status status = wait("acquire");
    if (!status.ok()) return status;
    return Values{{1, {1, 1}}};
  }
  Status put(std::uint64_t key, std::span<const std::uint8_t> value) override {
    return wait("put " + std::to_string(key) + " of " + std::to_string(value.size()));
  }
  Result<std::int64_t> upkeep() override {
    ++script_.upkeeps;
    if (script_.lease_gone) return Status(Code::REFUSED, "the lease is gone");
    return script_.upkeep_ms.load();
  }
  void cancel() override { script_.answers.put({Code::CANCELLED, "cancelled"}); }
  [[nodiscard]] std::string describe() const override { return "script"; }

 private:
  Status wait(const std::string& call) {
    script_.called.put(call);
    return script_.answers.take().value_or(Status(Code::TIMEOUT, "the test said nothing"));
  }
  Script& script_;
};

// A loop as the coordinator has it; the StoreThread lives and dies on it.
class Loop {
 public:
  Loop() {
    auto started = io::EventLoop::start("test-loop");
    REQUIRE(started.ok());
    loop_ = std::move(started.value());
  }
  ~Loop() {
    loop_->call([this] { thread.reset(); });
    loop_->stop();
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void start(std::unique_ptr<ViewStore> store) {
    loop_->call([&] {
      auto started = StoreThread::start(
          std::move(store), [this](StoreThread::Task task) { loop_->post(std::move(task)); },
          [this](Status why) { note("lost: " + why.text()); });
      if (started.ok()) thread = std::move(started.value());
    });
    REQUIRE(thread != nullptr);
  }
  void acquire() {
    loop_->call([&] {
      thread->acquire([this](Result<Values> values) {
        note(values.ok() ? "acquired " + std::to_string(values.value().size()) : values.status().text());
      });
    });
  }
  void put(std::uint64_t key, Bytes value) {
    loop_->call([&] {
      thread->put(key, std::move(value), [this, key](const Status& status) {
        note("put " + std::to_string(key) + ": " + (status.ok() ? "ok" : status.text()));
      });
    });
  }
  void call(const std::function<void()>& task) { loop_->call(task); }
  void destroy() {
    loop_->call([this] { thread.reset(); });
  }

  std::unique_ptr<StoreThread> thread;
  test::Inbox<std::string> notes;

 private:
  void note(const std::string& text) { notes.put(loop_->on_thread() ? text : "wrong thread: " + text); }
  std::unique_ptr<io::EventLoop> loop_;
};

using Note = std::optional<std::string>;

}  // namespace

TEST_CASE("requests are carried out in order, and answered on the loop") {
  Script script;
  Loop loop;
  loop.start(std::make_unique<ScriptedStore>(script));
  loop.acquire();
  loop.put(3, Bytes(30));
  loop.put(4, Bytes(40));
  CHECK(script.called.take() == Note("acquire"));
  CHECK(script.called.size() == 0);
  script.answers.put({});
  CHECK(loop.notes.take() == Note("acquired 1"));
  CHECK(script.called.take() == Note("put 3 of 30"));
  script.answers.put({Code::RESOURCE, "disk full"});
  CHECK(loop.notes.take() == Note("put 3: disk full"));
  CHECK(script.called.take() == Note("put 4 of 40"));
  script.answers.put({});
  CHECK(loop.notes.take() == Note("put 4: ok"));
  CHECK(loop.notes.size() == 0);  // a full disk is no loss
}

TEST_CASE("upkeep runs when the store wants it, and only while it is ours") {
  Script script;
  script.upkeep_ms = 1;
  Loop loop;
  loop.start(std::make_unique<ScriptedStore>(script));
  loop.acquire();
  CHECK(script.called.take() == Note("acquire"));
  script.answers.put({Code::RESOURCE, "another leads"});
  CHECK(loop.notes.take() == Note("another leads"));
  CHECK(script.upkeeps == 0);

  loop.acquire();
  script.answers.put({});
  CHECK(loop.notes.take() == Note("acquired 1"));
  while (script.upkeeps < 5) std::this_thread::yield();

  script.lease_gone = true;
  CHECK(loop.notes.take() == Note("lost: the lease is gone"));
  const int upkeeps = script.upkeeps;
  // Not once more: neither upkeep nor loss, until it is acquired again.
  loop.put(1, {});
  CHECK(script.called.take() == Note("acquire"));
  CHECK(script.called.take() == Note("put 1 of 0"));
  script.answers.put({Code::REFUSED, "not ours"});
  CHECK(loop.notes.take() == Note("put 1: not ours"));
  CHECK(script.upkeeps == upkeeps);
  script.lease_gone = false;
  loop.acquire();
  script.answers.put({});
  CHECK(loop.notes.take() == Note("acquired 1"));
  while (script.upkeeps < upkeeps + 2) std::this_thread::yield();
}

TEST_CASE("a put that says that the store is no longer ours is a loss, reported once") {
  Script script;
  Loop loop;
  loop.start(std::make_unique<ScriptedStore>(script));
  loop.acquire();
  loop.put(1, {});
  loop.put(2, {});
  script.answers.put({});
  script.answers.put({Code::REFUSED, "another leads"});
  script.answers.put({Code::REFUSED, "another leads"});
  CHECK(loop.notes.take() == Note("acquired 1"));
  CHECK(loop.notes.take() == Note("put 1: another leads"));
  CHECK(loop.notes.take() == Note("lost: another leads"));
  CHECK(loop.notes.take() == Note("put 2: another leads"));
  CHECK(loop.notes.size() == 0);
}

TEST_CASE("destroying cancels what is under way, and nobody is called afterwards") {
  Script script;
  Loop loop;
  loop.start(std::make_unique<ScriptedStore>(script));
  loop.acquire();
  loop.put(1, {});
  CHECK(script.called.take() == Note("acquire"));
  loop.destroy();
  CHECK(script.destroyed);
  CHECK(script.called.size() == 0);  // the put was dropped
  loop.call([] {});                  // what was on its way has run now
  CHECK(loop.notes.size() == 0);
}

TEST_CASE("an answer that was on its way when the thread was destroyed is not delivered") {
  Script script;
  Loop loop;
  loop.start(std::make_unique<ScriptedStore>(script));
  loop.call([&] {  // the loop is busy while the answer is posted
    loop.thread->acquire([&](const Result<Values>&) { loop.notes.put("delivered"); });
    loop.thread->put(1, {}, [](const Status&) {});
    script.answers.put({});
    if (script.called.take() != Note("acquire") || script.called.take() != Note("put 1 of 0")) return;
    loop.thread.reset();
    loop.notes.put("destroyed");
  });
  loop.call([] {});
  CHECK(loop.notes.take() == Note("destroyed"));
  CHECK(loop.notes.size() == 0);
}

TEST_CASE("a store in a directory, through the thread") {
  std::string folder = (fs::temp_directory_path() / "hawser-store-XXXXXX").string();
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  {
    Loop first;
    first.start(runtime::make_file_store(folder + "/log"));
    CHECK(first.thread->describe() == "log directory " + folder + "/log");
    first.put(1, Bytes(3));
    CHECK(first.notes.take().value_or("").find("before it was acquired") != std::string::npos);
    first.acquire();
    first.put(1, Bytes(3));
    first.put(2, Bytes(3));
    CHECK(first.notes.take() == Note("acquired 0"));
    CHECK(first.notes.take() == Note("put 1: ok"));
    CHECK(first.notes.take() == Note("put 2: ok"));
    Loop second;
    second.start(runtime::make_file_store(folder + "/log"));
    second.acquire();
    CHECK(second.notes.take().value_or("").find("is in use by process " + std::to_string(getpid())) !=
          std::string::npos);
    first.destroy();
    second.acquire();
    CHECK(second.notes.take() == Note("acquired 2"));
  }
  fs::remove_all(folder);
}
