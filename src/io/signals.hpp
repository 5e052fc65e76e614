// Threads of the library take no signals: handlers run on threads of the user, and a write to a broken connection gives
// EPIPE instead of SIGPIPE. A thread inherits the mask of the one that makes it.
#pragma once

#include <csignal>

namespace hawser::io {

// Blocks every signal in the calling thread while it exists: make the new thread in its scope.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_ = {};
};

}  // namespace hawser::io
