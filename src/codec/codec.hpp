// Compression of f32 elements: a span of them becomes a blob, and the blob the same bits on every processor. A blob is
// bytes without a header: its format travels beside it, in what the peers agreed on. docs/compression.md is the law of
// formulas, bytes and errors. All functions are pure, thread-safe, need pointers to floats aligned to the float and
// blobs not at all, and accept count 0.
//
// Decoders take any bytes: whatever a peer sends has a defined result. That a blob has encoded_bytes() bytes is for the
// caller to see to, by check_blob().
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.hpp"
#include "kernels/kernels.hpp"

namespace hawser::codec {

// The values are wire ids, those of hawser_codec_t, and never change.
enum class Codec : std::uint8_t { none = 0, bf16 = 1, f16 = 2, int8 = 3, int4 = 4, minmax8 = 5 };
inline constexpr std::size_t codec_count = 6;
enum class Rounding : std::uint8_t { nearest = 0, stochastic = 1 };

inline constexpr std::uint32_t block_min = 32;
inline constexpr std::uint32_t block_max = 4096;

// As make_format() gives it. `block` is 1 for the codecs without blocks.
struct Format {
  Codec codec = Codec::none;
  std::uint32_t block = 0;
  Rounding rounding = Rounding::nearest;
  bool operator==(const Format&) const = default;
};

const char* codec_name(Codec codec);  // "none", "bf16", "f16", "int8", "int4", "minmax8"
std::uint64_t supported_codecs();     // bit i: this build has wire id i; peers use what all of them have

// Checks what came from a caller or from the wire and fills in the default block: int8 and minmax8 256, int4 64. Other
// blocks must be powers of two from block_min to block_max; none, bf16 and f16 take 0 or 1. `none` is raw f32, which is
// how an average travels that is weighted but not compressed.
Result<Format> make_format(std::uint32_t codec, std::uint32_t block, std::uint32_t rounding);

// Of `count` elements: whole blocks and a shorter last one. Where k blocks come before an element, its block begins at
// encoded_bytes(format, k * block), so a vector can be encoded in pieces and cut at block boundaries.
std::size_t encoded_bytes(const Format& format, std::size_t count);

// MISMATCH, with both numbers, where `bytes` are not those of `count` elements.
Status check_blob(const Format& format, std::size_t count, std::size_t bytes);

// The random numbers of stochastic rounding: Philox4x32-10 with key `seed`; those of element i of a call depend on
// first + i alone. `first` is the index of the call's first element in the whole vector.
struct Noise {
  std::uint64_t seed = 0;
  std::uint64_t first = 0;
};

// The variants give the same bits. `in` starts at a block boundary of the whole vector.
void encode(const Format& format, const float* in, std::size_t count, std::byte* out, const Noise& noise,
            kernels::Variant variant);
void decode(const Format& format, const std::byte* in, std::size_t count, float* out, kernels::Variant variant);
// acc[i] = acc[i] + weight * D(in)[i], each rounded.
void decode_add(const Format& format, const std::byte* in, std::size_t count, float* acc, float weight,
                kernels::Variant variant);

// Error feedback: p = in + decay * residual, each rounded; out = Q(p); residual_out = p - D(Q(p)), 0 where that is not
// finite. residual_out may be residual, but not in.
void encode_fed_back(const Format& format, const float* in, const float* residual, float decay, std::size_t count,
                     std::byte* out, float* residual_out, const Noise& noise, kernels::Variant variant);

}  // namespace hawser::codec
