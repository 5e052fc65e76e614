// Raising hawser.Error from a status, and the helper thread that keeps Ctrl-C working during join, leave, sync and
// outer steps.

#include "calls.hpp"

#include <nanobind/stl/string.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace hawser_python {

namespace {

// Python runs signal handlers on the main thread only, so only there is a helper thread worth its start.
bool on_main_thread() {
  const nb::module_ threading = nb::module_::import_("threading");
  return threading.attr("get_ident")().equal(threading.attr("main_thread")().attr("ident"));
}

struct Completion {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;  // guarded by mutex
  Outcome outcome;    // guarded by mutex, valid when done
};

}  // namespace

void raise(hawser_status_t status, const std::string& sentence) {
  const nb::object error =
      nb::module_::import_("hawser._errors").attr("error_of_status")(static_cast<int>(status), sentence);
  PyErr_SetObject(error.type().ptr(), error.ptr());
  throw nb::python_error();
}

Outcome call_until_signal(hawser_comm_t* comm, const std::function<hawser_status_t()>& function) {
  if (!on_main_thread()) {
    return call(function);
  }
  Completion completion;
  std::thread helper([&] {
    Outcome outcome = outcome_of(function());
    const std::lock_guard lock(completion.mutex);
    completion.outcome = std::move(outcome);
    completion.done = true;
    completion.changed.notify_one();
  });
  const auto join_helper = [&] {
    helper.join();
    return 0;
  };
  for (;;) {
    const bool done = without_gil([&] {
      std::unique_lock lock(completion.mutex);
      return completion.changed.wait_for(lock, std::chrono::milliseconds(wait_slice_ms),
                                         [&] { return completion.done; });
    });
    if (done) {
      without_gil(join_helper);
      return completion.outcome;
    }
    if (signal_raised()) {
      nb::python_error interruption;  // takes the exception out of the thread state, so that the calls below run clean
      call([&] { return hawser_comm_abort(comm); });
      without_gil(join_helper);
      throw interruption;
    }
  }
}

SignalWatch::SignalWatch(hawser_comm_t* comm, hawser_op_options_t& options) : comm_(comm) {
  if (!on_main_thread()) {
    return;
  }
  options.interrupted = interrupted;
  options.interrupted_context = this;
}

int SignalWatch::interrupted(void* context) {
  auto& self = *static_cast<SignalWatch*>(context);
  if (!self.interruption_) {
    const nb::gil_scoped_acquire gil;
    if (!signal_raised()) {
      return 0;
    }
    self.interruption_.emplace();
    self.since_ = std::chrono::steady_clock::now();
  } else if (!self.aborted_ &&
             std::chrono::steady_clock::now() - self.since_ >= std::chrono::milliseconds(cancel_grace_ms)) {
    self.aborted_ = true;
    hawser_comm_abort(self.comm_);
  }
  return 1;
}

void SignalWatch::check() const {
  if (interruption_) {
    throw nb::python_error(*interruption_);
  }
}

}  // namespace hawser_python
