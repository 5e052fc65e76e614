// User threads that move frames themselves. An operation that is not large is over in a few exchanges; handing each to
// an io thread and being woken by it would cost more than all the rest. So the thread that starts one sends what can go
// at once, and while it waits for it it reads the strands too, for a while, in place of the io threads, which stop to
// poll what is read here. spec: docs/threading.md#the-engine
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <new>

#include "runtime/data/engine.hpp"
#include "runtime/data/io_thread.hpp"

namespace hawser::runtime {
namespace {

constexpr std::size_t driven_strands_max = 32;      // asking more of them in turn takes longer than being woken
constexpr std::size_t driven_bytes_max = 4U << 20;  // of an operation: to be woken costs little beside more
constexpr std::uint32_t turns_max = 200;            // without news: about what it costs to sleep and be woken
constexpr std::uint32_t turns_min = 8;
constexpr std::uint32_t failures_max = 16;  // then it is tried again whether patience helps
constexpr std::uint32_t looks_at_memory = 8;
constexpr std::int64_t patience_us_max = 5000;

}  // namespace

// To find what belongs to a thread takes a call from a shared library.
Engine::Driver::OfThread& Engine::Driver::of_thread() {
  static thread_local OfThread here;
  return here;
}

Engine::Driver::Driver(Engine& engine, bool bulk)
    : engine_(engine),
      bulk_(bulk),
      here_(of_thread()),
      before_(std::exchange(here_.current, this)),
      lists_(std::exchange(here_.kept, {})) {}

Engine::Driver::~Driver() {
  try {
    send();
  } catch (const std::bad_alloc&) {
    engine_.exhausted();
  }
  lists_.scheduled.clear();
  lists_.sending.clear();
  here_.kept = std::move(lists_);
  here_.current = before_;
}

bool Engine::Driver::take(Engine& engine, const std::shared_ptr<Strand>& strand) {
  Driver* const current = of_thread().current;
  if (current == nullptr || &current->engine_ != &engine || (strand->index() != 0 && !current->bulk_)) return false;
  current->lists_.scheduled.push_back(strand);
  return true;
}

// What they bring may schedule more.
void Engine::Driver::send() {
  auto& [scheduled, sending] = lists_;
  while (!scheduled.empty()) {
    sending.clear();
    sending.swap(scheduled);
    for (const auto& strand : sending) strand->resume();  // fill() says that it is no longer scheduled
  }
}

// The user's thread may move what goes over bulk strands too. Reductions of codes are io threads' work.
bool Engine::is_driven(const OpCall& call) {
  return !call.sync && !call.coding && call.count * dtype_size(call.dtype) <= driven_bytes_max;
}

void Engine::drive(OpRun& op) {
  std::vector<std::shared_ptr<Strand>> strands;
  bool bulk = false;
  {
    const Lock lock(mutex_);
    bulk = !op.small;
    // Beside others it would read their frames, and where they keep all cores busy a thread that never sleeps has to
    // wait longest for its turn.
    if (op.ended || (bulk && !is_driven(op.call)) || ops_.size() != 1 || op.participants.size() > driven_strands_max)
      return;
    try {
      strands.reserve(op.participants.size());
    } catch (const std::bad_alloc&) {
      return;  // the io threads do it
    }
    for (const PeerId& id : op.participants) {
      const auto link = links_.find(id);
      if (link == links_.end()) continue;
      for (const auto& strand : link->second.strands) {
        if (strand->index() == 0 || bulk) strands.push_back(strand);
      }
    }
  }
  for (const auto& strand : strands) strand->lend();
  // The operation goes on whatever happens to its caller, so nothing may be thrown from here.
  try {
    read_until_over(op, strands, bulk);
  } catch (const std::bad_alloc&) {
    exhausted();
  }
  for (const auto& strand : strands) strand->give_back();
}

// Counted in turns of its own: while it has given way to others (fewer cores than peers) waiting costs nothing. When it
// lasts longer than it usually does, the thread goes to sleep like any other.
void Engine::read_until_over(OpRun& op, const std::vector<std::shared_ptr<Strand>>& strands, bool bulk) {
  Driver driver(*this, bulk);
  const std::uint32_t turns = turns_.load();
  const std::uint32_t failures = failures_.load();
  const std::uint32_t limit = failures < failures_max ? turns : turns_max;
  // To look into shared memory costs less than to give way.
  const bool shared = std::all_of(strands.begin(), strands.end(), [](const auto& s) { return s->reads_memory(); });
  const std::uint32_t looks = shared ? looks_at_memory : 1;
  std::int64_t asleep_us = 0;
  std::uint32_t longest = 0;
  for (std::uint32_t idle = 0; !op.over.load() && idle < limit; ++idle) {
    bool moved = false;
    for (std::uint32_t look = 0; look < looks && !moved; ++look) {
      for (const auto& strand : strands) moved = strand->read_now() || moved;
    }
    driver.send();
    if (moved || op.over.load()) {
      longest = std::max(longest, idle);
      idle = 0;
      asleep_us = 0;
      continue;
    }
    sched_yield();
    if (idle % 16 != 15) continue;
    const std::int64_t now = now_us();
    if (asleep_us == 0) asleep_us = now + patience_us_max;
    if (now > asleep_us) break;
  }
  if (op.over.load()) {
    failures_ = 0;
    turns_ = std::clamp(std::max(2 * longest, turns + 1 + turns / 8), turns_min, turns_max);
  } else {
    failures_ = failures < failures_max ? failures + 1 : 0;
    turns_ = std::max(turns_min, turns / 2);
  }
}

// Nothing may be thrown here: the operation is under way, and its caller must not have the buffers back. Without memory
// the io threads look by themselves, a little later (IoThread::rouse_later).
void Engine::rouse() noexcept {
  if (!dozing_.exchange(false)) return;
  try {
    for (const auto& thread : threads_) {
      thread->run([raw = thread.get()] { raw->rouse(); });
    }
  } catch (const std::bad_alloc&) {
    dozing_ = true;
  }
}

}  // namespace hawser::runtime
