// See the header.
#include "runtime/data/without.hpp"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/log.hpp"

namespace hawser::runtime {
namespace {

Without read_setting() {
  Without out;
  const char* const setting = std::getenv("HAWSER_WITHOUT");  // NOLINT(concurrency-mt-unsafe): once, under a guard
  if (setting == nullptr || *setting == '\0') return out;
  std::string_view rest = setting;
  while (!rest.empty()) {
    const std::string_view name = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    if (name == "digest") {
      out.digest = true;
    } else if (name == "commit") {
      out.commit = true;
    } else if (name == "restore") {
      out.restore = true;
    } else {
      log::message(log::Subsystem::data, log::Level::error,
                   "HAWSER_WITHOUT names \"{}\"; there are digest, commit and restore", name);
    }
  }
  log::message(log::Subsystem::data, log::Level::warn,
               "HAWSER_WITHOUT={}: this process is not safe against faults; for measurements only", setting);
  return out;
}

}  // namespace

const Without& without() {
  static const Without setting = read_setting();
  return setting;
}

}  // namespace hawser::runtime
