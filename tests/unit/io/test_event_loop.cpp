// The event loop's thread: order and completeness of tasks, timers, the notifier, how it ends, what happens without
// descriptors or threads.
#include "io/uv/event_loop.hpp"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/random.hpp"
#include "io/uv/timer.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/inbox.hpp"

using namespace hawser;
using io::EventLoop;
using test::Inbox;

namespace {

std::unique_ptr<EventLoop> started(const std::string& name = "test-loop") {
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::start(name);
  REQUIRE(loop.ok());
  return std::move(loop.value());
}

}  // namespace

TEST_CASE("tasks of many threads all run, those of each thread in order") {
  constexpr int threads = 8;
  constexpr int tasks = 5000;
  const auto loop = started();
  std::array<int, threads> next{};  // touched by the loop only
  int out_of_order = 0;
  std::vector<std::thread> posters;
  for (std::size_t t = 0; t < threads; ++t) {
    posters.emplace_back([&, t] {
      for (int i = 0; i < tasks; ++i) {
        loop->post([&, t, i] { out_of_order += next[t]++ == i ? 0 : 1; });
      }
    });
  }
  for (std::thread& poster : posters) poster.join();
  CHECK(loop->call([&] {
    CHECK(out_of_order == 0);
    for (const int count : next) CHECK(count == tasks);
  }));
}

TEST_CASE("a task posted from the loop runs later, not inside post") {
  const auto loop = started();
  std::vector<int> order;
  CHECK(loop->call([&] {
    loop->post([&] { order.push_back(2); });
    order.push_back(1);
  }));
  CHECK(loop->call([&] { order.push_back(3); }));
  CHECK(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("call runs at once on the loop's own thread") {
  const auto loop = started();
  bool inner = false;
  bool on_thread = false;
  CHECK(loop->call([&] {
    on_thread = loop->on_thread();
    loop->call([&] { inner = true; });
  }));
  CHECK(inner);
  CHECK(on_thread);
  CHECK_FALSE(loop->on_thread());
}

TEST_CASE("ending runs what was posted before and refuses what comes later") {
  auto loop = started();
  const auto mailbox = loop->mailbox();
  std::atomic<int> ran = 0;
  for (int i = 0; i < 100; ++i) REQUIRE(loop->post([&] { ++ran; }));
  loop->stop();
  CHECK(ran == 100);
  CHECK_FALSE(loop->post([&] { ++ran; }));
  CHECK_FALSE(loop->call([&] { ++ran; }));
  loop->stop();
  loop.reset();
  CHECK_FALSE(mailbox->post([&] { ++ran; }));
  CHECK(ran == 100);
}

TEST_CASE("posting while the loop ends neither crashes nor runs a refused task") {
  for (int round = 0; round < 50; ++round) {
    auto loop = started();
    const auto mailbox = loop->mailbox();
    std::atomic<int> ran = 0;
    std::atomic<int> accepted = 0;
    std::vector<std::thread> posters;
    for (int t = 0; t < 3; ++t) {
      posters.emplace_back([&] {
        while (mailbox->post([&] { ++ran; })) ++accepted;
      });
    }
    loop->stop();
    for (std::thread& poster : posters) poster.join();
    CHECK(ran == accepted);
  }
}

TEST_CASE("the thread has its name and takes no signals") {
  const auto loop = started("a-name-longer-than-linux-allows");
  std::string name;
  int open_signals = 0;
  loop->call([&] {
    std::array<char, 16> buffer{};
    pthread_getname_np(pthread_self(), buffer.data(), buffer.size());
    name = buffer.data();
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    for (const int signal : {SIGINT, SIGTERM, SIGPIPE, SIGHUP, SIGUSR1, SIGALRM, SIGCHLD}) {
      open_signals += sigismember(&blocked, signal) == 1 ? 0 : 1;
    }
  });
  CHECK(name == "a-name-longer-t");
  CHECK(open_signals == 0);
  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  CHECK(sigismember(&mine, SIGINT) == 0);
}

TEST_CASE("timers fire in order of their times and never early") {
  const auto loop = started();
  struct Timed {
    std::unique_ptr<io::Timer> timer;
    std::int64_t earliest = 0;  // when it is due: a thread may have to wait between one line and the next
    std::int64_t latest = 0;
  };
  struct Fired {
    std::size_t which;
    std::int64_t at;
  };
  Inbox<Fired> fired;
  std::array<Timed, 4> timers;
  loop->call([&] {
    constexpr std::array<int, 4> delays = {40, 0, 25, 10};
    for (std::size_t i = 0; i < timers.size(); ++i) {
      timers[i].timer = std::make_unique<io::Timer>(*loop, [&fired, i] { fired.put({i, io::now_ms()}); });
      timers[i].earliest = io::now_ms() + delays[i];
      timers[i].timer->start(delays[i]);
      timers[i].latest = io::now_ms() + delays[i];
      CHECK(timers[i].timer->active());
    }
  });
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < timers.size(); ++i) {
    const auto one = fired.take();
    REQUIRE(one);
    CHECK(one->at >= timers[one->which].earliest);
    for (const std::size_t before : order) CHECK(timers[before].earliest <= timers[one->which].latest);
    order.push_back(one->which);
  }
  loop->call([&] {
    for (Timed& each : timers) {
      CHECK_FALSE(each.timer->active());
      each.timer.reset();
    }
  });
}

TEST_CASE("a timer counts from its start, not from when the loop last looked at the clock") {
  const auto loop = started();
  Inbox<std::int64_t> early;
  std::unique_ptr<io::Timer> timer;
  loop->call([&] {
    const std::int64_t begun = io::now_ms();
    while (io::now_ms() < begun + 30) {  // a long callback: libuv's cached time falls behind
    }
    const std::int64_t due = io::now_ms() + 20;
    timer = std::make_unique<io::Timer>(*loop, [&, due] { early.put(due - io::now_ms()); });
    timer->start(20);
  });
  const auto result = early.take();
  REQUIRE(result);
  CHECK(*result <= 0);
  loop->call([&] { timer.reset(); });
}

TEST_CASE("a stopped timer does not fire, a restarted one fires at its new time") {
  const auto loop = started();
  Inbox<int> fired;
  std::unique_ptr<io::Timer> stopped;
  std::unique_ptr<io::Timer> moved;
  std::unique_ptr<io::Timer> last;
  loop->call([&] {
    stopped = std::make_unique<io::Timer>(*loop, [&] { fired.put(1); });
    moved = std::make_unique<io::Timer>(*loop, [&] { fired.put(2); });
    last = std::make_unique<io::Timer>(*loop, [&] { fired.put(3); });
    stopped->start(5);
    stopped->stop();
    moved->start(5);
    moved->start(60000);
    last->start(30);
  });
  CHECK(fired.take() == 3);
  CHECK(fired.size() == 0);
  loop->call([&] {
    stopped.reset();
    moved.reset();
    last.reset();
  });
}

TEST_CASE("a repeating timer goes on until it is destroyed, in its own callback") {
  const auto loop = started();
  Inbox<int> fired;
  std::unique_ptr<io::Timer> timer;
  int count = 0;
  loop->call([&] {
    timer = std::make_unique<io::Timer>(*loop, [&] {
      if (++count == 5) {
        timer.reset();
        fired.put(count);
      }
    });
    timer->start_repeating(1);
  });
  CHECK(fired.take() == 5);
  loop->call([&] { CHECK(count == 5); });
}

TEST_CASE("timers may outlive their loop") {
  auto loop = started();
  std::unique_ptr<io::Timer> timer;
  auto held = std::make_shared<int>(7);
  const std::weak_ptr<int> weak = held;
  loop->call([&] {
    timer = std::make_unique<io::Timer>(*loop, [held = std::move(held)] {});
    timer->start(60000);
  });
  loop->stop();
  CHECK_FALSE(timer->active());
  timer->stop();
  loop.reset();
  timer.reset();
  CHECK(weak.expired());
}

TEST_CASE("a notifier wakes its loop from other threads and from a signal handler") {
  const auto loop = started();
  Inbox<int> notified;
  static std::atomic<io::Notifier*> target = nullptr;
  std::unique_ptr<io::Notifier> notifier;
  loop->call([&] {
    auto made = io::Notifier::create(*loop, [&] { notified.put(1); });
    if (made.ok()) notifier = std::move(made.value());
  });
  REQUIRE(notifier);
  std::thread([&] { notifier->notify(); }).join();
  CHECK(notified.take() == 1);

  target = notifier.get();
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) { target.load()->notify(); };
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  errno = ENOENT;
  REQUIRE(pthread_kill(pthread_self(), SIGUSR1) == 0);
  CHECK(errno == ENOENT);
  CHECK(notified.take() == 1);
  sigaction(SIGUSR1, &before, nullptr);
  target = nullptr;
  loop->call([&] { notifier.reset(); });
}

TEST_CASE("without descriptors a loop does not start and leaks nothing") {
  started()->stop();  // libuv opens a pipe for signals with the first loop of a process and keeps it
  const rlim_t before = test::DescriptorLimit::first_free();
  {
    test::DescriptorLimit limit(before);
    bool any_failed = false;
    bool one_started = false;
    for (rlim_t allowed = before; allowed < before + 64 && !one_started; ++allowed) {
      limit.set(allowed);
      const Result<std::unique_ptr<EventLoop>> loop = EventLoop::start("starved");
      one_started = loop.ok();
      any_failed = any_failed || !loop.ok();
      if (!loop.ok()) CHECK(loop.status().code() == Code::RESOURCE);
    }
    CHECK(any_failed);
    CHECK(one_started);
  }
  CHECK(test::DescriptorLimit::first_free() == before);
}

TEST_CASE("without room for a thread a loop does not start and leaks nothing") {
  started()->stop();
  const rlim_t before = test::DescriptorLimit::first_free();
  pthread_attr_t usual;
  REQUIRE(pthread_getattr_default_np(&usual) == 0);
  pthread_attr_t huge;
  REQUIRE(pthread_getattr_default_np(&huge) == 0);
  REQUIRE(pthread_attr_setstacksize(&huge, std::size_t{1} << 47) == 0);  // more than there are addresses
  REQUIRE(pthread_setattr_default_np(&huge) == 0);
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::start("starved");
  REQUIRE(pthread_setattr_default_np(&usual) == 0);
  pthread_attr_destroy(&usual);
  pthread_attr_destroy(&huge);
  REQUIRE_FALSE(loop.ok());
  CHECK(loop.status().code() == Code::RESOURCE);
  CHECK(loop.status().text().find("starved") != std::string::npos);
  CHECK(test::DescriptorLimit::first_free() == before);
}
