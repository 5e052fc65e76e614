// The slow, obvious twin of the codecs: one element after another, in plain C++, by the formulas of
// docs/compression.md. Shares nothing with them but the names of types.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "codec/codec.hpp"

namespace twin {

using hawser::codec::Codec;
using hawser::codec::Format;
using hawser::codec::Noise;
using hawser::codec::Rounding;
using hawser::kernels::Variant;

// Those this processor can run.
inline std::vector<Variant> variants() {
  std::vector<Variant> out;
  for (const Variant variant : {Variant::scalar, Variant::avx2, Variant::avx512}) {
    if (variant <= hawser::kernels::best_variant()) out.push_back(variant);
  }
  return out;
}

inline bool has_blocks(Codec codec) { return codec >= Codec::int8; }

// Bytes of `count` elements of one block, or of any number where there are no blocks.
inline std::size_t block_bytes(Codec codec, std::size_t count) {
  switch (codec) {
    case Codec::none:
      return 4 * count;
    case Codec::bf16:
    case Codec::f16:
      return 2 * count;
    case Codec::int8:
      return 4 + count;
    case Codec::int4:
      return 4 + (count + 1) / 2;
    case Codec::minmax8:
      return 8 + count;
  }
  return 0;
}

inline constexpr float nan_f32 = std::bit_cast<float>(0x7fc00000u);
inline float canonical(float x) { return x == x ? x : nan_f32; }
inline std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
inline float float_of(std::uint32_t x) { return std::bit_cast<float>(x); }

template <typename T>
void put(std::byte* out, T value) {
  std::memcpy(out, &value, sizeof value);
}
template <typename T>
T get(const std::byte* in) {
  T value;
  std::memcpy(&value, in, sizeof value);
  return value;
}

// Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
struct Words {
  std::uint32_t word[4];
  bool operator==(const Words&) const = default;
};
inline Words philox(Words counter, std::uint64_t key) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const auto& c = counter.word;
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
    counter = {{static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
                static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return counter;
}

// Of element i: word (i / 16) % 4 of counter (i / 64) * 16 + i % 16.
inline std::uint32_t random_word(std::uint64_t seed, std::uint64_t i) {
  const std::uint64_t counter = i / 64 * 16 + i % 16;
  const Words start = {{static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32), 0, 0}};
  return philox(start, seed).word[i / 16 % 4];
}

// An integer next to x, |x| < 2^22.
inline float round_to_integer(float x, Rounding rounding, const Noise& noise, std::size_t i) {
  if (rounding == Rounding::nearest) {
    const float magnitude = std::fabs(x);
    return std::copysign((magnitude + 8388608.0F) - 8388608.0F, x);
  }
  const float magnitude = std::fabs(x);
  const float whole = std::trunc(magnitude);
  const float u = static_cast<float>(random_word(noise.seed, noise.first + i) >> 8) * 0x1p-24F;
  return std::copysign(u < magnitude - whole ? whole + 1 : whole, x);
}

inline std::uint16_t narrow_bf16(float x, Rounding rounding, const Noise& noise, std::size_t i) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fc0;
  const bool nearest = rounding == Rounding::nearest || magnitude > 0x7f7f0000u;
  const std::uint32_t added = nearest ? 0x7fffu + ((bits >> 16) & 1u) : random_word(noise.seed, noise.first + i) >> 16;
  return static_cast<std::uint16_t>((bits + added) >> 16);
}

inline std::uint16_t narrow_f16(float x, Rounding rounding, const Noise& noise, std::size_t i) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  if (magnitude > 0x7f800000u) return 0x7e00;
  std::uint32_t half = 0;
  if (magnitude >= bits_of(65520.0F)) {
    half = 0x7c00;
  } else if (magnitude < (113u << 23)) {
    half = static_cast<std::uint32_t>(round_to_integer(float_of(magnitude) * 0x1p24F, rounding, noise, i));
  } else {
    const bool nearest = rounding == Rounding::nearest || magnitude > bits_of(65504.0F);
    const std::uint32_t added =
        nearest ? 0xfffu + ((magnitude >> 13) & 1u) : random_word(noise.seed, noise.first + i) >> 19;
    half = (magnitude - (112u << 23) + added) >> 13;
  }
  return static_cast<std::uint16_t>(half | sign);
}

inline float widen_f16(std::uint16_t half) {
  const std::uint32_t exponent = (half >> 10) & 31u;
  const float significand = static_cast<float>(half & 0x3ffu);
  float magnitude =
      exponent == 0 ? significand * 0x1p-24F : std::ldexp(1024 + significand, static_cast<int>(exponent) - 25);
  if (exponent == 31) magnitude = significand == 0 ? std::numeric_limits<float>::infinity() : nan_f32;
  return (half & 0x8000u) != 0 && magnitude == magnitude ? -magnitude : magnitude;
}

// What minmax8 computes with: values half as large where max - min overflows.
struct Range {
  float half_or_one, two_or_one, low, high, step;
};
inline Range range_of(float low, float high) {
  const bool fits = std::fabs(high - low) <= std::numeric_limits<float>::max();
  Range range{fits ? 1.0F : 0.5F, fits ? 1.0F : 2.0F, 0, 0, 0};
  range.low = low * range.half_or_one;
  range.high = high * range.half_or_one;
  range.step = (range.high - range.low) / 255.0F;
  return range;
}

inline void encode_block(const Format& format, const float* in, std::size_t count, std::byte* out, const Noise& noise,
                         std::size_t at) {
  const bool finite = std::all_of(in, in + count, [](float x) { return std::isfinite(x); });
  std::memset(out, 0, block_bytes(format.codec, count));
  if (format.codec == Codec::minmax8) {
    if (!finite) {
      put(out, nan_f32);
      put(out + 4, nan_f32);
      return;
    }
    const float low = *std::min_element(in, in + count) + 0.0F;
    const float high = *std::max_element(in, in + count) + 0.0F;
    put(out, low);
    put(out + 4, high);
    const Range range = range_of(low, high);
    if (range.step == 0) return;
    for (std::size_t i = 0; i < count; ++i) {
      const float steps = (in[i] * range.half_or_one - range.low) / range.step;
      const float code = std::min(round_to_integer(steps, format.rounding, noise, at + i), 255.0F);
      out[8 + i] = static_cast<std::byte>(static_cast<std::uint8_t>(code));
    }
    return;
  }
  if (!finite) {
    put(out, nan_f32);
    return;
  }
  const float limit = format.codec == Codec::int8 ? 127.0F : 7.0F;
  float greatest = 0;
  for (std::size_t i = 0; i < count; ++i) greatest = std::max(greatest, std::fabs(in[i]));
  float scale = greatest / limit;
  if (!std::isfinite(scale * limit)) scale = float_of(bits_of(scale) - 1);  // what was finite stays so
  put(out, scale);
  if (scale == 0) return;
  for (std::size_t i = 0; i < count; ++i) {
    const float rounded = round_to_integer(in[i] / scale, format.rounding, noise, at + i);
    const int code = static_cast<int>(std::clamp(rounded, -limit, limit));
    if (format.codec == Codec::int8) {
      out[4 + i] = static_cast<std::byte>(code & 255);
    } else {
      out[4 + i / 2] |= static_cast<std::byte>((code & 15) << (i % 2 * 4));
    }
  }
}

inline void decode_block(const Format& format, const std::byte* in, std::size_t count, float* out) {
  if (format.codec == Codec::minmax8) {
    const float low = get<float>(in), high = get<float>(in + 4);
    const Range range = range_of(low, high);
    const bool finite = std::isfinite(low) && std::isfinite(high);
    for (std::size_t i = 0; i < count; ++i) {
      const int code = static_cast<int>(in[8 + i]);
      const float value = code == 255 ? range.high : range.low + static_cast<float>(code) * range.step;
      out[i] = finite ? value * range.two_or_one : nan_f32;
    }
    return;
  }
  const float scale = get<float>(in);
  for (std::size_t i = 0; i < count; ++i) {
    int code = 0;
    if (format.codec == Codec::int8) {
      code = static_cast<std::int8_t>(in[4 + i]);
    } else {
      code = ((static_cast<int>(in[4 + i / 2]) >> (i % 2 * 4) & 15) ^ 8) - 8;
    }
    out[i] = std::isfinite(scale) ? static_cast<float>(code) * scale : nan_f32;
  }
}

inline std::size_t encoded_bytes(const Format& format, std::size_t count) {
  if (!has_blocks(format.codec)) return block_bytes(format.codec, count);
  std::size_t bytes = 0;
  for (; count > format.block; count -= format.block) bytes += block_bytes(format.codec, format.block);
  return count > 0 ? bytes + block_bytes(format.codec, count) : bytes;
}

// Calls f(first element, elements, offset in the blob) for each block, or for pieces that fit into a cache.
template <typename F>
void for_blocks(const Format& format, std::size_t count, F f) {
  const std::size_t step = has_blocks(format.codec) ? format.block : 1024;
  for (std::size_t at = 0; at < count; at += step) f(at, std::min(step, count - at), twin::encoded_bytes(format, at));
}

inline void encode_piece(const Format& format, const float* in, std::size_t count, std::byte* out, const Noise& noise,
                         std::size_t at) {
  switch (format.codec) {
    case Codec::none:
      std::memcpy(out, in, 4 * count);
      return;
    case Codec::bf16:
      for (std::size_t i = 0; i < count; ++i) put(out + 2 * i, narrow_bf16(in[i], format.rounding, noise, at + i));
      return;
    case Codec::f16:
      for (std::size_t i = 0; i < count; ++i) put(out + 2 * i, narrow_f16(in[i], format.rounding, noise, at + i));
      return;
    case Codec::int8:
    case Codec::int4:
    case Codec::minmax8:
      encode_block(format, in, count, out, noise, at);
  }
}

inline void decode_piece(const Format& format, const std::byte* in, std::size_t count, float* out) {
  switch (format.codec) {
    case Codec::none:
      std::memcpy(out, in, 4 * count);
      return;
    case Codec::bf16:
      for (std::size_t i = 0; i < count; ++i) {
        out[i] = canonical(float_of(std::uint32_t{get<std::uint16_t>(in + 2 * i)} << 16));
      }
      return;
    case Codec::f16:
      for (std::size_t i = 0; i < count; ++i) out[i] = widen_f16(get<std::uint16_t>(in + 2 * i));
      return;
    case Codec::int8:
    case Codec::int4:
    case Codec::minmax8:
      decode_block(format, in, count, out);
  }
}

inline void encode(const Format& format, const float* in, std::size_t count, std::byte* out, const Noise& noise) {
  for_blocks(format, count, [&](std::size_t at, std::size_t piece, std::size_t offset) {
    encode_piece(format, in + at, piece, out + offset, noise, at);
  });
}

inline void decode(const Format& format, const std::byte* in, std::size_t count, float* out) {
  for_blocks(format, count, [&](std::size_t at, std::size_t piece, std::size_t offset) {
    decode_piece(format, in + offset, piece, out + at);
  });
}

inline void decode_add(const Format& format, const std::byte* in, std::size_t count, float* acc, float weight) {
  float values[hawser::codec::block_max];
  for_blocks(format, count, [&](std::size_t at, std::size_t piece, std::size_t offset) {
    decode_piece(format, in + offset, piece, values);
    for (std::size_t i = 0; i < piece; ++i) acc[at + i] = canonical(acc[at + i] + weight * values[i]);
  });
}

inline void encode_fed_back(const Format& format, const float* in, const float* residual, float decay,
                            std::size_t count, std::byte* out, float* residual_out, const Noise& noise) {
  float wanted[hawser::codec::block_max];
  float values[hawser::codec::block_max];
  for_blocks(format, count, [&](std::size_t at, std::size_t piece, std::size_t offset) {
    for (std::size_t i = 0; i < piece; ++i) wanted[i] = canonical(in[at + i] + decay * residual[at + i]);
    encode_piece(format, wanted, piece, out + offset, noise, at);
    decode_piece(format, out + offset, piece, values);
    for (std::size_t i = 0; i < piece; ++i) {
      const float rest = wanted[i] - values[i];
      residual_out[at + i] = std::isfinite(rest) ? rest : 0.0F;
    }
  });
}

}  // namespace twin
