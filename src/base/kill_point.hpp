// Named places at which a process can be made to kill itself, so that tests hit rare windows on purpose. They exist in
// builds with the CMake option HAWSER_KILL_POINTS only. HAWSER_KILL_POINT=name or name:n in the environment arms one:
// the process ends by SIGKILL when it comes to it for the n-th time. HAWSER_KILL_POINT=@file does the same with what is
// in that file, from when there is one. docs/testing.md lists the places.
#pragma once

#ifdef HAWSER_KILL_POINTS

namespace hawser {

// Set before main, then constant: what is left of an unarmed point is a branch that is always predicted.
extern const bool kill_point_armed;
void pass_kill_point(const char* name) noexcept;

}  // namespace hawser

#define HAWSER_KILL_POINT(name)                  \
  do {                                           \
    if (::hawser::kill_point_armed) [[unlikely]] \
      ::hawser::pass_kill_point(name);           \
  } while (false)

#else

#define HAWSER_KILL_POINT(name) static_cast<void>(0)

#endif
