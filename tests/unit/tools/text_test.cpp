// Texts of the command line: sizes, lists of names, series of sizes, percentiles.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hawser/text.hpp"
#include "support/catch.hpp"

using tool::parse_size;

TEST_CASE("sizes are numbers with a binary multiple", "[text]") {
  CHECK(parse_size("0") == 0U);
  CHECK(parse_size("4096") == 4096U);
  CHECK(parse_size("17B") == 17U);
  CHECK(parse_size("64K") == 65536U);
  CHECK(parse_size("64k") == 65536U);
  CHECK(parse_size("64KB") == 65536U);
  CHECK(parse_size("64KiB") == 65536U);
  CHECK(parse_size("1M") == 1048576U);
  CHECK(parse_size("1G") == 1073741824U);
  CHECK(parse_size("2T") == 2199023255552U);
  CHECK(parse_size("1.5M") == 1572864U);
  CHECK(parse_size("0.3") == 0U);
  CHECK(parse_size("0.0001K") == 0U);
}

TEST_CASE("sizes keep every bit of a whole number", "[text]") {
  CHECK(parse_size("9007199254740993") == 9007199254740993U);  // 2^53 + 1, which no double holds
  CHECK(parse_size("9223372036854775807") == 9223372036854775807U);
  CHECK(parse_size("8388607T") == 8388607U * (std::uint64_t{1} << 40));
}

TEST_CASE("what is no size is refused", "[text]") {
  for (const std::string text : {"",           "K",
                                 "-1",         "-0",
                                 "1X",         "1KX",
                                 "1iB",        "1 K",
                                 " 1",         "1K ",
                                 "0x10",       "1e3",
                                 "inf",        "nan",
                                 "1..2",       "9223372036854775808",
                                 "8388608T",   "99999999999999999999",
                                 "9000000.5T", "1KK",
                                 "+1"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_size(text).has_value());
  }
}

TEST_CASE("element types and reductions are named", "[text]") {
  CHECK(tool::parse_dtypes("f32") == std::vector{HAWSER_F32});
  CHECK(tool::parse_dtypes("bf16,u8") == (std::vector{HAWSER_BF16, HAWSER_U8}));
  CHECK(tool::parse_dtypes("all")->size() == 12);
  CHECK(tool::parse_redops("min,max") == (std::vector{HAWSER_MIN, HAWSER_MAX}));
  CHECK(tool::parse_redops("all")->size() == 5);
  for (const std::string text : {"", "f33", "f32,", ",f32", "F32", "f32 ", "sum"}) {
    CAPTURE(text);
    CHECK_FALSE(tool::parse_dtypes(text).has_value());
  }
  CHECK_FALSE(tool::parse_redops("average").has_value());
}

TEST_CASE("every name is read back as its value", "[text]") {
  for (const hawser_dtype_t dtype : tool::all_dtypes) {
    CHECK(tool::parse_dtypes(tool::dtype_name(dtype)) == std::vector{dtype});
  }
  for (const hawser_redop_t redop : tool::all_redops) {
    CHECK(tool::parse_redops(tool::redop_name(redop)) == std::vector{redop});
  }
  CHECK(tool::dtype_name(HAWSER_BF16) == "bf16");
  CHECK(tool::redop_name(HAWSER_PROD) == "prod");
}

TEST_CASE("series of sizes end at the last one or before", "[text]") {
  using Sizes = std::vector<std::uint64_t>;
  CHECK(tool::sizes_between(8, 128, 4) == (Sizes{8, 32, 128}));
  CHECK(tool::sizes_between(8, 127, 4) == (Sizes{8, 32}));
  CHECK(tool::sizes_between(5, 5, 2) == Sizes{5});
  const Sizes largest = tool::sizes_between(std::uint64_t{1} << 62, (std::uint64_t{1} << 63) - 1, 1U << 20);
  CHECK(largest == Sizes{std::uint64_t{1} << 62});
}

TEST_CASE("percentiles are values of the list, by nearest rank", "[text]") {
  CHECK_FALSE(tool::percentile({}, 50).has_value());
  CHECK(tool::percentile({7}, 1) == 7.0);
  CHECK(tool::percentile({7}, 100) == 7.0);
  CHECK(tool::percentile({4, 1, 3, 2}, 50) == 2.0);
  CHECK(tool::percentile({4, 1, 3, 2}, 51) == 3.0);
  CHECK(tool::percentile({4, 1, 3, 2}, 100) == 4.0);
  std::vector<double> hundred;
  for (int i = 100; i >= 1; --i) hundred.push_back(i);
  CHECK(tool::percentile(hundred, 99) == 99.0);
}
