// The end of a process that found itself in the wrong.
#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace hawser {

void assertion_failed(const char* file, int line, const char* condition, const char* sentence) {
  std::fprintf(stderr, "%s:%d: hawser: internal error: %s (%s)\n", file, line, sentence, condition);
  std::abort();
}

}  // namespace hawser
