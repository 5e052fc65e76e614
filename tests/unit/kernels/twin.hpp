// The slow, obvious twin of the kernels: one element at a time, as bits in 64-bit integers, with 128-bit arithmetic for
// integers and exact steps in double for half-width floats. Shares nothing with the kernels but the names of types.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "base/types.hpp"
#include "kernels/kernels.hpp"

namespace twin {

using hawser::Dtype;
using hawser::Redop;
using hawser::kernels::Variant;

__extension__ using Int128 = __int128;
__extension__ using Uint128 = unsigned __int128;

inline constexpr Dtype all_dtypes[] = {Dtype::u8,  Dtype::i8,  Dtype::u16, Dtype::i16,  Dtype::u32, Dtype::i32,
                                       Dtype::u64, Dtype::i64, Dtype::f16, Dtype::bf16, Dtype::f32, Dtype::f64};
inline constexpr Redop all_redops[] = {Redop::sum, Redop::avg, Redop::prod, Redop::min, Redop::max};
inline constexpr Dtype half_dtypes[] = {Dtype::f16, Dtype::bf16};

// Those this processor can run.
inline std::vector<Variant> variants() {
  std::vector<Variant> out;
  for (const Variant variant : {Variant::scalar, Variant::avx2, Variant::avx512}) {
    if (variant <= hawser::kernels::best_variant()) out.push_back(variant);
  }
  return out;
}

inline bool is_float(Dtype dtype) { return dtype >= Dtype::f16; }
inline bool is_signed(Dtype dtype) {
  return dtype == Dtype::i8 || dtype == Dtype::i16 || dtype == Dtype::i32 || dtype == Dtype::i64;
}
inline unsigned width(Dtype dtype) { return static_cast<unsigned>(8 * hawser::dtype_size(dtype)); }

template <typename To, typename From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// ------------------------------------------------------------------------------------------------------------ floats

struct Format {
  int exponent_bits;
  int significand_bits;  // without the leading one
  [[nodiscard]] int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  [[nodiscard]] std::uint64_t infinity() const { return ((std::uint64_t{1} << exponent_bits) - 1) << significand_bits; }
  [[nodiscard]] std::uint64_t nan() const { return infinity() | (std::uint64_t{1} << (significand_bits - 1)); }
  [[nodiscard]] std::uint64_t sign() const { return std::uint64_t{1} << (exponent_bits + significand_bits); }
};

inline Format format_of(Dtype dtype) {
  if (dtype == Dtype::f16) return {5, 10};
  if (dtype == Dtype::bf16) return {8, 7};
  if (dtype == Dtype::f32) return {8, 23};
  return {11, 52};
}

// By the definition of the formats in IEEE 754. Exact for all four.
inline double decode(Dtype dtype, std::uint64_t bits) {
  const Format format = format_of(dtype);
  const double sign = (bits & format.sign()) != 0 ? -1.0 : 1.0;
  const std::uint64_t magnitude = bits & (format.sign() - 1);
  const std::uint64_t exponent = magnitude >> format.significand_bits;
  const std::uint64_t fraction = magnitude & ((std::uint64_t{1} << format.significand_bits) - 1);
  if (magnitude > format.infinity()) return std::numeric_limits<double>::quiet_NaN();
  if (magnitude == format.infinity()) return sign * std::numeric_limits<double>::infinity();
  const int least = 1 - format.bias() - format.significand_bits;  // exponent of the smallest denormal
  if (exponent == 0) return sign * std::ldexp(static_cast<double>(fraction), least);
  const std::uint64_t significand = fraction | (std::uint64_t{1} << format.significand_bits);
  return sign * std::ldexp(static_cast<double>(significand), least + static_cast<int>(exponent) - 1);
}

// The nearest, of two equally near the even one; NaN becomes the canonical NaN.
inline std::uint64_t encode(Dtype dtype, double value) {
  const Format format = format_of(dtype);
  if (std::isnan(value)) return format.nan();
  const std::uint64_t sign = std::signbit(value) ? format.sign() : 0;
  const double magnitude = std::fabs(value);
  if (std::isinf(magnitude)) return sign | format.infinity();
  if (magnitude == 0) return sign;
  const int exponent_min = 1 - format.bias();
  const int exponent = std::max(std::ilogb(magnitude), exponent_min);
  const double steps = std::nearbyint(std::ldexp(magnitude, format.significand_bits - exponent));
  const std::uint64_t bits = (static_cast<std::uint64_t>(exponent - exponent_min) << format.significand_bits) +
                             static_cast<std::uint64_t>(steps);  // a carry moves on to the next exponent
  return sign | std::min(bits, format.infinity());
}

// What the type is computed with: f32 for the half-width ones.
inline Dtype compute_dtype(Dtype dtype) { return hawser::is_half(dtype) ? Dtype::f32 : dtype; }

template <typename Float>
Float reduce_float(Redop redop, Float a, Float b) {
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<Float>::quiet_NaN();
  switch (redop) {
    case Redop::sum:
    case Redop::avg:
      return a + b;
    case Redop::prod:
      return a * b;
    case Redop::min:
      if (a == b) return std::signbit(a) ? a : b;
      return a < b ? a : b;
    case Redop::max:
      if (a == b) return std::signbit(a) ? b : a;
      return a < b ? b : a;
  }
  return 0;
}

inline std::uint64_t f32_bits(float value) { return encode(Dtype::f32, static_cast<double>(value)); }
inline std::uint64_t f64_bits(double value) {
  return std::isnan(value) ? format_of(Dtype::f64).nan() : bits_as<std::uint64_t>(value);
}

// ---------------------------------------------------------------------------------------------------------- elements

inline Int128 integer_of(Dtype dtype, std::uint64_t bits) {
  const Int128 value = static_cast<Int128>(bits);
  const Int128 modulus = static_cast<Int128>(1) << width(dtype);
  return is_signed(dtype) && value >= modulus / 2 ? value - modulus : value;
}
inline std::uint64_t integer_bits(Dtype dtype, Int128 value) {
  const std::uint64_t low = static_cast<std::uint64_t>(static_cast<Uint128>(value));
  return width(dtype) == 64 ? low : low & ((std::uint64_t{1} << width(dtype)) - 1);
}

inline std::uint64_t reduce(Dtype dtype, Redop redop, std::uint64_t a, std::uint64_t b) {
  if (dtype == Dtype::f64) return f64_bits(reduce_float(redop, bits_as<double>(a), bits_as<double>(b)));
  if (is_float(dtype)) {
    const float result =
        reduce_float(redop, static_cast<float>(decode(dtype, a)), static_cast<float>(decode(dtype, b)));
    return encode(dtype, static_cast<double>(result));
  }
  const Int128 x = integer_of(dtype, a);
  const Int128 y = integer_of(dtype, b);
  switch (redop) {
    case Redop::sum:
    case Redop::avg:
      return integer_bits(dtype, x + y);
    case Redop::prod:
      return integer_bits(dtype, static_cast<Int128>(static_cast<Uint128>(x) * static_cast<Uint128>(y)));
    case Redop::min:
      return integer_bits(dtype, x < y ? x : y);
    case Redop::max:
      return integer_bits(dtype, x < y ? y : x);
  }
  return 0;
}

inline std::uint64_t divide(Dtype dtype, std::uint64_t value, std::uint32_t divisor) {
  if (dtype == Dtype::f64) return f64_bits(bits_as<double>(value) / static_cast<double>(divisor));
  if (is_float(dtype)) {
    const float quotient = static_cast<float>(decode(dtype, value)) / static_cast<float>(divisor);
    return encode(dtype, static_cast<double>(quotient));
  }
  return integer_bits(dtype, integer_of(dtype, value) / static_cast<Int128>(divisor));
}

// ------------------------------------------------------------------------------------------------------------ memory

inline std::uint64_t get(Dtype dtype, const void* data, std::size_t index) {
  const std::size_t size = hawser::dtype_size(dtype);
  const unsigned char* const p = static_cast<const unsigned char*>(data) + index * size;
  switch (size) {
    case 1:
      return *p;
    case 2: {
      std::uint16_t value;
      std::memcpy(&value, p, sizeof value);
      return value;
    }
    case 4: {
      std::uint32_t value;
      std::memcpy(&value, p, sizeof value);
      return value;
    }
    default: {
      std::uint64_t value;
      std::memcpy(&value, p, sizeof value);
      return value;
    }
  }
}

inline void put(Dtype dtype, void* data, std::size_t index, std::uint64_t bits) {
  const std::size_t size = hawser::dtype_size(dtype);
  unsigned char* const p = static_cast<unsigned char*>(data) + index * size;
  switch (size) {
    case 1:
      *p = static_cast<unsigned char>(bits);
      break;
    case 2: {
      const std::uint16_t value = static_cast<std::uint16_t>(bits);
      std::memcpy(p, &value, sizeof value);
      break;
    }
    case 4: {
      const std::uint32_t value = static_cast<std::uint32_t>(bits);
      std::memcpy(p, &value, sizeof value);
      break;
    }
    default:
      std::memcpy(p, &bits, sizeof bits);
  }
}

// `count` elements that start `offset` elements behind an allocation aligned to 64 bytes and end where it ends, so that
// the address sanitizer sees what is read or written beyond either end.
class Array {
 public:
  Array(Dtype dtype, std::size_t count, std::size_t offset = 0)
      : dtype_(dtype), count_(count), offset_(offset), memory_(new (std::align_val_t{64}) unsigned char[allocated()]) {
    std::memset(memory_.get(), 0xa5, allocated());
  }

  [[nodiscard]] Dtype dtype() const { return dtype_; }
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::size_t bytes() const { return count_ * hawser::dtype_size(dtype_); }
  [[nodiscard]] unsigned char* data() { return memory_.get() + offset_ * hawser::dtype_size(dtype_); }
  [[nodiscard]] const unsigned char* data() const { return memory_.get() + offset_ * hawser::dtype_size(dtype_); }
  [[nodiscard]] float* floats() { return reinterpret_cast<float*>(data()); }  // of an array of f32
  [[nodiscard]] const float* floats() const { return reinterpret_cast<const float*>(data()); }

  [[nodiscard]] std::uint64_t operator[](std::size_t index) const { return get(dtype_, data(), index); }
  void set(std::size_t index, std::uint64_t bits) { put(dtype_, data(), index, bits); }
  void copy_from(const Array& other) {
    if (bytes() > 0) std::memcpy(data(), other.data(), bytes());
  }
  [[nodiscard]] bool equals(const Array& other) const {
    return bytes() == other.bytes() && (bytes() == 0 || std::memcmp(data(), other.data(), bytes()) == 0);
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  [[nodiscard]] std::size_t allocated() const { return (offset_ + count_) * hawser::dtype_size(dtype_); }

  Dtype dtype_;
  std::size_t count_;
  std::size_t offset_;
  std::unique_ptr<unsigned char[], Free> memory_;
};

// The index of the first difference, or the count.
inline std::size_t mismatch(const Array& a, const Array& b) {
  if (a.equals(b)) return a.count();
  std::size_t i = 0;
  while (i < a.count() && a[i] == b[i]) ++i;
  return i;
}

// ------------------------------------------------------------------------------------------------------------ values

// Where arithmetic has its corners.
inline std::vector<std::uint64_t> special_values(Dtype dtype) {
  if (!is_float(dtype)) {
    const std::uint64_t top = std::uint64_t{1} << (width(dtype) - 1);
    const std::uint64_t half = std::uint64_t{1} << (width(dtype) / 2);
    const std::uint64_t mask = (top - 1) | top;
    return {0, 1, 2, 3, half - 1, half, half + 1, top - 1, top, top + 1, mask - 1, mask};
  }
  const Format format = format_of(dtype);
  const std::uint64_t one = static_cast<std::uint64_t>(format.bias()) << format.significand_bits;
  const std::uint64_t normal = std::uint64_t{1} << format.significand_bits;
  std::vector<std::uint64_t> out;
  for (const std::uint64_t sign : {std::uint64_t{0}, format.sign()}) {
    for (const std::uint64_t magnitude : {
             std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2}, normal - 1, normal, normal + 1, one - 1, one,
             one + 1, one + normal, one + normal / 2, format.infinity() - 1, format.infinity(),
             format.infinity() + 1,             // signalling NaN, least payload
             format.nan() - 1,                  // signalling NaN, greatest payload
             format.nan(), format.nan() + 1,    // quiet NaNs
             format.infinity() + (normal - 1),  // quiet NaN, greatest payload
         }) {
      out.push_back(sign | magnitude);
    }
  }
  return out;
}

// Random bits; of floats one in eight a special value and one in two of a moderate exponent, so that sums round.
inline void fill_random(Array& array, std::mt19937_64& random) {
  const Dtype dtype = array.dtype();
  const std::vector<std::uint64_t> special = special_values(dtype);
  for (std::size_t i = 0; i < array.count(); ++i) {
    const std::uint64_t bits = random();
    const std::uint64_t kind = random() % 8;
    if (kind == 0) {
      array.set(i, special[bits % special.size()]);
    } else if (kind <= 4 && is_float(dtype)) {
      const double value =
          std::ldexp(static_cast<double>(static_cast<std::int64_t>(bits)), -63 + static_cast<int>(bits % 16));
      array.set(i, encode(dtype, value));
    } else {
      array.set(i, bits);
    }
  }
}

}  // namespace twin
