// Formats and inputs of the tests of the codecs, and memory without slack.
#pragma once

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "unit/codec/twin.hpp"

namespace samples {

using hawser::codec::Codec;
using hawser::codec::Format;
using hawser::codec::Noise;
using hawser::codec::Rounding;
using hawser::kernels::Variant;

inline Format format_of(Codec codec, std::uint32_t block = 0, Rounding rounding = Rounding::nearest) {
  const auto format =
      hawser::codec::make_format(static_cast<std::uint32_t>(codec), block, static_cast<std::uint32_t>(rounding));
  REQUIRE(format.ok());
  return format.value();
}

inline std::vector<Format> all_formats() {
  std::vector<Format> out;
  for (const Rounding rounding : {Rounding::nearest, Rounding::stochastic}) {
    for (const Codec codec : {Codec::none, Codec::bf16, Codec::f16}) out.push_back(format_of(codec, 0, rounding));
    for (const Codec codec : {Codec::int8, Codec::int4, Codec::minmax8}) {
      for (const std::uint32_t block : {0U, 32U, 64U, 256U, 1024U, 4096U}) {
        out.push_back(format_of(codec, block, rounding));
      }
    }
  }
  return out;
}

inline std::string name_of(const Format& format) {
  return std::string(codec_name(format.codec)) + "/" + std::to_string(format.block) +
         (format.rounding == Rounding::nearest ? "/nearest" : "/stochastic");
}

// `count` values that begin `offset` bytes behind an aligned address and end where the allocation ends, so that the
// address sanitizer sees what is read or written beyond.
template <typename T>
class Exact {
 public:
  explicit Exact(std::size_t count, std::size_t offset = 0)
      : count_(count), offset_(offset), memory_(new unsigned char[count * sizeof(T) + offset]) {
    std::memset(memory_.get(), 0xa5, count * sizeof(T) + offset);
  }
  Exact(const std::vector<T>& values, std::size_t offset) : Exact(values.size(), offset) {
    if (count_ > 0) std::memcpy(memory_.get() + offset_, values.data(), count_ * sizeof(T));
  }
  [[nodiscard]] T* data() { return reinterpret_cast<T*>(memory_.get() + offset_); }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] const void* raw() const { return memory_.get() + offset_; }
  [[nodiscard]] bool same_bits(const Exact& other) const {
    return count_ == other.count_ && std::memcmp(raw(), other.raw(), count_ * sizeof(T)) == 0;
  }

 private:
  std::size_t count_;
  std::size_t offset_;
  std::unique_ptr<unsigned char[]> memory_;
};

inline std::vector<float> gaussian(std::size_t count, std::uint64_t seed, float sigma = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> out(count);
  for (float& x : out) x = normal(random);
  return out;
}

// What may be in a block: each stretch of 32 to 300 elements is of another kind.
inline std::vector<float> mixed(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  std::size_t end = 0;
  std::uint64_t kind = 0;
  float constant = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (i == end) {
      end += 32 + random() % 269;
      kind = random() % 12;
      constant = twin::float_of(static_cast<std::uint32_t>(random()) & 0xff7fffffu);  // its exponent is not the last
    }
    const std::uint32_t bits = static_cast<std::uint32_t>(random());
    const std::uint32_t finite = (bits & 0x7f800000u) == 0x7f800000u ? bits & 0xbfffffffu : bits;
    switch (kind) {
      case 0:
        out[i] = constant;
        break;
      case 1:
        out[i] = (bits & 1u) != 0 ? 0.0F : -0.0F;
        break;
      case 2:  // denormals
        out[i] = twin::float_of(bits & 0x807fffffu);
        break;
      case 3:  // the smallest ones, for which a scale is a denormal or underflows
        out[i] = twin::float_of(bits & 0x800001ffu);
        break;
      case 4:
        out[i] = std::copysign(std::numeric_limits<float>::max(), normal(random)) * ((bits & 2u) != 0 ? 1.0F : 0.99F);
        break;
      case 5:  // any finite bits
        out[i] = twin::float_of(finite);
        break;
      case 6:  // now and then not finite
        out[i] = bits % 100 == 0 ? twin::float_of(0x7f800000u | (bits & 0x80000000u) | (bits >> 16 & 1u) * (bits >> 8))
                                 : normal(random);
        break;
      case 7:  // far from zero
        out[i] = constant + static_cast<float>(bits % 256) * std::fabs(constant) * 1e-6F;
        if (!std::isfinite(out[i])) out[i] = constant;
        break;
      case 8:  // around where f16 ends and where it becomes denormal
        out[i] = (bits & 1u) != 0 ? 65504.0F + static_cast<float>(bits % 64) : normal(random) * 0x1p-14F;
        break;
      case 9:  // integers and halves: ties
        out[i] = static_cast<float>(static_cast<int>(bits % 255) - 127) / 2;
        break;
      default:
        out[i] = normal(random);
    }
  }
  return out;
}

inline constexpr std::size_t counts[] = {0, 1, 7, 15, 16, 17, 31, 33, 63, 65, 255, 257, 1023, 1025, 4095, 4097, 10007};

}  // namespace samples
