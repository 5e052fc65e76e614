// What a test can make fail: the n-th allocation, or the n-th thread, on the threads that it means. operator new,
// calloc, mmap and pthread_create of this program are those of failing.cpp, for the library in it too. (malloc is left
// alone: what the library allocates by itself goes through these; libuv aborts the process when its own tables cannot
// grow.)
#pragma once

#include <cstdint>
#include <functional>

namespace failing {

enum class Where : std::uint8_t {
  caller,       // the thread that arms
  member,       // hawser-control and hawser-io threads of the process
  coordinator,  // hawser-coord and hawser-store threads
};
enum class What : std::uint8_t { memory, thread };

// The n-th one from now on fails, counted from 1; and with `all_after` all that follow.
void arm(What what, Where where, long n, bool all_after = false);
// Whether one has failed. Nothing fails any more.
bool disarm();

// Runs `attempt` with the first, second, ... one failing, and `after` with whether it was, until nothing fails any
// more; gives how many failures there were. From the 24th on only some, farther and farther apart, unless
// HAWSER_SWEEP_FULL is set in the environment.
long sweep(What what, Where where, const std::function<void()>& attempt, const std::function<void(bool failed)>& after);

}  // namespace failing
