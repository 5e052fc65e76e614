// What of the fault tolerance is left out, to measure what it costs: HAWSER_WITHOUT, a list of digest, commit and
// restore. Results may then differ between peers unseen, calls return before all others have theirs, and inputs that
// are reduced in place are lost with a peer. For `hawser bench --without` only.
#pragma once

namespace hawser::runtime {

struct Without {
  bool digest = false;   // of results, compared by all
  bool commit = false;   // waiting until all others have the result
  bool restore = false;  // the copy of inputs that are reduced in place
};

// Read once. Names that are not known are told in the log and do nothing.
const Without& without();

}  // namespace hawser::runtime
