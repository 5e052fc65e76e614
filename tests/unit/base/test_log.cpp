// The log: which levels a setting turns on, what mistakes in it cause, what reaches stderr. The tests read their own
// stderr through a pipe put in its place.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "support/catch.hpp"

namespace logs = hawser::log;
using logs::Level;
using logs::Subsystem;

namespace {

constexpr std::array all_subsystems = {Subsystem::coordinator, Subsystem::member, Subsystem::net, Subsystem::data,
                                       Subsystem::api};

// What `work` writes to stderr. A thread empties the pipe, so that any amount fits.
template <typename Work>
std::string stderr_of(Work work) {
  std::fflush(stderr);
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  const int saved = dup(STDERR_FILENO);
  REQUIRE(saved >= 0);
  REQUIRE(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
  close(ends[1]);
  std::string text;
  std::thread reader([&] {
    std::array<char, 4096> buffer{};
    for (ssize_t size = 0; (size = read(ends[0], buffer.data(), buffer.size())) > 0;) {
      text.append(buffer.data(), static_cast<std::size_t>(size));
    }
  });
  work();
  std::fflush(stderr);
  dup2(saved, STDERR_FILENO);
  close(saved);
  reader.join();
  close(ends[0]);
  return text;
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    REQUIRE(end != std::string::npos);  // every message is a whole line
    out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

struct Restored {  // the other tests of this program get the default back
  Restored() = default;
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;
  ~Restored() { logs::configure(""); }
};

}  // namespace

TEST_CASE("without a setting, warnings and errors are on", "[base][log]") {
  const Restored restored;
  logs::configure("");
  for (const Subsystem subsystem : all_subsystems) {
    CHECK(logs::enabled(subsystem, Level::error));
    CHECK(logs::enabled(subsystem, Level::warn));
    CHECK_FALSE(logs::enabled(subsystem, Level::info));
  }
}

TEST_CASE("a level is for all subsystems, an assignment for one", "[base][log]") {
  const Restored restored;
  const std::string text = stderr_of([] { logs::configure(" info , net=debug,data = off"); });
  CHECK(text.empty());
  CHECK(logs::enabled(Subsystem::member, Level::info));
  CHECK_FALSE(logs::enabled(Subsystem::member, Level::debug));
  CHECK(logs::enabled(Subsystem::net, Level::debug));
  CHECK_FALSE(logs::enabled(Subsystem::net, Level::trace));
  CHECK_FALSE(logs::enabled(Subsystem::data, Level::error));

  logs::configure("net=trace,error");  // the later item wins
  CHECK_FALSE(logs::enabled(Subsystem::net, Level::warn));
}

TEST_CASE("mistakes in a setting give one warning line and the rest is obeyed", "[base][log]") {
  const Restored restored;
  const std::string text = stderr_of([] { logs::configure("loud,net=debug,disk=info,member=,=,api=warn\n\x01"); });
  const std::vector<std::string> found = lines(text);
  REQUIRE(found.size() == 1);
  for (const char* part : {"HAWSER_LOG", "'loud'", "'disk=info'", "'member='", "'='", R"('api=warn\x0a\x01')"}) {
    INFO(part);
    CHECK(found[0].find(part) != std::string::npos);
  }
  CHECK(found[0].find("net=debug'") == std::string::npos);
  CHECK(logs::enabled(Subsystem::net, Level::debug));
  CHECK_FALSE(logs::enabled(Subsystem::member, Level::info));
}

TEST_CASE("a message is one line that names level and subsystem, a message that is off is none", "[base][log]") {
  const Restored restored;
  const std::string text = stderr_of([] {
    logs::configure("warn,net=info");
    logs::message(Subsystem::net, Level::info, "strand {} of {} up", 1, 4);
    logs::message(Subsystem::data, Level::info, "not seen");
    logs::message(Subsystem::data, Level::error, "braces {{}} and percent %s stay");
  });
  const std::vector<std::string> found = lines(text);
  REQUIRE(found.size() == 2);
  CHECK(found[0].find("info hawser.net: strand 1 of 4 up") != std::string::npos);
  CHECK(found[1].find("error hawser.data: braces {} and percent %s stay") != std::string::npos);
}

TEST_CASE("lines of several threads do not mix", "[base][log]") {
  const Restored restored;
  constexpr int threads = 4;
  constexpr int each = 200;
  const std::string text = stderr_of([] {
    logs::configure("info");
    std::vector<std::thread> writers;
    for (int t = 0; t < threads; ++t) {
      writers.emplace_back([t] {
        for (int i = 0; i < each; ++i) {
          logs::message(Subsystem::member, Level::info, "<{}:{}:{}>", t, i, std::string(50, 'x'));
        }
      });
    }
    logs::configure("info");  // while they write
    for (std::thread& writer : writers) writer.join();
  });
  const std::vector<std::string> found = lines(text);
  CHECK(found.size() == threads * each);
  for (const std::string& line : found) {
    const std::string end = std::string(50, 'x') + ">";
    REQUIRE(line.size() > end.size());
    REQUIRE(line.substr(line.size() - end.size()) == end);
  }
}

TEST_CASE("bytes of a stranger become printable and short", "[base][log]") {
  CHECK(logs::printable("GET / HTTP/1.1\r\n") == R"(GET / HTTP/1.1\x0d\x0a)");
  CHECK(logs::printable("\x1b[31m\x7f\xff") == R"(\x1b[31m\x7f\xff)");
  CHECK(logs::printable(std::string_view("\0a\\", 3)) == R"(\x00a\\)");
  CHECK(logs::printable("").empty());
  CHECK(logs::printable(std::string(64, 'a')) == std::string(64, 'a'));
  CHECK(logs::printable(std::string(65, 'a')) == std::string(64, 'a') + "...");
  CHECK(logs::printable("abc\n", 5) == "abc...");  // an escape is never cut in two
}
