// Element types and reductions: the enums inside are those of the public header, value for value.
#include <string>

#include "base/types.hpp"
#include "hawser/hawser.h"
#include "support/catch.hpp"

using hawser::Dtype;
using hawser::Redop;

TEST_CASE("element types have the values, sizes and names of the public header", "[base]") {
  const auto check = [](Dtype dtype, hawser_dtype_t value, std::size_t size, const char* name) {
    CHECK(static_cast<int>(dtype) == static_cast<int>(value));
    CHECK(hawser::dtype_size(dtype) == size);
    CHECK(std::string(hawser::dtype_name(dtype)) == name);
    CHECK(hawser::is_half(dtype) == (std::string(name) == "f16" || std::string(name) == "bf16"));
  };
  check(Dtype::u8, HAWSER_U8, 1, "u8");
  check(Dtype::i8, HAWSER_I8, 1, "i8");
  check(Dtype::u16, HAWSER_U16, 2, "u16");
  check(Dtype::i16, HAWSER_I16, 2, "i16");
  check(Dtype::u32, HAWSER_U32, 4, "u32");
  check(Dtype::i32, HAWSER_I32, 4, "i32");
  check(Dtype::u64, HAWSER_U64, 8, "u64");
  check(Dtype::i64, HAWSER_I64, 8, "i64");
  check(Dtype::f16, HAWSER_F16, 2, "f16");
  check(Dtype::bf16, HAWSER_BF16, 2, "bf16");
  check(Dtype::f32, HAWSER_F32, 4, "f32");
  check(Dtype::f64, HAWSER_F64, 8, "f64");
  CHECK(hawser::dtype_count == 12);
}

TEST_CASE("reductions have the values and names of the public header", "[base]") {
  const auto check = [](Redop redop, hawser_redop_t value, const char* name) {
    CHECK(static_cast<int>(redop) == static_cast<int>(value));
    CHECK(std::string(hawser::redop_name(redop)) == name);
  };
  check(Redop::sum, HAWSER_SUM, "sum");
  check(Redop::avg, HAWSER_AVG, "avg");
  check(Redop::prod, HAWSER_PROD, "prod");
  check(Redop::min, HAWSER_MIN, "min");
  check(Redop::max, HAWSER_MAX, "max");
  CHECK(hawser::redop_count == 5);
}
