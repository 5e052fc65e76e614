// Text that crosses trust: what may stand in a name or a sentence, and how bytes of strangers are shown. Pure; any
// thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace hawser {

// Well-formed UTF-8 (no overlong forms, surrogates or values over U+10FFFF; Unicode 15, table 3-7) without control
// characters (U+0000..U+001F, U+007F), so that a name of one peer cannot forge lines in the logs of another.
bool valid_text(std::string_view text);

// The longest beginning of `text` that fits `bytes_max` and ends between characters, with a '?' for every byte that
// valid_text refuses. The result is valid; valid text that fits is returned as it is.
std::string clean_text(std::string_view text, std::size_t bytes_max);

// Bytes of a stranger, fit for a log line: control characters and non-ASCII escaped, cut at `limit` characters.
std::string printable(std::string_view bytes, std::size_t limit = 64);

}  // namespace hawser
