// Texts of options and tables: byte sizes, names of element types and reductions, percentiles. Pure functions.
#pragma once

#include <hawser/hawser.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tool {

// "4096", "64K", "1.5M", "1G", "2GiB": a number and a binary multiple, rounded down to whole bytes. Nothing for any
// other text, for a negative number and for more than 2^63 - 1.
std::optional<std::uint64_t> parse_size(std::string_view text);

inline constexpr hawser_dtype_t all_dtypes[] = {HAWSER_U8,  HAWSER_I8,   HAWSER_U16, HAWSER_I16,
                                                HAWSER_U32, HAWSER_I32,  HAWSER_U64, HAWSER_I64,
                                                HAWSER_F16, HAWSER_BF16, HAWSER_F32, HAWSER_F64};
inline constexpr hawser_redop_t all_redops[] = {HAWSER_SUM, HAWSER_AVG, HAWSER_PROD, HAWSER_MIN, HAWSER_MAX};

std::string_view dtype_name(hawser_dtype_t dtype);
std::string_view redop_name(hawser_redop_t redop);
// "f32", a list "f32,bf16", or "all"; nothing if a name is unknown.
std::optional<std::vector<hawser_dtype_t>> parse_dtypes(std::string_view text);
std::optional<std::vector<hawser_redop_t>> parse_redops(std::string_view text);

// Sizes from `first` to `last`, each `factor` times the one before; `last` is included only if it is met.
// Requires 0 < first <= last and factor >= 2; first == last gives one size.
std::vector<std::uint64_t> sizes_between(std::uint64_t first, std::uint64_t last, std::uint64_t factor);

// Nearest-rank percentile (0 < percent <= 100): the least value that at least percent % of all are not above.
// Nothing of an empty list.
std::optional<double> percentile(std::vector<double> values, double percent);

}  // namespace tool
