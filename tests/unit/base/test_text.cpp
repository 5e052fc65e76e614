// Text that crosses trust: every way in which bytes can fail to be UTF-8, cutting between characters, repair.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.hpp"
#include "support/catch.hpp"

using namespace hawser;

namespace {

// The definition, from code points: what a scanner over bytes must agree with.
std::string utf8(std::uint32_t point) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(static_cast<unsigned char>(value)); };
  const auto tail = [&](int shift) { return byte(0x80 | (point >> shift & 0x3f)); };
  if (point < 0x80) return {byte(point)};
  if (point < 0x800) return {byte(0xc0 | point >> 6), tail(0)};
  if (point < 0x10000) return {byte(0xe0 | point >> 12), tail(6), tail(0)};
  return {byte(0xf0 | point >> 18), tail(12), tail(6), tail(0)};
}

bool may_stand(std::uint32_t point) {
  return point >= 0x20 && point != 0x7f && (point < 0xd800 || point > 0xdfff) && point <= 0x10ffff;
}

}  // namespace

TEST_CASE("a code point is text unless it is a control character, a surrogate or none", "[base][text]") {
  for (std::uint32_t point = 0; point < 0x200000; ++point) {
    const bool valid = valid_text(utf8(point));
    if (valid != may_stand(point)) FAIL("code point " << point << ": " << valid);
  }
  SUCCEED();
}

TEST_CASE("of all strings of up to three bytes, the valid ones are exactly those made of characters", "[base][text]") {
  // Counts prove that no other form is taken: b[n] = sum over lengths k of characters of k bytes times b[n - k].
  const std::size_t ones = 95, twos = 0x800 - 0x80, threes = 0x10000 - 0x800 - 0x800;
  const std::size_t expected[4] = {1, ones, ones * ones + twos, ones * ones * ones + 2 * ones * twos + threes};
  std::size_t found[4] = {1, 0, 0, 0};
  std::string bytes;
  for (std::uint32_t value = 0; value < 1U << 24; ++value) {
    const auto at = [&](int shift) { return static_cast<char>(static_cast<unsigned char>(value >> shift)); };
    const char three[] = {at(16), at(8), at(0)};
    if (value < 1U << 8) found[1] += valid_text({three + 2, 1}) ? 1U : 0U;
    if (value < 1U << 16) found[2] += valid_text({three + 1, 2}) ? 1U : 0U;
    found[3] += valid_text({three, 3}) ? 1U : 0U;
  }
  for (int n = 1; n < 4; ++n) CHECK(found[n] == expected[n]);
}

TEST_CASE("broken characters of four bytes are no text", "[base][text]") {
  for (const char* bytes : {"\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf0\x90\x80",
                            "\xf0\x90\x80\x7f", "\xf0\x90\x7f\x80", "\xff\xbf\xbf\xbf", "\xf8\x88\x80\x80\x80"}) {
    CHECK_FALSE(valid_text(bytes));
  }
  CHECK(valid_text("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

TEST_CASE("cleaning keeps valid text, cuts between characters and replaces what is no text", "[base][text]") {
  CHECK(clean_text("plain", 5) == "plain");
  CHECK(clean_text("plain", 3) == "pla");
  CHECK(clean_text("plain", 0).empty());
  CHECK(clean_text("", 8).empty());
  const std::string euro = "\xe2\x82\xac";
  CHECK(clean_text(euro + euro, 6) == euro + euro);
  CHECK(clean_text(euro + euro, 5) == euro);
  CHECK(clean_text(euro + euro, 2).empty());
  CHECK(clean_text("a\tb\r\n\x1b[31m\x7f", 64) == "a?b???[31m?");
  CHECK(clean_text("\xe2\x82", 64) == "??");
  CHECK(clean_text("\xed\xa0\x80|", 64) == "???|");  // a surrogate
  CHECK(clean_text(std::string_view("\0x", 2), 64) == "?x");
}

TEST_CASE("cleaned text is valid whatever it was", "[base][text]") {
  // All strings over bytes that matter to the scanner, up to four at once.
  const std::string alphabet = "a\n\x80\xbf\xc3\xe0\xa0\xed\x9f\xf0\x90\xf4\x8f\xff";
  std::vector<std::string> strings = {""};
  for (std::size_t from = 0, length = 0; length < 4; ++length) {
    const std::size_t to = strings.size();
    for (; from < to; ++from) {
      for (const char c : alphabet) strings.push_back(strings[from] + c);
    }
  }
  for (const std::string& text : strings) {
    for (const std::size_t limit : {std::size_t{2}, std::size_t{64}}) {
      const std::string clean = clean_text(text, limit);
      if (!valid_text(clean) || clean.size() > limit) FAIL(printable(text) << " became " << printable(clean));
      if (valid_text(text) && text.size() <= limit && clean != text) FAIL(printable(text) << " was changed");
    }
  }
  SUCCEED();
}
