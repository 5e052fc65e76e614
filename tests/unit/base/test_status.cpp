// Status, Result and the names of codes, against the list of the public header.
#include <set>
#include <string>

#include "base/status.hpp"
#include "support/catch.hpp"

using hawser::Code;
using hawser::Result;
using hawser::Status;

TEST_CASE("an OK status has no text", "[base]") {
  const Status status;
  CHECK(status.ok());
  CHECK(status.code() == Code::OK);
  CHECK(status.text().empty());
}

TEST_CASE("a failed status keeps its code and its sentence", "[base]") {
  const Status status(Code::PEER_LOST, "peer 1234 closed the connection");
  CHECK_FALSE(status.ok());
  CHECK(status.code() == Code::PEER_LOST);
  CHECK(status.text() == "peer 1234 closed the connection");
}

TEST_CASE("a result is its value or its status", "[base]") {
  const Result<std::string> good(std::string("value"));
  REQUIRE(good.ok());
  CHECK(good.value() == "value");
  CHECK(good.status().ok());

  const Result<std::string> bad(Status(Code::TIMEOUT, "3 s passed"));
  REQUIRE_FALSE(bad.ok());
  CHECK(bad.status().code() == Code::TIMEOUT);
  CHECK(bad.status().text() == "3 s passed");
}

TEST_CASE("every code has the name, the value and the sentence of the public list", "[base]") {
  std::set<int> values;
  std::set<std::string> sentences;
#define CHECK_CODE(name, value, category, sentence)                    \
  CHECK(static_cast<int>(Code::name) == (value));                      \
  CHECK(static_cast<int>(HAWSER_##name) == (value));                   \
  CHECK(std::string(hawser::code_name(Code::name)) == #name);          \
  CHECK(std::string(hawser::code_sentence(Code::name)) == (sentence)); \
  CHECK(values.insert(value).second);                                  \
  CHECK(sentences.insert(sentence).second);                            \
  CHECK((HAWSER_CATEGORY_##category >= HAWSER_CATEGORY_NONE && HAWSER_CATEGORY_##category <= HAWSER_CATEGORY_INTERNAL));
  HAWSER_STATUS_LIST(CHECK_CODE)
#undef CHECK_CODE
}

TEST_CASE("a value that is no code has names of its own", "[base]") {
  CHECK(std::string(hawser::code_name(static_cast<Code>(-7))) == "UNKNOWN");
  CHECK(std::string(hawser::code_sentence(static_cast<Code>(12345))) == "unknown status");
}
