// The loops and the arithmetic of every variant of the codecs, as templates over `Isa`: an instruction set of
// kernels/vector.hpp and how it stores codes of one byte. Formulas are those of docs/compression.md; each step is one
// IEEE operation per element, so the variants give the same bits. Any thread.
//
// A codec is a struct with encode() and decode() of one block whose elements are a multiple of `granule`, so there is
// no vector that is not full. The last block of a call, where it is shorter, is worked on in padded copies. Internal
// linkage and nothing of the standard library, as in kernels/vector.hpp.
#pragma once

#include "codec/dispatch.hpp"
#include "codec/philox.hpp"
#include "kernels/vector.hpp"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "scales and halves are copied as they are in memory");

namespace hawser::codec {
namespace {  // NOLINT(google-build-namespaces): see kernels/vector.hpp

using kernels::Bytes;
using kernels::Vector;

inline constexpr std::size_t granule = 16;  // lanes of the widest vector
inline constexpr std::uint32_t nan_bits = 0x7fc00000u;
inline constexpr std::int32_t infinity_bits = 0x7f800000;
inline constexpr float float_max = 0x1.fffffep127F;

template <class To, class From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
T load(const void* p) {
  T value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}

template <class T>
void store(void* p, T value) {
  __builtin_memcpy(p, &value, sizeof value);
}

inline bool is_finite(float x) { return (bits_as<std::int32_t>(x) & 0x7fffffff) < infinity_bits; }

template <class Isa>
struct Lanes {
  static constexpr std::size_t count = Isa::vector_bytes / sizeof(float);
  using Floats = Vector<float, count>;
  using Ints = Vector<std::int32_t, count>;
  using Words = Vector<std::uint32_t, count>;
  using Math = kernels::Arithmetic<float, count>;

  static Floats floats(Ints v) { return __builtin_convertvector(v, Floats); }
  static Ints ints(Floats v) { return __builtin_convertvector(v, Ints); }  // towards zero
  static Ints magnitude(Floats v) { return reinterpret_cast<Ints>(v) & 0x7fffffff; }
};

template <class Vec>
std::int32_t greatest_lane(Vec v) {
  std::int32_t greatest = v[0];
  for (std::size_t i = 1; i < sizeof(Vec) / sizeof(std::int32_t); ++i) greatest = v[i] > greatest ? v[i] : greatest;
  return greatest;
}

// ------------------------------------------------------------------------------------------------------------ rounding

// Integers next to v, |v| < 2^22. At nearest the sum with 1.5 * 2^23 has 1 as its last bit, so the addition rounds. At
// random the magnitude goes up when a number from [0, 1), of 24 bits, is below its fraction: an integer stays what it
// is, and the expectation is v.
template <class Isa, bool stochastic>
typename Lanes<Isa>::Ints round(typename Lanes<Isa>::Floats v, const std::uint32_t* noise) {
  using L = Lanes<Isa>;
  using Ints = typename L::Ints;
  using Floats = typename L::Floats;
  if constexpr (stochastic) {
    const Floats size = reinterpret_cast<Floats>(L::magnitude(v));
    const Ints whole = L::ints(size);
    const Ints random = reinterpret_cast<Ints>(load<typename L::Words>(noise) >> 8);
    const Ints up = L::floats(random) < (size - L::floats(whole)) * 0x1p24F;  // -1 or 0
    const Ints negative = reinterpret_cast<Ints>(v) >> 31;
    return ((whole - up) ^ negative) - negative;
  } else {
    static_cast<void>(noise);
    return reinterpret_cast<Ints>(v + 0x1.8p23F) - bits_as<std::int32_t>(0x1.8p23F);
  }
}

template <class Isa>
typename Lanes<Isa>::Ints clamp(typename Lanes<Isa>::Ints v, std::int32_t low, std::int32_t high) {
  using Ints = typename Lanes<Isa>::Ints;
  const Ints least = Ints{} + low;
  const Ints most = Ints{} + high;
  const Ints raised = v < least ? least : v;
  return raised > most ? most : raised;
}

// -------------------------------------------------------------------------------------------------------------- sinks
// What is done with decoded values; `v` are those of elements i to i + lanes.

template <class Isa>
struct Store {
  float* out;
  void operator()(std::size_t i, typename Lanes<Isa>::Floats v) const { store(out + i, v); }
};

template <class Isa>
struct Add {
  float* acc;
  float weight;
  void operator()(std::size_t i, typename Lanes<Isa>::Floats v) const {
    using L = Lanes<Isa>;
    store(acc + i, L::Math::canonical(load<typename L::Floats>(acc + i) + v * weight));
  }
};

// `rest` has what was encoded and gets what the code leaves out of it.
template <class Isa>
struct Subtract {
  float* rest;
  void operator()(std::size_t i, typename Lanes<Isa>::Floats v) const {
    using L = Lanes<Isa>;
    const typename L::Floats left = load<typename L::Floats>(rest + i) - v;
    store(rest + i, L::magnitude(left) < infinity_bits ? left : typename L::Floats{});
  }
};

// ------------------------------------------------------------------------------------------------------------- codecs
// A block is worked on in pieces for which random numbers, or codes before they are packed, are at hand.

constexpr std::size_t piece_size(std::size_t count, std::size_t begin) {
  return count - begin < noise_piece ? count - begin : noise_piece;
}

template <class Isa>
struct Raw {
  static constexpr std::size_t block_or_piece(std::size_t) { return 1024; }
  static constexpr std::size_t bytes(std::size_t count) { return sizeof(float) * count; }

  template <bool stochastic>
  static void encode(const float* in, std::size_t count, Bytes* out, NoiseSource<Isa>&, std::uint64_t) {
    __builtin_memcpy(out, in, sizeof(float) * count);
  }
  template <class Sink>
  static void decode(const Bytes* in, std::size_t count, Sink sink) {
    using L = Lanes<Isa>;
    for (std::size_t i = 0; i < count; i += L::count) sink(i, load<typename L::Floats>(in + sizeof(float) * i));
  }
};

// Beyond the largest finite value the nearest decides in both roundings, so that overflow is the same. The random bits
// added are those that are cut off.
template <class Isa>
struct Bf16Codec {
  using Half = kernels::Bf16<Isa>;
  static constexpr std::size_t block_or_piece(std::size_t) { return 1024; }
  static constexpr std::size_t bytes(std::size_t count) { return 2 * count; }

  template <bool stochastic>
  static void encode(const float* in, std::size_t count, Bytes* out, NoiseSource<Isa>& noise, std::uint64_t index) {
    using L = Lanes<Isa>;
    using Words = typename L::Words;
    const std::uint32_t* words = nullptr;
    for (std::size_t i = 0; i < count; i += L::count) {
      const auto v = L::Math::canonical(load<typename L::Floats>(in + i));
      if constexpr (stochastic) {
        if (i % noise_piece == 0) words = noise.at(index + i, piece_size(count, i));
        const Words bits = reinterpret_cast<Words>(v);
        const Words nearest = ((bits >> 16) & 1u) + 0x7fffu;
        const Words random = load<Words>(words + i % noise_piece) >> 16;
        const Words added = (bits & 0x7fffffffu) > 0x7f7f0000u ? nearest : random;
        Half::Raw::store(out + 2 * i, Isa::narrow_u32((bits + added) >> 16));
      } else {
        Half::store(out + 2 * i, v);
      }
    }
  }
  template <class Sink>
  static void decode(const Bytes* in, std::size_t count, Sink sink) {
    using L = Lanes<Isa>;
    for (std::size_t i = 0; i < count; i += L::count) sink(i, L::Math::canonical(Half::load(in + 2 * i)));
  }
};

template <class Isa>
struct F16Codec {
  using Half = kernels::F16<Isa>;
  static constexpr std::size_t block_or_piece(std::size_t) { return 1024; }
  static constexpr std::size_t bytes(std::size_t count) { return 2 * count; }

  template <bool stochastic>
  static void encode(const float* in, std::size_t count, Bytes* out, NoiseSource<Isa>& noise, std::uint64_t index) {
    using L = Lanes<Isa>;
    using Words = typename L::Words;
    using Floats = typename L::Floats;
    const std::uint32_t* words = nullptr;
    for (std::size_t i = 0; i < count; i += L::count) {
      const auto v = L::Math::canonical(load<Floats>(in + i));
      if constexpr (stochastic) {
        if (i % noise_piece == 0) words = noise.at(index + i, piece_size(count, i));
        const std::uint32_t* const at = words + i % noise_piece;
        const Words all = reinterpret_cast<Words>(v);
        const Words bits = all & 0x7fffffffu;
        const Words least_normal = Words{} + (113u << 23);
        // Denormals are multiples of 2^-24.
        const Words small = bits < least_normal ? bits : Words{};
        const Words denormal = reinterpret_cast<Words>(round<Isa, true>(reinterpret_cast<Floats>(small) * 0x1p24F, at));
        const Words normal = (bits - (112u << 23) + (load<Words>(at) >> 19)) >> 13;
        Words half = bits < least_normal ? denormal : normal;
        const Words nearest = Isa::widen_u16(Isa::narrow_f16(v));
        half = bits > bits_as<std::uint32_t>(65504.0F) ? nearest : half | ((all >> 16) & 0x8000u);
        Half::Raw::store(out + 2 * i, Isa::narrow_u32(half));
      } else {
        Half::store(out + 2 * i, v);
      }
    }
  }
  template <class Sink>
  static void decode(const Bytes* in, std::size_t count, Sink sink) {
    using L = Lanes<Isa>;
    for (std::size_t i = 0; i < count; i += L::count) sink(i, L::Math::canonical(Half::load(in + 2 * i)));
  }
};

// Two codes a byte: eight codes of a byte each become four bytes and back, in one 64-bit word.
[[maybe_unused]] inline void pack_nibbles(Bytes* out, const Bytes* codes, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    std::uint64_t word = load<std::uint64_t>(codes + i) & 0x0f0f0f0f0f0f0f0fu;
    word = (word | word >> 4) & 0x00ff00ff00ff00ffu;
    word = (word | word >> 8) & 0x0000ffff0000ffffu;
    store(out + i / 2, static_cast<std::uint32_t>(word | word >> 16));
  }
}
[[maybe_unused]] inline void unpack_nibbles(Bytes* codes, const Bytes* in, std::size_t count) {
  for (std::size_t i = 0; i < count; i += 8) {
    std::uint64_t word = load<std::uint32_t>(in + i / 2);
    word = (word | word << 16) & 0x0000ffff0000ffffu;
    word = (word | word << 8) & 0x00ff00ff00ff00ffu;
    word = (word | word << 4) & 0x0f0f0f0f0f0f0f0fu;
    // Two's complement of four bits becomes that of eight: flip the sign, take 8 away. The top bits keep bytes apart.
    word = (((word ^ 0x0808080808080808u) | 0x8080808080808080u) - 0x0808080808080808u) ^ 0x8080808080808080u;
    store(codes + i, word);
  }
}

// [scale][codes]. scale = greatest magnitude / limit; the next smaller one where limit * scale overflows, so that what
// was finite stays finite. NaN when an element is not finite.
template <class Isa, std::int32_t limit>
struct Symmetric {
  static constexpr bool nibbles = limit < 8;
  static constexpr std::size_t block_or_piece(std::size_t block) { return block; }
  static constexpr std::size_t bytes(std::size_t count) { return 4 + (nibbles ? (count + 1) / 2 : count); }

  static float scale_of(const float* in, std::size_t count) {
    using L = Lanes<Isa>;
    typename L::Ints greatest{};
    for (std::size_t i = 0; i < count; i += L::count) {
      const typename L::Ints size = L::magnitude(load<typename L::Floats>(in + i));
      greatest = size > greatest ? size : greatest;
    }
    const std::int32_t bits = greatest_lane(greatest);
    if (bits >= infinity_bits) return bits_as<float>(nan_bits);
    const float scale = bits_as<float>(bits) / static_cast<float>(limit);
    return is_finite(scale * static_cast<float>(limit)) ? scale : bits_as<float>(bits_as<std::uint32_t>(scale) - 1);
  }

  template <bool stochastic>
  static void encode(const float* in, std::size_t count, Bytes* out, NoiseSource<Isa>& noise, std::uint64_t index) {
    using L = Lanes<Isa>;
    const float scale = scale_of(in, count);
    store(out, scale);
    Bytes* const codes = out + 4;
    if (!(scale > 0)) {  // nothing but zeros, or a NaN
      __builtin_memset(codes, 0, bytes(count) - 4);
      return;
    }
    Bytes wide[noise_piece];
    for (std::size_t begin = 0; begin < count; begin += noise_piece) {
      const std::size_t size = piece_size(count, begin);
      const std::uint32_t* const words = stochastic ? noise.at(index + begin, size) : nullptr;
      Bytes* const to = nibbles ? wide : codes + begin;
      for (std::size_t i = 0; i < size; i += L::count) {
        const auto code =
            round<Isa, stochastic>(load<typename L::Floats>(in + begin + i) / scale, words + (stochastic ? i : 0));
        Isa::store_codes(to + i, clamp<Isa>(code, -limit, limit));
      }
      if (nibbles) pack_nibbles(codes + begin / 2, wide, size);
    }
  }

  template <class Sink>
  static void decode(const Bytes* in, std::size_t count, Sink sink) {
    using L = Lanes<Isa>;
    const float scale = load<float>(in);
    const Bytes* const codes = in + 4;
    if (!is_finite(scale)) {
      for (std::size_t i = 0; i < count; i += L::count) sink(i, L::Math::nan());
      return;
    }
    Bytes wide[noise_piece];
    for (std::size_t begin = 0; begin < count; begin += noise_piece) {
      const std::size_t size = piece_size(count, begin);
      if (nibbles) unpack_nibbles(wide, codes + begin / 2, size);
      const Bytes* const from = nibbles ? wide : codes + begin;
      for (std::size_t i = 0; i < size; i += L::count) sink(begin + i, L::floats(Isa::load_signed(from + i)) * scale);
    }
  }
};

// [min][max][codes]. Both ends are exact. Where max - min overflows, all of it is computed with halves.
template <class Isa>
struct MinMax {
  static constexpr std::size_t block_or_piece(std::size_t block) { return block; }
  static constexpr std::size_t bytes(std::size_t count) { return 8 + count; }

  struct Range {
    float down, up;  // 1 and 1, or 0.5 and 2
    float low, high, step;
    Range(float least, float most) {
      const bool fits = is_finite(most - least);
      down = fits ? 1.0F : 0.5F;
      up = fits ? 1.0F : 2.0F;
      low = least * down;
      high = most * down;
      step = (high - low) / 255.0F;
    }
  };

  // Of the integers that floats are when the bits of negative ones are flipped, which have the order of the floats.
  template <class T>
  static T ordered(T bits) {
    return bits ^ ((bits >> 31) & 0x7fffffff);
  }

  template <bool stochastic>
  static void encode(const float* in, std::size_t count, Bytes* out, NoiseSource<Isa>& noise, std::uint64_t index) {
    using L = Lanes<Isa>;
    using Ints = typename L::Ints;
    Ints greatest = ordered(load<Ints>(in));
    Ints complement = ~greatest;  // the greatest one is that of the least
    for (std::size_t i = L::count; i < count; i += L::count) {
      const Ints value = ordered(load<Ints>(in + i));
      greatest = value > greatest ? value : greatest;
      complement = ~value > complement ? ~value : complement;
    }
    const std::int32_t most = greatest_lane(greatest);
    const std::int32_t least = ~greatest_lane(complement);
    Bytes* const codes = out + 8;
    if (most >= infinity_bits || least <= ordered<std::int32_t>(-0x7fffffff - 1 + infinity_bits)) {
      store(out, nan_bits);
      store(out + 4, nan_bits);
      __builtin_memset(codes, 0, count);
      return;
    }
    const float low = bits_as<float>(ordered(least)) + 0.0F;  // of -0, +0
    const float high = bits_as<float>(ordered(most)) + 0.0F;
    store(out, low);
    store(out + 4, high);
    const Range range(low, high);
    if (!(range.step > 0)) {
      __builtin_memset(codes, 0, count);
      return;
    }
    for (std::size_t begin = 0; begin < count; begin += noise_piece) {
      const std::size_t size = piece_size(count, begin);
      const std::uint32_t* const words = stochastic ? noise.at(index + begin, size) : nullptr;
      for (std::size_t i = 0; i < size; i += L::count) {
        const auto steps = (load<typename L::Floats>(in + begin + i) * range.down - range.low) / range.step;
        const auto code = clamp<Isa>(round<Isa, stochastic>(steps, words + (stochastic ? i : 0)), 0, 255);
        Isa::store_codes(codes + begin + i, code);
      }
    }
  }

  template <class Sink>
  static void decode(const Bytes* in, std::size_t count, Sink sink) {
    using L = Lanes<Isa>;
    using Floats = typename L::Floats;
    const float low = load<float>(in);
    const float high = load<float>(in + 4);
    if (!is_finite(low) || !is_finite(high)) {
      for (std::size_t i = 0; i < count; i += L::count) sink(i, L::Math::nan());
      return;
    }
    const Range range(low, high);
    const Bytes* const codes = in + 8;
    const Floats last = Floats{} + range.high;
    for (std::size_t i = 0; i < count; i += L::count) {
      const typename L::Ints code = Isa::load_unsigned(codes + i);
      const Floats value = L::floats(code) * range.step + range.low;
      sink(i, (code == 255 ? last : value) * range.up);
    }
  }
};

// -------------------------------------------------------------------------------------------------------------- calls

inline Bytes* bytes_of(std::byte* p) { return reinterpret_cast<Bytes*>(p); }
inline const Bytes* bytes_of(const std::byte* p) { return reinterpret_cast<const Bytes*>(p); }

constexpr std::size_t rounded_up(std::size_t count) { return (count + granule - 1) / granule * granule; }

// A copy of the elements of a last block, filled up with its first one, which changes neither the greatest magnitude
// nor minimum and maximum.
struct Padded {
  float values[block_max];
  Padded(const float* in, std::size_t count) {
    __builtin_memcpy(values, in, sizeof(float) * count);
    for (std::size_t i = count; i < rounded_up(count); ++i) values[i] = in[0];
  }
};

inline constexpr std::size_t padded_bytes = sizeof(float) * block_max;  // of any codec's block

// The codes of elements that fill up must not reach the blob, nor its size.
template <class Codec>
void cut_off(Bytes* out, const Bytes* padded, std::size_t count) {
  __builtin_memcpy(out, padded, Codec::bytes(count));
  if constexpr (Codec::bytes(granule) < Codec::bytes(0) + granule) {  // two codes a byte
    if (count % 2 != 0) out[Codec::bytes(count) - 1] &= 0x0f;
  }
}

template <class Codec>
void fill_up(Bytes* padded, const Bytes* in, std::size_t count) {
  const std::size_t bytes = Codec::bytes(count);
  __builtin_memcpy(padded, in, bytes);
  __builtin_memset(padded + bytes, 0, Codec::bytes(rounded_up(count)) - bytes);
}

// Calls whole(at, elements, offset) for what needs no padding, then last(at, elements, offset) for what does.
template <class Codec, class Whole, class Last>
void for_blocks(std::size_t block, std::size_t count, Whole whole, Last last) {
  const std::size_t step = Codec::block_or_piece(block);
  std::size_t at = 0;
  std::size_t offset = 0;
  for (; count - at >= step; at += step) {
    whole(at, step, offset);
    offset += Codec::bytes(step);
  }
  if (at == count) return;
  if ((count - at) % granule == 0) {
    whole(at, count - at, offset);
  } else {
    last(at, count - at, offset);
  }
}

template <class Isa, class Codec, bool stochastic>
[[gnu::noinline]] void encode_last(const float* in, std::size_t count, Bytes* out, NoiseSource<Isa>& noise,
                                   std::uint64_t index) noexcept {
  const Padded padded(in, count);
  Bytes codes[padded_bytes];
  Codec::template encode<stochastic>(padded.values, rounded_up(count), codes, noise, index);
  cut_off<Codec>(out, codes, count);
}

template <class Isa, class Codec, bool stochastic>
[[gnu::noinline]] void encode_blocks(std::size_t block, const float* in, std::size_t count, Bytes* out,
                                     const Noise& noise) noexcept {
  NoiseSource<Isa> source(noise.seed, noise.first, count);
  for_blocks<Codec>(
      block, count,
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        Codec::template encode<stochastic>(in + at, size, out + offset, source, noise.first + at);
      },
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        encode_last<Isa, Codec, stochastic>(in + at, size, out + offset, source, noise.first + at);
      });
}

template <class Isa, class Codec>
[[gnu::noinline]] void decode_last(const Bytes* in, std::size_t count, float* out) noexcept {
  Bytes codes[padded_bytes];
  float values[block_max];
  fill_up<Codec>(codes, in, count);
  Codec::decode(codes, rounded_up(count), Store<Isa>{values});
  __builtin_memcpy(out, values, sizeof(float) * count);
}

template <class Isa, class Codec>
[[gnu::noinline]] void decode_blocks(std::size_t block, const Bytes* in, std::size_t count, float* out) noexcept {
  for_blocks<Codec>(
      block, count,
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        Codec::decode(in + offset, size, Store<Isa>{out + at});
      },
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        decode_last<Isa, Codec>(in + offset, size, out + at);
      });
}

template <class Isa, class Codec>
[[gnu::noinline]] void add_last(const Bytes* in, std::size_t count, float* acc, float weight) noexcept {
  Bytes codes[padded_bytes];
  Padded sums(acc, count);
  fill_up<Codec>(codes, in, count);
  Codec::decode(codes, rounded_up(count), Add<Isa>{sums.values, weight});
  __builtin_memcpy(acc, sums.values, sizeof(float) * count);
}

template <class Isa, class Codec>
[[gnu::noinline]] void add_blocks(std::size_t block, const Bytes* in, std::size_t count, float* acc,
                                  float weight) noexcept {
  for_blocks<Codec>(
      block, count,
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        Codec::decode(in + offset, size, Add<Isa>{acc + at, weight});
      },
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        add_last<Isa, Codec>(in + offset, size, acc + at, weight);
      });
}

// rest = in + decay * rest.
template <class Isa>
void add_residual(const float* in, const float* residual, float decay, std::size_t count, float* out) {
  using L = Lanes<Isa>;
  for (std::size_t i = 0; i < count; i += L::count) {
    const typename L::Floats kept = load<typename L::Floats>(residual + i) * decay;
    store(out + i, L::Math::canonical(load<typename L::Floats>(in + i) + kept));
  }
}

template <class Isa, class Codec, bool stochastic>
[[gnu::noinline]] void feed_back_last(const float* in, const float* residual, float decay, std::size_t count,
                                      Bytes* out, float* residual_out, NoiseSource<Isa>& noise,
                                      std::uint64_t index) noexcept {
  const Padded values(in, count);
  Padded rest(residual, count);
  Bytes codes[padded_bytes];
  const std::size_t padded = rounded_up(count);
  add_residual<Isa>(values.values, rest.values, decay, padded, rest.values);
  Codec::template encode<stochastic>(rest.values, padded, codes, noise, index);
  cut_off<Codec>(out, codes, count);
  Codec::decode(codes, padded, Subtract<Isa>{rest.values});
  __builtin_memcpy(residual_out, rest.values, sizeof(float) * count);
}

// What is to be encoded stands in residual_out until its code is known: a block at a time, so it stays in the cache.
template <class Isa, class Codec, bool stochastic>
[[gnu::noinline]] void feed_back_blocks(std::size_t block, const float* in, const float* residual, float decay,
                                        std::size_t count, Bytes* out, float* residual_out,
                                        const Noise& noise) noexcept {
  NoiseSource<Isa> source(noise.seed, noise.first, count);
  for_blocks<Codec>(
      block, count,
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        float* const rest = residual_out + at;
        add_residual<Isa>(in + at, residual + at, decay, size, rest);
        Codec::template encode<stochastic>(rest, size, out + offset, source, noise.first + at);
        Codec::decode(out + offset, size, Subtract<Isa>{rest});
      },
      [&](std::size_t at, std::size_t size, std::size_t offset) {
        feed_back_last<Isa, Codec, stochastic>(in + at, residual + at, decay, size, out + offset, residual_out + at,
                                               source, noise.first + at);
      });
}

// ---------------------------------------------------------------------------------------------------------- the table

// f.template operator()<struct of the codec>().
template <class Isa, class F>
void with_codec(Codec codec, F f) {
  switch (codec) {
    case Codec::none:
      return f(Raw<Isa>{});
    case Codec::bf16:
      return f(Bf16Codec<Isa>{});
    case Codec::f16:
      return f(F16Codec<Isa>{});
    case Codec::int8:
      return f(Symmetric<Isa, 127>{});
    case Codec::int4:
      return f(Symmetric<Isa, 7>{});
    case Codec::minmax8:
      return f(MinMax<Isa>{});
  }
}

template <class Isa>
void encode_entry(const Format& format, const float* in, std::size_t count, std::byte* out, const Noise& noise) {
  const kernels::FloatEnvironment environment;
  with_codec<Isa>(format.codec, [&](auto codec) {
    if (format.rounding == Rounding::nearest) {
      encode_blocks<Isa, decltype(codec), false>(format.block, in, count, bytes_of(out), noise);
    } else {
      encode_blocks<Isa, decltype(codec), true>(format.block, in, count, bytes_of(out), noise);
    }
  });
}

template <class Isa>
void decode_entry(const Format& format, const std::byte* in, std::size_t count, float* out) {
  const kernels::FloatEnvironment environment;
  with_codec<Isa>(format.codec,
                  [&](auto codec) { decode_blocks<Isa, decltype(codec)>(format.block, bytes_of(in), count, out); });
}

template <class Isa>
void decode_add_entry(const Format& format, const std::byte* in, std::size_t count, float* acc, float weight) {
  const kernels::FloatEnvironment environment;
  with_codec<Isa>(format.codec, [&](auto codec) {
    add_blocks<Isa, decltype(codec)>(format.block, bytes_of(in), count, acc, weight);
  });
}

template <class Isa>
void encode_fed_back_entry(const Format& format, const float* in, const float* residual, float decay, std::size_t count,
                           std::byte* out, float* residual_out, const Noise& noise) {
  const kernels::FloatEnvironment environment;
  with_codec<Isa>(format.codec, [&](auto codec) {
    if (format.rounding == Rounding::nearest) {
      feed_back_blocks<Isa, decltype(codec), false>(format.block, in, residual, decay, count, bytes_of(out),
                                                    residual_out, noise);
    } else {
      feed_back_blocks<Isa, decltype(codec), true>(format.block, in, residual, decay, count, bytes_of(out),
                                                   residual_out, noise);
    }
  });
}

template <class Isa>
constexpr Table make_table() {
  return {encode_entry<Isa>, decode_entry<Isa>, decode_add_entry<Isa>, encode_fed_back_entry<Isa>};
}

}  // namespace
}  // namespace hawser::codec
