// What a compressed all-reduce may be off by: names of codecs, and the bound of the error of each element that follows
// from the formulas of docs/compression.md. Pure functions, any thread.
#pragma once

#include <hawser/hawser.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "reference.hpp"

namespace tool {

inline constexpr std::string_view codec_names[] = {"none", "bf16", "f16", "int8", "int4", "minmax8"};  // by codec
std::optional<hawser_codec_t> parse_codec(std::string_view name);
std::optional<hawser_rounding_t> parse_rounding(std::string_view name);  // "nearest", "stochastic"

// Of an element of f32, f16 or bf16.
double value_of(hawser_dtype_t dtype, const std::byte* element);

// The most by which an element of the SUM or AVG of the inputs with these keys may differ from expected_pattern: every
// contribution and the result are encoded once, with steps no wider than their greatest magnitudes make them.
double compressed_error_bound(const hawser_compression_t& compression, hawser_dtype_t dtype, hawser_redop_t redop,
                              std::span<const std::uint64_t> keys, std::size_t count);

// How many of `count` elements are farther than that from what is expected, or are no numbers.
std::uint64_t mismatches_beyond(double bound, const Pattern& expected, hawser_dtype_t dtype, const void* buffer,
                                std::size_t count);

}  // namespace tool
