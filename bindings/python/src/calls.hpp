// How the extension calls the C library: without the GIL, with the failure's sentence fetched on the thread that
// failed, and so that Ctrl-C ends a wait. Everything here runs on the Python thread that made the call and expects the
// GIL held at entry.
#pragma once

#include <hawser/hawser.h>
#include <nanobind/nanobind.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

namespace hawser_python {

namespace nb = nanobind;

// How long a wait stays in the library before it looks for signals. Ctrl-C is promised to work within 200 ms.
inline constexpr uint32_t wait_slice_ms = 50;
// What an interrupted wait gives its operation to end after the cancel, so that buffers are usually free at once.
inline constexpr uint32_t cancel_grace_ms = 100;

// Calls inside the library, over all threads. At exit the package waits for 0: a thread that comes back into an
// interpreter which is shutting down is ended by it, in the middle of C++ frames.
inline std::atomic<int> calls_in_flight{0};

struct Outcome {
  hawser_status_t status = HAWSER_OK;
  std::string sentence;  // hawser_last_error of the thread that failed; empty on success
};

// Takes the sentence before anything else of this thread can overwrite it.
inline Outcome outcome_of(hawser_status_t status) {
  Outcome outcome{status, {}};
  if (status != HAWSER_OK && status != HAWSER_PENDING) {
    outcome.sentence = hawser_last_error();
  }
  return outcome;
}

// Runs `function`, which must not throw nor touch Python, without the GIL. Not RAII on purpose: PyEval_RestoreThread
// may unwind this thread when the interpreter is ending, which must not happen inside a destructor.
template <typename Function>
auto without_gil(Function&& function) {
  calls_in_flight.fetch_add(1);
  PyThreadState* const state = PyEval_SaveThread();
  auto result = std::forward<Function>(function)();
  PyEval_RestoreThread(state);
  calls_in_flight.fetch_sub(1);
  return result;
}

// A call of the library that may block for a while.
template <typename Function>
Outcome call(Function&& function) {
  return without_gil([&] { return outcome_of(function()); });
}

// Throws the hawser.Error that belongs to the status.
[[noreturn]] void raise(hawser_status_t status, const std::string& sentence);

inline void check(const Outcome& outcome) {
  if (outcome.status != HAWSER_OK) {
    raise(outcome.status, outcome.sentence);
  }
}

// A handle of the library and the process that made it. After fork() the library's threads are missing in the child, so
// a child neither uses nor frees what its parent made.
template <typename T>
class Handle {
 public:
  Handle(T* handle, const char* what) : handle_(handle), what_(what), process_(getpid()) {}

  [[nodiscard]] bool ours() const { return getpid() == process_; }

  // The handle for a call. A destroyed one gives NULL, which the library answers with INVALID_HANDLE.
  [[nodiscard]] T* get() const {
    if (!ours()) {
      raise(HAWSER_INVALID_HANDLE,
            std::string(what_) + " was made by process " + std::to_string(process_) +
                " and cannot be used after fork(): make one in this process, or start workers with the "
                "multiprocessing method \"spawn\"");
    }
    return handle_.load();
  }

  // The handle for its destroy call, given out once; NULL when there is nothing to destroy here.
  [[nodiscard]] T* take() { return ours() ? handle_.exchange(nullptr) : nullptr; }

 private:
  std::atomic<T*> handle_;
  const char* what_;
  pid_t process_;
};

// Runs a call that works with `comm` and blocks until it ends by itself, and lets Ctrl-C in: on the main thread the
// call goes to a helper thread, and a Python signal handler that raises aborts the communicator, which makes the call
// return.
Outcome call_until_signal(hawser_comm_t* comm, const std::function<hawser_status_t()>& function);

// For a call that takes hawser_op_options_t.interrupted: looks for signals from the thread that made it, which has
// released the GIL. An operation that a cancel does not end soon is ended by aborting the communicator.
class SignalWatch {
 public:
  SignalWatch(hawser_comm_t* comm, hawser_op_options_t& options);
  // Throws what a signal handler raised meanwhile.
  void check() const;

 private:
  static int interrupted(void* context);
  hawser_comm_t* const comm_;
  std::optional<nb::python_error> interruption_;
  std::chrono::steady_clock::time_point since_;
  bool aborted_ = false;
};

// The handle of a communicator of this extension, for the calls of the library that take one.
hawser_comm_t* comm_of(nb::handle comm);

// The exception of a Python signal handler, if one raised since the last look; else false.
inline bool signal_raised() { return PyErr_CheckSignals() != 0; }

}  // namespace hawser_python
