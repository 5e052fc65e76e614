// The virtual clock and the queue of what is to happen. Events belong to actors (processes): those of a dead actor are
// dropped, those of a stopped one wait until it goes on. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#include "sim/trace.hpp"

namespace hawser::sim {

using ActorId = std::uint32_t;
inline constexpr ActorId nature = 0;  // networks and faults: never dies, never stops

class Scheduler {
 public:
  using Task = std::function<void()>;

  Scheduler() { actors_.emplace_back(); }

  ActorId add() {
    actors_.emplace_back();
    return static_cast<ActorId>(actors_.size() - 1);
  }
  void kill(ActorId id) {
    actors_[id].alive = false;
    actors_[id].backlog.clear();
  }
  void pause(ActorId id) { actors_[id].paused = true; }
  void resume(ActorId id) {
    Actor& actor = actors_[id];
    if (!actor.alive || !actor.paused) return;
    actor.paused = false;
    for (Entry& entry : actor.backlog) {
      entry.when = now_;
      push(std::move(entry));
    }
    actor.backlog.clear();
  }
  [[nodiscard]] bool alive(ActorId id) const { return actors_[id].alive; }
  [[nodiscard]] bool paused(ActorId id) const { return actors_[id].paused; }
  [[nodiscard]] Micros now() const { return now_; }
  [[nodiscard]] std::uint64_t executed() const { return executed_; }

  void at(Micros when, ActorId actor, Task task) {
    when = std::max(when, now_);
    push(Entry{when, when, sequence_++, actor, std::move(task)});
  }
  // Now, and before all else that waits for this actor.
  void first(ActorId actor, Task task) { push(Entry{now_, -1, sequence_++, actor, std::move(task)}); }
  void after(Micros delay, ActorId actor, Task task) { at(now_ + delay, actor, std::move(task)); }

  // Does the next thing that is due by `until`; false: nothing is, and it is `until` now.
  bool step(Micros until) {
    if (heap_.empty() || heap_.front().when > until) {
      now_ = std::max(now_, until);
      return false;
    }
    std::pop_heap(heap_.begin(), heap_.end(), later);
    Entry entry = std::move(heap_.back());
    heap_.pop_back();
    now_ = entry.when;
    Actor& actor = actors_[entry.actor];
    if (!actor.alive) return true;
    if (actor.paused) {
      actor.backlog.push_back(std::move(entry));
      return true;
    }
    ++executed_;
    entry.task();
    return true;
  }

 private:
  struct Entry {
    Micros when = 0;
    Micros due = 0;  // earlier than `when` if its actor was paused then
    std::uint64_t sequence = 0;
    ActorId actor = nature;
    Task task;
  };
  struct Actor {
    bool alive = true;
    bool paused = false;
    std::vector<Entry> backlog;
  };
  static bool later(const Entry& a, const Entry& b) {
    return std::tie(a.when, a.due, a.sequence) > std::tie(b.when, b.due, b.sequence);
  }
  void push(Entry entry) {
    heap_.push_back(std::move(entry));
    std::push_heap(heap_.begin(), heap_.end(), later);
  }

  std::vector<Actor> actors_;
  std::vector<Entry> heap_;
  Micros now_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t executed_ = 0;
};

}  // namespace hawser::sim
