// Checks of our own mistakes, on in every build: control code would rather stop than go on from a state that cannot be.
// Never for what a peer or a user sent; those get a Status. Any thread.
#pragma once

namespace hawser {

// Writes the place and the sentence to stderr and aborts the process.
[[noreturn]] void assertion_failed(const char* file, int line, const char* condition, const char* sentence);

}  // namespace hawser

#define HAWSER_ASSERT(condition, sentence) \
  ((condition) ? static_cast<void>(0) : ::hawser::assertion_failed(__FILE__, __LINE__, #condition, sentence))
