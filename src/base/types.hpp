// Element types and reductions of the public header as scoped enums, with their sizes and names.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hawser {

enum class Dtype : std::uint8_t { u8 = 0, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64 };
inline constexpr std::size_t dtype_count = 12;

enum class Redop : std::uint8_t { sum = 0, avg, prod, min, max };
inline constexpr std::size_t redop_count = 5;

constexpr std::size_t dtype_size(Dtype dtype) {
  constexpr std::size_t sizes[dtype_count] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};
  return sizes[static_cast<std::size_t>(dtype)];
}
constexpr const char* dtype_name(Dtype dtype) {
  constexpr const char* names[dtype_count] = {"u8",  "i8",  "u16", "i16",  "u32", "i32",
                                              "u64", "i64", "f16", "bf16", "f32", "f64"};
  return names[static_cast<std::size_t>(dtype)];
}
constexpr const char* redop_name(Redop redop) {
  constexpr const char* names[redop_count] = {"sum", "avg", "prod", "min", "max"};
  return names[static_cast<std::size_t>(redop)];
}
// Partial sums of half-width floats are carried as f32, so that a result is rounded once.
constexpr bool is_half(Dtype dtype) { return dtype == Dtype::f16 || dtype == Dtype::bf16; }

}  // namespace hawser
