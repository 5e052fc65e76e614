// Inputs whose reductions are known exactly, and the bytes every peer must then hold. Pure functions, any thread.
//
// Each input element is a function of a key (of a peer, a round and an operation) and of its index, with a period of
// 8191 elements: a prime, so that a chunk or a block that lands in a wrong place shows unless it is off by a multiple
// of the period. A period is computed once and then copied or compared with memcmp, hence checking costs little more
// than reading.
//
// Why the result does not depend on the order in which it was reduced:
//   integers       wrap around: sum and prod are exact modulo 2^bits; avg gets inputs too small to wrap with up to 63
//   peers floats         sum, avg: small integers, whose sums are exact in the element type itself (bf16: up to 85
//   peers);
//                  prod: 1, 2, -1 and 1/2, whose products are powers of two (exact in f32 with up to 126 peers);
//                  min, max: small integers
//   f16, bf16      partial results are kept as f32 and rounded once; what is left to round is rounded to nearest even
//   here
#pragma once

#include <hawser/hawser.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tool {

inline constexpr std::size_t pattern_period = 8191;

// Mixes two numbers into one; no two of a small set collide in practice (splitmix64's finalizer).
std::uint64_t mix(std::uint64_t a, std::uint64_t b);

// What one peer contributes, or what all must hold: one period of elements, repeated over the buffer.
class Pattern {
 public:
  Pattern(hawser_dtype_t dtype, std::size_t count)
      : element_bytes_(hawser_dtype_size(dtype)),
        bytes_((count < pattern_period ? count : pattern_period) * element_bytes_) {}

  // Writes `count` elements; count is at most the one of the constructor when that was less than a period.
  void fill(void* buffer, std::size_t count) const;
  // How many of `count` elements are not, bit for bit, what they should be.
  [[nodiscard]] std::uint64_t mismatches(const void* buffer, std::size_t count) const;

  [[nodiscard]] std::size_t period() const { return bytes_.size() / element_bytes_; }
  [[nodiscard]] std::byte* data() { return bytes_.data(); }
  [[nodiscard]] const std::byte* data() const { return bytes_.data(); }

 private:
  std::size_t element_bytes_;
  std::vector<std::byte> bytes_;
};

// The input of the peer with this key.
Pattern input_pattern(hawser_dtype_t dtype, hawser_redop_t redop, std::uint64_t key, std::size_t count);
// The reduction of the inputs of the peers with these keys; their order does not matter. Requires at least one key.
Pattern expected_pattern(hawser_dtype_t dtype, hawser_redop_t redop, std::span<const std::uint64_t> keys,
                         std::size_t count);
// Elements that the reduction leaves as they are however often it is applied among equal peers: 1 for prod, else 0.
Pattern neutral_pattern(hawser_dtype_t dtype, hawser_redop_t redop, std::size_t count);

// IEEE 754 binary16 and bfloat16, rounded to nearest even. NaN gives the quiet NaN without payload and sign.
std::uint16_t f16_of(float value);
std::uint16_t bf16_of(float value);

}  // namespace tool
