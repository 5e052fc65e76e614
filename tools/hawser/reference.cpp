// Inputs and their exact reductions. Pure; any thread. The header says why the results are exact.
#include "reference.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

namespace tool {
namespace {

enum class HalfKind { f16, bf16 };

// ------------------------------------------------------------ elements

// Integers: any bits where wrapping is exact, small values for avg.
template <typename T>
T integer_input(hawser_redop_t redop, std::uint64_t draw) {
  if (redop != HAWSER_AVG) return static_cast<T>(draw);
  if constexpr (std::is_signed_v<T>) {
    const std::int64_t reach = sizeof(T) == 1 ? 1 : 100;
    return static_cast<T>(static_cast<std::int64_t>(draw % static_cast<std::uint64_t>(2 * reach + 1)) - reach);
  } else {
    return static_cast<T>(draw % (sizeof(T) == 1 ? 4 : 201));
  }
}

template <typename T>
T integer_expected(hawser_redop_t redop, std::span<const T> inputs) {
  std::uint64_t total = redop == HAWSER_PROD ? 1 : 0;
  T best = inputs.front();
  for (const T input : inputs) {
    // Conversion to 64 unsigned bits extends the sign, so the low bits of sum and product are those of the narrow type.
    const auto wide = static_cast<std::uint64_t>(input);  // NOLINT(bugprone-signed-char-misuse): the sign is wanted
    total = redop == HAWSER_PROD ? total * wide : total + wide;
    best = redop == HAWSER_MIN ? std::min(best, input) : std::max(best, input);
  }
  switch (redop) {
    case HAWSER_SUM:
    case HAWSER_PROD:
      return static_cast<T>(total);
    case HAWSER_AVG:
      if constexpr (std::is_signed_v<T>) {
        return static_cast<T>(std::int64_t{static_cast<T>(total)} / static_cast<std::int64_t>(inputs.size()));
      } else {
        return static_cast<T>(std::uint64_t{static_cast<T>(total)} / inputs.size());
      }
    case HAWSER_MIN:
    case HAWSER_MAX:
      break;
  }
  return best;
}

// Floats: `reach` bounds the integers that are summed.
double float_input(hawser_redop_t redop, std::uint64_t draw, std::int64_t reach) {
  constexpr double factors[] = {1.0, 2.0, -1.0, 0.5};
  if (redop == HAWSER_PROD) return factors[draw % 4];
  if (redop == HAWSER_MIN || redop == HAWSER_MAX) reach = 120;
  return static_cast<double>(static_cast<std::int64_t>(draw % static_cast<std::uint64_t>(2 * reach + 1)) - reach);
}

// Exact in double for all inputs of float_input; for avg the sum, which the caller divides in its own precision.
double float_reduced(hawser_redop_t redop, std::span<const double> inputs) {
  double total = inputs.front();
  for (const double input : inputs.subspan(1)) {
    switch (redop) {
      case HAWSER_SUM:
      case HAWSER_AVG:
        total += input;
        break;
      case HAWSER_PROD:
        total *= input;
        break;
      case HAWSER_MIN:
        total = std::min(total, input);
        break;
      case HAWSER_MAX:
        total = std::max(total, input);
        break;
    }
  }
  return total;
}

// ------------------------------------------------------------ element types

template <typename T>
struct IntegerType {
  using Value = T;
  static T input(hawser_redop_t redop, std::uint64_t draw) { return integer_input<T>(redop, draw); }
  static T expected(hawser_redop_t redop, std::span<const T> inputs) { return integer_expected<T>(redop, inputs); }
  static void store(std::byte* to, T value) { std::memcpy(to, &value, sizeof(value)); }
};

template <typename T>
struct FloatType {
  using Value = double;
  static double input(hawser_redop_t redop, std::uint64_t draw) { return float_input(redop, draw, 1000); }
  static double expected(hawser_redop_t redop, std::span<const double> inputs) {
    const auto total = static_cast<T>(float_reduced(redop, inputs));
    return static_cast<double>(redop == HAWSER_AVG ? total / static_cast<T>(inputs.size()) : total);
  }
  static void store(std::byte* to, double value) {
    const auto element = static_cast<T>(value);
    std::memcpy(to, &element, sizeof(element));
  }
};

template <HalfKind kind>
struct HalfType {
  using Value = double;
  static double input(hawser_redop_t redop, std::uint64_t draw) {
    return float_input(redop, draw, kind == HalfKind::f16 ? 15 : 3);
  }
  static double expected(hawser_redop_t redop, std::span<const double> inputs) {
    return FloatType<float>::expected(redop, inputs);
  }
  static void store(std::byte* to, double value) {
    const auto wide = static_cast<float>(value);
    const std::uint16_t element = kind == HalfKind::f16 ? f16_of(wide) : bf16_of(wide);
    std::memcpy(to, &element, sizeof(element));
  }
};

template <typename Function>
void with_type(hawser_dtype_t dtype, Function function) {
  switch (dtype) {
    case HAWSER_U8:
      return function(IntegerType<std::uint8_t>{});
    case HAWSER_I8:
      return function(IntegerType<std::int8_t>{});
    case HAWSER_U16:
      return function(IntegerType<std::uint16_t>{});
    case HAWSER_I16:
      return function(IntegerType<std::int16_t>{});
    case HAWSER_U32:
      return function(IntegerType<std::uint32_t>{});
    case HAWSER_I32:
      return function(IntegerType<std::int32_t>{});
    case HAWSER_U64:
      return function(IntegerType<std::uint64_t>{});
    case HAWSER_I64:
      return function(IntegerType<std::int64_t>{});
    case HAWSER_F16:
      return function(HalfType<HalfKind::f16>{});
    case HAWSER_BF16:
      return function(HalfType<HalfKind::bf16>{});
    case HAWSER_F32:
      return function(FloatType<float>{});
    case HAWSER_F64:
      return function(FloatType<double>{});
  }
}

}  // namespace

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a + 0x9e3779b97f4a7c15U * (b + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

void Pattern::fill(void* buffer, std::size_t count) const {
  auto* to = static_cast<std::byte*>(buffer);
  for (std::size_t left = count * element_bytes_; left > 0;) {
    const std::size_t piece = std::min(left, bytes_.size());
    std::memcpy(to, bytes_.data(), piece);
    to += piece;
    left -= piece;
  }
}

std::uint64_t Pattern::mismatches(const void* buffer, std::size_t count) const {
  std::uint64_t wrong = 0;
  const auto* from = static_cast<const std::byte*>(buffer);
  for (std::size_t left = count * element_bytes_; left > 0;) {
    const std::size_t piece = std::min(left, bytes_.size());
    if (std::memcmp(from, bytes_.data(), piece) != 0) {
      for (std::size_t at = 0; at < piece; at += element_bytes_) {
        if (std::memcmp(from + at, bytes_.data() + at, element_bytes_) != 0) ++wrong;
      }
    }
    from += piece;
    left -= piece;
  }
  return wrong;
}

Pattern input_pattern(hawser_dtype_t dtype, hawser_redop_t redop, std::uint64_t key, std::size_t count) {
  const std::uint64_t keys[] = {key};
  Pattern pattern(dtype, count);
  const std::size_t element_bytes = hawser_dtype_size(dtype);
  with_type(dtype, [&](auto type) {
    for (std::size_t i = 0; i < pattern.period(); ++i) {
      type.store(pattern.data() + i * element_bytes, type.input(redop, mix(keys[0], i)));
    }
  });
  return pattern;
}

Pattern expected_pattern(hawser_dtype_t dtype, hawser_redop_t redop, std::span<const std::uint64_t> keys,
                         std::size_t count) {
  Pattern pattern(dtype, count);
  const std::size_t element_bytes = hawser_dtype_size(dtype);
  with_type(dtype, [&](auto type) {
    using Value = typename decltype(type)::Value;
    std::vector<Value> inputs(keys.size());
    for (std::size_t i = 0; i < pattern.period(); ++i) {
      for (std::size_t peer = 0; peer < keys.size(); ++peer) inputs[peer] = type.input(redop, mix(keys[peer], i));
      type.store(pattern.data() + i * element_bytes, type.expected(redop, std::span<const Value>(inputs)));
    }
  });
  return pattern;
}

Pattern neutral_pattern(hawser_dtype_t dtype, hawser_redop_t redop, std::size_t count) {
  Pattern pattern(dtype, count);
  const std::size_t element_bytes = hawser_dtype_size(dtype);
  with_type(dtype, [&](auto type) {
    using Value = typename decltype(type)::Value;
    for (std::size_t i = 0; i < pattern.period(); ++i) {
      type.store(pattern.data() + i * element_bytes, static_cast<Value>(redop == HAWSER_PROD ? 1 : 0));
    }
  });
  return pattern;
}

std::uint16_t f16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return 0x7e00U;                                      // NaN
  if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // >= 65520 rounds to infinity
  std::uint32_t mantissa = (magnitude & 0x7fffffU) | 0x800000U;
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  // Bits below the last one of the result: 13 for normal numbers, more for subnormal ones, which are multiples of
  // 2^-24.
  const int dropped = exponent >= -14 ? 13 : 13 + (-14 - exponent);
  if (dropped > 24) return static_cast<std::uint16_t>(sign);  // below half of the least subnormal
  const std::uint32_t half = 1U << (dropped - 1);
  const std::uint32_t rest = mantissa & ((1U << dropped) - 1);
  mantissa >>= dropped;
  if (rest > half || (rest == half && (mantissa & 1U) != 0)) ++mantissa;
  // A carry out of the mantissa adds one to the exponent, which is what rounding up means.
  const std::uint32_t biased = exponent >= -14 ? static_cast<std::uint32_t>(exponent + 14) << 10 : 0;
  return static_cast<std::uint16_t>(sign | (biased + mantissa));
}

std::uint16_t bf16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return 0x7fc0U;  // NaN
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace tool
