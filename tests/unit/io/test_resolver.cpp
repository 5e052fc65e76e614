// Names to addresses: only names that the machine itself answers for, so that no name service is needed.
#include "io/resolver.hpp"

#include <algorithm>
#include <string>
#include <thread>

#include "support/catch.hpp"
#include "support/inbox.hpp"

using namespace hawser;

TEST_CASE("localhost resolves to loopback addresses with the port asked for, each once") {
  const auto found = io::resolve("localhost", 4900, 30000);
  REQUIRE(found.ok());
  REQUIRE(!found.value().empty());
  for (const io::SocketAddress& address : found.value()) {
    CHECK(address.is_loopback());
    CHECK(address.port() == 4900);
    CHECK(std::count(found.value().begin(), found.value().end(), address) == 1);
  }
}

TEST_CASE("numeric hosts need no lookup") {
  CHECK(io::resolve("127.0.0.1", 1, 0).value() == io::Addresses{*io::SocketAddress::from_numeric("127.0.0.1", 1)});
  CHECK(io::resolve("::1", 1, 0).value() == io::Addresses{*io::SocketAddress::from_numeric("::1", 1)});
}

TEST_CASE("a name that cannot resolve is BAD_ADDRESS and is quoted") {
  const Status status = io::resolve("two..dots", 1, 30000).status();
  CHECK(status.code() == Code::BAD_ADDRESS);
  CHECK(status.text().find("\"two..dots\" does not resolve") != std::string::npos);
}

TEST_CASE("waiting for the name service ends at the deadline") {
  // With no time at all even a quick answer is late; what matters is that the call returns and the lookup does no harm
  // later.
  const Status status = io::resolve("localhost", 1, 0).status();
  CHECK((status.ok() || status.code() == Code::TIMEOUT));
}

TEST_CASE("the answer comes from another thread, once") {
  test::Inbox<std::thread::id> threads;
  REQUIRE(
      io::resolve_async("localhost", 1, [&](Result<io::Addresses>) { threads.put(std::this_thread::get_id()); }).ok());
  const auto thread = threads.take();
  REQUIRE(thread);
  CHECK(*thread != std::this_thread::get_id());
  CHECK(threads.size() == 0);
}
